//! The README of an export, with its programs.

use serde_json::Value;

/// The text, from the content of `policy.json`.
pub fn readme(facts: &Value) -> String {
    let number = |key: &str| facts["inputs"][key].as_u64().unwrap_or_default();
    let [obs, z, xi] = ["obs", "z", "xi"].map(number);
    let act = facts["actions"].as_array().map_or(0, Vec::len);
    let mut noise = String::new();
    for (name, n) in [("z", z), ("xi", xi)] {
        if n > 0 {
            noise += &format!(", {name} (batch, {n})");
        }
    }
    let mut returns = String::new();
    for row in facts["returns"].as_array().into_iter().flatten() {
        let [runtime, checkpoint] = ["runtime", "checkpoint"]
            .map(|who| format!("{:.1}", row[who]["mean"].as_f64().unwrap_or_default()));
        let mode = row["mode"].as_str().unwrap_or_default();
        returns += &format!("| {mode} | {runtime} | {checkpoint} |\n");
    }
    let modes = match returns.contains("deterministic") {
        true => {
            " (`mean`: no noise;\n`deterministic`: the algorithm's own noise, such as z, and no xi)"
        }
        false => " (`mean`: no noise)",
    };
    let meaning = if facts["position_targets"].is_null() {
        "in the actuators' units; normalisation, squashing and scaling are inside."
    } else {
        "in [-1, 1]; normalisation and squashing are inside. An action is a target for the position of the\n\
         joint that the actuator moves, `default + scale * action`, and the task's actuators follow it with the force\n\
         `kp * (target - position) - kd * velocity`: the numbers are in `policy.json`, `position_targets`."
    };
    let terms = facts["observation"].as_array().into_iter().flatten();
    let expressions = if terms.into_iter().any(|term| !term["expression"].is_null()) {
        " (each with its expression in the task's\nfile, `task.toml`: its numbers are to be computed as \
         that says, scaled and clipped as there)"
    } else {
        ""
    };
    let text = |key: &str| facts[key].to_string().replace('"', "");
    TEMPLATE
        .replace("{task}", &text("task"))
        .replace("{algorithm}", &text("algorithm"))
        .replace("{step}", &text("step"))
        .replace("{planned}", &text("steps_planned"))
        .replace("{period}", &text("control_period_s"))
        .replace("{meaning}", meaning)
        .replace("{episodes}", &super::EPISODES.to_string())
        .replace("{expressions}", expressions)
        .replace("{noise}", &noise)
        .replace("{modes}", modes)
        .replace("{returns}", &returns)
        .replace("{obs}", &obs.to_string())
        .replace("{act}", &act.to_string())
}

const TEMPLATE: &str = include_str!("template.md");
