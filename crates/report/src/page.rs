//! The page `index.html`: a single file that makes no network requests.

use crate::figures::palette::{PALETTE, SHAPES, hex};
use crate::study::{MOST_POINTS, Study, thin};
use serde_json::{Value, json};

const PAGE: &str = include_str!("page/page.html");
/// Each file replaces the comment that names it.
const PARTS: [(&str, &str); 6] = [
    ("/* page.css */", include_str!("page/page.css")),
    ("/* study.js */", include_str!("page/study.js")),
    ("/* charts.js */", include_str!("page/charts.js")),
    ("/* curves.js */", include_str!("page/curves.js")),
    ("/* tables.js */", include_str!("page/tables.js")),
    ("/* page.js */", include_str!("page/page.js")),
];

/// The page of a study.
pub fn page(study: &Study) -> String {
    let page = PARTS.iter().fold(PAGE.to_string(), |page, (name, text)| page.replace(name, text));
    // Last, so that user-defined names in the data are not replaced; once, because the script has such
    // a place for the data of a replay.
    page.replacen("{\"data\": \"here\"}", &data(study), 1)
}

/// The study as JSON for the page's script, escaped so that it can't close its element.
fn data(study: &Study) -> String {
    let mut data = serde_json::to_value(study).expect("a study has no keys but strings");
    let runs = data["runs"].as_array_mut().expect("a study has runs");
    for (shown, run) in runs.iter_mut().zip(&study.runs) {
        shown["points"] = json!(thin(&run.points, MOST_POINTS));
    }
    let colours = |dark: bool| -> Vec<String> {
        PALETTE
            .iter()
            .map(|(on_white, on_black)| hex(if dark { *on_black } else { *on_white }))
            .collect()
    };
    data["palette"] = json!({"light": colours(false), "dark": colours(true), "shapes": SHAPES});
    data["version"] = json!(env!("CARGO_PKG_VERSION"));
    shorten(&mut data);
    data.to_string().replace('<', "\\u003c")
}

/// Rounds numbers to seven digits, more than a chart or a cell shows.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(shorten),
        Value::Object(all) => all.values_mut().for_each(shorten),
        Value::Number(number) if number.is_f64() => {
            let short =
                number.as_f64().and_then(|value| format!("{value:.6e}").parse::<f64>().ok());
            *value = json!(short);
        }
        _ => {}
    }
}
