//! Expressions: values as NumPy's, and mistakes.

#[path = "../../tests/edition/mod.rs"]
mod edition;

use std::fs;

use proptest::prelude::*;

use super::compile::{Compiler, Role};
use super::parse::parse;
use super::problem::Problem;
use super::program::{Inputs, run};
use crate::env::Env;
use crate::error::Error;
use crate::models::load;
use crate::physics::Physics;
use mujoco_rs::wrappers::mj_model::MjModel;

/// Sliders with a motor each.
fn sliders(count: usize) -> MjModel {
    let body = |i: usize| {
        format!("<body name='b{i}'><joint name='j{i}' type='slide'/><geom size='1'/></body>")
    };
    let motor = |i: usize| format!("<motor joint='j{i}' ctrlrange='-1 1'/>");
    let [bodies, motors]: [String; 2] =
        [(0..count).map(body).collect(), (0..count).map(motor).collect()];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sliders.xml");
    let xml =
        format!("<mujoco><worldbody>{bodies}</worldbody><actuator>{motors}</actuator></mujoco>");
    fs::write(&file, xml).unwrap();
    load(&file).unwrap()
}

/// The value of an expression in which `action` is a vector of numbers.
fn value_for(model: &MjModel, text: &str, action: &[f64]) -> Result<Vec<f64>, Problem> {
    let code = parse(text, 0, true)?;
    let mut compiler = Compiler::new(model, 0.05);
    let mut program = Vec::new();
    let (start, shape) = compiler.compile(&code, Role::Judgement, &mut program)?;
    let mut notes = compiler.notes;
    notes[..action.len()].copy_from_slice(action);
    let single: Vec<f32> = action.iter().map(|x| *x as f32).collect();
    let mut inputs = Inputs { physics: Physics::NONE, action: &single, random: None };
    run(&program, &mut inputs, &mut notes);
    Ok(notes[start..start + shape.len()].to_vec())
}

fn value(text: &str, action: &[f64]) -> Vec<f64> {
    value_for(&sliders(action.len()), text, action).unwrap()
}

/// Written by `scripts/record_dm_control.py expressions`: for every vector, expressions with the bits
/// of NumPy's numbers. Another C library than those of the fixtures may round otherwise.
#[test]
fn expressions_have_the_bits_of_numpys() {
    let most_ulps = if edition::edition().is_some() { 0 } else { 4 };
    let text = include_str!("../../tests/fixtures/expressions.txt");
    let hex = |words: &str| -> Vec<f64> {
        let bits = words.split_whitespace().map(|word| u64::from_str_radix(word, 16).unwrap());
        bits.map(f64::from_bits).collect()
    };
    let (mut action, mut model, mut compared) = (Vec::new(), None, 0);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(words) = line.strip_prefix("action = ") {
            action = hex(words);
            model = Some(sliders(action.len()));
            continue;
        }
        let (expression, words) = line.rsplit_once(" -> ").unwrap();
        let found = value_for(model.as_ref().unwrap(), expression, &action).unwrap();
        let expected = hex(words);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let ulps = found.to_bits().abs_diff(expected.to_bits());
            assert!(
                ulps <= most_ulps,
                "{expression} of {action:?}: {found}, NumPy's is {expected}"
            );
        }
        compared += 1;
    }
    assert!(compared > 100);
}

#[test]
fn operators_bind_as_in_python() {
    let x = [3.0, -2.0, 0.5];
    for (text, expected) in [
        ("-2^2", -4.0),
        ("2^-1", 0.5),
        ("2^3^2", 512.0),
        ("-action[0]^2", -9.0),
        ("1 - 2 - 3", -4.0),
        ("12 / 3 / 2", 2.0),
        ("1 + 2 * 3", 7.0),
        ("not 1 > 2 and 1 < 2 or 0 > 1", 1.0),
        ("1 < 2 and not (2 < 3 or 1 > 0)", 0.0),
        ("1e3 + .5 + 2.", 1002.5),
        ("if(action[1] < 0, 7, 8)", 7.0),
        ("max(action) - min(action)", 5.0),
        ("max(action[0], 4)", 4.0),
        ("sum(action[1:])", -1.5),
        ("action[-1]", 0.5),
        ("action.y", -2.0),
        ("sum(action.[z, x])", 3.5),
        ("dot(action, action)", 13.25),
        ("clip(action, -1, 1)[0]", 1.0),
        ("2 * -action[2] - -1", 0.0),
        ("gravity.z", -9.81),
        ("sum(body_subtreemass('b0', 'b2')) / body_mass('b1')", 2.0),
        ("sum(actuator_ctrlrange.high - actuator_ctrlrange.low)", 6.0),
        ("tolerance(action, action, action + 1)[2]", 1.0),
        (
            "tolerance(1, lower=action[0], upper=inf, margin=4, value_at_margin=0, sigmoid='linear')",
            0.5,
        ),
        ("tolerance(1, lower=action[0], upper=inf, margin=action[1])", 0.0),
        ("tolerance(lower=action[0], upper=inf, x=1, margin=action[1])", 0.0),
    ] {
        assert_eq!(value(text, &x), [expected], "{text}");
    }
    let nan = [f64::NAN, 1.0];
    for text in ["action[0] < 1", "action[0] >= 1", "action[0] == action[0]"] {
        assert_eq!(value(text, &nan), [0.0], "{text}");
    }
    assert!(value("clip(action[0], -1, 1)", &nan)[0].is_nan());
    assert!(value("max(action)", &nan)[0].is_nan() && value("min(action)", &nan)[0].is_nan());
}

