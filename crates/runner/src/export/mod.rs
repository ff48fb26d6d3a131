//! A run's policy as files for programs without LibTorch: `docs/export.md` describes them.

pub mod live;
mod mean;
mod onnx;
mod readme;

use crate::base::digest::{sha256, sha256_of};
use crate::base::failure::{Failure, Outcome, check_writable};
use crate::base::stop::Stop;
use crate::base::versions::versions;
use crate::train::evaluator::Evaluation;
use crate::train::run_model;
use crate::train::saved_run::SavedRun;
use agent::{ActMode, Agent};
use envs::{Interface, Spec};
use networks::normal;
use policy::{Graph, Op, Policy};
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tch::Device;

/// Episodes of each evaluation.
const EPISODES: usize = 10;
/// Largest file of a policy that calls its network several times, in bytes.
const MAX_CHAIN: usize = 20_000_000;
/// The file that tells an export from another folder: it has the SHA-256 of the others.
const FACTS: &str = "policy.json";
/// The other files.
const FILES: [&str; 4] = ["policy.smfp", "policy.onnx", "policy-mean.onnx", "README.md"];
/// The copy of a task's file, of a task that is one.
const TASK: &str = "task.toml";

/// A policy that is ready to be written.
pub struct Export {
    /// The step of the checkpoint.
    pub step: u64,
    graph: Graph,
    facts: Value,
    readme: String,
    /// The task's file, if it is one.
    task: Option<Vec<u8>>,
}

/// The returns of one mode: of the exported file, and of the checkpoint it is made of.
struct Measured {
    mode: ActMode,
    runtime: Evaluation,
    checkpoint: Evaluation,
}

