//! Shared test code: configurations, comparing whole updates with recordings of independent
//! implementations (`scripts/recording.py`), and what LibTorch is asked for in an update: its
//! operations, and reads to the host.

mod operations;
mod reads;
mod rehearsal;

use agent::{Agent, Batch, Metrics};
use networks::Instructions;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};
use toml_edit::{DocumentMut, Table};
use torch_sys as _; // says where LibTorch is, to build.rs

pub use operations::operations;
pub use reads::reads;
pub use rehearsal::Rehearsal;

/// The device that recorded updates are repeated on: `SMFP_TEST_DEVICE` (cpu, cuda or cuda:INDEX), the
/// CPU by default.
///
/// # Panics
/// Another device, or CUDA without a GPU.
pub fn device() -> Device {
    let name = std::env::var("SMFP_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let index = match name.as_str() {
        "cpu" => return Device::Cpu,
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    let index: usize = index.unwrap_or_else(|| panic!("SMFP_TEST_DEVICE={name}: unknown device"));
    let count = tch::Cuda::device_count();
    assert!((index as i64) < count, "SMFP_TEST_DEVICE={name}: LibTorch finds {count} GPUs");
    Device::Cuda(index)
}

/// What the tolerances are multiplied by: `SMFP_TEST_TOLERANCE`, 1 by default.
///
/// # Panics
/// It is no number.
fn slack() -> f64 {
    let text = std::env::var("SMFP_TEST_TOLERANCE").unwrap_or_else(|_| "1".into());
    text.parse().unwrap_or_else(|_| panic!("SMFP_TEST_TOLERANCE={text}: expected a number"))
}

/// The recordings of a crate, whose folder as it was compiled is given: they may have been copied
/// elsewhere with the test's program, which cargo's `CARGO_MANIFEST_DIR` then says.
pub fn fixtures(crate_folder: &str) -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| crate_folder.into());
    PathBuf::from(folder).join("tests/fixtures")
}

/// Relative tolerance. Recordings are computed in f64; an update in f32 is a chain of a few
/// dozen operations, each with an error of 6e-8 of its largest term.
const RELATIVE: f64 = 1e-5;
/// Absolute tolerance. Where terms cancel, the error depends on their size, about 1.
const ABSOLUTE: f64 = 1e-6;

/// The preset `default` of a preset file, overridden by some keys (`"section.key" = value`, one
/// per line); if a key is given twice, the last value counts. The configuration is not
/// validated.
///
/// # Panics
/// A key is not in the preset, or its value has the wrong type.
pub fn config<C: DeserializeOwned>(presets: &str, keys: &str) -> C {
    let lines: Vec<DocumentMut> = keys.lines().map(|line| line.parse().unwrap()).collect();
    layered(presets, lines.iter().map(|line| line.as_table()))
}

/// The preset `default` of a preset file, overridden by the keys of tables in order. Nested
/// tables are ignored.
fn layered<'a, C: DeserializeOwned>(
    presets: &str,
    layers: impl IntoIterator<Item = &'a Table>,
) -> C {
    let mut config = agent::presets::defaults(&presets.parse().unwrap());
    let keys = layers.into_iter().flat_map(|layer| layer.iter());
    for (key, value) in keys.filter(|(_, item)| item.is_value()) {
        let (section, name) = key.split_once('.').unwrap();
        assert!(config[section].get(name).is_some(), "{key} is not a key of the preset");
        config[section][name] = value.clone();
    }
    agent::presets::read(config).unwrap()
}

/// Runs a test in every form of the CPU kernels that this processor has, the one that is
/// used without a setting last, or once on another [`device`]. Tests of a process that do so take
/// turns.
///
/// # Panics
/// As the test does.
#[expect(clippy::print_stdout, reason = "says in which form a test failed")]
pub fn in_every_form(test: impl Fn()) {
    let _turn = turn();
    if device() != Device::Cpu {
        return test();
    }
    for form in Instructions::available() {
        println!("instructions: {form}");
        form.set().unwrap_or_else(|error| panic!("{error}"));
        test();
    }
}

/// [`in_every_form`], and before it, on the CPU, once [`in_libtorch`].
///
/// # Panics
/// As the test does.
#[expect(clippy::print_stdout, reason = "says in which form a test failed")]
pub fn in_every_form_and_libtorch(test: impl Fn()) {
    if device() == Device::Cpu {
        println!("instructions: LibTorch");
        in_libtorch(&test);
    }
    in_every_form(test);
}

/// Runs a test in LibTorch's operations, which are those of other devices.
///
/// # Panics
/// As the test does.
pub fn in_libtorch(test: impl FnOnce()) {
    /// Back to code of our own, even if the test panics.
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            networks::set_explicit(true);
        }
    }
    let (_turn, _back) = (turn(), Back);
    networks::set_explicit(false);
    test();
}