/// Both libraries that were tried change these.
#[test]
fn sums_and_products_are_not_reordered() {
    let x = [0.75];
    let expected = ((1e16 + x[0]) + 1.0) - 1e16;
    assert_eq!(value("1e16 + action[0] + 1 - 1e16", &x), [expected]);
    assert_eq!(value("0.1 * action[0] * 0.2 * 3", &x), [((0.1 * x[0]) * 0.2) * 3.0]);
    assert_eq!(value("action[0] / 3 / 7", &x), [(x[0] / 3.0) / 7.0]);
}

#[test]
fn a_mistake_is_shown_with_its_place_and_the_nearest_name() {
    let model = sliders(3);
    for (text, at, words) in [
        ("qpoz[0]", 0, &["unknown name 'qpoz'", "did you mean 'qpos'"][..]),
        ("1 + qpos('j9')", 9, &["unknown joint 'j9' (all: j0, j1, j2)"]),
        ("1 + xpos('c*').x", 9, &["no body of the model matches 'c*'"]),
        ("2 * tolerence(1)", 4, &["unknown function 'tolerence'", "'tolerance'"]),
        ("qpos + xpos", 5, &["'+' of vectors of 3 and 12 numbers"]),
        ("qpos[5]", 4, &["[5]", "3 rows"]),
        ("qpos[2:1]", 4, &["[2:1]"]),
        ("xpos[1].w", 7, &["no column 'w'", "x y z"]),
        ("1 < 2 < 3", 6, &["chain", "and"]),
        ("(1 + 2", 6, &["the end", "')'"]),
        ("1 + ", 4, &["the end, expected a number"]),
        ("1 2", 2, &["the number 2 where the expression should end"]),
        ("sin(1, 2)", 0, &["sin has 2 arguments, expected 1"]),
        ("qpos('j0)", 5, &["does not end"]),
        ("2 ** 3", 2, &["'**'", "'^'"]),
        ("1 && 2", 2, &["'&&'", "'and'"]),
        ("1 + 1e999", 4, &["1e999"]),
        ("'j0'", 0, &["text"]),
        ("uniform(0, 1)", 0, &["random", "start.set"]),
        ("tolerance(1, margin=-1)", 0, &["margin is negative"]),
        ("tolerance(1, lower=2, upper=1)", 0, &["lower bound is above"]),
        ("tolerance(1, bounds=2)", 20, &["unknown argument 'bounds'"]),
        ("tolerance(1, value_at_margin=qpos[0])", 33, &["value_at_margin", "known"]),
        ("tolerance(qpos, margin=xpos)", 0, &["vectors of 3 and 12 numbers"]),
        (
            "tolerance(1, lower=jnt_range.high, upper=jnt_range.low - 1)",
            0,
            &["lower bound is above"],
        ),
        ("tolerance(1, margin='x')", 20, &["margin", "a number"]),
        ("jnt_range.x", 9, &["no column 'x'", "low high"]),
        ("tolerance(1, sigmoid='gausian')", 21, &["'gausian'", "'gaussian'"]),
        ("sin", 0, &["a function"]),
        ("sin(x=1)", 0, &["no argument 'x'"]),
        ("qpos['j0']", 5, &["expected a whole number"]),
        ("act", 0, &["act is empty"]),
    ] {
        let problem = value_for(&model, text, &[0.0; 3]).unwrap_err();
        for word in words {
            assert!(problem.message.contains(word), "{text}: {}", problem.message);
        }
        assert_eq!(problem.at, at, "{text}: {}", problem.message);
    }
}

/// A suggestion of something unlike leads astray.
#[test]
fn a_name_like_no_other_is_answered_with_all_of_them() {
    let model = sliders(50);
    let message = |text| value_for(&model, text, &[0.0; 50]).unwrap_err().message;
    assert_eq!(
        message("tolerance(1, sigmoid='foo')"),
        "unknown sigmoid 'foo' (all: gaussian, linear, quadratic, long_tail, reciprocal)"
    );
    assert_eq!(message("sensordata('gyro')"), "unknown sensor 'gyro'; there is none");
    for text in ["later", "ab", "qpos('hip')"] {
        let message = message(text);
        assert!(message.contains("(all: ") && !message.contains("did you mean"), "{message}");
        assert!(message.len() < 500, "{message}");
    }
}

#[test]
fn depth_length_and_size_are_bounded() {
    let model = sliders(3);
    let refusal = |text: &str| value_for(&model, text, &[0.0; 3]).unwrap_err().message;
    assert!(refusal(&"(".repeat(4000)).contains("nested"));
    assert!(refusal(&format!("{}1", "-".repeat(4000))).contains("nested"));
    assert!(refusal(&"sin(".repeat(1000)).contains("nested"));
    assert!(refusal(&"1+".repeat(3000)).contains("bytes"));
    // A long sum is not deep.
    let sum = vec!["1"; 2000].join("+");
    assert_eq!(value_for(&model, &sum, &[0.0; 3]).unwrap(), [2000.0]);
}

