//! The runs of a manifest as an array job of Slurm.
//!
//! An array task is a `runner sweep` over a few indices: the runs that share a GPU, or one.
//! Slurm signals the runs before the time limit, or at the start of a preemption's grace time;
//! they stop with checkpoints, the task ends with 75, and the script has it queued again.

use crate::base::device;
use crate::base::failure::{Failure, Outcome};
use crate::train::run_spec::RunSpec;
use crate::train::run_status::{RunStatus, State};
use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tch::Device;

/// The smallest share of a GPU: a sweep has up to 1024 runs at once.
const LEAST_SHARE: f64 = 0.001;

/// What the array tasks ask Slurm for.
pub struct Resources {
    /// Most array tasks at a time.
    pub array_limit: Option<u16>,
    /// The share of a GPU for each run, in (0, 1].
    pub gpus_per_run: Option<f64>,
    /// Processors for each run; if none, its threads.
    pub cpus_per_run: Option<u16>,
    /// Memory for each run: a number of K, M, G or T.
    pub mem: Option<String>,
    /// Time limit of an array task, as sbatch reads it.
    pub time: Option<String>,
    /// Seconds before the time limit at which runs stop.
    pub stop_before: u16,
    /// Partition.
    pub partition: Option<String>,
}

/// An array job that can be submitted.
pub struct Job {
    /// The script for `sbatch`.
    pub script: String,
    /// The number of array tasks.
    pub tasks: usize,
    /// The folder for the tasks' output.
    pub logs: PathBuf,
}

impl Job {
    /// The job for the runs of a manifest, or nothing if all are done or running.
    ///
    /// # Errors
    /// Resources that do not fit the runs, or that Slurm can't read.
    pub fn new(manifest: &Path, runs: &[RunSpec], resources: &Resources) -> Outcome<Option<Self>> {
        let per_task = runs_per_task(manifest, resources, runs)?;
        let tasks = tasks(runs, per_task);
        if tasks.is_empty() {
            return Ok(None);
        }
        let manifest = absolute(manifest)?;
        // Next to the manifest: `<name>.slurm/`.
        let logs = manifest.with_extension("slurm");
        let script = script(&manifest, &logs, resources, runs, per_task, &tasks)?;
        Ok(Some(Self { script, tasks: tasks.len(), logs }))
    }

    /// Submits the job.
    ///
    /// # Errors
    /// `sbatch` can't be run, or refuses the job.
    pub fn submit(&self) -> Outcome<()> {
        fs::create_dir_all(&self.logs)
            .map_err(|error| Failure::file(&self.logs, "make this folder", error))?;
        let fail = |error: std::io::Error| {
            Failure::Failed(format!("sbatch: {error}; run this where Slurm is, or add --dry-run"))
        };
        let mut sbatch = Command::new("sbatch").stdin(Stdio::piped()).spawn().map_err(fail)?;
        sbatch.stdin.take().expect("piped").write_all(self.script.as_bytes()).map_err(fail)?;
        let status = sbatch.wait().map_err(fail)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Failed(format!("sbatch ended with {status}; its message is above")))
    }
}

/// How many runs share an array task: those that share a GPU, or one.
fn runs_per_task(manifest: &Path, resources: &Resources, runs: &[RunSpec]) -> Outcome<usize> {
    let on_gpu = |run: &&RunSpec| matches!(device::named(&run.device), Ok(Device::Cuda(_)));
    let gpu_runs = runs.iter().filter(on_gpu).count();
    let refuse = |problem: String| Err(Failure::Usage(problem));
    match resources.gpus_per_run {
        None if gpu_runs > 0 => refuse(format!(
            "{}: {gpu_runs} runs are planned with --device cuda, expected --gpus-per-run",
            manifest.display()
        )),
        None => Ok(1),
        Some(share) if !(LEAST_SHARE..=1.0).contains(&share) => refuse(format!(
            "--gpus-per-run {share}: expected a share of one GPU, {LEAST_SHARE} to 1"
        )),
        Some(share) if gpu_runs < runs.len() => refuse(format!(
            "--gpus-per-run {share}: {} of {} runs are planned for the CPU; plan them with \
             --device cuda",
            runs.len() - gpu_runs,
            runs.len()
        )),
        // A job sees only its own GPU, as the first.
        Some(_) if runs.iter().any(|run| !matches!(run.device.as_str(), "cuda" | "cuda:0")) => {
            refuse("--gpus-per-run: a job sees one GPU; plan with --device cuda".into())
        }
        // A third may be given as 0.33.
        Some(share) => Ok((1.0 / share + 0.05).floor() as usize),
    }
}

/// The array tasks with runs to do. Task k has `per_task` indices from k * `per_task`.
fn tasks(runs: &[RunSpec], per_task: usize) -> Vec<usize> {
    let over = |run: &RunSpec| matches!(RunStatus::of(run).state, State::Done | State::Running);
    let open = runs.chunks(per_task).enumerate().filter(|(_, task)| !task.iter().all(over));
    open.map(|(k, _)| k).collect()
}

/// Ascending numbers as ranges, such as "0-3,7".
fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<RangeInclusive<usize>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end() + 1 == *number => *last = *last.start()..=*number,
            _ => ranges.push(*number..=*number),
        }
    }
    let text = |range: &RangeInclusive<usize>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The script for `sbatch`.
