//! `runner slurm`: the runs of a manifest as an array job of Slurm.
//!
//! An array task is a `runner sweep` over a few indices: as many as share a GPU, or one.
//! Slurm's warning before the time limit, or at the start of a preemption's grace time, reaches
//! the runs as a request to stop; the task ends with 75, and the script has it queued again.

use crate::base::device;
use crate::base::failure::{Failure, Outcome};
use crate::commands::cli::SlurmArgs;
use crate::sweep::manifest;
use crate::train::run_spec::TrainRequest;
use crate::train::run_status::{self, State};
use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tch::Device;

/// The command.
///
/// # Errors
/// A damaged manifest, a share of a GPU that does not fit it, a job that Slurm refuses.
pub fn slurm(args: &SlurmArgs) -> Outcome<()> {
    let runs = manifest::read(&args.manifest)?;
    let per_task = runs_per_task(args, &runs)?;
    let tasks = tasks(&runs, per_task);
    if tasks.is_empty() {
        eprintln!("all {} runs are done or running: nothing to submit", runs.len());
        return Ok(());
    }
    let script = script(args, &runs, per_task, &tasks)?;
    if args.dry_run {
        print!("{script}");
        return Ok(());
    }
    let logs = logs(&args.manifest)?;
    fs::create_dir_all(&logs).map_err(|error| Failure::file(&logs, "make this folder", error))?;
    submit(&script)?;
    eprintln!("{} array tasks submitted; their output goes to {}", tasks.len(), logs.display());
    Ok(())
}

/// How many runs share an array task: those that share a GPU.
fn runs_per_task(args: &SlurmArgs, runs: &[TrainRequest]) -> Outcome<usize> {
    let on_gpu = |run: &&TrainRequest| matches!(device::named(&run.device), Ok(Device::Cuda(_)));
    let gpu_runs = runs.iter().filter(on_gpu).count();
    let refuse = |problem: String| Err(Failure::Usage(problem));
    match args.gpus_per_run {
        None if gpu_runs > 0 => refuse(format!(
            "{}: {gpu_runs} runs are planned with --device cuda, expected --gpus-per-run",
            args.manifest.display()
        )),
        None => Ok(1),
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            refuse(format!("--gpus-per-run {share}: expected a share of one GPU, above 0, up to 1"))
        }
        Some(share) if gpu_runs < runs.len() => refuse(format!(
            "--gpus-per-run {share}: {} of {} runs are planned for the CPU; plan them with \
             --device cuda",
            runs.len() - gpu_runs,
            runs.len()
        )),
        // Slurm shows a job its own GPU only, as the first.
        Some(_) if runs.iter().any(|run| !matches!(run.device.as_str(), "cuda" | "cuda:0")) => {
            refuse("--gpus-per-run: a job sees one GPU; plan with --device cuda".into())
        }
        // A third is 0.33 as well as 0.3333.
        Some(share) => Ok((1.0 / share + 0.05).floor() as usize),
    }
}

/// Array tasks with something to do: task k has the indices from k times `per_task` on.
fn tasks(runs: &[TrainRequest], per_task: usize) -> Vec<usize> {
    let over =
        |run: &TrainRequest| matches!(run_status::look(run).state, State::Done | State::Running);
    let open = runs.chunks(per_task).enumerate().filter(|(_, task)| !task.iter().all(over));
    open.map(|(k, _)| k).collect()
}

/// "0-3,7".
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

/// The job's script.
fn script(
    args: &SlurmArgs,
    runs: &[TrainRequest],
    per_task: usize,
    tasks: &[usize],
) -> Outcome<String> {
    let here = std::env::current_dir().map_err(|error| Failure::Failed(error.to_string()))?;
    let program = std::env::current_exe().map_err(|error| Failure::Failed(error.to_string()))?;
    let threads = runs.iter().filter_map(|run| run.threads).max().unwrap_or(1);
    let cpus = usize::from(args.cpus_per_run.unwrap_or(threads)) * per_task;
    let limit = args.array_limit.map(|limit| format!("%{limit}")).unwrap_or_default();
    let output = logs(&args.manifest)?.join("%A_%a.out");
    let mut options = vec![
        "job-name=sweep".to_string(),
        format!("chdir={}", quoted(&here)?),
        format!("output={}", quoted(&output)?),
        "open-mode=append".into(),
        format!("array={}{limit}", ranges(tasks)),
        "ntasks=1".into(),
        format!("cpus-per-task={cpus}"),
        "requeue".into(),
        format!("signal=TERM@{}", args.stop_before),
    ];
    if args.gpus_per_run.is_some() {
        options.push("gres=gpu:1".into());
    }
    if let Some(size) = &args.mem {
        options.push(format!("mem={}", memory(size, per_task)?));
    }
    for (name, value) in [("time", &args.time), ("partition", &args.partition)] {
        if let Some(value) = value {
            options.push(format!("{name}={}", word(name, value)?));
        }
    }
    let options: String = options.iter().map(|option| format!("#SBATCH --{option}\n")).collect();
    let (program, manifest) = (quoted(&program)?, quoted(&absolute(&args.manifest)?)?);
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

/// Memory of an array task: so many times that of a run.
fn memory(size: &str, runs: usize) -> Outcome<String> {
    let digits = size.trim_end_matches(['K', 'M', 'G', 'T']);
    match digits.parse::<u32>() {
        Ok(number) if number > 0 && size.len() == digits.len() + 1 => {
            Ok(format!("{}{}", u64::from(number) * runs as u64, &size[digits.len()..]))
        }
        _ => Err(Failure::Usage(format!("--mem {size}: expected a whole number of K, M, G or T"))),
    }
}

/// A value that ends neither its option nor its line.
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

/// A path for the shell and for Slurm alike.
fn quoted(path: &Path) -> Outcome<String> {
    let text = path.display().to_string();
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

/// What array tasks print goes beside the manifest: `<name>.slurm/`.
fn logs(manifest: &Path) -> Outcome<PathBuf> {
    Ok(absolute(manifest)?.with_extension("slurm"))
}

fn submit(script: &str) -> Outcome<()> {
    let fail = |error: std::io::Error| {
        Failure::Failed(format!("sbatch: {error}; run this where Slurm is, or add --dry-run"))
    };
    let mut sbatch = Command::new("sbatch").stdin(Stdio::piped()).spawn().map_err(fail)?;
    sbatch.stdin.take().expect("piped").write_all(script.as_bytes()).map_err(fail)?;
    let status = sbatch.wait().map_err(fail)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Failed(format!("sbatch ended with {status}: it has said why above")))
}