/// A task of two joints.
fn task(folder: &std::path::Path, rules: &str) -> Result<Env, Error> {
    let model = "<mujoco><worldbody><body name='b'><joint name='x' type='slide'/>\
                 <joint name='y' type='slide' axis='0 1 0'/><geom size='1'/></body></worldbody>\
                 <actuator><motor joint='x' ctrlrange='-1 1'/></actuator>\
                 <keyframe><key name='home' qpos='1 2'/></keyframe></mujoco>";
    fs::write(folder.join("robot.xml"), model).unwrap();
    fs::write(folder.join("task.toml"), rules).unwrap();
    Env::make(folder.join("task.toml").to_str().unwrap())
}

#[test]
fn what_was_two_steps_ago_is_compared_with_and_nothing_of_the_episode_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut rewards = Vec::new();
    for reward in ["previous(previous(qpos[0]))", "rate(previous(qpos[0]))", "rate(rate(qpos[0]))"]
    {
        let rules = format!(
            "model = \"robot.xml\"\nreward = \"{reward}\"\n[start]\nkeyframe = \"home\"\n\
             [observation]\nall = \"qpos\"\n"
        );
        let mut env = task(folder.path(), &rules).unwrap();
        let dt = env.spec().dt;
        for episode in 0..2 {
            let mut observation = [0.0; 2];
            env.reset(Some(episode), &mut observation);
            // Before the first step everything stood still.
            let mut x = vec![observation[0]; 2];
            for step in 0..6 {
                let found = env.step(&[1.0 - 0.3 * step as f32], &mut observation).unwrap().reward;
                x.push(observation[0]);
                let [before, last, now] = x[x.len() - 3..] else { unreachable!() };
                let expected = match reward {
                    "previous(previous(qpos[0]))" => before,
                    "rate(previous(qpos[0]))" => (last - before) / dt,
                    _ => ((now - last) / dt - (last - before) / dt) / dt,
                };
                assert!(
                    (found - expected).abs() < 1e-9,
                    "{reward} at step {step} of episode {episode}"
                );
                rewards.push(found);
            }
        }
    }
    assert!(rewards.iter().filter(|reward| **reward != 0.0).count() > 24, "something moves");
}

#[test]
fn targets_of_positions_need_motors() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "model = \"robot.xml\"\nreward = \"1\"\n[action]\nkind = \"position\"\nkp = 1\nkd = 0\n\
                 [observation]\nall = \"qpos\"\n";
    assert!(task(folder.path(), rules).is_ok());
    let file = folder.path().join("robot.xml");
    let model = fs::read_to_string(&file).unwrap();
    for other in [
        "position kp='35'",
        "velocity kv='2'",
        "general gainprm='2'",
        "general dyntype='integrator'",
    ] {
        fs::write(&file, model.replace("motor", other)).unwrap();
        let path = folder.path().join("task.toml");
        let error = Env::make(path.to_str().unwrap()).err().unwrap_or_else(|| panic!("{other}"));
        assert!(error.to_string().contains("actuator 0 is no <motor>"), "{other}: {error}");
    }
}

/// Two sliders that do not meet, with a motor each, after some steps to targets.
fn followed(folder: &std::path::Path, gains: &str) -> Result<[f64; 4], Error> {
    let body = |i| {
        format!(
            "<body pos='{i} 0 0'><joint name='j{i}' type='slide' axis='0 1 0'/><geom size='.1'/></body>"
        )
    };
    let model = format!(
        "<mujoco><worldbody>{}{}</worldbody><actuator><motor joint='j0'/><motor joint='j1'/>\
         </actuator></mujoco>",
        body(0),
        body(1)
    );
    fs::write(folder.join("two.xml"), model).unwrap();
    let rules = format!(
        "model = \"two.xml\"\nreward = \"0\"\n[action]\nkind = \"position\"\n{gains}\n\
         [observation]\nqpos = \"qpos\"\nqvel = \"qvel\"\n"
    );
    fs::write(folder.join("two.toml"), rules).unwrap();
    let mut env = Env::make(folder.join("two.toml").to_str().unwrap())?;
    let mut observation = [0.0; 4];
    env.reset(Some(0), &mut observation);
    for _ in 0..20 {
        env.step(&[0.7, 0.7], &mut observation)?;
    }
    Ok(observation)
}

#[test]
fn gains_are_one_number_for_all_actuators_or_one_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let followed = |gains: &str| followed(folder.path(), gains).unwrap();
    let [soft, stiff] = ["kp = 2\nkd = 0.1\nscale = 0.5", "kp = 30\nkd = 0.4\nscale = 0.8"];
    let [soft, stiff] = [soft, stiff].map(followed);
    assert_eq!((soft[0], soft[2]), (soft[1], soft[3]), "joints with the same gains move alike");
    assert!(soft[0] != stiff[0]);
    let equal = followed("kp = [2, 2.0]\nkd = [0.1, 0.1]\nscale = [0.5, 0.5]");
    assert_eq!(equal.map(f64::to_bits), soft.map(f64::to_bits));
    let each = followed("kp = [2, 30]\nkd = [0.1, 0.4]\nscale = [0.5, 0.8]");
    assert_eq!(each, [soft[0], stiff[1], soft[2], stiff[3]]);
    // Each of the three acts.
    let [a, b] = ["kp = [2, 30]\nkd = 0.1", "kp = 2\nkd = [0.1, 0.4]"].map(followed);
    assert!(a[0] != a[1] && b[0] != b[1]);
    let scaled = followed("kp = 2\nkd = 0.1\nscale = [0.5, 0.8]");
    assert!(scaled[0] == soft[0] && scaled[1] != soft[1]);
}

