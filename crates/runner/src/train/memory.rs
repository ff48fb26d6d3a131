//! Memory and disk space that a run needs.

mod cgroup;

use crate::base::failure::{Failure, Outcome};
use crate::base::text::bytes;
use crate::train::make_agent;
use crate::train::registry::Algorithm;
use crate::train::settings::Settings;
use envs::Spec;
use procfs::{Current, Meminfo, process::Process};
use replay::Shape;
use rustix::fs::statvfs;
use std::path::Path;
use tch::Device;
use toml_edit::{DocumentMut, value};

/// Checks that a new replay fits on the disk and in memory. Returns a line that says what it
/// takes.
///
/// # Errors
/// It does not fit.
pub fn check(folder: &Path, shape: &Shape) -> Outcome<String> {
    let disk =
        statvfs(folder).map_err(|error| Failure::file(folder, "ask for free space", error))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = shape.bytes();
    // The replay's file should fit in the page cache: otherwise every minibatch would wait
    // for the disk.
    let memory = available();
    for (what, found) in [("disk", Some(free)), ("memory", memory)] {
        if let Some(found) = found.filter(|found| *found < needed) {
            return Err(Failure::Failed(format!(
                "{}: the replay needs {} of {what}, {} are free; make room, lower \
                 train.replay_capacity, or choose another --out",
                folder.display(),
                bytes(needed),
                bytes(found)
            )));
        }
    }
    let memory = memory.map_or("unknown".into(), bytes);
    Ok(format!(
        "the replay takes {} of disk and page cache (free: {} and {memory})",
        bytes(needed),
        bytes(free)
    ))
}

/// Memory that this process can still have, in bytes.
fn available() -> Option<u64> {
    let machine = Meminfo::current().ok().and_then(|info| info.mem_available);
    // A container or a job of a cluster may have less than the machine.
    machine.into_iter().chain(cgroup::free()).min()
}

/// Checks that the agent of a configuration fits in memory: LibTorch ends the process where it doesn't.
///
/// # Errors
/// It doesn't fit.
pub fn check_agent(algo: &str, settings: &Settings, spec: &Spec) -> Outcome<()> {
    let number = |section: &str, key| settings.document[section][key].to_string();
    let sizes = WIDTHS.map(|section| {
        let [width, depth] = ["width", "depth"].map(|key| number(section, key));
        format!("{section}.width = {}, {section}.depth = {}", width.trim(), depth.trim())
    });
    // The state has a gradient beside the parameters and Adam's two moments.
    let needed = (predicted(algo, &settings.document, spec)? * 4.0 * 4.0 / 3.0) as u64;
    match available().filter(|found| *found < needed) {
        Some(found) => Err(Failure::Usage(format!(
            "{} make an agent of {}, and {} of memory are free; choose smaller ones",
            sizes.join(", "),
            bytes(needed),
            bytes(found)
        ))),
        None => Ok(()),
    }
}

/// The sections that have a `width`, in every algorithm.
const WIDTHS: [&str; 2] = ["actor", "critic"];

fn width(document: &DocumentMut, section: &str) -> i64 {
    document[section]["width"].as_integer().expect("every algorithm has it")
}

/// How many numbers the state of an agent has, without building it: layers make that a polynomial of
/// second degree in each of the two widths, with no product of both, and narrow agents determine it.
fn predicted(algo: &str, document: &DocumentMut, spec: &Spec) -> Outcome<f64> {
    const NARROW: [i64; 3] = [8, 16, 24];
    let base = NARROW[0];
    let mut total = -counted(algo, document, spec, [base, base])?;
    for (index, section) in WIDTHS.iter().enumerate() {
        let x = width(document, section) as f64;
        for at in NARROW {
            let mut widths = [base; 2];
            widths[index] = at;
            let others = NARROW.iter().filter(|other| **other != at);
            let weight = |other: &i64| (x - *other as f64) / (at - other) as f64;
            let weight: f64 = others.map(weight).product();
            total += weight * counted(algo, document, spec, widths)?;
        }
    }
    Ok(total)
}

/// How many numbers the state of an agent has with other widths, of actor and critic.
fn counted(algo: &str, document: &DocumentMut, spec: &Spec, widths: [i64; 2]) -> Outcome<f64> {
    let mut own = document.clone();
    own.remove("train");
    for (section, width) in WIDTHS.iter().zip(widths) {
        own[section]["width"] = value(width);
    }
    let config = (Algorithm::find(algo)?.read)(own).map_err(Failure::Usage)?;
    let agent = make_agent(config.as_ref(), spec, 0, Device::Cpu);
    Ok(agent.state().iter().map(|(_, tensor)| tensor.numel() as f64).sum())
}

/// Memory of this process in bytes, without the pages of mapped files: this grows if there
/// is a leak.
pub fn resident() -> Option<u64> {
    let status = Process::myself().ok()?.status().ok()?;
    status.rssanon.map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::registry::ALGORITHMS;
    use crate::train::settings::{Sources, resolve};

    #[test]
    fn the_size_of_every_algorithms_agent_is_known_before_it_is_built() {
        let spec = envs::Env::make("Hopper-v4").unwrap().spec().clone();
        for Algorithm { name: algo, .. } in &ALGORITHMS {
            for preset in Algorithm::find(algo).unwrap().preset_names() {
                let set = ["actor.width=40".into(), "critic.width=72".into()];
                let (preset, set) = (preset.as_str(), set.as_slice());
                let sources = Sources { algo, env: "Hopper-v4", preset, set, ..Default::default() };
                let document = resolve(&sources).unwrap().document;
                let found = predicted(algo, &document, &spec).unwrap();
                let built = counted(algo, &document, &spec, [40, 72]).unwrap();
                assert!((found - built).abs() < 0.5, "{algo} {preset}: {found}, {built}");
            }
        }
    }
}
