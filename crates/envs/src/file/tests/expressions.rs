//! Expressions: values as NumPy's, and mistakes.

#[path = "../../../tests/edition/mod.rs"]
mod edition;

use std::fs;

use mujoco_rs::wrappers::mj_model::MjModel;

use crate::file::compile::{Compiler, Role};
use crate::file::parse::parse;
use crate::file::problem::Problem;
use crate::file::program::{Inputs, run};
use crate::models::load;
use crate::physics::Physics;

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
    let text = include_str!("../../../tests/fixtures/expressions.txt");
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
        ("clip(2, 3, 1)", 1.0), // as numpy.clip(2, 3, 1)
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
