//! Training: one run, from its specification to the results in its folder.

pub mod checkpoint;
pub mod evaluator;
pub mod history;
mod idle;
mod interval;
pub mod logs;
pub mod memory;
pub mod progress;
pub mod registry;
mod rollout;
pub mod run_folder;
pub mod run_model;
pub mod run_spec;
pub mod run_status;
pub mod saved_run;
pub mod settings;
mod training_loop;

use self::checkpoint::{Checkpoints, Identity};
use self::evaluator::{Evaluator, make_envs};
use self::registry::metric_names;
use self::rollout::Rollout;
use self::run_folder::{Existing, RunFolder, StartMode};
use self::run_model::{MODEL, Recorded};
use self::run_spec::RunSpec;
use self::settings::Settings;
pub use self::training_loop::without_graphs;
use self::training_loop::{Parts, Run, replay_shape};
use crate::base::console::message;
use crate::base::digest::sha256_of;
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::Stop;
use crate::base::{device, versions};
use agent::{Agent, AgentConfig, CapturedUpdates, stream};
use envs::{Env, Spec};
use networks::Instructions;
use std::path::Path;
use tch::Device;
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

/// A key that a finished run did not have on, and that is asked for now.
fn too_late(key: &str, recorded: &DocumentMut, wanted: &DocumentMut) -> Option<String> {
    let (section, name) = key.split_once('.')?;
    let of = |document: &DocumentMut| -> Option<String> {
        Some(document.get(section)?.get(name)?.to_string().trim().to_string())
    };
    let (before, now) = (of(recorded)?, of(wanted)?);
    let asked = now != before && !["false", "0"].contains(&now.as_str());
    asked.then(|| format!("{key} = {now}"))
}

/// An agent of an algorithm for a task, with freshly initialised networks.
pub fn make_agent(
    config: &dyn AgentConfig,
    spec: &Spec,
    seed: u64,
    device: Device,
) -> Box<dyn Agent> {
    let mut rng = stream(seed, "network initialisation");
    config.build(spec.obs_dim as i64, spec.act_dim as i64, device, &mut rng)
}

