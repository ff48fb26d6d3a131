//! Environments: episodes, bad input, saved states.

use std::fs;
use std::path::PathBuf;

use envs::{Env, Error, Spec, Step, check_model, ids, take_messages};

fn make(id: &str) -> (Env, Vec<f64>) {
    let env = Env::make(id).unwrap();
    let observation = vec![f64::NAN; env.spec().obs_dim];
    (env, observation)
}

/// An action within the bounds that varies from step to step.
fn wave(spec: &Spec, t: u32) -> Vec<f32> {
    let phase = |i: usize| (t as f32 * 0.7 + i as f32).sin();
    (0..spec.act_dim).map(|i| spec.act_high[i] * phase(i)).collect()
}

/// Steps with [`wave`], resetting when episodes end; returns all results as bits.
fn run(env: &mut Env, steps: std::ops::Range<u32>) -> Vec<u64> {
    let mut observation = vec![0.0; env.spec().obs_dim];
    let mut seen = Vec::new();
    for t in steps {
        let Step { reward, terminated, truncated, .. } =
            env.step(&wave(env.spec(), t), &mut observation).unwrap();
        seen.extend(observation.iter().map(|x| x.to_bits()));
        seen.extend([reward.to_bits(), u64::from(terminated), u64::from(truncated)]);
        if terminated || truncated {
            env.reset(None, &mut observation);
            seen.extend(observation.iter().map(|x| x.to_bits()));
        }
    }
    seen
}

