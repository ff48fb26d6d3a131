//! Tasks that are files: those of Gymnasium as files do what the built-in ones do, and those of
//! dm_control's suite what dm_control does, to the bit.

mod edition;

use edition::{digests, edition, hex};
use envs::trace::{Trace, replay};
use envs::{Batch, BatchStep, Env, Error, check_task, models_dir};
use ndarray::Array2;
use sha2::{Digest, Sha256};

const TASKS: [&str; 7] = [
    "Ant-v4",
    "HalfCheetah-v4",
    "Hopper-v4",
    "Humanoid-v4",
    "HumanoidStandup-v4",
    "Swimmer-v4",
    "Walker2d-v4",
];

fn file_of(task: &str) -> String {
    format!("{}/tests/tasks/{task}.toml", env!("CARGO_MANIFEST_DIR"))
}

/// The files of dm_control's tasks, by name.
fn suite() -> Vec<String> {
    let files = models_dir().join("dm_control").read_dir().unwrap();
    let names = files.map(|file| file.unwrap().path().display().to_string());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    names.sort();
    names
}

/// Random actions; every second block of 50 is three times as large as the bounds.
fn draw_actions(env: &Env, seed: u64, steps: usize) -> Array2<f32> {
    let mut random = envs::numpy::Generator::new(seed);
    let spec = env.spec();
    Array2::from_shape_fn((steps, spec.act_dim), |(t, i)| {
        let wide = if t / 50 % 2 == 1 { 3.0 } else { 1.0 };
        (random.uniform(-1.0, 1.0) * wide * f64::from(spec.act_high[i])) as f32
    })
}

fn bits(trace: &Trace) -> Vec<u64> {
    let floats = [trace.obs.as_slice(), trace.reset_obs.as_slice(), trace.reward.as_slice()];
    let ends = trace.terminated.iter().chain(&trace.truncated);
    let floats = floats.into_iter().flat_map(Option::unwrap);
    floats.map(|x| x.to_bits()).chain(ends.map(|end| u64::from(*end))).collect()
}

#[test]
fn seven_tasks_as_files_give_the_bits_of_the_built_in_ones() {
    for task in TASKS {
        let mut built_in = Env::make(task).unwrap();
        let mut file = Env::make(&file_of(task)).unwrap();
        assert_eq!(file.spec().id, task);
        let shape = |env: &Env| (env.spec().dt, env.spec().act_low.clone(), env.spec().obs_dim);
        assert_eq!(shape(&file), shape(&built_in));
        for seed in [0, 20260731] {
            let actions = draw_actions(&built_in, seed, 1200);
            let expected = replay(&mut built_in, seed, actions.view()).unwrap();
            let found = replay(&mut file, seed, actions.view()).unwrap();
            assert!(expected.reset_obs.nrows() > 1, "{task}: episodes end");
            assert!(bits(&found) == bits(&expected), "{task}, seed {seed}");
        }
    }
}

#[test]
fn tasks_of_the_suite_are_bit_identical_to_dm_controls() {
    let Some(edition) = edition() else { return };
    let recorded: Vec<[&str; 3]> = digests(include_str!("fixtures/dm_control.txt"));
    let mut differences = Vec::new();
    for file in suite() {
        let mut env = Env::make(&file).unwrap();
        let (width, act_dim) = (env.spec().obs_dim, env.spec().act_dim);
        let mut obs = vec![0.0; width];
        let mut hash = Sha256::new();
        let add =
            |hash: &mut Sha256, x: &[f64]| x.iter().for_each(|x| hash.update(x.to_le_bytes()));
        for i in 0..4 {
            env.reset((i == 0).then_some(20261127), &mut obs);
            add(&mut hash, &obs);
        }
        let mut random = envs::numpy::Generator::new(20261127);
        for _ in 0..200 {
            let action: Vec<f32> = (0..act_dim).map(|_| random.uniform(-1.0, 1.0) as f32).collect();
            let step = env.step(&action, &mut obs).unwrap();
            add(&mut hash, &obs);
            add(&mut hash, &[step.reward]);
            assert!(!step.terminated && !step.truncated);
        }
        let name = &env.spec().id;
        let expected = recorded.iter().find(|line| line[0] == edition && line[1] == *name);
        if expected.expect("the task is recorded")[2] != hex(hash.finalize()) {
            differences.push(name.clone());
        }
    }
    assert_eq!(recorded.iter().filter(|line| line[0] == edition).count(), suite().len());
    assert!(differences.is_empty(), "not dm_control's: {}", differences.join(", "));
}