#[test]
fn gains_that_cannot_be_meant_are_refused_with_what_can() {
    let folder = tempfile::tempdir().unwrap();
    for (gains, words) in [
        ("kp = -300\nkd = 1", &[":5:6: kp is -300, expected a number above 0"][..]),
        ("kp = 0\nkd = 1", &["kp is 0, expected a number above 0"]),
        ("kp = 1\nkd = -1", &[":6:6: kd is -1, expected a number of at least 0"]),
        ("kp = 1\nkd = 0\nscale = 0", &[":7:9: scale is 0, expected a number above 0"]),
        ("kp = 1\nkd = 0\nscale = -1", &["scale is -1, expected a number above 0"]),
        ("kp = [1, -1]\nkd = 0", &["kp is [1, -1], expected a number above 0, or a list"]),
        ("kp = []\nkd = 0", &["kp is [], expected a number above 0, or a list"]),
        ("kp = [1, 'a']\nkd = 0", &["expected a number above 0"]),
        ("kp = [20, 3, 4]\nkd = 0", &[":5:6: kp is a list of 3 numbers", "has 2 actuators"]),
        ("kp = 1\nkd = [0.5]", &[":6:6: kd is a list of 1 numbers", "has 2 actuators"]),
        ("kp = 1\nkd = 0\nscale = [1, 1, 1]", &["scale is a list of 3 numbers"]),
        ("kp = 1", &["kd is missing", "kd = 0.5"]),
    ] {
        let message = followed(folder.path(), gains).expect_err(gains).to_string();
        assert!(!message.contains('\n'), "{message}");
        for word in words {
            assert!(message.contains(word), "{gains}: {message}");
        }
    }
}

#[test]
fn a_mistake_in_a_file_is_one_line_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let good = "model = \"robot.xml\"\nreward = \"rate(qpos[0])\"\n[observation]\nall = \"qpos\"\n";
    assert!(task(folder.path(), good).is_ok());
    for (from, to, words) in [
        ("qpos[0]", "qpoz[0]", &[":2:16: unknown name 'qpoz'"][..]),
        ("reward = ", "rewards = ", &[":2:1:", "unknown key 'rewards'", "did you mean 'reward'"]),
        ("reward = \"rate(qpos[0])\"", "", &["reward is missing"]),
        ("model = \"robot.xml\"", "", &["model is missing"]),
        ("robot.xml", "robto.xml", &["robto.xml"]),
        ("[observation]", "[observation", &[":3:", "TOML"]),
        ("all = \"qpos\"", "all = true", &[":4:7:", "no expression"]),
        ("all = \"qpos\"", "", &["[observation] is missing"]),
        ("all = \"qpos\"", "\"a b\" = \"qpos\"", &[":4:1:", "letters"]),
        ("all = \"qpos\"", "all = \"rate(qpos)\"", &[":4:8:", "rate"]),
        ("all = \"qpos\"", "all = \"\"\"\nqvel +\n qpos('z')\"\"\"", &[":6:7: unknown joint 'z'"]),
        ("rate(qpos[0])", "qpos", &[":2:11:", "the reward is 2 numbers, expected one"]),
        ("[obs", "order = \"dmcontrol\"\n[obs", &[":3:9:", "'dmcontrol'", "'dm_control'"]),
        ("[obs", "steps_per_action = 0\n[obs", &[":3:20:", "0", "from 1 to"]),
        ("[obs", "max_episode_steps = 1.5\n[obs", &[":3:", "1.5"]),
        ("[obs", "[start]\nkeyframe = \"hom\"\n[obs", &[":4:12:", "keyframe 'hom'", "'home'"]),
        ("[obs", "[start.set]\nxpos = \"1\"\n[obs", &[":4:1:", "'xpos' can't be set"]),
        ("[obs", "[start.set]\n\"qpos('q')\" = \"1\"\n[obs", &[":4:7: unknown joint 'q'"]),
        ("[obs", "[start.set]\nqpos = \"xpos[0]\"\n[obs", &[":4:9:", "3 numbers for 2"]),
        ("[obs", "[action]\nkind = \"torque\"\n[obs", &[":4:8:", "kind 'torque'"]),
        ("[obs", "[action]\nkp = 1\n[obs", &[":4:1:", "unknown key 'kp'"]),
        ("[obs", "[action]\nkind = \"position\"\n[obs", &["kp is missing"]),
        ("[obs", "[action]\nrange = [1, 1]\n[obs", &[":4:9:", "range is [1, 1]", "low < high"]),
        ("[obs", "[action]\nrange = [-1e300, 1e300]\n[obs", &[":4:9:", "high - low below 3e38"]),
        ("[obs", "[action]\nrange = [[0, 1], [2, 1]]\n[obs", &[":4:9:", "low < high"]),
        (
            "[obs",
            "[action]\nrange = [[0, 1], [1, 2]]\n[obs",
            &[":4:9:", "range is a list of 2 pairs, but the model has 1 actuators"],
        ),
        ("[obs", "[model_edits]\n\"dof_mass('x')\" = 1\n[obs", &["dof_damping"]),
        ("[obs", "[terms]\ntime = \"1\"\n[obs", &[":4:", "'time' is a quantity of the simulation"]),
        (
            "[obs",
            "[model_edits.remove]\nbody = [\"c\"]\n[obs",
            &[":4:9: unknown body 'c' (all: world, b)"],
        ),
        ("[obs", "[start]\nraise = 0\n[obs", &[":4:9:", "raise is 0", "more than 0"]),
        ("[obs", "[start]\nraise = 0.1\n[obs", &[":4:9:", "no free joint"]),
        ("[obs", "[start.set]\nact = 1\n[obs", &[":4:1:", "act is empty"]),
        ("[obs", "terms = 3\n[obs", &[":3:1:", "no table"]),
        ("[obs", "[goal]\na = \"rate(qpos)\"\n[obs", &[":4:6:", "rate"]),
        (
            "[obs",
            "[start.set]\nqpos = \"1\"\n[goal]\nqpos = \"1\"\n[obs",
            &[":6:9:", "'qpos' is a quantity of the simulation, expected another name"],
        ),
        (
            "[obs",
            "[goal]\na = \"b\"\nb = \"1\"\n[obs",
            &[":4:6:", "the goal 'b' is not defined above"],
        ),
        (
            "[obs",
            "[terms]\na = \"2 * later\"\nlater = \"1\"\n[obs",
            &[":4:10:", "the term 'later' is not defined above, but here or below"],
        ),
        (
            "all = \"qpos\"",
            "all = \"far\"\n[terms]\nfar = \"1\"",
            &[":4:8: 'far' is a term, which only [terms], reward and terminate may use"],
        ),
        ("[obs", "[goal]\na = \"1\"\n[terms]\na = \"2\"\n[obs", &[":6:6:", "name of a goal"]),
        ("[obs", "[start]\ngoal = \"late\"\n[obs", &[":4:8:", "goal 'late'"]),
    ] {
        let rules = good.replacen(from, to, 1);
        let error = task(folder.path(), &rules).err().unwrap_or_else(|| panic!("{rules}"));
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        for word in words {
            assert!(message.contains(word), "{to}: {message}");
        }
    }
}

