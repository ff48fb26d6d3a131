//! The first file for a model.

use std::fs;

use crate::env::Env;
use crate::error::Error;

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
    let text = crate::file::sketch(&file, "a \"robot\".xml")?;
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
    use crate::file::{file_name_for, wrong_name};
    use std::path::Path;
    for (model, name) in [
        ("robot.xml", "robot.toml"),
        ("a/go1_v2.3.xml", "go1_v2.3.toml"),
        ("my robot (1).xml", "my-robot--1-.toml"),
        ("r\u{fc}ssel.xml", "r-ssel.toml"),
        ("a/config.xml", "task.toml"),
        ("a/...xml", "task.toml"),
    ] {
        assert_eq!(file_name_for(Path::new(model)), name);
        assert_eq!(wrong_name(Path::new(name)), None);
    }
    let long = file_name_for(Path::new(&"\u{fc}".repeat(200)));
    assert_eq!((long.len(), wrong_name(Path::new(&long))), (105, None));
    for name in ["a/my robot.toml", "a/config.toml", "Config.toml", "...toml", "a/..toml"] {
        assert!(wrong_name(Path::new(name)).is_some(), "{name}");
    }
}