impl Export {
    /// Checks that an export can be written to a folder without losing other files.
    ///
    /// # Errors
    /// The folder has other content, an export there was changed, or nothing can be written there.
    pub fn check(out: &Path) -> Outcome<()> {
        let refusal =
            |path: &Path, what: &str| Failure::Usage(format!("--out {}: {what}", path.display()));
        let empty = match fs::read_dir(out) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(refusal(out, "is a file, expected a folder"));
            }
            Err(error) => return Err(Failure::file(out, "read", error)),
        };
        check_writable(out)?;
        if empty {
            return Ok(());
        }
        let Ok(text) = fs::read_to_string(out.join(FACTS)) else {
            let what =
                format!("the folder has files and is no export (it has no {FACTS}); name another");
            return Err(refusal(out, &what));
        };
        let facts: Value = serde_json::from_str(&text).unwrap_or_default();
        if !facts["files"].is_object() {
            let what = "is no export of this version; move it, or name another folder";
            return Err(refusal(&out.join(FACTS), what));
        }
        for name in FILES.iter().chain([&TASK]) {
            let path = out.join(name);
            let found = sha256_of(&path).ok();
            if path.exists() && found.as_deref() != facts["files"][name].as_str() {
                let what =
                    "was not exported, or was changed since; move it, or name another folder";
                return Err(refusal(&path, what));
            }
        }
        Ok(())
    }

    /// The policy of a run's newest checkpoint, measured.
    ///
    /// # Errors
    /// There is no checkpoint, the policy is too large, or MuJoCo failed.
    pub fn of(run: &SavedRun, device: Device) -> Outcome<Self> {
        let interface = envs::interface(&run.env, run.model.as_deref())?;
        let (agent, step) = run.agent(&interface.spec, device)?;
        let graph = in_units(graph_of(run, agent.as_ref())?, &interface.spec);
        let bytes = graph.to_bytes();
        let mut policy = Policy::from_bytes(&bytes)
            .map_err(|error| Failure::Failed(format!("the exported policy: {error}")))?;
        let mut modes = vec![ActMode::Mean];
        if policy.sizes()[1] > 0 && !run.mean_is_deterministic() {
            modes.push(ActMode::Deterministic);
        }
        let mut measured = Vec::new();
        for mode in modes {
            let mut envs = run.evaluator(EPISODES, None, device)?;
            let never = Stop::default();
            let checkpoint = envs.run(agent.as_ref(), mode, &never)?.expect("no stop");
            let [obs_dim, z_dim, xi_dim, act_dim] = policy.sizes();
            let unused = if agent.draws_unused_xi() { xi_dim } else { 0 };
            let mut rng = envs.noise();
            let act = |obs: &[f32]| {
                let rows = obs.len() / obs_dim;
                let z = (mode != ActMode::Mean)
                    .then(|| latents(&mut rng, rows, [z_dim, unused], act_dim));
                let mut actions = vec![0.0; rows * act_dim];
                let of_rows = actions.chunks_exact_mut(act_dim);
                for (i, (action, obs)) in of_rows.zip(obs.chunks_exact(obs_dim)).enumerate() {
                    let z = z.as_ref().map(|z| &z[i * z_dim..][..z_dim]);
                    policy.act(obs, z, None, action).expect("the lengths are the policy's");
                }
                actions
            };
            let runtime = envs.play(act, &never)?.expect("no stop");
            measured.push(Measured { mode, runtime, checkpoint });
        }
        let facts = facts(run, step, &interface, &graph, &measured)?;
        let readme = readme::readme(&facts);
        let task = run_model::task_file(&run.env)?.map(|(bytes, _)| bytes);
        Ok(Self { step, graph, facts, readme, task })
    }

    /// Writes the folder; files of an export that is there are replaced.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, out: &Path) -> Outcome<()> {
        fs::create_dir_all(out).map_err(|error| Failure::file(out, "create", error))?;
        let mean = mean::without_noise(&self.graph);
        let metadata = metadata(&self.facts);
        let contents = [
            self.graph.to_bytes(),
            onnx::model(&self.graph, &metadata),
            onnx::model(&mean, &metadata),
            self.readme.clone().into_bytes(),
        ];
        let mut files: Vec<(&str, Vec<u8>)> = FILES.into_iter().zip(contents).collect();
        files.extend(self.task.clone().map(|task| (TASK, task)));
        let sum = |(name, bytes): &(&str, Vec<u8>)| {
            (name.to_string(), Value::from(sha256(&bytes[..]).expect("bytes can be read")))
        };
        let mut facts = self.facts.clone();
        facts["files"] = files.iter().map(sum).collect();
        let text = serde_json::to_string_pretty(&facts).expect("plain values");
        files.push((FACTS, (text + "\n").into_bytes()));
        write_together(out, &files)?;
        let old = out.join(TASK);
        if self.task.is_none() && old.exists() {
            // That of an earlier export.
            fs::remove_file(&old).map_err(|error| Failure::file(&old, "delete", error))?;
        }
        Ok(())
    }

    /// The returns as CSV.
    pub fn table(&self) -> String {
        let mut text = String::from("mode,return_runtime,return_checkpoint\n");
        for row in self.facts["returns"].as_array().into_iter().flatten() {
            let mode = row["mode"].as_str().unwrap_or_default();
            text += &format!("{mode},{},{}\n", row["runtime"]["mean"], row["checkpoint"]["mean"]);
        }
        text
    }
}

/// Writes files under temporary names and renames them once all are there: they are those of one policy.
///
/// # Errors
/// One can't be written; older files are unchanged.
fn write_together(out: &Path, files: &[(&str, Vec<u8>)]) -> Outcome<()> {
    let drafts: Vec<PathBuf> =
        files.iter().map(|(name, _)| report::unfinished(&out.join(name))).collect();
    let write = |(path, (_, bytes)): (&PathBuf, &(&str, Vec<u8>))| {
        let write = || {
            let mut file = fs::File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| Failure::file(path, "write", error))
    };
    drafts.iter().zip(files).try_for_each(write).inspect_err(|_| {
        // They only take space, and the disk may be full.
        drafts.iter().for_each(|path| drop(fs::remove_file(path)));
    })?;
    drafts.iter().zip(files).try_for_each(|(draft, (name, _))| {
        let path = out.join(name);
        fs::rename(draft, &path).map_err(|error| Failure::file(&path, "write", error))
    })
}