#[test]
fn an_unknown_task_is_refused_with_the_nearest_name() {
    for (asked, expected) in [
        ("hoper-v4", "Hopper-v4"),
        ("halfcheetah-v4", "HalfCheetah-v4"),
        ("Walker-v5", "Walker2d-v5"),
        ("HumanoidStandUp-v4", "HumanoidStandup-v4"),
    ] {
        match Env::make(asked) {
            Err(Error::UnknownTask { name, nearest, file: None }) => {
                assert_eq!((name.as_str(), nearest), (asked, Some(expected)));
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn an_unknown_task_that_is_the_name_of_a_file_is_refused_with_the_file() {
    let message = Env::make("cheetah-run").err().unwrap().to_string();
    let file = envs::models_dir().join("dm_control/cheetah-run.toml");
    let hint = format!("did you mean the file {}?", file.display());
    assert!(message.contains(&hint), "{message}");
    assert!(Env::make(file.to_str().unwrap()).is_ok());
}

#[test]
fn every_task_steps_within_its_spec() {
    for id in ids() {
        let (mut env, mut observation) = make(id);
        env.reset(Some(1), &mut observation);
        assert!(observation.iter().all(|x| x.is_finite()), "{id}");
        let step = env.step(&wave(env.spec(), 0), &mut observation).unwrap();
        assert!(observation.iter().all(|x| x.is_finite()) && step.reward.is_finite(), "{id}");
        let spec = env.spec();
        let opposite: Vec<f32> = spec.act_high.iter().map(|high| -high).collect();
        assert_eq!((spec.id.as_str(), &spec.act_low), (id, &opposite));
    }
}

#[test]
fn bad_actions_are_refused_and_change_nothing() {
    let (mut env, mut observation) = make("Hopper-v4");
    let action = [0.5, -0.5, 0.1];
    assert!(matches!(env.step(&action, &mut observation), Err(Error::NotReset { .. })));

    env.reset(Some(3), &mut observation);
    let before = (env.save_state(), observation.clone());
    for bad in [&[0.0; 2][..], &[0.0; 4], &[]] {
        let refusal = env.step(bad, &mut observation).unwrap_err();
        assert!(matches!(refusal, Error::ActionLength { expected: 3, .. }), "{refusal}");
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let refusal = env.step(&[0.0, bad, 0.0], &mut observation).unwrap_err();
        assert!(matches!(refusal, Error::NonFiniteAction { index: 1, .. }), "{refusal}");
    }
    assert_eq!((env.save_state(), observation.clone()), before);
    env.step(&[f32::MAX, f32::MIN, 0.0], &mut observation).unwrap();
}

#[test]
fn an_episode_is_truncated_at_its_last_step_and_not_before() {
    let (mut env, mut observation) = make("HalfCheetah-v4");
    let limit = env.spec().max_episode_steps;
    for seed in [Some(0), None] {
        env.reset(seed, &mut observation);
        for t in 1..=limit {
            let step = env.step(&[0.0; 6], &mut observation).unwrap();
            assert_eq!(step.truncated, t == limit, "step {t}");
        }
    }
}

#[test]
fn a_seed_determines_the_run_and_environments_are_independent() {
    let (mut alone, mut observation) = make("Ant-v4");
    alone.reset(Some(5), &mut observation);
    let expected = run(&mut alone, 0..150);

    let (mut first, _) = make("Ant-v4");
    let (mut second, _) = make("Ant-v4");
    first.reset(Some(5), &mut observation);
    second.reset(Some(6), &mut observation);
    let mut seen = [Vec::new(), Vec::new()];
    for t in 0..150 {
        seen[0].extend(run(&mut first, t..t + 1));
        seen[1].extend(run(&mut second, t..t + 1));
    }
    assert!(seen[0] == expected);
    assert!(seen[1] != expected);
}

#[test]
fn resets_without_a_seed_continue_the_stream_of_seed_zero() {
    let (mut seeded, mut expected) = make("Swimmer-v4");
    let (mut unseeded, mut found) = make("Swimmer-v4");
    let mut last = Vec::new();
    for seed in [Some(0), None, None] {
        seeded.reset(seed, &mut expected);
        unseeded.reset(None, &mut found);
        assert_eq!(found, expected);
        assert_ne!(found, last);
        last.clone_from(&found);
    }
}

#[test]
fn a_restored_environment_continues_bit_identically() {
    for id in ids() {
        let (mut env, mut observation) = make(id);
        env.reset(Some(9), &mut observation);
        run(&mut env, 0..37);
        let state = env.save_state();
        let expected = run(&mut env, 37..140);

        let (mut fresh, _) = make(id);
        fresh.load_state(&state).unwrap();
        assert!(run(&mut fresh, 37..140) == expected, "{id}: a fresh environment");
        env.load_state(&state).unwrap();
        assert!(run(&mut env, 37..140) == expected, "{id}: the same environment, restored");
        assert_eq!(env.save_state(), fresh.save_state(), "{id}");
    }
}

#[test]
fn bytes_that_are_not_a_state_of_the_task_are_refused_and_change_nothing() {
    let (mut env, mut observation) = make("Hopper-v4");
    env.reset(Some(2), &mut observation);
    let state = env.save_state();
    let other = make("Walker2d-v4").0.save_state();
    let long = [&state[..], &[0]].concat();
    for bad in [&[][..], &state[..state.len() - 1], &state[..3], &other, &long] {
        let refusal = env.load_state(bad).unwrap_err();
        assert!(matches!(refusal, Error::State { .. }), "{refusal}");
        assert_eq!(env.save_state(), state);
    }
}

#[test]
fn an_environment_can_move_to_another_thread() {
    let (mut env, mut observation) = make("Hopper-v4");
    env.reset(Some(0), &mut observation);
    let here = env.save_state();
    let there = std::thread::spawn(move || env.save_state()).join().unwrap();
    assert_eq!(here, there);
}

/// A user's model: a pinned one with some text replaced.
fn altered(model: &str, from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(check_model(model).unwrap()).unwrap();
    assert!(text.contains(from), "{model} does not contain {from}");
    let file = folder.path().join("mine.xml");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    (folder, file)
}

#[test]
fn a_users_model_that_fits_is_stepped() {
    let (_folder, file) = altered("hopper.xml", "gear=\"200.0\"", "gear=\"100.0\"");
    let mut env = Env::make_with_model("Hopper-v4", &file).unwrap();
    let (mut pinned, mut expected) = make("Hopper-v4");
    let mut found = expected.clone();
    env.reset(Some(0), &mut found);
    pinned.reset(Some(0), &mut expected);
    assert_eq!(found, expected);
    env.step(&[1.0; 3], &mut found).unwrap();
    pinned.step(&[1.0; 3], &mut expected).unwrap();
    assert_ne!(found, expected);
}

#[test]
fn a_users_model_that_does_not_fit_is_refused_with_the_difference() {
    let refusal = |id: &str, (_folder, file): (tempfile::TempDir, PathBuf)| {
        let refusal = Env::make_with_model(id, &file).err().expect("it does not fit");
        assert!(matches!(refusal, Error::ModelSize { .. }), "{refusal}");
        refusal.to_string()
    };
    let walker = altered("walker2d.xml", "x", "x");
    let message = refusal("Hopper-v4", walker);
    assert!(message.contains("nq (positions) is 9, expected 6"), "{message}");

    let nameless = altered("ant.xml", "name=\"torso\"", "name=\"trunk\"");
    let message = refusal("Ant-v4", nameless);
    assert!(message.contains("body 'torso' is missing"), "{message}");
}

#[test]
fn actions_that_can_do_nothing_are_refused_with_the_actuator_and_its_range() {
    let from = "ctrllimited=\"true\" ctrlrange=\"-1.0 1.0\" gear=\"200.0\" joint=\"thigh_joint\"";
    // MuJoCo itself refuses some of these ranges for controls that it is to limit.
    for (attributes, found) in [
        ("ctrllimited=\"false\" ctrlrange=\"1 1\"", "[1, 1]"),
        ("ctrllimited=\"false\" ctrlrange=\"-1e39 1e39\"", "[-1"),
        ("ctrllimited=\"true\" ctrlrange=\"-3e38 3e38\"", "[-3"),
        ("ctrllimited=\"true\" ctrlrange=\"1 1.00000001\"", "[1, 1.00000001]"),
        ("ctrllimited=\"false\"", "missing"),
    ] {
        let to = format!("{attributes} name=\"thigh\" joint=\"thigh_joint\"");
        let (_folder, file) = altered("hopper.xml", from, &to);
        let text = fs::read_to_string(&file).unwrap();
        let bare = "ctrllimited=\"true\" ctrlrange=\"-.4 .4\"";
        fs::write(&file, text.replace(bare, "")).unwrap();
        for refusal in [
            Env::make_with_model("Hopper-v4", &file).err().expect(attributes),
            envs::Batch::make_with_model("Hopper-v4", &file, 2, 1).err().expect(attributes),
        ] {
            let message = refusal.to_string();
            assert!(matches!(refusal, Error::ModelSize { .. }), "{message}");
            let expected = format!("the ctrlrange of actuator 'thigh' is {found}");
            assert!(message.contains(&expected), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}

#[test]
fn each_actuator_has_its_own_range_as_in_gymnasium() {
    let (_folder, file) = altered("hopper.xml", "ctrlrange=\"-1.0 1.0\"", "ctrlrange=\"-2 3\"");
    let env = Env::make_with_model("Hopper-v4", &file).unwrap();
    assert_eq!(env.spec().act_low, [-2.0, -1.0, -1.0]);
    assert_eq!(env.spec().act_high, [3.0, 1.0, 1.0]);
}

#[test]
fn bodies_are_counted_only_where_the_task_observes_them() {
    let more = "<worldbody><body name=\"wall\" pos=\"9 9 9\"><geom size=\".1\"/></body>";
    for (id, model) in [("Hopper-v4", "hopper.xml"), ("Ant-v4", "ant.xml")] {
        let (_folder, file) = altered(model, "<worldbody>", more);
        let mut env = Env::make_with_model(id, &file).unwrap();
        env.reset(Some(0), &mut vec![0.0; env.spec().obs_dim]);
        run(&mut env, 0..50);
    }
    for (id, model) in [("Ant-v5", "ant.xml"), ("Humanoid-v5", "humanoid.xml")] {
        let (_folder, file) = altered(model, "<worldbody>", more);
        let refusal = Env::make_with_model(id, &file).err().expect(id).to_string();
        assert!(refusal.contains("nbody (bodies) is 15, expected 14"), "{refusal}");
    }
}

#[test]
fn a_compiled_model_needs_no_other_file_and_gives_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read_to_string(check_model("half_cheetah.xml").unwrap()).unwrap();
    let (start, end) = (whole.find("<actuator>").unwrap(), whole.find("</actuator>").unwrap());
    let end = end + "</actuator>".len();
    let part = folder.path().join("actuators.xml");
    fs::write(&part, format!("<mujoco>{}</mujoco>", &whole[start..end])).unwrap();
    let file = folder.path().join("main.xml");
    let include = "<include file=\"actuators.xml\"/>";
    fs::write(&file, format!("{}{include}{}", &whole[..start], &whole[end..])).unwrap();

    let bytes = envs::compile("HalfCheetah-v4", Some(&file)).unwrap();
    assert!(bytes == envs::compile("HalfCheetah-v4", Some(&file)).unwrap(), "it is compiled alike");
    let copy = folder.path().join("copy.mjb");
    fs::write(&copy, &bytes).unwrap();
    assert!(bytes == envs::compile("HalfCheetah-v4", Some(&copy)).unwrap(), "a copy of the copy");
    let text = fs::read_to_string(&part).unwrap();
    fs::write(&part, text.replacen("gear=\"120\"", "gear=\"12\"", 1)).unwrap();
    assert!(bytes != envs::compile("HalfCheetah-v4", Some(&file)).unwrap(), "an include counts");

    fs::remove_file(&part).unwrap();
    let (mut pinned, mut observation) = make("HalfCheetah-v4");
    let mut copied = Env::make_with_model("HalfCheetah-v4", &copy).unwrap();
    pinned.reset(Some(3), &mut observation);
    copied.reset(Some(3), &mut observation);
    assert!(run(&mut pinned, 0..200) == run(&mut copied, 0..200));

    for damaged in [&bytes[..100], &bytes[..bytes.len() / 2], b"not a model"] {
        fs::write(&copy, damaged).unwrap();
        let refusal = Env::make_with_model("HalfCheetah-v4", &copy).err().expect("it is damaged");
        assert!(matches!(refusal, Error::Model { .. }), "{refusal}");
    }
}

#[test]
fn a_model_whose_episodes_end_at_their_first_step_is_known() {
    let (_folder, file) = altered("hopper.xml", "ref=\"1.25\"", "ref=\"0.3\"");
    let (_upright, whole) = altered("hopper.xml", "x", "x");
    let ends = |file| Env::make_with_model("Hopper-v4", file).unwrap().ends_at_once().unwrap();
    assert!(ends(&file));
    assert!(!ends(&whole));
}

#[test]
fn a_compiled_model_that_is_not_whole_or_of_another_version_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let whole = envs::compile("Hopper-v4", None).unwrap();
    // The file begins with an identifier, the size of a number, and the version.
    let mut other_version = whole.clone();
    other_version[..64].iter_mut().for_each(|byte| *byte ^= 1);
    let cases = [
        ("empty", Vec::new()),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("cut in the head", whole[..20].to_vec()),
        ("of another version", other_version),
        ("of another kind", b"<mujoco/>".repeat(1000)),
    ];
    for (case, bytes) in cases {
        let file = folder.path().join("model.mjb");
        std::fs::write(&file, bytes).unwrap();
        let refusal = Env::make_with_model("Hopper-v4", &file).err().expect(case).to_string();
        assert!(refusal.contains("model.mjb: "), "{case}: {refusal}");
        assert!(!refusal.contains("settotalmass"), "of another model: {case}: {refusal}");
        assert!(refusal.contains("expected a model that MuJoCo 3"), "{case}: {refusal}");
        assert_eq!(refusal.lines().count(), 1, "{case}: {refusal}");
    }
}

#[test]
fn a_model_that_does_not_parse_shows_mujocos_message_with_the_line() {
    let name = "a_joint_with_a_name_so_long_that_the_message_has_more_than_a_hundred_characters";
    for (from, to, expected) in [
        ("<worldbody>", "<worldbody><wheel/>", "Element 'wheel', line 17"),
        ("joint=\"thigh_joint\"", &format!("joint=\"{name}\""), "line 41"),
        ("</worldbody>", "</worldbod>", "Line number=17"),
    ] {
        let (_folder, file) = altered("hopper.xml", from, to);
        let refusal = Env::make_with_model("Hopper-v4", &file).err().expect("it does not parse");
        assert!(matches!(refusal, Error::Model { .. }), "{refusal}");
        let message = refusal.to_string();
        assert!(message.contains(expected) && message.contains("mine.xml"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let missing = Env::make_with_model("Hopper-v4", "nowhere/mine.xml".as_ref()).err().unwrap();
    assert!(matches!(missing, Error::UnreadableModel { .. }), "{missing}");
    assert!(!missing.to_string().contains("setup"), "{missing}");
}

#[test]
fn mujocos_messages_are_kept_and_leave_no_log_file() {
    make("HalfCheetah-v4");
    let messages = take_messages();
    assert!(messages.iter().any(|message| message.text.contains("settotalmass")), "{messages:?}");
    assert!(!std::path::Path::new("MUJOCO_LOG.TXT").exists());
}
