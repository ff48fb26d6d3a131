//! A run's folder: `results/<algo>[-<name>]/<env>/seed-<n>/`.

use crate::base::failure::{Failure, Outcome};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml_edit::{DocumentMut, Item, Value};

/// The record of what a run is.
pub const RECORD: &str = "config.toml";
/// The mark of a finished run.
pub const DONE: &str = "DONE";

/// What to do where a folder holds a run already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on with it; where there is none, begin.
    Any,
    /// Go on with it; where there is none, refuse.
    Resume,
    /// Move it aside and begin anew.
    Restart,
}

/// What a folder was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the run begins.
    Nothing,
    /// A run that was stopped.
    Unfinished,
    /// A run that is done.
    Finished,
}

/// A folder that this process alone writes to.
pub struct RunFolder {
    path: PathBuf,
    /// Held while the run lasts; the system lets go of it when we die.
    _lock: File,
}

impl RunFolder {
    /// Where a run's files go.
    pub fn path_of(out: &Path, algo: &str, name: Option<&str>, env: &str, seed: u64) -> PathBuf {
        let algo = name.map_or(algo.to_string(), |name| format!("{algo}-{name}"));
        out.join(algo).join(env).join(format!("seed-{seed}"))
    }

    /// Makes the folder for a run with this record, or finds the run that is in
    /// it. With [`Wish::Restart`] an old run moves aside first, to `seed-<n>.old-<k>`.
    ///
    /// # Errors
    /// The folder holds a run of another record, or none to resume; another process
    /// is at work on it, or it can't be written.
    pub fn open(path: PathBuf, record: &DocumentMut, wish: Wish) -> Outcome<(Self, Found)> {
        if wish == Wish::Resume && !path.join(RECORD).exists() {
            return Err(Failure::Usage(format!(
                "{}: holds no run to go on with; without --resume one begins",
                path.display()
            )));
        }
        make(&path)?;
        let mut lock = lock(&path)?;
        let holds = |name: &str| path.join(name).exists();
        let found = match (holds(DONE), holds(RECORD)) {
            (true, _) => Found::Finished,
            (false, true) => Found::Unfinished,
            (false, false) => Found::Nothing,
        };
        if found == Found::Nothing {
            if let Some(file) = ["train.csv", "checkpoint"].into_iter().find(|file| holds(file)) {
                return Err(Failure::Usage(format!(
                    "{} holds {file} but no {RECORD} to say what run that is of; --name or --out \
                     makes another folder",
                    path.display()
                )));
            }
            let folder = Self { path, _lock: lock };
            folder.write(RECORD, &record.to_string())?;
            return Ok((folder, found));
        }
        if wish == Wish::Restart {
            move_aside(&path)?;
            make(&path)?;
            lock = self::lock(&path)?;
            let folder = Self { path, _lock: lock };
            folder.write(RECORD, &record.to_string())?;
            return Ok((folder, Found::Nothing));
        }
        let folder = Self { path, _lock: lock };
        let what = if found == Found::Finished { "a finished run" } else { "a run" };
        if let Some((key, old, new)) = difference(&folder.record()?, record) {
            return Err(Failure::Usage(format!(
                "{} holds {what} with {key} = {old}, and this command has {new}; --restart begins \
                 anew and keeps the old one beside it, --name or --out makes another folder",
                folder.path.display()
            )));
        }
        Ok((folder, found))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record of the run in the folder.
    ///
    /// # Errors
    /// It can't be read.
    pub fn record(&self) -> Outcome<DocumentMut> {
        let path = self.path.join(RECORD);
        let text = fs::read_to_string(&path).map_err(|e| Failure::file(&path, "read", e))?;
        text.parse().map_err(|_| {
            Failure::Usage(format!(
                "{}: damaged: not valid TOML; --restart begins anew and keeps this run beside it",
                path.display()
            ))
        })
    }

    /// Adds to the record that the run went on at a step, and with what.
    ///
    /// # Errors
    /// It can't be written.
    pub fn record_resume(&self, with: toml_edit::InlineTable) -> Outcome<()> {
        let mut record = self.record()?;
        let resumed = record["run"].as_table_mut().map(|run| {
            run.entry("resumed").or_insert(Item::Value(Value::Array(toml_edit::Array::new())))
        });
        if let Some(array) = resumed.and_then(Item::as_array_mut) {
            array.push(with);
        }
        self.write(RECORD, &record.to_string())
    }

    /// Writes a small file whole.
    ///
    /// # Errors
    /// It can't be written; what was there is still there.
    pub fn write(&self, name: &str, text: &str) -> Outcome<()> {
        let path = self.path.join(name);
        let write = |file: &mut File| std::io::Write::write_all(file, text.as_bytes());
        report::whole(&path, write).map_err(|error| Failure::file(&path, "write", error))
    }

    /// Marks the run as finished.
    ///
    /// # Errors
    /// The mark can't be written.
    pub fn done(&self) -> Outcome<()> {
        self.write(DONE, "")
    }
}

/// The first thing that shapes a run's numbers and differs between two records:
/// its key and both values.
pub fn difference(old: &DocumentMut, new: &DocumentMut) -> Option<(String, String, String)> {
    /// Of the run itself; the others say how it was asked for and where it ran.
    const SHAPING: [&str; 5] = ["algo", "env", "seed", "device", "model_sha256"];
    let text = |value: Option<&Item>| {
        value.map_or("nothing".to_string(), |value| value.to_string().trim().to_string())
    };
    let keys = |document: &DocumentMut, section: &str| -> Vec<String> {
        let table = document.get(section).and_then(Item::as_table);
        table.into_iter().flatten().map(|(key, _)| key.to_string()).collect()
    };
    let mut sections: Vec<&str> = new.iter().chain(old.iter()).map(|(name, _)| name).collect();
    sections.retain(|name| *name != "versions");
    for section in sections {
        for key in keys(new, section).into_iter().chain(keys(old, section)) {
            // Event files hold what the CSV files do; a run may go on with or without.
            if (section, key.as_str()) == ("train", "tensorboard") {
                continue;
            }
            if section == "run" && !SHAPING.contains(&key.as_str()) {
                continue;
            }
            let get = |document: &'_ DocumentMut| document.get(section)?.get(&key).cloned();
            let (a, b) = (get(old), get(new));
            if !same(a.as_ref(), b.as_ref()) {
                return Some((format!("{section}.{key}"), text(a.as_ref()), text(b.as_ref())));
            }
        }
    }
    None
}

/// Whether two values are the same, however they are written.
fn same(a: Option<&Item>, b: Option<&Item>) -> bool {
    let (Some(a), Some(b)) = (a.and_then(Item::as_value), b.and_then(Item::as_value)) else {
        return a.is_none() && b.is_none();
    };
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.value() == b.value(),
        (Value::Integer(a), Value::Integer(b)) => a.value() == b.value(),
        (Value::String(a), Value::String(b)) => a.value() == b.value(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len()
                && a.iter().zip(b.iter()).all(|(a, b)| {
                    same(Some(&Item::Value(a.clone())), Some(&Item::Value(b.clone())))
                })
        }
        (a, b) => a.to_string().trim() == b.to_string().trim(),
    }
}