#[test]
fn a_goal_is_drawn_for_each_episode_and_kept_in_it_and_in_a_saved_state() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "model = \"robot.xml\"\nreward = \"speed - 1\"\n[start.set]\n\"qpos('x')\" = \"2 * speed\"\n\
                 [goal]\nspeed = \"uniform(1, 2)\"\ntwice = \"cat(speed, 2 * speed)\"\n\
                 [observation]\nx = \"qpos('x')\"\ntwice = \"twice\"\n";
    let mut env = task(folder.path(), rules).unwrap();
    let mut seen = Vec::new();
    for seed in [Some(3), None, Some(3)] {
        let mut first = [0.0; 3];
        env.reset(seed, &mut first);
        let [x, speed, twice] = first;
        assert!((1.0..2.0).contains(&speed) && twice == 2.0 * speed && x == 2.0 * speed);
        let mut later = [0.0; 3];
        let state = env.save_state();
        for _ in 0..3 {
            let step = env.step(&[1.0], &mut later).unwrap();
            assert_eq!((step.reward, &later[1..]), (speed - 1.0, &first[1..]));
        }
        let mut other = task(folder.path(), rules).unwrap();
        other.load_state(&state).unwrap();
        other.step(&[1.0], &mut later).unwrap();
        assert_eq!(later[1..], first[1..]);
        seen.push(first);
    }
    assert!(seen[0] != seen[1] && seen[0] == seen[2]);

    // A goal that is drawn after the state depends on it, and not the other way round.
    let after = rules.replace("[start.set]", "[start]\ngoal = \"after\"\n[start.set]");
    let message = task(folder.path(), &after).err().unwrap().to_string();
    assert!(message.contains("the goal 'speed' is drawn after the initial state"), "{message}");
    let after =
        after.replace("2 * speed\"\n[goal]", "7\"\n[goal]").replace("uniform(1, 2)", "qpos[0]");
    let mut env = task(folder.path(), &after).unwrap();
    let mut observation = [0.0; 3];
    env.reset(Some(1), &mut observation);
    assert_eq!(observation, [7.0, 7.0, 14.0]);
}

#[test]
fn a_vector_that_doubles_with_every_term_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = String::from(
        "model = \"robot.xml\"\nreward = \"0\"\n[observation]\nall = \"qpos\"\n[terms]\nt0 = \"qpos\"\n",
    );
    for i in 1..60 {
        rules += &format!("t{i} = \"cat(t{0}, t{0})\"\n", i - 1);
    }
    let message = task(folder.path(), &rules).err().unwrap().to_string();
    assert!(message.contains("numbers, expected at most"), "{message}");
}