/// The graph of a run's policy.
///
/// # Errors
/// The policy is too large.
fn graph_of(run: &SavedRun, agent: &dyn Agent) -> Outcome<Graph> {
    let graph = agent.graph();
    let size = graph.to_bytes().len();
    if agent.calls_per_action() > 1 && size > MAX_CHAIN {
        return Err(Failure::Usage(format!(
            "{}: the policy's {} network calls make a file of {} MB, expected at most {} MB; \
             train with a smaller actor.width or fewer steps",
            run.folder.display(),
            agent.calls_per_action(),
            size / 1_000_000,
            MAX_CHAIN / 1_000_000
        )));
    }
    Ok(graph)
}

/// The graph with actions in their bounds, computed as in training.
fn in_units(mut graph: Graph, spec: &Spec) -> Graph {
    let (low, high) = (&spec.act_low, &spec.act_high);
    let action = graph.ops.len() as u32 + 2;
    let half = low.iter().zip(high).map(|(low, high)| 0.5 * (high - low)).collect();
    let mut constant = |numbers: Vec<f32>| {
        let tensor = graph.tensor(numbers);
        graph.push(Op::Constant(tensor))
    };
    let (one, half, low) = (constant(vec![1.0; low.len()]), constant(half), constant(low.clone()));
    let shifted = graph.push(Op::Add(action, one));
    let scaled = graph.push(Op::Mul(shifted, half));
    graph.push(Op::Add(low, scaled));
    graph
}

/// Latents of some rows, (rows, z_dim), as training draws them: a chain's step by step, with numbers
/// that it draws after them and doesn't use.
fn latents(
    rng: &mut agent::Random,
    rows: usize,
    [z_dim, unused]: [usize; 2],
    act_dim: usize,
) -> Vec<f32> {
    let [rows, z_dim, unused, act_dim] = [rows, z_dim, unused, act_dim].map(|n| n as i64);
    let z = normal(rng, &[(z_dim + unused) / act_dim, rows, act_dim], Device::Cpu);
    let z = z.narrow(0, 0, z_dim / act_dim);
    Vec::try_from(z.transpose(0, 1).contiguous().view([-1])).expect("a vector of f32")
}

/// The content of `policy.json`.
fn facts(
    run: &SavedRun,
    step: u64,
    interface: &Interface,
    graph: &Graph,
    measured: &[Measured],
) -> Outcome<Value> {
    let Interface { spec, observation } = interface;
    let checkpoint = run.folder.join(format!("checkpoint/step-{step:012}/agent.safetensors"));
    let sum = fs::File::open(&checkpoint).and_then(sha256);
    let sum = sum.map_err(|error| Failure::file(&checkpoint, "read", error))?;
    let term = |term: &envs::Term| {
        let mut facts = json!({
            "name": term.name, "start": term.start, "length": term.length, "entries": term.entries,
        });
        if !term.expression.is_empty() {
            facts["expression"] = json!(term.expression);
        }
        facts
    };
    let ranges = spec.act_low.iter().zip(&spec.act_high);
    let actuator = |(name, (low, high)): (&String, (&f32, &f32))| json!({"name": name, "low": low, "high": high});
    let returns = |evaluation: &Evaluation| {
        let returns: Vec<f64> = evaluation.episodes.iter().map(|(total, _)| *total).collect();
        let mean = returns.iter().sum::<f64>() / returns.len() as f64;
        json!({"mean": mean, "episodes": returns})
    };
    let row = |row: &Measured| {
        json!({
            "mode": row.mode.to_string(),
            "runtime": returns(&row.runtime),
            "checkpoint": returns(&row.checkpoint),
        })
    };
    let targets = spec.position_targets.as_ref().map(|targets| {
        json!({"kp": targets.kp, "kd": targets.kd, "scale": targets.scale, "default": targets.default})
    });
    let [obs, z, xi] = graph.inputs;
    Ok(json!({
        "format": policy::VERSION,
        "task": envs::task_name(&run.env),
        "algorithm": run.algo,
        "seed": run.seed,
        "step": step,
        "steps_planned": run.settings.train.steps,
        "run": run.folder.display().to_string(),
        "commit": env!("SMFP_COMMIT"),
        "versions": versions().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "checkpoint_sha256": sum,
        "control_period_s": spec.dt,
        "simulation_steps_per_action": spec.frame_skip,
        "inputs": {"obs": obs, "z": z, "xi": xi},
        "observation": observation.iter().map(term).collect::<Vec<_>>(),
        "actions": spec.actuators.iter().zip(ranges).map(actuator).collect::<Vec<_>>(),
        "position_targets": targets,
        "returns": measured.iter().map(row).collect::<Vec<_>>(),
    }))
}