fn script(
    manifest: &Path,
    logs: &Path,
    resources: &Resources,
    runs: &[RunSpec],
    per_task: usize,
    tasks: &[usize],
) -> Outcome<String> {
    let here = std::env::current_dir().map_err(|error| Failure::Failed(error.to_string()))?;
    let program = std::env::current_exe().map_err(|error| Failure::Failed(error.to_string()))?;
    let threads = runs.iter().filter_map(|run| run.threads).max().unwrap_or(1);
    let cpus = usize::from(resources.cpus_per_run.unwrap_or(threads)) * per_task;
    let limit = resources.array_limit.map(|limit| format!("%{limit}")).unwrap_or_default();
    let mut options = vec![
        "job-name=sweep".to_string(),
        format!("chdir={}", quoted(&here)?),
        format!("output={}", pattern(logs)?),
        "open-mode=append".into(),
        format!("array={}{limit}", ranges(tasks)),
        "ntasks=1".into(),
        format!("cpus-per-task={cpus}"),
        "requeue".into(),
        format!("signal=TERM@{}", resources.stop_before),
    ];
    if resources.gpus_per_run.is_some() {
        options.push("gres=gpu:1".into());
    }
    if let Some(size) = &resources.mem {
        options.push(format!("mem={}", memory(size, per_task)?));
    }
    // 0 is no limit.
    if let Some(seconds) = resources.time.as_deref().and_then(seconds)
        && (1..=u64::from(resources.stop_before)).contains(&seconds)
    {
        return Err(Failure::Usage(format!(
            "--time {}: {seconds} s, expected more than the {} of --stop-before, at which runs stop",
            resources.time.as_deref().unwrap_or_default(),
            resources.stop_before
        )));
    }
    for (name, value) in [("time", &resources.time), ("partition", &resources.partition)] {
        if let Some(value) = value {
            options.push(format!("{name}={}", word(name, value)?));
        }
    }
    let options: String = options.iter().map(|option| format!("#SBATCH --{option}\n")).collect();
    let (program, manifest) = (quoted(&program)?, quoted(manifest)?);
    let last = runs.len() - 1;
    Ok(format!(
        r#"#!/bin/bash
{options}
first=$((SLURM_ARRAY_TASK_ID * {per_task}))
last=$((first + {more} < {last} ? first + {more} : {last}))
# A step, because it is steps that Slurm asks to stop.
srun --ntasks=1 --cpus-per-task={cpus} {program} sweep {manifest} --indices "$first-$last" --jobs {per_task}
code=$?
if [ "$code" = 75 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
"#,
        more = per_task - 1,
    ))
}

/// The seconds of a time limit, in the forms of sbatch: minutes, `m:s`, `h:m:s`, `d-h`, `d-h:m` and
/// `d-h:m:s`; nothing of another text, which sbatch is to judge.
fn seconds(time: &str) -> Option<u64> {
    let (days, rest) = match time.split_once('-') {
        Some((days, rest)) => (Some(days.parse::<u64>().ok()?), rest),
        None => (None, time),
    };
    let parts: Vec<u64> = rest.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = match (days, parts.as_slice()) {
        (None, &[minutes]) => [0, minutes, 0],
        (None, &[minutes, seconds]) => [0, minutes, seconds],
        (Some(_), &[hours]) => [hours, 0, 0],
        (Some(_), &[hours, minutes]) => [hours, minutes, 0],
        (_, &[hours, minutes, seconds]) => [hours, minutes, seconds],
        _ => return None,
    };
    let all = [(days.unwrap_or(0), 86_400), (hours, 3600), (minutes, 60), (seconds, 1)];
    all.iter().try_fold(0_u64, |sum, (n, unit)| sum.checked_add(n.checked_mul(*unit)?))
}

/// The name of the files of output in a folder; Slurm replaces a % and what follows it.
fn pattern(folder: &Path) -> Outcome<String> {
    let folder = quoted(folder)?;
    Ok(format!("{}/%A_%a.out\"", folder.trim_end_matches('"').replace('%', "%%")))
}

/// Memory of an array task: that of `runs` runs of this size.
fn memory(size: &str, runs: usize) -> Outcome<String> {
    let digits = size.trim_end_matches(['K', 'M', 'G', 'T']);
    match digits.parse::<u32>() {
        Ok(number) if number > 0 && size.len() == digits.len() + 1 => {
            Ok(format!("{}{}", u64::from(number) * runs as u64, &size[digits.len()..]))
        }
        _ => Err(Failure::Usage(format!("--mem {size}: expected a whole number of K, M, G or T"))),
    }
}

/// Checks that a value ends neither its option nor its line.
fn word<'a>(name: &str, value: &'a str) -> Outcome<&'a str> {
    let fine = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '#');
    if !value.is_empty() && value.chars().all(fine) {
        return Ok(value);
    }
    Err(Failure::Usage(format!(
        "--{name} '{}': expected letters, digits and signs",
        value.escape_debug()
    )))
}

/// A path in quotes, for the shell and for Slurm.
fn quoted(path: &Path) -> Outcome<String> {
    let Some(text) = path.to_str() else {
        return Err(Failure::Usage(format!(
            "{path:?}: this path is not UTF-8, as a job script is"
        )));
    };
    if text.contains(['"', '$', '`', '\\', '\n']) {
        return Err(Failure::Usage(format!(
            "{text:?}: quotes and such in a path are not for Slurm"
        )));
    }
    Ok(format!("\"{text}\""))
}

fn absolute(path: &Path) -> Outcome<PathBuf> {
    path.canonicalize().map_err(|error| Failure::file(path, "find", error))
}