#[test]
fn an_actuator_without_range_needs_one_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = "<mujoco><worldbody><body><joint name='x' type='slide'/><geom size='1'/></body>\
                 </worldbody><actuator><motor name='push' joint='x'/></actuator></mujoco>";
    fs::write(folder.path().join("free.xml"), model).unwrap();
    let rules = "model = \"free.xml\"\nreward = \"0\"\n[observation]\nall = \"qpos\"\n";
    let file = folder.path().join("free.toml");
    fs::write(&file, rules).unwrap();
    let message = Env::make(file.to_str().unwrap()).err().unwrap().to_string();
    assert!(message.contains("'push'") && message.contains("range = [-1, 1]"), "{message}");
    fs::write(&file, format!("{rules}[action]\nrange = [-3, 2]\n")).unwrap();
    let env = Env::make(file.to_str().unwrap()).unwrap();
    assert_eq!((env.spec().act_low[0], env.spec().act_high[0]), (-3.0, 2.0));

    // One for each.
    let more = "<motor joint='x' ctrlrange='0 50'/></actuator>";
    fs::write(folder.path().join("free.xml"), model.replace("</actuator>", more)).unwrap();
    fs::write(&file, format!("{rules}[action]\nrange = [[-3, 2], [0, 7]]\n")).unwrap();
    let env = Env::make(file.to_str().unwrap()).unwrap();
    assert_eq!(
        (&env.spec().act_low[..], &env.spec().act_high[..]),
        (&[-3.0, 0.0][..], &[2.0, 7.0][..])
    );

    // A range that has no middle in single precision.
    let wide = model.replace("joint='x'/>", "joint='x' ctrlrange='-1e300 1e300'/>");
    fs::write(folder.path().join("free.xml"), wide).unwrap();
    fs::write(&file, rules).unwrap();
    let message = Env::make(file.to_str().unwrap()).err().unwrap().to_string();
    assert!(message.contains("has the range [-1e300, 1e300], expected [low, high]"), "{message}");
}

#[test]
fn an_armature_that_a_task_gives_a_joint_is_that_of_the_model_with_it() {
    let folder = tempfile::tempdir().unwrap();
    // A joint at its soft limit, whose stiffness follows from the inertia.
    let model = |armature: &str| {
        let xml = format!(
            "<mujoco><option gravity='0 0 0'/><worldbody><body name='b'><joint name='j' {armature} \
             limited='true' range='-10 10'/><geom size='.05' pos='.1 0 0' mass='.01'/></body></worldbody>\
             <actuator><motor joint='j' ctrlrange='-1 1'/></actuator></mujoco>"
        );
        fs::write(folder.path().join("robot.xml"), xml).unwrap();
    };
    let rules = "model = \"robot.xml\"\nreward = \"0\"\n[observation]\nall = \"cat(qpos, qvel)\"\n";
    let path = |edit: &str| {
        fs::write(folder.path().join("task.toml"), format!("{rules}{edit}")).unwrap();
        let mut env = Env::make(folder.path().join("task.toml").to_str().unwrap()).unwrap();
        let mut observation = vec![0.0; 2];
        env.reset(Some(0), &mut observation);
        let mut path = Vec::new();
        for _ in 0..300 {
            env.step(&[1.0], &mut observation).unwrap();
            path.extend_from_slice(&observation);
        }
        path
    };
    model("");
    let (bare, edited) = (path(""), path("[model_edits]\n\"dof_armature('j')\" = 0.1\n"));
    model("armature='0.1'");
    assert_eq!(edited, path(""));
    assert_ne!(edited, bare);
}

#[test]
fn every_attempt_at_a_start_without_contact_begins_at_the_same_place() {
    // One start in ten is free; a walk of such steps would soon be farther than one step away.
    let folder = tempfile::tempdir().unwrap();
    let xml = "<mujoco><worldbody><geom type='box' size='.9 .9 .9'/><body name='b'>\
               <joint type='slide'/><geom size='.01'/></body></worldbody>\
               <actuator><motor joint='' ctrlrange='-1 1'/></actuator></mujoco>"
        .replace("<joint type='slide'/>", "<joint name='x' type='slide' axis='1 0 0'/>")
        .replace("joint=''", "joint='x'");
    fs::write(folder.path().join("robot.xml"), xml).unwrap();
    let rules = "model = \"robot.xml\"\nreward = \"0\"\n[start]\nuntil_no_contact = true\n[start.set]\n\
                 qpos = \"qpos + uniform(-1, 1)\"\n[observation]\nx = \"qpos\"\n";
    fs::write(folder.path().join("task.toml"), rules).unwrap();
    let mut env = Env::make(folder.path().join("task.toml").to_str().unwrap()).unwrap();
    for seed in 0..50 {
        let mut x = [0.0];
        env.reset(Some(seed), &mut x);
        assert!(x[0].abs() > 0.9 && x[0].abs() <= 1.0, "seed {seed}: {}", x[0]);
    }
}

/// A door before a robot that can fly and its arm, which starts lower in the keyframe than in the model.
const ROBOT: &str = "<mujoco><worldbody>\
    <body name='door' pos='3 0 1'><joint name='door'/><geom size='.1'/></body>\
    <body name='r\u{fc}mpf' pos='0 0 1'><freejoint name='frei'/><geom size='.1'/>\
    <body name='arm'><joint name='h\u{fc}fte'/><geom size='.1' pos='.3 0 0'/></body></body></worldbody>\
    <actuator>ACTUATORS</actuator>\
    <keyframe><key name='home' qpos='0 0 0 0.2 1 0 0 0 0'/></keyframe></mujoco>";

/// The first file for a model, and the task that it is.
fn sketched(folder: &std::path::Path, model: &str) -> Result<(String, Env), Error> {
    let file = folder.join("a \"robot\".xml");
    fs::write(&file, model).unwrap();
    let text = super::sketch(&file, "a \"robot\".xml")?;
    let task = folder.join("robot.toml");
    fs::write(&task, &text).unwrap();
    Ok((text, Env::make(task.to_str().unwrap())?))
}

