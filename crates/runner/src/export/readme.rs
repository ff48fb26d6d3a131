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
    let text = |key: &str| facts[key].to_string().replace('"', "");
    TEMPLATE
        .replace("{task}", &text("task"))
        .replace("{algorithm}", &text("algorithm"))
        .replace("{step}", &text("step"))
        .replace("{planned}", &text("steps_planned"))
        .replace("{period}", &text("control_period_s"))
        .replace("{noise}", &noise)
        .replace("{returns}", &returns)
        .replace("{obs}", &obs.to_string())
        .replace("{act}", &act.to_string())
}

const TEMPLATE: &str = include_str!("template.md");
