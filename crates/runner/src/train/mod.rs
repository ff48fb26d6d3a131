//! Training: from what is asked for to a run in its folder.

pub mod checkpoint;
pub mod evaluator;
mod interval;
pub mod logs;
mod memory;
pub mod progress;
pub mod registry;
pub mod run_folder;
pub mod run_spec;
pub mod run_status;
pub mod settings;
mod training_loop;

use self::checkpoint::{Checkpoints, Identity};
use self::evaluator::{Evaluator, make_envs};
use self::registry::metric_names;
use self::run_folder::{Found, RunFolder};
use self::run_spec::TrainRequest;
use self::training_loop::{Parts, Run};
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::Stop;
use crate::base::{device, versions};
use agent::{Agent, AgentConfig, stream};
use envs::Spec;
use tch::Device;
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

/// Draws the networks of an algorithm for a task.
pub fn make_agent(
    config: &dyn AgentConfig,
    spec: &Spec,
    seed: u64,
    device: Device,
) -> Box<dyn Agent> {
    let mut rng = stream(seed, "network initialisation");
    config.build(spec.obs_dim as i64, spec.act_dim as i64, device, &mut rng)
}

/// Trains as a request says. What depends on the machine is checked here, before the
/// folder is touched.
///
/// # Errors
/// A device that isn't there, a folder that can't be used, a diverged run.
pub fn train_request(request: &TrainRequest) -> Outcome<()> {
    let TrainRequest { settings, env, seed, .. } = request;
    let model = request.model.as_deref();
    let threads = request.threads.map_or_else(device::processors, usize::from);
    let envs = make_envs(env, model, settings.train.envs, threads)?;
    let device = device::parse(&request.device)?;
    // Hours may hang on these files: a third of a second to read them is little.
    versions::check_libraries().map_err(Failure::Failed)?;
    device::use_threads(threads);
    let stop = Stop::on_signals()
        .map_err(|error| Failure::Failed(format!("can't listen for signals: {error}")))?;
    let record = record(request, threads, device)?;
    let (folder, found) = RunFolder::open(request.folder(), &record, request.wish)?;
    if found == Found::Finished {
        eprintln!("{}: this run is finished", folder.path().display());
        // It may have died right after it was marked as done.
        return Checkpoints::open(folder.path())?.finish();
    }
    let evaluation = settings.train.eval_episodes;
    let parts = Parts {
        identity: Identity::new(&request.algo, env, *seed),
        train: &settings.train,
        folder: folder.path(),
        evaluator: Evaluator::new(env, model, evaluation, threads, *seed, device)?,
        agent: make_agent(settings.algorithm.as_ref(), envs.spec(), *seed, device),
        metrics: metric_names(settings.algorithm.as_ref(), envs.spec()),
        gamma: settings.gamma(),
        envs,
        device,
        stop,
    };
    let run = match found {
        Found::Unfinished => {
            let run = Run::resume(parts)?;
            folder.record_resume(resumed(run.step(), &record))?;
            run
        }
        _ => Run::begin(parts)?,
    };
    let checkpoints = run.all()?;
    folder.done()?;
    checkpoints.finish()
}

/// What went on at a step: the parts of the record that may have changed.
fn resumed(step: u64, record: &DocumentMut) -> InlineTable {
    let mut table = InlineTable::new();
    table.insert("step", (step as i64).into());
    for key in ["command", "commit", "threads", "processor"] {
        if let Some(value) = record["run"][key].as_value() {
            table.insert(key, value.clone());
        }
    }
    table
}

/// `config.toml`: how the run was asked for, on what, and every setting.
fn record(request: &TrainRequest, threads: usize, device: Device) -> Outcome<DocumentMut> {
    let command: Vec<String> = std::env::args().collect();
    let mut document = request.shape()?;
    let run = &mut document["run"];
    run["preset"] = value(&request.preset);
    run["threads"] = value(threads as i64);
    run["command"] = value(command.join(" "));
    run["commit"] = value(env!("SMFP_COMMIT"));
    run["processor"] = value(versions::processor());
    run["gpu"] = value(if matches!(device, Device::Cpu) { "none" } else { &request.device });
    let mut versions = Table::new();
    for (name, version) in versions::versions() {
        versions[name] = value(version);
    }
    document.insert("versions", Item::Table(versions));
    Ok(document)
}