#[test]
fn a_first_file_gives_a_range_to_the_actuators_without_one_only() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = |actuators: &str| {
        let model = ROBOT.replace("ACTUATORS", actuators);
        let (text, env) = sketched(folder.path(), &model).unwrap();
        let spec = env.spec();
        let bounds = spec.act_low.iter().zip(&spec.act_high).map(|(low, high)| [*low, *high]);
        (text.contains("\nrange = "), bounds.collect::<Vec<_>>())
    };
    let motor = "<motor name='free' joint='door'/>";
    let limited = "<motor joint='h\u{fc}fte' ctrlrange='0 50'/>\
                   <adhesion body='arm' ctrlrange='0 0.1' gain='1'/>";
    let muscle = "<muscle joint='h\u{fc}fte' lengthrange='0.1 1'/>";
    assert_eq!(bounds(motor), (true, vec![[-1.0, 1.0]]));
    assert_eq!(bounds(muscle), (true, vec![[0.0, 1.0]]));
    assert_eq!(bounds(limited), (false, vec![[0.0, 50.0], [0.0, 0.1]]));
    let all = vec![[0.0, 50.0], [0.0, 0.1], [-1.0, 1.0], [0.0, 1.0]];
    assert_eq!(bounds(&[limited, motor, muscle].concat()), (true, all));
}

#[test]
fn a_first_file_is_for_the_joint_that_floats_and_begins_where_episodes_do() {
    let folder = tempfile::tempdir().unwrap();
    let model = ROBOT.replace("ACTUATORS", "<motor joint='h\u{fc}fte'/>");
    let (text, mut env) = sketched(folder.path(), &model).unwrap();
    for line in [
        "#   3 joints: door, frei, h\u{fc}fte",
        "keyframe = \"home\"",
        "terminate = \"xpos('r\u{fc}mpf').z < 0.1\"",
        "position = \"qpos[3:]\"",
        "others = \"qpos[:1]\" # joints before the free one",
        "forward = \"rate(xpos('r\u{fc}mpf').x)\" # metres per second",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    assert!(!env.ends_at_once().unwrap());
    // A body without a name, and a start on the floor, whose height can't tell a fall.
    let model = model.replace(" name='r\u{fc}mpf'", "").replace("0.2 1 0", "0.02 1 0");
    let (text, mut env) = sketched(folder.path(), &model).unwrap();
    for line in ["# terminate = \"qpos[3] < 0.01\"", "forward = \"rate(qpos[1])\""] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    assert!(!env.ends_at_once().unwrap());
    // Nothing floats.
    let model = "<mujoco><worldbody><body name='b'><joint name='j'/><geom size='.1'/></body></worldbody>\
                 <actuator><motor joint='j'/></actuator></mujoco>";
    let (text, _) = sketched(folder.path(), model).unwrap();
    assert!(text.contains("# terminate = ") && text.contains("position = \"qpos[0:]\""), "{text}");
}

#[test]
fn a_model_without_actuators_or_joints_has_no_first_file() {
    let folder = tempfile::tempdir().unwrap();
    let still = "<mujoco><worldbody><body name='b'><geom size='1'/></body></worldbody><actuator>\
                 <adhesion body='b' ctrlrange='0 1'/></actuator></mujoco>";
    let moved = ROBOT.replace("ACTUATORS", "");
    for (model, lack) in [("<mujoco/>", "actuators"), (&moved, "actuators"), (still, "joints")] {
        let message = sketched(folder.path(), model).err().unwrap().to_string();
        assert!(
            message.contains(&format!("its number of {lack} is 0, expected at least 1")),
            "{message}"
        );
    }
}

#[test]
fn the_name_of_a_first_file_is_one_that_a_task_can_have() {
    use super::{file_name_for, wrong_name};
    use std::path::Path;
    for (model, name) in [
        ("robot.xml", "robot.toml"),
        ("a/go1_v2.3.xml", "go1_v2.3.toml"),
        ("my robot (1).xml", "my-robot--1-.toml"),
        ("r\u{fc}ssel.xml", "r-ssel.toml"),
    ] {
        assert_eq!(file_name_for(Path::new(model)), name);
        assert_eq!(wrong_name(Path::new(name)), None);
    }
    let long = file_name_for(Path::new(&"\u{fc}".repeat(200)));
    assert_eq!((long.len(), wrong_name(Path::new(&long))), (105, None));
    assert!(wrong_name(Path::new("a/my robot.toml")).is_some());
}

/// A body that can fly, above a floor, with an actuator that has an activation.
fn flyer(folder: &std::path::Path, rules: &str) -> Result<Env, Error> {
    let model = "<mujoco><worldbody><geom name='floor' type='plane' size='1 1 1'/>\
                 <body name='cube' pos='0 0 1'><freejoint/><geom type='box' size='1 1 1'/></body>\
                 <body name='arm' pos='0 9 9'><joint name='arm'/><geom size='1'/></body></worldbody>\
                 <actuator><general joint='arm' ctrlrange='-2 3' dyntype='filter' dynprm='1'/>\
                 </actuator></mujoco>";
    fs::write(folder.join("flyer.xml"), model).unwrap();
    fs::write(folder.join("flyer.toml"), rules).unwrap();
    Env::make(folder.join("flyer.toml").to_str().unwrap())
}

const RAISED: &str = "model = \"flyer.xml\"\nreward = \"1\"\n[start]\nraise = 0.125\n[start.set]\n\
    \"qpos[2]\" = -0.25\n\"qpos[3:7]\" = \"unit(normal())\"\nqvel = 7\n\
    act = \"uniform(actuator_ctrlrange.low, actuator_ctrlrange.high)\"\n\
    [observation]\nheight = \"qpos[2]\"\nquat = \"qpos[3:7]\"\nact = \"act\"\nncon = \"ncon\"\n\
    lowest = \"qpos[2] - sum(abs(xmat('cube').[zx, zy, zz]))\"\nspeed = \"qvel[0]\"\n";

#[test]
fn a_body_is_raised_until_nothing_touches_and_keeps_the_rest_of_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut env = flyer(folder.path(), RAISED).unwrap();
    let mut heights = Vec::new();
    for seed in 0..20 {
        let mut observation = [0.0; 9];
        env.reset(Some(seed), &mut observation);
        let [height, w, x, y, z, act, ncon, lowest, speed] = observation;
        assert!((w * w + x * x + y * y + z * z - 1.0).abs() < 1e-12);
        assert!((-2.0..3.0).contains(&act) && act != 0.0);
        assert_eq!((ncon, speed), (0.0, 7.0));
        // The lowest corner is above the floor, but not by a whole step.
        assert!((0.0..0.125).contains(&lowest), "{lowest}");
        assert_eq!(height % 0.125, 0.0);
        heights.push(height);
    }
    assert!(heights.iter().any(|height| *height != heights[0]));

    let both = RAISED.replace("raise", "until_no_contact = true\nraise");
    let message = flyer(folder.path(), &both).err().unwrap().to_string();
    assert!(message.contains(":5:9: raise and until_no_contact"), "{message}");
    // Steps that are too small: attempts are bounded.
    let stuck = RAISED.replace("raise = 0.125", "raise = 1e-9");
    let mut env = flyer(folder.path(), &stuck).unwrap();
    env.reset(Some(1), &mut [0.0; 9]);
}