/// The metadata of the ONNX files: keys that other tools read, and everything as JSON.
fn metadata(facts: &Value) -> Vec<(String, String)> {
    let names = |list: &str| {
        let items = facts[list].as_array().into_iter().flatten();
        items.filter_map(|item| item["name"].as_str()).collect::<Vec<_>>().join(",")
    };
    let word = |key: &str| facts[key].as_str().unwrap_or_default().to_string();
    vec![
        ("run_path".into(), word("run")),
        ("observation_names".into(), names("observation")),
        ("action_names".into(), names("actions")),
        ("smfp".into(), facts.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::make_agent;
    use crate::train::settings::{Sources, resolve};
    use tch::Tensor;

    #[test]
    fn every_algorithms_deterministic_actions_are_those_of_the_graph_with_the_exports_noise() {
        let spec = envs::Env::make("Hopper-v4").unwrap().spec().clone();
        // (An export of a policy whose deterministic latent is zero has no such row.)
        let drawn = ["policy.eval_latent=drawn".to_string()];
        let one = ["flow.steps=1".to_string()];
        let few = ["diffusion.steps=2".to_string()];
        let of = |algo| (algo, if algo == "smfp" { &drawn[..] } else { &[] });
        let mut cases: Vec<(&str, &[String])> = crate::algorithms().into_iter().map(of).collect();
        cases.extend(["sac-flow-g", "sac-flow-t", "flowrl"].map(|algo| (algo, &one[..])));
        cases.extend(["dime", "dpmd"].map(|algo| (algo, &few[..])));
        for (algo, set) in cases {
            let sources =
                Sources { algo, env: &spec.id, preset: "default", set, ..Default::default() };
            let settings = resolve(&sources).ok().unwrap();
            let agent = make_agent(settings.algorithm.as_ref(), &spec, 3, Device::Cpu);
            let mut policy = Policy::new(agent.graph()).unwrap();
            let [_, z_dim, xi_dim, act_dim] = policy.sizes();
            let [mut ours, mut theirs] = [0, 0].map(|_| agent::stream(1, "noise"));
            // What the first call doesn't use must not reach the second either.
            for _ in 0..2 {
                let rows =
                    normal(&mut agent::stream(2, "obs"), &[5, spec.obs_dim as i64], Device::Cpu);
                let expected = agent.act(&rows, ActMode::Deterministic, &mut theirs);
                let unused = if agent.draws_unused_xi() { xi_dim } else { 0 };
                let z = latents(&mut ours, 5, [z_dim, unused], act_dim);
                for row in 0..5_usize {
                    let obs = Vec::<f32>::try_from(rows.get(row as i64)).unwrap();
                    let mut found = vec![0.0; act_dim];
                    policy.act(&obs, Some(&z[row * z_dim..][..z_dim]), None, &mut found).unwrap();
                    let difference = Tensor::from_slice(&found) - expected.get(row as i64);
                    let difference = difference.abs().max().double_value(&[]);
                    assert!(difference < 1e-4, "{algo} with {set:?}: {difference}");
                }
            }
        }
    }
}