/// Trains a run to its end, in its folder: begins it, resumes it, or finds it finished.
///
/// What depends on the machine is checked before the folder is touched.
///
/// # Errors
/// A device that isn't there, a folder that can't be used, training that diverged, a stop.
pub fn run(spec: &RunSpec) -> Outcome<()> {
    let RunSpec { settings, env, seed, .. } = spec;
    // First, so that a request to stop while the run begins is not the end of the process.
    let stop = Stop::on_signals()
        .map_err(|error| Failure::Failed(format!("can't listen for signals: {error}")))?;
    let model = spec.model.as_deref();
    if let Some(file) = model
        && !file.exists()
        && spec.folder().join(MODEL).exists()
    {
        return Err(Failure::Usage(format!(
            "--model {}: no such file; the run has its own copy: --model {}",
            file.display(),
            spec.folder().join(MODEL).display()
        )));
    }
    let threads = spec.threads.map_or_else(device::processors, usize::from);
    let envs = make_envs(env, model, settings.train.envs, threads)?;
    if let Some(model) = model {
        remark_on(env, model)?;
    }
    memory::check_agent(&spec.algo, settings, envs.spec())?;
    let device = device::available(&spec.device)?;
    device::check_precision(settings.train.precision, device)?;
    // A third of a second, before a run of hours that depends on these files.
    versions::check_libraries().map_err(Failure::Failed)?;
    device::use_threads(threads);
    let mut record = record(spec, threads, device)?;
    let (model_bytes, model_sum) = run_model::compiled(env, model)?;
    if spec.model_sha256.as_ref().is_some_and(|planned| *planned != model_sum) {
        return Err(Failure::Usage(format!(
            "{}: the model, or a file that it is made of, changed since the run was planned; plan \
             it again, or bring the file back",
            model.unwrap_or(Path::new("")).display()
        )));
    }
    record["run"]["model_sha256"] = value(&model_sum);
    let task = run_model::task_file(env)?;
    if let Some((_, sum)) = &task
        && record["run"]["task_sha256"].as_str() != Some(sum)
    {
        return Err(Failure::Usage(format!(
            "{env}: the task's file changed since the run was planned; plan it again, or bring the \
             file back"
        )));
    }
    if spec.start == StartMode::Restart && spec.folder().exists() {
        // Before the old run is moved.
        memory::check(&spec.folder(), &replay_shape(&settings.train, envs.spec()))?;
    }
    let (folder, existing) = RunFolder::open(spec.folder(), &record, spec.start)?;
    if existing == Existing::Finished {
        // The process may have died after marking it as done, before the clean-up.
        let recorded = folder.record()?;
        let late: Vec<String> =
            settings::EXTRAS.iter().filter_map(|key| too_late(key, &recorded, &record)).collect();
        let late = match late.as_slice() {
            [] => String::new(),
            late => format!("; too late for {}: --restart trains it again", late.join(" and ")),
        };
        message(format!("{}: this run is finished{late}", folder.path().display()));
        let kept = recorded.get("train").and_then(|train| train.get("keep_replay")?.as_bool());
        return Checkpoints::open(folder.path())?.finish(kept == Some(true));
    }
    run_status::forget_failure(spec)?;
    // A run of an earlier version has no copy of its model, and its record no such checksum.
    let recorded = folder.record()?;
    let known = Recorded::of(&recorded).sha256 == Some(model_sum.as_str());
    // A copy that is missing or damaged is written again: its content is known.
    let intact = |name: &str, sum: &str| {
        sha256_of(&folder.path().join(name)).is_ok_and(|found| found == sum)
    };
    if known && !intact(MODEL, &model_sum) {
        folder.write(MODEL, model_bytes)?;
    }
    if let (Some((bytes, sum)), Some(copy)) = (task, run_model::task_copy(env))
        && !intact(&copy, &sum)
    {
        folder.write(&copy, bytes)?;
    }
    let episodes = settings.train.eval_episodes;
    let parts = Parts {
        identity: Identity::new(&spec.algo, spec.task(), *seed),
        label: spec.label(),
        config: &settings.train,
        folder: &folder,
        evaluator: Evaluator::new(env, model, episodes, threads, *seed, device)?,
        agent: make_agent(settings.algorithm.as_ref(), envs.spec(), *seed, device),
        metrics: metric_names(settings.algorithm.as_ref(), envs.spec())
            .into_iter()
            .map(str::to_owned)
            .chain(rollout::term_metrics(envs.spec()))
            .collect(),
        rollout: Rollout::new(envs, settings.gamma(), settings.train.end_diverged_episodes),
        gamma: settings.gamma(),
        graphs: graphs(settings, device),
        device,
        stop,
    };
    if let Some(line) = remark_on_graphs(settings, device) {
        message(format!("warning: {}: {line}", spec.label()));
    }
    let (steps, warmup_steps) = (settings.train.steps, settings.train.warmup_steps);
    let (after, rate) = (steps.saturating_sub(warmup_steps), settings.train.updates_per_step);
    if after as f64 * rate < 1.0 {
        let why = match after {
            0 => format!(
                "train.steps is {steps}, and the first comes after train.warmup_steps, {warmup_steps}"
            ),
            _ => format!(
                "train.updates_per_step is {rate}, and {after} steps follow train.warmup_steps"
            ),
        };
        message(format!("warning: {}: no update will be made: {why}", spec.label()));
    }
    let n = settings.train.envs as u64;
    if !steps.is_multiple_of(n) {
        message(format!(
            "warning: {}: train.steps, {steps}, is no multiple of train.envs, {n}: the run ends at \
             step {}",
            spec.label(),
            steps.next_multiple_of(n)
        ));
    }
    let run = match existing {
        Existing::Unfinished | Existing::Beginning => {
            let run = Run::resume(parts)?;
            if existing == Existing::Beginning {
                // Not before it is known that it can go on: a finished run stays one until then.
                folder.lengthen(&record)?;
            }
            folder.record_resume(resumed(run.step(), &record))?;
            run
        }
        _ => Run::begin(parts)?,
    };
    let checkpoints = run.run_to_end()?;
    folder.done()?;
    checkpoints.finish(settings.train.keep_replay)
}

