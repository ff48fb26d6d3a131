//! Batches: identical to single environments, for any number of threads.

use std::fs;

use envs::{Batch, BatchStep, Env, Error, Spec, check_model, ids};

/// An action of environment `i` within the bounds that varies from step to step.
fn wave(spec: &Spec, i: usize, t: usize) -> impl Iterator<Item = f32> {
    let phase = move |k: usize| (t as f32 * (0.7 + 0.1 * i as f32) + k as f32).sin();
    spec.act_high.clone().into_iter().enumerate().map(move |(k, high)| high * phase(k))
}

/// All results of a batch at one step, row by row.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    steps: Vec<BatchStep>,
    obs: Vec<f64>,
}

/// A batch with buffers.
struct Driver {
    batch: Batch,
    shown: Shown,
}

impl Driver {
    fn make(id: &str, envs: usize, threads: usize) -> Self {
        let batch = Batch::make(id, envs, threads).unwrap();
        let obs = vec![f64::NAN; envs * batch.spec().obs_dim];
        Self { batch, shown: Shown { steps: vec![BatchStep::default(); envs], obs } }
    }

    fn reset(&mut self, seeds: Option<&[u64]>) {
        self.batch.reset(seeds, &mut self.shown.obs).unwrap();
    }

    fn actions(&self, t: usize) -> Vec<f32> {
        (0..self.batch.len()).flat_map(|i| wave(self.batch.spec(), i, t)).collect()
    }

    fn step(&mut self, t: usize) -> Shown {
        let actions = self.actions(t);
        self.batch.step(&actions, &mut self.shown.steps, &mut self.shown.obs).unwrap();
        self.shown.clone()
    }

    fn row(&self, i: usize) -> &[f64] {
        let width = self.batch.spec().obs_dim;
        &self.shown.obs[i * width..][..width]
    }
}

fn bits(x: &[f64]) -> Vec<u64> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Makes `ticks` steps of a batch and of the same number of single environments and compares them;
/// returns how many episodes ended.
fn compare(id: &str, seeds: &[u64], threads: usize, ticks: usize) -> usize {
    let mut driver = Driver::make(id, seeds.len(), threads);
    let mut envs: Vec<Env> = seeds.iter().map(|_| Env::make(id).unwrap()).collect();
    let mut obs = vec![0.0; driver.batch.spec().obs_dim];
    driver.reset(Some(seeds));
    for (i, (env, seed)) in envs.iter_mut().zip(seeds).enumerate() {
        env.reset(Some(*seed), &mut obs);
        assert_eq!(bits(driver.row(i)), bits(&obs), "{id}, environment {i}, first reset");
    }

    let mut over = vec![false; seeds.len()];
    let mut ended = 0;
    for t in 0..ticks {
        driver.step(t);
        for (i, env) in envs.iter_mut().enumerate() {
            let what = format!("{id}, {threads} threads, environment {i}, step {t}");
            let found = driver.shown.steps[i];
            if over[i] {
                env.reset(None, &mut obs);
                assert_eq!(found, BatchStep { reset: true, ..BatchStep::default() }, "{what}");
                over[i] = false;
            } else {
                let action: Vec<f32> = wave(env.spec(), i, t).collect();
                let step = env.step(&action, &mut obs).unwrap();
                assert_eq!(found.reward.to_bits(), step.reward.to_bits(), "{what}");
                let ends = (found.terminated, found.truncated, found.reset);
                assert_eq!(ends, (step.terminated, step.truncated, false), "{what}");
                over[i] = step.terminated || step.truncated;
                ended += usize::from(over[i]);
            }
            assert_eq!(bits(driver.row(i)), bits(&obs), "{what}");
        }
        if t % 100 == 99 {
            for (i, env) in envs.iter().enumerate() {
                assert!(driver.batch.save_state(i) == env.save_state(), "{id}, state of {i}");
            }
        }
    }
    ended
}

#[test]
fn a_batch_equals_single_environments_over_many_episodes() {
    for id in ids() {
        compare(id, &[3, 1 << 40, 0, 3], 2, 120);
    }
    for threads in [1, 2, 3] {
        let mut ended = 0;
        for id in ["Ant-v4", "Hopper-v4", "Humanoid-v4", "Walker2d-v5", "Reacher-v5"] {
            ended += compare(id, &[11, 12, 13, 14, 15], threads, 260);
        }
        assert!(ended > 60, "only {ended} episodes ended");
    }
    // A task without terminal states: its episodes end at the time limit only.
    assert_eq!(compare("HalfCheetah-v4", &[1, 2], 2, 1100), 2);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let run = |threads| {
        let mut driver = Driver::make("Hopper-v4", 7, threads);
        driver.reset(Some(&[5; 7]));
        (0..300).map(|t| driver.step(t)).collect::<Vec<_>>()
    };
    let expected = run(1);
    assert!(expected.iter().flat_map(|shown| &shown.steps).any(|step| step.reset));
    for threads in [1, 2, 3, 8] {
        assert!(run(threads) == expected, "{threads} threads");
    }
    assert_eq!(Driver::make("Hopper-v4", 2, 8).batch.threads(), 2);
    assert!(Driver::make("Hopper-v4", 2, 0).batch.threads() >= 1);
}

