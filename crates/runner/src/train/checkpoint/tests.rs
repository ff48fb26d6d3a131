//! Checkpoints that are written, read back, damaged and replaced.

use super::*;
use crate::train::make_agent;
use crate::train::settings::{Sources, resolve};
use agent::stream;
use proptest::prelude::*;
use std::sync::LazyLock;

#[test]
fn a_checkpoint_of_a_step_that_has_one_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let [draft, done] = ["unfinished", "step-7"].map(|name| folder.path().join(name));
    for text in ["first", "second"] {
        fs::create_dir(&draft).unwrap();
        fs::write(draft.join(text), text).unwrap();
        replace(&draft, &done).unwrap();
        assert!(!draft.exists());
        let names: Vec<_> =
            fs::read_dir(&done).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, [text]);
    }
}

fn identity() -> Identity {
    Identity::new("td3", "Hopper-v4", 3)
}

fn agent() -> Box<dyn Agent> {
    let set = ["critic.width=4", "actor.width=4"].map(String::from);
    let sources = Sources {
        algo: "td3",
        env: "Hopper-v4",
        preset: "default",
        set: &set,
        ..Default::default()
    };
    let Ok(settings) = resolve(&sources) else { panic!("the settings are right") };
    let spec = envs::Env::make("Hopper-v4").unwrap().spec().clone();
    make_agent(settings.algorithm.as_ref(), &spec, 3, Device::Cpu)
}

fn state() -> RunState {
    let mark = FileMark { bytes: 10, sha256: "a".repeat(64) };
    let [exploration, replay, learning] =
        ["exploration", "replay", "learning"].map(|name| stream(3, name));
    RunState {
        identity: identity(),
        counters: Counters { step: 20, due: 0.1, ..Default::default() },
        streams: Streams { exploration, replay, learning },
        environments: vec![EnvironmentState {
            simulator: (0..=255).collect(),
            written: 21,
            obs: vec![0.1f32.into(), f64::from(f32::MIN_POSITIVE), -1e30],
            episode: (0.1 + 0.2, 7),
            discounted: 1.0 / 7.0,
        }],
        replay_ring: Some(700),
        interval: Interval::new([]),
        train_csv: mark.clone(),
        eval_csv: mark,
        wall_s: 1.0 / 3.0,
    }
}

/// The files of a checkpoint, by name.
static FILES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let run = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints::open(run.path()).unwrap();
    checkpoints.save(&state(), agent().as_ref()).unwrap();
    let bytes = |name| (name, fs::read(checkpoints.at(20).join(name)).unwrap());
    [AGENT, RUN, SUMS].map(bytes).into()
});

#[test]
fn a_checkpoint_comes_back_to_the_last_bit() {
    let run = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints::open(run.path()).unwrap();
    let (saved, agent) = (state(), agent());
    checkpoints.save(&saved, agent.as_ref()).unwrap();
    let (found, tensors) = read(&checkpoints.at(20), &identity()).unwrap();
    // Debug prints every float with enough digits to tell it from its neighbours.
    assert_eq!(format!("{found:?}"), format!("{saved:?}"));
    for (name, tensor) in agent.state() {
        let (_, found) = tensors.iter().find(|(other, _)| *other == name).unwrap();
        assert_eq!(*found, tensor, "{name}");
    }
}

#[test]
fn an_agent_that_is_not_finite_is_never_saved_over_one_that_is() {
    let run = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints::open(run.path()).unwrap();
    let agent = agent();
    checkpoints.save(&state(), agent.as_ref()).unwrap();
    let (name, tensor) = agent.state().into_iter().find(|(_, t)| t.kind() == Kind::Float).unwrap();
    let _ = tch::no_grad(|| tensor.view([-1]).get(0).fill_(f64::NAN));
    let later = RunState { counters: Counters { step: 30, ..Default::default() }, ..state() };
    let Err(Failure::Failed(message)) = checkpoints.save(&later, agent.as_ref()) else { panic!() };
    assert!(message.contains(&name) && message.contains("step 20"), "{message}");
    assert_eq!(steps(&run.path().join(FOLDER)).unwrap(), [20]);
}

/// Reads a checkpoint of the given files; what it reads goes into an agent.
fn read_files(files: &[(&str, Vec<u8>)]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let (_, tensors) = read(folder.path(), &identity())?;
    agent().load(&tensors).map_err(|error| error.to_string())
}

/// One way in which bytes change.
fn change() -> impl Strategy<Value = (prop::sample::Index, u8, Vec<u8>)> {
    (any::<prop::sample::Index>(), 0u8..4, prop::collection::vec(any::<u8>(), 1..9))
}

fn apply(bytes: &mut Vec<u8>, (at, how, with): (prop::sample::Index, u8, Vec<u8>)) {
    let at = at.index(bytes.len());
    match how {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= with[0] | 1,
        2 => drop(bytes.splice(at..at, with)),
        _ => bytes[at..].iter_mut().zip(with).for_each(|(to, from)| *to = from),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_change_to_a_checkpoint_is_found(file in 0usize..3, change in change()) {
        let mut files = FILES.clone();
        let before = files[file].1.clone();
        apply(&mut files[file].1, change);
        prop_assume!(files[file].1 != before);
        let outcome = read_files(&files);
        // The list of sums may gain a line that has no effect.
        prop_assert!(outcome.is_err() || files[file].0 == SUMS, "{}", files[file].0);
    }

    /// With correct checksums too, the readers refuse what they can't read: no panic,
    /// no endless loop.
    #[test]
    fn a_forged_checkpoint_is_read_or_refused(
        file in 0usize..2,
        changes in prop::collection::vec(change(), 1..4),
    ) {
        let mut files = FILES.clone();
        for change in changes {
            if !files[file].1.is_empty() {
                apply(&mut files[file].1, change);
            }
        }
        let sum = |(name, bytes): &(&str, Vec<u8>)| format!("{}  {name}\n", sha256(&bytes[..]).unwrap());
        files[2].1 = files[..2].iter().map(sum).collect::<String>().into_bytes();
        if let Err(message) = read_files(&files) {
            prop_assert!(!message.is_empty() && !message.trim().contains('\n'), "{message}");
        }
    }
}
