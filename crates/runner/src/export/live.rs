//! A run as a page simulates it: its policy, its model, and native steps to compare with.

use super::{graph_of, in_units};
use crate::base::failure::{Failure, Outcome};
use crate::base::versions::path_of;
use crate::train::run_model::{Recorded, compiled};
use crate::train::saved_run::SavedRun;
use agent::{ActMode, Agent};
use envs::{Env, Spec};
use policy::Policy;
use show::{Engine, Live, Noise};
use std::fs;
use std::path::{Path, PathBuf};

/// Files of MuJoCo's WebAssembly build, as set-up unpacks them into `third_party/mujoco-wasm`.
const LOADER: &str = "mujoco.js";
const WASM: &str = "mujoco.wasm";
const PACKAGE: &str = "package.json";

/// MuJoCo's WebAssembly build.
///
/// # Errors
/// It is not installed.
pub fn engine() -> Outcome<Engine> {
    // third_party/mujoco/lib/libmujoco.so.X
    let library = path_of("libmujoco.so");
    let folder = library.ancestors().nth(3).unwrap_or(Path::new("")).join("mujoco-wasm");
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| {
            Failure::Usage(format!(
                "{}: {error}; --live needs MuJoCo's WebAssembly build: `scripts/just setup-live` \
                 fetches it with npm (6 MB)",
                path.display()
            ))
        })
    };
    let package: serde_json::Value = serde_json::from_slice(&read(PACKAGE)?).unwrap_or_default();
    let version = package["version"].as_str().unwrap_or("of an unknown version");
    Ok(Engine::new(version, &read(LOADER)?, &read(WASM)?))
}

/// What the page needs that does not depend on the policy, read before anything is played.
#[derive(Clone)]
pub struct Source<'a> {
    run: &'a SavedRun,
    model: String,
}

impl<'a> Source<'a> {
    /// Checks that a page can simulate a run. `given` is the user's model, if there is one.
    ///
    /// # Errors
    /// The page does not know the task, or MuJoCo's browser build can't read the model.
    pub fn of(run: &'a SavedRun, given: Option<&Path>) -> Outcome<Self> {
        if envs::is_file(&run.env) || !show::can_live(&run.env) {
            return Err(Failure::Usage(format!(
                "--live: {}: a page can simulate Gymnasium's Ant, HalfCheetah, Hopper, Humanoid, \
                 HumanoidStandup, Swimmer and Walker2d, not {}; leave --live out",
                run.folder.display(),
                envs::task_name(&run.env)
            )));
        }
        let file = match given {
            Some(file) => file.to_owned(),
            None => mjcf(run)?,
        };
        let model = fs::read_to_string(&file).ok().filter(|text| text.contains("<mujoco"));
        let model = model.ok_or_else(|| {
            Failure::Usage(format!(
                "--live: {}: MuJoCo's browser build reads MJCF only; pass the MJCF file with --model",
                file.display()
            ))
        })?;
        // An attribute may follow any white space, and have some around its sign.
        let tight: String = model.split_whitespace().collect::<Vec<_>>().join(" ");
        let tight = tight.replace(" =", "=").replace("= ", "=");
        let elsewhere = ["<include", " file=\"", " file='"];
        if let Some(found) = elsewhere.iter().find(|mark| tight.contains(**mark)) {
            return Err(Failure::Usage(format!(
                "--live: {}: a page has no other files, but the model has `{}`; write their \
                 content into it (meshes as `vertex`), or leave --live out",
                file.display(),
                found.trim()
            )));
        }
        Ok(Self { run, model })
    }

    /// The page's part for a policy of the run.
    ///
    /// # Errors
    /// The policy can't be exported, or MuJoCo failed.
    pub fn live(&self, agent: &dyn Agent, mode: ActMode) -> Outcome<Live> {
        let run = self.run;
        let interface = envs::interface(&run.env, run.model.as_deref())?;
        let bytes = in_units(graph_of(run, agent)?, &interface.spec).to_bytes();
        let mut policy = Policy::from_bytes(&bytes)
            .map_err(|error| Failure::Failed(format!("the exported policy: {error}")))?;
        let mut env = match &run.model {
            Some(model) => Env::make_with_model(&run.env, model)?,
            None => Env::make(&run.env)?,
        };
        let act = |obs: &[f64], actions: &mut [f32]| {
            let seen: Vec<f32> = obs.iter().map(|x| *x as f32).collect();
            policy.act(&seen, None, None, actions).expect("the lengths are the policy's");
        };
        let xi = mode == ActMode::Stochastic;
        let noise = Noise { z: xi || !run.mean_is_deterministic(), xi };
        Ok(Live::record(&interface, self.model.clone(), &mut env, (&bytes, noise), act)?)
    }
}

/// The MJCF file that a run's model was compiled from, if it still gives that model.
fn mjcf(run: &SavedRun) -> Outcome<PathBuf> {
    let recorded = Recorded::of(&run.record);
    let file = match recorded.file {
        Some(file) => PathBuf::from(file),
        None => {
            let Spec { model_file, .. } = envs::interface(&run.env, None)?.spec;
            envs::models_dir().join(model_file)
        }
    };
    let same = |sum: &str| compiled(&run.env, Some(&file)).is_ok_and(|(_, found)| found == sum);
    if recorded.sha256.is_none_or(same) {
        return Ok(file);
    }
    Err(Failure::Usage(format!(
        "--live: {}: {} is not, or no longer, the model that the run was trained on, and MuJoCo's \
         browser build can't read the run's model.mjb; pass the MJCF file with --model",
        run.folder.display(),
        file.display()
    )))
}
