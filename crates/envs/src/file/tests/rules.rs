//! What the rules of a file do, and mistakes in them.

use std::fs;

use super::{RAISED, flyer, task};
use crate::env::Env;
use crate::error::Error;

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

#[test]
fn a_term_that_is_what_was_before_is_recorded_as_it_is_computed_with() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "model = \"robot.xml\"\nreward = \"before\"\n[terms]\nbefore = \"previous(qpos)[0]\"\n\
                 sum = \"0 + before\"\n[observation]\nx = \"qpos[0]\"\n";
    let mut env = task(folder.path(), rules).unwrap();
    let mut x = [0.0];
    env.reset(Some(0), &mut x);
    for _ in 0..5 {
        let before = x[0];
        let reward = env.step(&[1.0], &mut x).unwrap().reward;
        assert_eq!((reward, env.terms().collect::<Vec<_>>()), (before, vec![before; 2]));
        assert_ne!(x[0], before, "it moves");
    }
}

#[test]
fn a_number_may_be_written_in_every_way_of_toml() {
    let folder = tempfile::tempdir().unwrap();
    for (written, number) in [("1_000", 1000.0), ("0x10", 16.0), ("+5", 5.0), ("-1.5e-3", -1.5e-3)]
    {
        let rules =
            format!("model = \"robot.xml\"\nreward = {written}\n[observation]\nx = \"qpos\"\n");
        let mut env = task(folder.path(), &rules).unwrap();
        let mut observation = [0.0; 2];
        env.reset(Some(0), &mut observation);
        assert_eq!(env.step(&[0.0], &mut observation).unwrap().reward, number, "{written}");
    }
}

#[test]
fn steps_before_an_episode_begin_with_the_forces_of_the_state_that_was_set() {
    // In the model a ball is deep in the floor; the start has it in free air.
    let folder = tempfile::tempdir().unwrap();
    let xml = "<mujoco><worldbody><geom type='plane' size='1 1 1'/><body><joint name='z' type='slide' \
               axis='0 0 1'/><geom size='.1'/></body></worldbody>\
               <actuator><motor joint='z' ctrlrange='-1 1'/></actuator></mujoco>";
    fs::write(folder.path().join("ball.xml"), xml).unwrap();
    let speed = |order: &str| {
        let rules = format!(
            "model = \"ball.xml\"\nreward = \"0\"\norder = \"{order}\"\n[start]\nsettle_steps = 3\n\
             [start.set]\nqpos = \"1\"\n[observation]\nspeed = \"qvel\"\n"
        );
        fs::write(folder.path().join("ball.toml"), rules).unwrap();
        let mut env = Env::make(folder.path().join("ball.toml").to_str().unwrap()).unwrap();
        let mut speed = [0.0];
        env.reset(Some(0), &mut speed);
        speed[0]
    };
    assert!((speed("gymnasium") + 3.0 * 0.002 * 9.81).abs() < 1e-9);
    assert!(speed("dm_control") > 0.0, "dm_control keeps the forces of the reset for a step");
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
        ("rate(qpos[0])", "min(1, 2, 3)", &[":2:11:", "min has 3 arguments, expected 1 or 2"]),
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
