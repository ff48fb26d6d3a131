//! The command `train`: from a request to a run in its folder.

use crate::checkpoint::Identity;
use crate::cli::TrainArgs;
use crate::evaluate::{Evaluator, make_envs};
use crate::failure::{Failure, Outcome};
use crate::folder::{Found, RunFolder, Wish};
use crate::run::{Parts, Run};
use crate::settings::{self, AlgorithmConfig, Settings, Sources};
use crate::stop::Stop;
use crate::{device, doctor};
use agent::{Agent, stream};
use envs::Spec;
use tch::Device;
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

/// Draws the networks of an algorithm for a task.
pub fn make_agent(
    config: &AlgorithmConfig,
    spec: &Spec,
    seed: u64,
    device: Device,
) -> Box<dyn Agent> {
    let mut rng = stream(seed, "network initialisation");
    let (obs_dim, act_dim) = (spec.obs_dim as i64, spec.act_dim as i64);
    macro_rules! agent {
        ($kind:path, $config:expr) => {
            Box::new(<$kind>::new($config, obs_dim, act_dim, device, &mut rng))
        };
    }
    match config {
        AlgorithmConfig::Smfp(config) => agent!(smfp::Smfp, config),
        AlgorithmConfig::Sac(config) => agent!(baselines::sac::Sac, config),
        AlgorithmConfig::Td3(config) => agent!(baselines::td3::Td3, config),
        AlgorithmConfig::Mdpo(config) => agent!(baselines::mdpo::Mdpo, config),
        AlgorithmConfig::MeanFlow(config) => agent!(baselines::meanflow::MeanFlow, config),
        AlgorithmConfig::Qvpo(config) => agent!(baselines::qvpo::Qvpo, config),
        AlgorithmConfig::Dpmd(config) => agent!(baselines::dpmd::Dpmd, config),
    }
}

/// The command `train`.
///
/// # Errors
/// Wrong input, a folder that can't be used, a diverged run.
pub fn train(args: &TrainArgs) -> Outcome<()> {
    // Everything that can be wrong with the request is found before the
    // folder is touched. An unknown task comes first: its presets depend on it.
    let model = args.model.as_deref();
    make_envs(&args.env, model, 1, 1)?;
    let settings = settings::resolve(&Sources {
        algo: &args.algo,
        env: &args.env,
        preset: &args.preset,
        config: args.config.as_deref(),
        set: &args.set,
        steps: args.steps,
        envs: args.envs,
    })?;
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = args.threads.map_or(processors, usize::from);
    let envs = make_envs(&args.env, model, settings.train.envs, threads)?;
    if let Some(name) = &args.name {
        check_name(name)?;
    }
    let device = device::parse(&args.device)?;
    // Hours may hang on these files: a third of a second to read them is little.
    doctor::check_libraries().map_err(Failure::Failed)?;
    device::use_threads(threads);
    let stop = Stop::on_signals()
        .map_err(|error| Failure::Failed(format!("can't listen for signals: {error}")))?;
    let name = args.name.as_deref();
    let path = RunFolder::path_of(&args.out, &args.algo, name, &args.env, args.seed);
    let wish = match (args.resume, args.restart) {
        (true, _) => Wish::Resume,
        (_, true) => Wish::Restart,
        _ => Wish::Any,
    };
    let record = record(args, &settings, threads, device)?;
    let (folder, found) = RunFolder::open(path, &record, wish)?;
    if found == Found::Finished {
        eprintln!("{}: this run is finished", folder.path().display());
        return Ok(());
    }
    let evaluation = settings.train.eval_episodes;
    let parts = Parts {
        identity: Identity::new(&args.algo, &args.env, args.seed),
        train: &settings.train,
        folder: folder.path(),
        evaluator: Evaluator::new(&args.env, model, evaluation, threads, args.seed, device)?,
        agent: make_agent(&settings.algorithm, envs.spec(), args.seed, device),
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
    run.all()?;
    folder.done()
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

/// A name becomes part of a folder's name.
fn check_name(name: &str) -> Outcome<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.chars().all(fine) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Failure::Usage(format!("--name '{name}': expected letters, digits, '-', '_' and '.'")))
}

/// `config.toml`: how the run was asked for, on what, and every setting.
fn record(
    args: &TrainArgs,
    settings: &Settings,
    threads: usize,
    device: Device,
) -> Outcome<DocumentMut> {
    let mut run = Table::new();
    let command: Vec<String> = std::env::args().collect();
    run["algo"] = value(&args.algo);
    run["env"] = value(&args.env);
    run["seed"] = value(args.seed as i64);
    if let Some(model) = &args.model {
        let fail = |error| Failure::file(model, "read", error);
        let absolute = model.canonicalize().map_err(fail)?;
        run["model_sha256"] = value(doctor::sha256_of(&absolute).map_err(fail)?);
        run["model"] = value(absolute.display().to_string());
    }
    run["preset"] = value(&args.preset);
    run["device"] = value(&args.device);
    run["threads"] = value(threads as i64);
    run["command"] = value(command.join(" "));
    run["commit"] = value(env!("SMFP_COMMIT"));
    run["processor"] = value(doctor::processor());
    run["gpu"] = value(if matches!(device, Device::Cpu) { "none" } else { &args.device });
    let mut versions = Table::new();
    for (name, version) in doctor::versions() {
        versions[name] = value(version);
    }
    let mut document = DocumentMut::new();
    document.insert("run", Item::Table(run));
    document.insert("versions", Item::Table(versions));
    for (section, item) in settings.document.iter() {
        document.insert(section, item.clone());
    }
    Ok(document)
}
