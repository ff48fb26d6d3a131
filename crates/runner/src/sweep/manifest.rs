//! The manifest of a sweep: one JSON object per line, a run with everything it depends on.
//!
//! Settings are written as resolved: neither a later change of a preset nor the machine that
//! trains a line changes the run. Lines may be added; `runner run --index` counts them from 0.

use crate::base::failure::{Failure, Outcome};
use crate::train::run_spec::RunSpec;
use crate::train::settings::{self, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Version of the lines. Other versions are refused.
const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    format: u64,
    algo: String,
    env: String,
    seed: u64,
    name: Option<String>,
    preset: String,
    device: String,
    threads: Option<u16>,
    out: PathBuf,
    /// A model of the user's, and the SHA-256 of the model as compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<(PathBuf, String)>,
    /// The SHA-256 of the task's file, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task_sha256: Option<String>,
    /// Every key of the algorithm: `section.key` is `{"section": {"key": value}}`.
    settings: Map<String, Value>,
}

/// A run as a line, without the newline.
///
/// # Errors
/// A path is not UTF-8, as the manifest is.
pub fn line(run: &RunSpec) -> Outcome<String> {
    for (flag, path) in [("--out", Some(&run.out)), ("--model", run.model.as_ref())] {
        if let Some(path) = path.filter(|path| path.to_str().is_none()) {
            return Err(Failure::Usage(format!(
                "{flag} {path:?}: this path is not UTF-8, as a manifest must be; choose another"
            )));
        }
    }
    let line = Line {
        format: FORMAT,
        algo: run.algo.clone(),
        env: run.env.clone(),
        seed: run.seed,
        name: run.name.clone(),
        preset: run.preset.clone(),
        device: run.device.clone(),
        threads: run.threads,
        out: run.out.clone(),
        model: run.model.clone().zip(run.model_sha256.clone()),
        task_sha256: run.task_sha256.clone(),
        settings: as_json(&run.settings),
    };
    Ok(serde_json::to_string(&line).expect("numbers and words"))
}

/// Settings without their comments.
pub fn as_json(settings: &Settings) -> Map<String, Value> {
    toml_edit::de::from_document(settings.document.clone()).expect("tables of plain values")
}

/// All runs of a manifest. Files of tasks and models are not read.
///
/// # Errors
/// It can't be read, a line is damaged, or two lines have the same folder.
pub fn read(path: &Path) -> Outcome<Vec<RunSpec>> {
    let text = text(path)?;
    let runs = text
        .lines()
        .enumerate()
        .map(|(index, line)| spec(line).map_err(|problem| damaged(path, index, &problem)))
        .collect::<Outcome<Vec<_>>>()?;
    if runs.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: no line, expected a run per line, as `runner plan` prints them",
            path.display()
        )));
    }
    match same_folder(&runs) {
        None => Ok(runs),
        Some((first, second)) => {
            let folder = runs[second].folder();
            let problem = format!(
                "its folder {} is that of index {first} too; delete the line, or plan it with \
                 another --name or --out",
                folder.display()
            );
            Err(damaged(path, second, &problem))
        }
    }
}

/// One run of a manifest; other lines are not checked.
///
/// # Errors
/// It can't be read, has no such line, or the line is damaged.
pub fn read_one(path: &Path, index: usize) -> Outcome<RunSpec> {
    let text = text(path)?;
    let line = text.lines().nth(index).ok_or_else(|| {
        let expected = match text.lines().count() {
            0 => "the file is empty".into(),
            lines => format!("expected 0 to {}", lines - 1),
        };
        Failure::Usage(format!("{}: no index {index}: {expected}", path.display()))
    })?;
    spec(line).map_err(|problem| damaged(path, index, &problem))
}

/// The indices of two runs that would write to the same folder, if there are any.
pub fn same_folder(runs: &[RunSpec]) -> Option<(usize, usize)> {
    let plain = |folder: PathBuf| -> PathBuf {
        folder.components().filter(|part| *part != Component::CurDir).collect()
    };
    let mut seen = HashMap::new();
    runs.iter().enumerate().find_map(|(index, run)| {
        seen.insert(plain(run.folder()), index).map(|first| (first, index))
    })
}

/// The lines, without a byte-order mark and empty lines at the end, as editors leave them.
fn text(path: &Path) -> Outcome<String> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::Usage(format!(
            "{}: {error}; expected a manifest that `runner plan` printed",
            path.display()
        ))
    })?;
    Ok(text.trim_start_matches('\u{feff}').trim_end().to_string())
}

fn damaged(path: &Path, index: usize, problem: &str) -> Failure {
    let line = index + 1;
    Failure::Usage(format!("{} line {line} (index {index}): {problem}", path.display()))
}