/// The turn of a test that changes settings of the process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The recorded cases of the file `folder/name`. Each has a name, a configuration (the preset
/// `default`, overridden by the keys of the file and of the case) and a recording,
/// `folder/<prefix><case>.safetensors`.
///
/// # Panics
/// A file can't be read, or a configuration is invalid.
pub fn cases<C: DeserializeOwned>(
    folder: &Path,
    name: &str,
    prefix: &str,
    presets: &str,
) -> Vec<(String, C, Recording)> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let cases: DocumentMut = text.parse().unwrap();
    let own = cases.iter().filter_map(|(case, item)| Some((case, item.as_table()?)));
    own.map(|(case, own)| {
        let case = format!("{prefix}{case}");
        let recording = Recording::read(&folder.join(format!("{case}.safetensors")));
        (case, layered(presets, [cases.as_table(), own]), recording)
    })
    .collect()
}

/// The tensors of a recorded update: `before.*` and `after.*` (the agent's whole state),
/// `batch.*`, `noise.*` and `metrics.*`.
pub struct Recording(Vec<(String, Tensor)>);

impl Recording {
    fn read(path: &Path) -> Self {
        let tensors = Tensor::read_safetensors(path);
        let tensors = tensors.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let device = device();
        Self(tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect())
    }

    /// A recorded tensor, if there is one with this name.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor.shallow_clone())
    }

    /// A recorded tensor.
    ///
    /// # Panics
    /// If there is none with this name.
    pub fn get(&self, name: &str) -> Tensor {
        self.find(name).unwrap_or_else(|| panic!("{name} is not in the recording"))
    }

    /// The minibatch.
    pub fn batch(&self) -> Batch {
        let get = |name: &str| self.get(&format!("batch.{name}"));
        Batch {
            obs: get("obs"),
            action: get("action"),
            reward: get("reward"),
            next_obs: get("next_obs"),
            terminated: get("terminated"),
        }
    }

    /// Sizes of an observation and an action.
    pub fn dimensions(&self) -> (i64, i64) {
        let Batch { obs, action, .. } = self.batch();
        (obs.size()[1], action.size()[1])
    }

    /// Loads the recorded initial state into an agent. The recordings have numbers in double
    /// precision where the agent's are single.
    ///
    /// # Panics
    /// If it does not have the agent's tensors.
    pub fn start(&self, case: &str, agent: &mut impl Agent) {
        let state = agent.state();
        let strip = |(name, tensor): &(String, Tensor)| {
            let name = name.strip_prefix("before.")?;
            let own = state.iter().find(|(other, _)| other == name);
            let kind = own.map_or(tensor.kind(), |(_, own)| own.kind());
            Some((name.to_string(), tensor.to_kind(kind)))
        };
        let before: Vec<_> = self.0.iter().filter_map(strip).collect();
        agent.load(&before).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(agent.state().len(), before.len(), "{case}: tensors of the state");
    }

    /// Differences between an agent after the update and the recorded final state and
    /// metrics, one line per quantity that exceeds the tolerance.
    ///
    /// # Panics
    /// If quantities or shapes differ from the recorded ones.
    pub fn differences(&self, case: &str, agent: &impl Agent, metrics: &Metrics) -> Vec<String> {
        let mut failures = Vec::new();
        let (mut worst, slack) = ((0.0, String::new()), slack());
        let mut check = |name: &str, found: &Tensor, expected: &Tensor| {
            assert_eq!(found.size(), expected.size(), "{case}: shape of {name}");
            let deviation = deviation(found, expected) / slack;
            if deviation > worst.0 {
                worst = (deviation, name.to_string());
            }
            if deviation.is_nan() || deviation > 1.0 {
                failures.push(format!("{case}: {name} is {deviation:.1} tolerances off"));
            }
        };
        let values = metrics.read().unwrap_or_else(|error| panic!("{case}: {error}"));
        let recorded = self.0.iter().filter_map(|(name, _)| name.strip_prefix("metrics."));
        let (found, expected): (BTreeSet<&str>, BTreeSet<&str>) =
            (metrics.names().collect(), recorded.collect());
        assert_eq!(found, expected, "{case}: names of metrics");
        for (name, value) in values {
            check(name, &Tensor::from(value), &self.get(&format!("metrics.{name}")));
        }
        for (name, found) in agent.state() {
            check(&name, &found, &self.get(&format!("after.{name}")));
        }
        #[expect(clippy::print_stdout, reason = "a test's figures, shown with --nocapture")]
        {
            println!("{case}: at most {:.3} tolerances off, at {}", worst.0, worst.1);
        }
        failures
    }
}

/// The largest deviation, in units of the tolerance.
fn deviation(found: &Tensor, expected: &Tensor) -> f64 {
    let [found, expected] =
        [found, expected].map(|tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double));
    let tolerated = expected.abs() * RELATIVE + ABSOLUTE;
    ((found - expected).abs() / tolerated).max().double_value(&[])
}
