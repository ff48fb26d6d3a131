//! Random texts: each is refused or works.

use proptest::prelude::*;

use super::{RAISED, flyer, task};
use crate::file::parse::parse;

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
        let hopper = include_str!("../../../tests/tasks/Hopper-v4.toml").replace("../../../../models/", "");
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