/// A batch's simulations share their `mjData`, so that only what is saved may be used.
#[test]
fn a_batch_of_files_equals_single_environments_and_is_restored_exactly() {
    let of = |name: &str| models_dir().join("dm_control").join(name).display().to_string();
    let files = [
        file_of("Hopper-v4"),
        file_of("Ant-v4"),
        of("cheetah-run.toml"),
        of("cartpole-balance.toml"),
        of("finger-spin.toml"),
        of("fish-upright.toml"),
        of("finger-turn_easy.toml"),
        of("quadruped-run.toml"),
        of("dog-stand.toml"),
    ];
    for file in files {
        let (envs, steps) = (3, 60);
        let mut batches = [1, 2].map(|threads| Batch::make(&file, envs, threads).unwrap());
        let spec = batches[0].spec().clone();
        let mut single: Vec<Env> = (0..envs).map(|_| Env::make(&file).unwrap()).collect();
        let mut expected = vec![0.0; envs * spec.obs_dim];
        for (i, (env, row)) in single.iter_mut().zip(expected.chunks_mut(spec.obs_dim)).enumerate()
        {
            env.reset(Some(i as u64), row);
        }
        let mut obs = expected.clone();
        for batch in &mut batches {
            batch.reset(Some(&[0, 1, 2]), &mut obs).unwrap();
            assert_eq!(obs, expected, "{file}");
        }
        let actions: Vec<Array2<f32>> =
            (0..envs).map(|i| draw_actions(&single[i], i as u64, steps)).collect();
        let mut answers = vec![BatchStep::default(); envs];
        for t in 0..steps {
            let mut rewards = vec![0.0; envs];
            for (i, row) in expected.chunks_mut(spec.obs_dim).enumerate() {
                if t == 20 {
                    let state = single[i].save_state();
                    single[i] = Env::make(&file).unwrap();
                    single[i].load_state(&state).unwrap();
                }
                let step = single[i].step(actions[i].row(t).as_slice().unwrap(), row).unwrap();
                rewards[i] = step.reward;
                if step.terminated || step.truncated {
                    single[i].reset(None, row);
                }
            }
            let all: Vec<f32> = actions.iter().flat_map(|rows| rows.row(t).to_vec()).collect();
            for batch in &mut batches {
                batch.step(&all, &mut answers, &mut obs).unwrap();
                let over: Vec<bool> = answers.iter().map(|x| x.terminated || x.truncated).collect();
                assert_eq!(answers.iter().map(|x| x.reward).collect::<Vec<_>>(), rewards, "{file}");
                if over.contains(&true) {
                    let (mut steps, zeros) = (answers.clone(), vec![0.0; all.len()]);
                    batch.step_active(&over, &zeros, &mut steps, &mut obs).unwrap();
                }
                assert_eq!(obs, expected, "{file}, step {t}");
            }
        }
    }
}

#[test]
fn with_actions_of_zero_the_robots_of_the_examples_stand_until_the_time_limit() {
    for robot in ["crawler", "go1"] {
        let root = env!("CARGO_MANIFEST_DIR");
        let mut env = Env::make(&format!("{root}/../../examples/{robot}/{robot}.toml")).unwrap();
        let rest = Array2::zeros((500, env.spec().act_dim));
        let trace = replay(&mut env, 3, rest.view()).unwrap();
        assert_eq!((trace.truncated.sum(), trace.truncated[499]), (1, 1), "{robot}");
        assert_eq!(trace.terminated.sum(), 0, "{robot}");
        let upright = trace.terms.iter().find(|(name, _)| name == "upright").unwrap();
        assert!(upright.1.iter().all(|x| *x > 0.9), "{robot}");
    }
}

#[test]
fn a_state_that_is_cut_or_of_another_kind_of_stream_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = "<mujoco><worldbody><body><joint name='x' type='slide'/><geom size='1'/></body>\
                 </worldbody><actuator><motor joint='x' ctrlrange='-1 1'/></actuator></mujoco>";
    let env_of = |random: &str| {
        let folder = folder.path().join(random);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("slider.xml"), model).unwrap();
        let text = format!(
            "model = \"slider.xml\"\nrandom = \"{random}\"\nreward = \"1\"\n\
             [observation]\nall = \"qpos\"\n"
        );
        let file = folder.join("slider.toml");
        std::fs::write(&file, text).unwrap();
        let mut env = Env::make(file.to_str().unwrap()).unwrap();
        env.reset(Some(3), &mut [0.0]);
        env
    };
    let mut envs = ["pcg64", "mt19937"].map(env_of);
    let states = [envs[0].save_state(), envs[1].save_state()];
    for (i, env) in envs.iter_mut().enumerate() {
        assert!(env.load_state(&states[i]).is_ok());
        assert!(matches!(env.load_state(&states[1 - i]), Err(Error::State { .. })));
        for end in [0, 5, states[i].len() / 2, states[i].len() - 1] {
            assert!(matches!(env.load_state(&states[i][..end]), Err(Error::State { .. })));
        }
    }
}

#[test]
fn a_task_can_be_checked_without_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("robot.toml");
    let text = "model = \"none.xml\"\nreward = \"1\"\n[observation]\nall = \"qpos\"\n";
    std::fs::write(&path, text).unwrap();
    let id = path.to_str().unwrap();
    check_task(id).unwrap();
    assert!(matches!(Env::make(id), Err(Error::UnreadableModel { .. })));
    std::fs::write(&path, text.replace("reward", "rewarb")).unwrap();
    assert!(matches!(check_task(id), Err(Error::TaskFile { line: 2, .. })));
    assert!(matches!(check_task("no/such.toml"), Err(Error::UnreadableTask { .. })));
}