fn make(path: &Path) -> Outcome<()> {
    fs::create_dir_all(path).map_err(|error| Failure::file(path, "make this folder", error))
}

/// Between two attempts at a lock that is only being looked at ([`at_work`]), and how many.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: usize = 100;

fn lock(path: &Path) -> Outcome<File> {
    let file = path.join("lock");
    let fail = |error| Failure::file(&file, "lock", error);
    let lock = File::create(&file).map_err(|error| Failure::file(&file, "write", error))?;
    for _ in 0..LOOKS {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
            // Who looks shares the lock, who works does not.
            Err(TryLockError::WouldBlock) if lock.try_lock_shared().is_err() => break,
            Err(TryLockError::WouldBlock) => lock.unlock().map_err(fail)?,
        }
        std::thread::sleep(LOOK);
    }
    Err(Failure::Usage(format!(
        "{}: another process is at work on this run; wait for it or choose another --seed, \
         --name or --out",
        path.display()
    )))
}

/// Whether a process is at work on the run of a folder.
///
/// It takes the lock for a moment, as the system has no other way to ask that also sees
/// another machine's or container's process. It takes it shared: those who look don't see
/// each other, and a run that begins in that moment knows it for a look, and waits for its
/// end ([`lock`]).
pub fn at_work(path: &Path) -> bool {
    let looked = File::open(path.join("lock")).map(|lock| lock.try_lock_shared());
    matches!(looked, Ok(Err(TryLockError::WouldBlock)))
}

/// Checks that a folder is there, in which somebody looks for runs.
///
/// # Errors
/// It is not.
pub fn must_be(path: &Path) -> Outcome<()> {
    if path.is_dir() {
        return Ok(());
    }
    let what = if path.exists() { "no folder" } else { "no such folder" };
    Err(Failure::Usage(format!("{}: {what}", path.display())))
}

fn move_aside(path: &Path) -> Outcome<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let free = (1..)
        .map(|k| path.with_file_name(format!("{name}.old-{k}")))
        .find(|candidate| !candidate.exists())
        .expect("numbers do not run out");
    fs::rename(path, &free).map_err(|error| Failure::file(path, "move aside", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_look_delays_a_run_that_begins_and_work_refuses_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_path_buf();
        let work = lock(&path).unwrap();
        assert!(at_work(&path));
        assert_eq!(lock(&path).unwrap_err().code(), 2);
        drop(work);
        assert!(!at_work(&path));

        // A look that lasts: its process is stopped, say.
        let look = File::open(path.join("lock")).unwrap();
        look.lock_shared().unwrap();
        assert!(!at_work(&path), "a look was taken for work");
        let (locked, begun) = mpsc::channel();
        let run = std::thread::spawn(move || locked.send(lock(&path)).unwrap());
        assert!(begun.recv_timeout(6 * LOOK).is_err(), "the run did not wait");
        drop(look);
        assert!(begun.recv().unwrap().is_ok());
        run.join().unwrap();
    }
}