/// Pieces of expressions, so that many random texts are nearly right.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "qpos",
        "qvel",
        "xpos",
        "xmat",
        "action",
        "t0",
        "(",
        ")",
        "[",
        "]",
        "[1:]",
        ".x",
        ".[x, z]",
        "+",
        "-",
        "*",
        "/",
        "^",
        "<",
        "==",
        "and",
        "or",
        "not ",
        ",",
        "'x'",
        "'*'",
        "sum(",
        "norm(",
        "cat(",
        "if(",
        "min(",
        "rate(",
        "tolerance(",
        "lower=",
        "gravity",
        "actuator_ctrlrange",
        ".low",
        "margin=",
        "sigmoid='linear'",
        "1",
        "0.5",
        "1e300",
        "inf",
        "pi",
        "uniform(",
        "normal()",
        "unit(",
        "in_frame(",
        "control_cost(",
        "\u{e9}",
        " ",
        "#",
        "\\",
        "'",
        "\t",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #[test]
    fn a_hostile_expression_is_refused_or_evaluated(
        pieces in prop::collection::vec(piece(), 0..24),
    ) {
        let text = pieces.concat();
        let _ = parse(&text, 0, true);
        let folder = tempfile::tempdir().unwrap();
        let quoted = toml_edit::Value::from(text.as_str()).to_string();
        let rules = format!(
            "model = \"robot.xml\"\nreward = {quoted}\n[start.set]\nqvel = {quoted}\n\
             [goal]\ngoal = {quoted}\n[observation]\nall = \"qpos\"\nmore = {quoted}\n"
        );
        for rules in [rules.clone(), rules.replace(&format!("more = {quoted}\n"), ""),
                      rules.replace(&format!("reward = {quoted}"), "reward = \"1\""),
                      rules.replace(&format!("[goal]\ngoal = {quoted}\n"), "")] {
            if let Ok(mut env) = task(folder.path(), &rules) {
                let mut observation = vec![0.0; env.spec().obs_dim];
                env.reset(Some(1), &mut observation);
                env.step(&[0.5], &mut observation).unwrap();
            }
        }
    }

    #[test]
    fn a_hostile_file_is_refused_or_opened(
        at in any::<prop::sample::Index>(),
        length in 0usize..20,
        with in prop::collection::vec(any::<char>(), 0..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let with: String = with.into_iter().collect();
        let edit = |good: &str| {
            let at = at.index(good.len());
            let end = (at + length).min(good.len());
            format!("{}{with}{}", &good[..at], &good[end..])
        };
        std::fs::copy(crate::models_dir().join("hopper.xml"), folder.path().join("hopper.xml")).unwrap();
        let hopper = include_str!("../../tests/tasks/Hopper-v4.toml").replace("../../../../models/", "");
        let raised = format!("{RAISED}[model_edits.remove]\ngeom = [\"f*\"]\n");
        let open = |hopper: &str, raised: &str| {
            [task(folder.path(), hopper), flyer(folder.path(), raised)]
        };
        prop_assert!(open(&hopper, &raised).iter().all(Result::is_ok));
        for opened in open(&edit(&hopper), &edit(&raised)) {
            match opened {
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
                Ok(mut env) => {
                    let mut observation = vec![0.0; env.spec().obs_dim];
                    let action = env.spec().act_low.clone();
                    env.reset(Some(1), &mut observation);
                    let _ = env.step(&action, &mut observation); // may diverge
                }
            }
        }
    }
}