/// Reads a line. An error is one line too.
fn spec(text: &str) -> Result<RunSpec, String> {
    let json: Value = serde_json::from_str(text)
        .map_err(|error| format!("damaged: {error}; plan it again with `runner plan`"))?;
    // The version first: another version may have other fields.
    match json.get("format") {
        Some(format) if *format == FORMAT => {}
        Some(other) => return Err(format!("format {other}, expected {FORMAT}; plan it again")),
        None => return Err(format!("no field 'format', expected \"format\":{FORMAT}")),
    }
    let line: Line = serde_path_to_error::deserialize(json).map_err(|error| error.to_string())?;
    let plain = |failure: Failure| failure.message().to_string();
    let known = settings::keys_of(&line.algo).map_err(plain)?;
    if line.threads == Some(0) {
        return Err("threads is 0, expected a number from 1, or null".into());
    }
    let has = |key: &String| {
        let (section, key) = key.split_once('.').expect("section.key");
        line.settings
            .get(section)
            .is_some_and(|section| section.get(key).is_some_and(|v| !v.is_null()))
    };
    // A missing key would get a default, which may change; an older version's manifest may lack what
    // changes no number.
    let matters = |key: &&String| !settings::EXTRAS.contains(&key.as_str());
    if let Some(missing) = known.iter().filter(matters).find(|key| !has(key)) {
        return Err(format!("settings lack '{missing}'; plan it again with this version"));
    }
    let document = toml_edit::ser::to_document(&line.settings)
        .map_err(|error| format!("settings: {error}"))?;
    let settings = settings::of_run(&line.algo, &document, "settings").map_err(plain)?;
    let (model, model_sha256) = line.model.unzip();
    let run = RunSpec {
        model,
        model_sha256,
        task_sha256: line.task_sha256,
        name: line.name,
        preset: line.preset,
        device: line.device,
        threads: line.threads,
        out: line.out,
        ..RunSpec::new(&line.algo, &line.env, line.seed, settings)
    };
    run.checked_without_files().map_err(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::registry::ALGORITHMS;
    use crate::train::settings::{Sources, resolve};

    fn planned(algo: &str, preset: &str) -> RunSpec {
        let sources = Sources { algo, env: "Hopper-v4", preset, ..Sources::default() };
        RunSpec {
            name: Some("a-b_c.d".into()),
            preset: preset.into(),
            device: "cuda:1".into(),
            ..RunSpec::new(algo, "Hopper-v4", u64::MAX, resolve(&sources).unwrap())
        }
    }

    #[test]
    fn every_preset_of_every_algorithm_comes_back_from_its_line_as_it_was() {
        for algorithm in &ALGORITHMS {
            let algo = algorithm.name;
            for preset in &algorithm.preset_names() {
                let run = planned(algo, preset);
                let text = line(&run).unwrap();
                let again = spec(&text).unwrap();
                assert_eq!(line(&again).unwrap(), text);
                assert_eq!(again.settings.train, run.settings.train, "{algo} {preset}");
            }
        }
    }

    #[test]
    fn a_line_of_an_older_version_may_lack_what_changes_no_number() {
        let whole = line(&planned("smfp", "default")).unwrap();
        let older = whole.replacen("\"cuda_graph\":false,", "", 1);
        assert_ne!(older, whole);
        assert_eq!(line(&spec(&older).unwrap()).unwrap(), whole);
    }

    #[test]
    fn a_line_with_something_wrong_is_refused_with_what_is_wrong() {
        let good = line(&planned("smfp", "default")).unwrap();
        let changed = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} is not in {good}");
            spec(&good.replacen(from, to, 1)).err().expect(to)
        };
        let cases = [
            (changed("{", ""), "damaged"),
            (changed("\"format\":1", "\"format\":2"), "format 2, expected 1"),
            (changed("\"format\":1,", ""), "no field 'format'"),
            (changed("\"seed\"", "\"sed\""), "unknown field `sed`"),
            (changed("\"seed\":18446744073709551615", "\"seed\":-1"), "seed: invalid value"),
            (changed("\"smfp\"", "\"smpf\""), "did you mean 'smfp'?"),
            (changed("Hopper-v4", "Hoper-v4"), "did you mean 'Hopper-v4'?"),
            (changed("a-b_c.d", "../x"), "expected letters"),
            (changed("cuda:1", "gpu"), "expected cpu, cuda"),
            (changed("\"threads\":null", "\"threads\":0"), "threads is 0"),
            (changed("\"lambda\":", "\"lamda\":"), "settings lack 'objective.lambda'"),
            (changed("\"lambda\":", "\"more\":1,\"lambda\":"), "unknown key 'objective.more'"),
            (changed("\"tau\":0.005", "\"tau\":-1.0"), "tau is -1"),
            (changed("\"tau\":0.005", "\"tau\":null"), "tau"),
        ];
        for (problem, expected) in cases {
            assert!(problem.contains(expected), "'{expected}' is not in: {problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
    }

    proptest::proptest! {
        /// Whatever a line holds, it is read or refused in one line.
        #[test]
        fn a_spoilt_line_is_read_or_refused(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            length in 0usize..12,
            with in "[-0-9a-z\\[\\]{}:,\". ]{0,12}",
        ) {
            let mut text = line(&planned("qvpo", "default")).unwrap();
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            proptest::prop_assume!(text.is_char_boundary(at) && text.is_char_boundary(end));
            text.replace_range(at..end, &with);
            if let Err(problem) = spec(&text) {
                proptest::prop_assert!(!problem.contains('\n'), "{problem}");
            }
        }
    }
}