#[test]
fn resets_without_seeds_continue_the_streams_and_the_first_uses_the_index_as_seed() {
    let mut driver = Driver::make("Swimmer-v4", 3, 2);
    let mut envs: Vec<Env> = (0..3).map(|_| Env::make("Swimmer-v4").unwrap()).collect();
    let mut obs = vec![0.0; 8];
    for round in 0..3 {
        driver.reset(None);
        for (i, env) in envs.iter_mut().enumerate() {
            env.reset((round == 0).then_some(i as u64), &mut obs);
            assert_eq!(bits(driver.row(i)), bits(&obs));
        }
    }
    // A reset starts a new episode in the middle of an episode as well as after its end.
    let seeds = [7, 8, 9];
    driver.reset(Some(&seeds));
    let expected = [driver.step(0), driver.step(1)];
    driver.reset(Some(&seeds));
    assert_eq!([driver.step(0), driver.step(1)], expected);
}

#[test]
fn inactive_environments_are_unchanged() {
    let mut driver = Driver::make("Hopper-v4", 4, 2);
    let mut whole = Driver::make("Hopper-v4", 4, 2);
    let seeds = [1, 2, 3, 4];
    driver.reset(Some(&seeds));
    whole.reset(Some(&seeds));
    driver.shown = driver.step(0);
    whole.step(0);

    let mut actions = driver.actions(1);
    actions[3..6].fill(f32::NAN); // of environment 1, which is inactive
    let before = (driver.shown.clone(), driver.batch.save_state(1), driver.batch.save_state(2));
    let Driver { batch, shown } = &mut driver;
    let active = [true, false, false, true];
    batch.step_active(&active, &actions, &mut shown.steps, &mut shown.obs).unwrap();
    whole.step(1);
    for i in [0, 3] {
        assert_eq!(driver.row(i), whole.row(i));
        assert_eq!(driver.shown.steps[i], whole.shown.steps[i]);
        assert_eq!(driver.batch.save_state(i), whole.batch.save_state(i));
    }
    for i in [1, 2] {
        assert_eq!(driver.row(i), &before.0.obs[i * 11..][..11]);
        assert_eq!(driver.shown.steps[i], before.0.steps[i]);
    }
    assert_eq!((driver.batch.save_state(1), driver.batch.save_state(2)), (before.1, before.2));

    let (state, Driver { batch, shown }) = (driver.batch.save_state(0), &mut driver);
    batch.step_active(&[false; 4], &actions, &mut shown.steps, &mut shown.obs).unwrap();
    assert_eq!(batch.save_state(0), state);
}

#[test]
fn bad_actions_are_refused_before_any_environment_is_stepped() {
    let mut driver = Driver::make("Hopper-v4", 3, 2);
    let Driver { batch, shown } = &mut driver;
    let refusal = batch.step(&[0.0; 9], &mut shown.steps, &mut shown.obs).unwrap_err();
    assert!(matches!(refusal, Error::NotReset { .. }), "{refusal}");

    batch.reset(None, &mut shown.obs).unwrap();
    let states = |batch: &Batch| (0..3).map(|i| batch.save_state(i)).collect::<Vec<_>>();
    let before = (states(batch), shown.clone());
    for bad in [&[0.0; 8][..], &[0.0; 10], &[]] {
        let refusal = batch.step(bad, &mut shown.steps, &mut shown.obs).unwrap_err();
        assert!(matches!(refusal, Error::ActionLength { expected: 9, .. }), "{refusal}");
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut actions = [0.0; 9];
        actions[7] = bad;
        let refusal = batch.step(&actions, &mut shown.steps, &mut shown.obs).unwrap_err();
        let Error::InBatch { environment: 2, cause } = &refusal else { panic!("{refusal}") };
        assert!(matches!(**cause, Error::NonFiniteAction { index: 1, .. }), "{refusal}");
        assert!(refusal.to_string().starts_with("environment 2: Hopper-v4: component 1"));
    }
    assert_eq!((states(batch), shown.clone()), before);
}