/// Where the updates of a run on this device are captured, if they are.
pub fn graphs(settings: &Settings, device: Device) -> Option<CapturedUpdates> {
    let captured = settings.train.cuda_graph && settings.algorithm.why_not_captured().is_none();
    (captured && device != Device::Cpu).then(|| CapturedUpdates::new(device))
}

/// What a user should know who expects updates to be captured, or not to be.
fn remark_on_graphs(settings: &Settings, device: Device) -> Option<String> {
    match (settings.train.cuda_graph, device, settings.algorithm.why_not_captured()) {
        (true, Device::Cpu, _) => {
            Some("train.cuda_graph = true has no effect: the networks are on a CPU".into())
        }
        (true, Device::Cuda(_), Some(why)) => {
            Some(format!("train.cuda_graph = true has no effect: {why}"))
        }
        _ => None,
    }
}

/// Prints what MuJoCo says about a model of the user's, and whether it can be learned on.
fn remark_on(env: &str, model: &Path) -> Outcome<()> {
    for warning in envs::take_messages() {
        message(format!("warning: {}: MuJoCo: {}", model.display(), warning.text));
    }
    if Env::make_with_model(env, model)?.ends_at_once()? {
        message(format!(
            "warning: {}: every episode of {env} ends at its first step: the model's initial \
             state is one that the task calls terminal",
            model.display()
        ));
    }
    Ok(())
}

/// An entry of `run.resumed`: the step, and the parts of the record that may have changed.
fn resumed(step: u64, record: &DocumentMut) -> InlineTable {
    let mut table = InlineTable::new();
    table.insert("step", (step as i64).into());
    for key in ["command", "commit", "threads", "processor", "instructions"] {
        if let Some(value) = record["run"][key].as_value() {
            table.insert(key, value.clone());
        }
    }
    table
}

/// `config.toml`: how the run was started, on what, and every setting.
fn record(spec: &RunSpec, threads: usize, device: Device) -> Outcome<DocumentMut> {
    // A record is text; a path that is not is recorded as near as can be.
    let command: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut document = spec.shape()?;
    let run = &mut document["run"];
    run["preset"] = value(&spec.preset);
    run["threads"] = value(threads as i64);
    run["command"] = value(command.join(" "));
    run["commit"] = value(env!("SMFP_COMMIT"));
    run["processor"] = value(versions::processor());
    run["instructions"] = value(Instructions::in_use().to_string());
    run["gpu"] = value(if matches!(device, Device::Cpu) { "none" } else { &spec.device });
    let mut versions = Table::new();
    for (name, version) in versions::versions() {
        versions[name] = value(version);
    }
    document.insert("versions", Item::Table(versions));
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::settings::{Sources, resolve};

    #[test]
    fn updates_are_captured_on_a_gpu_unless_a_setting_or_a_number_of_the_host_is_against_it() {
        let of = |algo, set: &[&str], device| {
            let set: Vec<String> = set.iter().map(|word| word.to_string()).collect();
            let (env, preset) = ("Hopper-v4", "default");
            let sources = Sources { algo, env, preset, set: &set, ..Default::default() };
            let settings = resolve(&sources).unwrap();
            (graphs(&settings, device).is_some(), remark_on_graphs(&settings, device))
        };
        let (gpu, on) = (Device::Cuda(0), "train.cuda_graph=true");
        for algo in ["smfp", "crossq", "sac"] {
            assert_eq!(of(algo, &[on], gpu), (true, None));
            assert_eq!(of(algo, &[], gpu), (false, None));
            assert_eq!(of(algo, &[], Device::Cpu), (false, None));
            let (captured, remark) = of(algo, &[on], Device::Cpu);
            assert!(!captured && remark.unwrap().contains("has no effect"));
        }
        let (captured, remark) = of("qvpo", &[on], gpu);
        assert!(!captured && remark.unwrap().contains("follows a schedule"));
    }
}
