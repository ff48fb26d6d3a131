//! The model that a run was trained on, kept in its folder.
//!
//! `model.mjb` is the model as MuJoCo compiled it. It contains what its MJCF file includes and
//! every mesh and texture, so it needs no other file, and a run that is copied to another machine
//! brings it along. `run.model_sha256` of the record is its SHA-256. A task that is a file lies next
//! to it, under its own name, and `run.task_sha256` is its SHA-256.

use crate::base::digest::{sha256, sha256_of};
use crate::base::failure::{Failure, Outcome};
use std::path::{Path, PathBuf};
use toml_edit::DocumentMut;

/// The file of the model in a run's folder.
pub const MODEL: &str = "model.mjb";

/// A task's model as compiled, the task's own or the user's, and its SHA-256.
///
/// # Errors
/// The model can't be read, or does not fit the task.
pub fn compiled(env: &str, model: Option<&Path>) -> Outcome<(Vec<u8>, String)> {
    let bytes = envs::compile(env, model)?;
    let sum = sha256(&bytes[..]).expect("bytes can be read");
    Ok((bytes, sum))
}

/// The content of a task's file and its SHA-256; nothing if the task is built in.
///
/// # Errors
/// The file can't be read.
pub fn task_file(env: &str) -> Outcome<Option<(Vec<u8>, String)>> {
    if !envs::is_file(env) {
        return Ok(None);
    }
    let path = Path::new(env);
    let bytes = std::fs::read(path).map_err(|error| Failure::file(path, "read", error))?;
    let sum = sha256(&bytes[..]).expect("bytes can be read");
    Ok(Some((bytes, sum)))
}

/// The file of a task in a run's folder, if the task is a file.
pub fn task_copy(env: &str) -> Option<String> {
    envs::is_file(env).then(|| format!("{}.toml", envs::task_name(env)))
}

/// The task of the run in `folder`, whose record has its name: an id, or the run's own copy of its
/// file.
///
/// # Errors
/// The copy is missing or was altered.
pub fn task_of(record: &DocumentMut, name: &str, folder: &Path) -> Outcome<String> {
    let expected = record.get("run").and_then(|run| run.get("task_sha256")?.as_str());
    let Some(expected) = expected else { return Ok(name.to_owned()) };
    let copy = folder.join(format!("{name}.toml"));
    let found = sha256_of(&copy).map_err(|error| Failure::file(&copy, "read", error))?;
    if found == expected {
        return copy.to_str().map(str::to_owned).ok_or_else(|| {
            Failure::Usage(format!("{}: the path of a task's file must be UTF-8", copy.display()))
        });
    }
    Err(Failure::Usage(format!(
        "{}: was altered: its SHA-256 is {found}, run.task_sha256 of the run's config.toml is \
         {expected}; bring the file of the run back",
        copy.display()
    )))
}

/// What a record says of the run's model.
pub struct Recorded<'a> {
    /// The user's file that it was compiled from; nothing if it is the task's own.
    pub file: Option<&'a str>,
    /// The SHA-256 of the model as compiled. (Records of earlier versions: of the user's file.)
    pub sha256: Option<&'a str>,
}

impl<'a> Recorded<'a> {
    /// Reads `[run]` of a record.
    pub fn of(record: &'a DocumentMut) -> Self {
        let word = |key: &str| record.get("run").and_then(|run| run.get(key)?.as_str());
        Self { file: word("model"), sha256: word("model_sha256") }
    }

    /// The file to load for the model of the run in `folder`: its own copy. Nothing if the run
    /// has none, and its model is the task's own.
    ///
    /// # Errors
    /// The copy is missing or was altered, so that the run's model is not known.
    pub fn find(&self, folder: &Path) -> Outcome<Option<PathBuf>> {
        let copy = folder.join(MODEL);
        let expected = self.sha256.unwrap_or("nothing");
        let pass = "pass the run's model with --model";
        if copy.exists() {
            let found = sha256_of(&copy).map_err(|error| Failure::file(&copy, "read", error))?;
            if found == expected {
                return Ok(Some(copy));
            }
            return Err(Failure::Usage(format!(
                "{} was altered: its SHA-256 is {found}, run.model_sha256 of the run's config.toml \
                 is {expected}; {pass}",
                copy.display()
            )));
        }
        let Some(file) = self.file else { return Ok(None) };
        // A run of an earlier version has no copy.
        if sha256_of(Path::new(file)).is_ok_and(|found| found == expected) {
            return Ok(Some(file.into()));
        }
        Err(Failure::Usage(format!(
            "{}: missing, and {file} is not, or no longer, the model that the run was trained on; \
             {pass}",
            copy.display()
        )))
    }
}