#[test]
fn a_restored_environment_continues_bit_identically_in_a_batch_or_alone() {
    for id in ["Ant-v4", "Hopper-v4", "HumanoidStandup-v5"] {
        let mut driver = Driver::make(id, 3, 2);
        driver.reset(Some(&[1, 2, 3]));
        // Until the middle environment's episode is over, if it ends, and a reset is due.
        let pause = (0..150).find(|&t| driver.step(t).steps[1].terminated).unwrap_or(149) + 1;
        let states: Vec<_> = (0..3).map(|i| driver.batch.save_state(i)).collect();
        let expected: Vec<_> = (pause..pause + 100).map(|t| driver.step(t)).collect();

        let mut fresh = Driver::make(id, 3, 1);
        for (i, state) in states.iter().enumerate() {
            fresh.batch.load_state(i, state).unwrap();
            driver.batch.load_state(i, state).unwrap();
            let mut env = Env::make(id).unwrap();
            env.load_state(state).unwrap();
            assert_eq!(&env.save_state(), state);
        }
        for (t, expected) in (pause..).zip(&expected) {
            assert!(&fresh.step(t) == expected, "{id}: a fresh batch");
            assert!(&driver.step(t) == expected, "{id}: the same batch, restored");
        }

        let state = driver.batch.save_state(0);
        for bad in [&state[..state.len() - 1], &[], &[&state[..], &[0]].concat()] {
            let refusal = driver.batch.load_state(0, bad).unwrap_err();
            assert!(matches!(refusal, Error::State { .. }), "{refusal}");
            assert_eq!(driver.batch.save_state(0), state);
        }
    }
}

#[test]
fn a_diverging_simulation_is_distinguished_from_the_others() {
    let mut driver = Driver::make("HalfCheetah-v4", 3, 2);
    driver.reset(None);
    driver.step(0);
    // The state ends with MuJoCo's vector, which contains the velocities: make one of them huge.
    let mut env = Env::make("HalfCheetah-v4").unwrap();
    let mut state = driver.batch.save_state(1);
    let velocity = driver.row(1)[8].to_le_bytes();
    let at = state.windows(8).rposition(|bytes| bytes == velocity).unwrap();
    state[at..at + 8].copy_from_slice(&1e11_f64.to_le_bytes());
    driver.batch.load_state(1, &state).unwrap();
    env.load_state(&state).unwrap();

    driver.step(1);
    let mut obs = vec![0.0; 17];
    let action: Vec<f32> = wave(env.spec(), 1, 1).collect();
    env.step(&action, &mut obs).unwrap();
    assert_eq!(bits(driver.row(1)), bits(&obs));
    assert_eq!(driver.batch.save_state(1), env.save_state());
    for i in [0, 2] {
        assert!(driver.batch.check(i).is_ok());
    }
    let message = driver.batch.check(1).unwrap_err().to_string();
    assert_eq!(message, env.check().unwrap_err().to_string());
    assert!(message.contains("HalfCheetah-v4") && message.contains("qvel"), "{message}");

    driver.reset(None);
    assert!(driver.batch.check(1).is_ok());
}

#[test]
fn an_invalid_batch_size_is_refused() {
    for (envs, threads) in [(0, 1), (2, 5000), (usize::MAX, 1)] {
        let refusal = Batch::make("Hopper-v4", envs, threads).err().unwrap();
        assert!(matches!(refusal, Error::BatchSize { .. }), "{refusal}");
        assert_eq!(refusal.to_string().lines().count(), 1);
    }
    let refusal = Batch::make("Hoper-v4", 2, 1).err().unwrap();
    assert!(matches!(refusal, Error::UnknownTask { .. }), "{refusal}");
    let file = "nowhere/mine.xml".as_ref();
    let missing = Batch::make_with_model("Hopper-v4", file, 2, 1).err().unwrap();
    assert!(matches!(missing, Error::UnreadableModel { .. }), "{missing}");
}

#[test]
fn an_error_within_mujoco_is_returned_with_its_message_and_affects_no_other_environment() {
    // Enough memory to load the model but not for the constraints of a robot on the floor.
    let text = fs::read_to_string(check_model("hopper.xml").unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.xml");
    let size = "<size memory=\"4K\"/><worldbody>";
    fs::write(&file, text.replacen("<worldbody>", size, 1)).unwrap();

    let mut batch = Batch::make_with_model("Hopper-v4", &file, 3, 2).unwrap();
    let (mut steps, mut obs) = ([BatchStep::default(); 3], [0.0; 33]);
    for _ in 0..3 {
        let failure = batch.reset(None, &mut obs).unwrap_err();
        let Error::InBatch { environment: 0, cause } = &failure else { panic!("{failure}") };
        assert!(matches!(**cause, Error::Simulation { .. }), "{failure}");
        assert!(failure.to_string().contains("Hopper-v4: MuJoCo failed: mj_stackAlloc"));
        assert_eq!(failure.to_string().lines().count(), 1);
        let refusal = batch.step(&[0.0; 9], &mut steps, &mut obs).unwrap_err();
        assert!(matches!(refusal, Error::NotReset { .. }), "{refusal}");
    }
}

#[test]
fn a_batch_can_move_to_another_thread() {
    let mut driver = Driver::make("Hopper-v4", 4, 2);
    driver.reset(Some(&[1, 2, 3, 4]));
    let there = std::thread::spawn(move || (driver.step(0), driver.step(1))).join().unwrap();

    let mut driver = Driver::make("Hopper-v4", 4, 2);
    driver.reset(Some(&[1, 2, 3, 4]));
    assert_eq!((driver.step(0), driver.step(1)), there);
}
