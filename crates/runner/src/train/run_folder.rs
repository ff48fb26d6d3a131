//! A run's folder: `results/<algo>[-<name>]/<env>/seed-<n>/`.

use crate::base::failure::{Failure, Outcome};
use crate::train::checkpoint;
use crate::train::logs::TRAIN;
use crate::train::run_model::Recorded;
use crate::train::settings::EXTRAS;
use report::free_name;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml_edit::{DocumentMut, Item, Value};

/// The file that records what a run is.
pub const RECORD: &str = "config.toml";
/// The file that marks a run as finished.
pub const DONE: &str = "DONE";
/// The file whose lock a process holds that works on a run.
const LOCK: &str = "lock";
/// The key of `[train]` that lets training go on when a simulation diverges.
const END_DIVERGED: &str = "end_diverged_episodes";
/// The key of the number of steps.
const STEPS: &str = "train.steps";

/// Whether a run may begin, or be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// Resume the run that the folder holds; begin if there is none.
    BeginOrResume,
    /// Resume the run that the folder holds; refuse if there is none.
    Resume,
    /// Begin. If the folder holds a run, it is moved aside.
    Restart,
}

/// What a folder held when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// No run: it begins.
    Nothing,
    /// A run that was stopped.
    Unfinished,
    /// A run with fewer steps, finished or not, which is the beginning of the one that is wanted.
    Beginning,
    /// A finished run.
    Finished,
}

/// How a recorded run relates to the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// It is that run.
    Same,
    /// It is the beginning of that run, which has more steps, and can be trained further.
    Beginning,
    /// It is another one: why, in words that complete "holds a run ...".
    Other(String),
}

/// A folder that this process alone writes to.
pub struct RunFolder {
    path: PathBuf,
    /// Held while the process works on the run; the system releases it if the process dies.
    lock: File,
}

impl RunFolder {
    /// The path of a run's folder.
    pub fn path_of(out: &Path, algo: &str, name: Option<&str>, env: &str, seed: u64) -> PathBuf {
        let algo = name.map_or(algo.to_string(), |name| format!("{algo}-{name}"));
        out.join(algo).join(env).join(format!("seed-{seed}"))
    }

    /// Makes the folder for a run with this record, or opens it if it holds that run or its
    /// beginning, which is then no longer marked as finished. With [`StartMode::Restart`] a run
    /// in it is moved to `seed-<n>.old-<k>` first.
    ///
    /// # Errors
    /// The folder holds a run with another record, or none to resume; another process
    /// is working on it, or it can't be written.
    pub fn open(
        path: PathBuf,
        record: &DocumentMut,
        start: StartMode,
    ) -> Outcome<(Self, Existing)> {
        if start == StartMode::Resume && !path.join(RECORD).exists() {
            return Err(Failure::Usage(format!(
                "{}: holds no run to resume; without --resume, the command begins one",
                path.display()
            )));
        }
        let mut folder = Self::locked(path)?;
        match folder.existing()? {
            Existing::Nothing => {}
            _ if start == StartMode::Restart => {
                move_aside(&folder.path)?;
                folder = Self::locked(folder.path)?;
            }
            existing => {
                let existing = folder.check_record(record, existing)?;
                return Ok((folder, existing));
            }
        }
        folder.write(RECORD, record.to_string())?;
        Ok((folder, Existing::Nothing))
    }

    /// Makes the folder and takes its lock.
    fn locked(path: PathBuf) -> Outcome<Self> {
        fs::create_dir_all(&path).map_err(|error| match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Failure::Usage(format!(
                "{}: a file is in the way of this folder; choose another --out or --name",
                path.display()
            )),
            _ => Failure::file(&path, "make this folder", error),
        })?;
        Ok(Self { lock: lock(&path)?, path })
    }

    fn existing(&self) -> Outcome<Existing> {
        let holds = |name: &&str| self.path.join(name).exists();
        if holds(&DONE) {
            return Ok(Existing::Finished);
        }
        if holds(&RECORD) {
            return Ok(Existing::Unfinished);
        }
        match [TRAIN, checkpoint::FOLDER].iter().find(|name| holds(name)) {
            None => Ok(Existing::Nothing),
            Some(file) => Err(Failure::Usage(format!(
                "{} holds {file} but no {RECORD} that says which run it belongs to; use --name \
                 or --out for another folder",
                self.path.display()
            ))),
        }
    }

    /// Checks that the run in the folder is the one with this record, or its beginning.
    fn check_record(&self, record: &DocumentMut, existing: Existing) -> Outcome<Existing> {
        let what = if existing == Existing::Finished { "a finished run" } else { "a run" };
        let old = self.record()?;
        match relation(&self.path, &old, record) {
            Relation::Same => {
                if existing == Existing::Unfinished {
                    // So that the record repeats the run, and its end is that of the last command.
                    let diverged = ends_diverged(record) && !ends_diverged(&old);
                    let diverged = diverged.then_some(END_DIVERGED);
                    let extras = EXTRAS.iter().filter_map(|key| key.strip_prefix("train."));
                    self.change(&extras.chain(diverged).collect::<Vec<_>>(), record)?;
                }
                Ok(existing)
            }
            Relation::Beginning => Ok(Existing::Beginning),
            Relation::Other(why) => Err(Failure::Usage(format!(
                "{} holds {what} {why}; --restart begins again and keeps the old run as \
                 seed-N.old-K, --name or --out makes another folder",
                self.path.display()
            ))),
        }
    }

    /// Makes the run in the folder the longer one with this record, of which it is the
    /// [`Beginning`](Existing::Beginning). If the process dies in between, the folder holds an
    /// unfinished run, and the same command gets here again.
    ///
    /// # Errors
    /// A file can't be written or deleted.
    pub fn lengthen(&self, record: &DocumentMut) -> Outcome<()> {
        let done = self.path.join(DONE);
        if done.exists() {
            fs::remove_file(&done).map_err(|error| Failure::file(&done, "delete", error))?;
        }
        self.change(&["steps", "keep_replay", END_DIVERGED], record)
    }

    /// Gives keys of `[train]` in the run's record the values that they have in `record`.
    fn change(&self, keys: &[&str], record: &DocumentMut) -> Outcome<()> {
        let mut changed = self.record()?;
        let same = |a: &Item, b: &Item| a.to_string() == b.to_string();
        for key in keys.iter().filter(|key| record["train"].get(key).is_some()) {
            let value = &record["train"][key];
            if !changed["train"].get(key).is_some_and(|old| same(old, value)) {
                changed["train"][key] = value.clone();
            }
        }
        self.write(RECORD, changed.to_string())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the folder is still the one that was opened: if it was deleted or moved, another
    /// process may be at work under its name.
    ///
    /// # Errors
    /// It is not.
    pub fn check_still_ours(&self) -> Outcome<()> {
        let path = self.path.join(LOCK);
        let of = |found: std::io::Result<fs::Metadata>| found.map(|it| (it.dev(), it.ino())).ok();
        if of(self.lock.metadata()) == of(fs::metadata(&path)) {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{}: this folder was deleted, moved or replaced while the run was at work on it; the run \
             ends without another checkpoint",
            self.path.display()
        )))
    }

    /// The record of the run in the folder.
    ///
    /// # Errors
    /// It can't be read.
    pub fn record(&self) -> Outcome<DocumentMut> {
        let path = self.path.join(RECORD);
        let damaged = || {
            Failure::Usage(format!(
                "{}: damaged: not valid TOML; --restart begins again and keeps this run as \
                 seed-N.old-K",
                path.display()
            ))
        };
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => damaged(),
            ErrorKind::NotFound => Failure::Usage(format!(
                "{}: missing, so that nothing says which run the folder holds; --restart begins \
                 again and keeps it as seed-N.old-K",
                path.display()
            )),
            _ => Failure::file(&path, "read", error),
        })?;
        text.parse().map_err(|_| damaged())
    }

    /// Adds an entry to `run.resumed` of the record.
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
        self.write(RECORD, record.to_string())
    }

    /// Writes a file atomically.
    ///
    /// # Errors
    /// It can't be written; an old file of that name is unchanged.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Outcome<()> {
        let path = self.path.join(name);
        let write = |file: &mut File| std::io::Write::write_all(file, text.as_ref());
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

/// Whether training goes on when a simulation diverges. (Records of earlier versions lack it.)
fn ends_diverged(record: &DocumentMut) -> bool {
    let value = record.get("train").and_then(|train| train.get(END_DIVERGED)?.as_bool());
    value == Some(true)
}

/// How the run in a folder, with the record `old`, relates to the one with the record `new`.
pub fn relation(folder: &Path, old: &DocumentMut, new: &DocumentMut) -> Relation {
    let Some((key, from, to)) = difference(old, new) else { return Relation::Same };
    let differs = format!("with {key} = {from}, and this one has {to}");
    let number = |key: &str| old.get("train")?.get(key)?.as_integer();
    let longer = from.parse::<i64>().ok().zip(to.parse().ok()).is_some_and(|(a, b)| a < b);
    if key != STEPS || !longer {
        return Relation::Other(differs);
    }
    let wanted = number("steps")
        .zip(number("envs"))
        .zip(number("eval_interval").zip(number("log_interval")));
    let Some(((steps, envs), (eval, log))) = wanted else { return Relation::Other(differs) };
    // The end of a run has an evaluation and a row of train.csv. The longer run has them too
    // if they are due there.
    let end = steps.div_euclid(envs) + i64::from(steps % envs > 0);
    let due = |every: i64| end * envs % every < envs;
    if !due(eval) || !due(log) {
        return Relation::Other(format!(
            "{differs}; it can't become longer, as its end is not at a multiple of \
             train.eval_interval = {eval} and train.log_interval = {log}"
        ));
    }
    let replay = checkpoint::replay_of(folder);
    if !replay.exists() {
        let kept = old.get("train").and_then(|train| train.get("keep_replay")?.as_bool());
        let why = match kept {
            Some(true) => format!("its replay, {}, is missing", replay.display()),
            _ => "it did not keep its replay (train.keep_replay = true does)".into(),
        };
        return Relation::Other(format!("{differs}; it can't become longer, as {why}"));
    }
    Relation::Beginning
}

/// The first difference between two records in what determines a run's numbers:
/// the key and both values. A difference in the number of steps comes last.
fn difference(old: &DocumentMut, new: &DocumentMut) -> Option<(String, String, String)> {
    /// Keys of `[run]`; the others say how the run was started and where it ran.
    const SHAPING: [&str; 6] = ["algo", "env", "task_sha256", "seed", "device", "model_sha256"];
    let text = |value: Option<&Item>| {
        value.map_or("nothing".to_string(), |value| value.to_string().trim().to_string())
    };
    let keys = |document: &DocumentMut, section: &str| -> Vec<String> {
        let table = document.get(section).and_then(Item::as_table);
        table.into_iter().flatten().map(|(key, _)| key.to_string()).collect()
    };
    let mut sections: Vec<&str> = new.iter().chain(old.iter()).map(|(name, _)| name).collect();
    sections.retain(|name| *name != "versions");
    let mut steps = None;
    for section in sections {
        for key in keys(new, section).into_iter().chain(keys(old, section)) {
            // A run may be resumed with other values of these.
            if EXTRAS.contains(&format!("{section}.{key}").as_str()) {
                continue;
            }
            // A run that has come so far did not diverge, so it is the same with this key on.
            if section == "train"
                && key == END_DIVERGED
                && (ends_diverged(new) || !ends_diverged(old))
            {
                continue;
            }
            if section == "run" && !SHAPING.contains(&key.as_str()) {
                continue;
            }
            let get = |document: &'_ DocumentMut| document.get(section)?.get(&key).cloned();
            let (a, b) = (get(old), get(new));
            // Tasks' own models are pinned.
            let own = |document| Recorded::of(document).file.is_some();
            if key == "model_sha256" && !own(old) && !own(new) {
                continue;
            }
            if !same(a.as_ref(), b.as_ref()) {
                let found = (format!("{section}.{key}"), text(a.as_ref()), text(b.as_ref()));
                if found.0 != STEPS {
                    return Some(found);
                }
                steps = Some(found);
            }
        }
    }
    steps
}

/// Whether two values are equal, whatever their formatting.
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

/// Time between two attempts at a lock that others only probe ([`is_running`]), and how many.
const RETRY: Duration = Duration::from_millis(50);
const RETRIES: usize = 100;

/// Takes the lock of a run's folder.
fn lock(path: &Path) -> Outcome<File> {
    let file = path.join(LOCK);
    let fail = |error| Failure::file(&file, "lock", error);
    // Also readable: over NFS only such a file can have a shared lock.
    let lock = File::options().read(true).write(true).create(true).truncate(false).open(&file);
    let lock = lock.map_err(|error| Failure::file(&file, "write", error))?;
    for _ in 0..RETRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
            // A probe takes a shared lock, a run an exclusive one.
            Err(TryLockError::WouldBlock) => match lock.try_lock_shared() {
                Ok(()) => lock.unlock().map_err(fail)?,
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(fail(error)),
            },
        }
        std::thread::sleep(RETRY);
    }
    Err(Failure::Usage(format!(
        "{}: another process is at work on this run; wait for it or choose another --seed, \
         --name or --out",
        path.display()
    )))
}

/// Whether a process works on the run of a folder.
///
/// This takes the lock for a moment: the system has no other way to ask that also covers the
/// processes of other machines and containers. The lock is a shared one, so that probes do not
/// disturb each other. A run that starts in that moment sees that the lock can be shared, so that
/// no run holds it, and waits for the end of the probe ([`lock`]).
pub fn is_running(path: &Path) -> bool {
    let probe = File::open(path.join(LOCK)).map(|lock| lock.try_lock_shared());
    matches!(probe, Ok(Err(TryLockError::WouldBlock)))
}

/// Checks that a path is that of a folder.
///
/// # Errors
/// It is not.
pub fn check_is_folder(path: &Path) -> Outcome<()> {
    if path.is_dir() {
        return Ok(());
    }
    let what = if path.exists() { "not a folder" } else { "no such folder" };
    Err(Failure::Usage(format!("{}: {what}", path.display())))
}

fn move_aside(path: &Path) -> Outcome<()> {
    fs::rename(path, free_name(path)).map_err(|error| Failure::file(path, "move aside", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_probe_delays_a_run_that_starts_and_a_running_one_refuses_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_path_buf();
        let running = lock(&path).unwrap();
        assert!(is_running(&path));
        assert_eq!(lock(&path).unwrap_err().code(), 2);
        drop(running);
        assert!(!is_running(&path));

        // A probe that takes long, such as one whose process is suspended.
        let probe = File::open(path.join("lock")).unwrap();
        probe.lock_shared().unwrap();
        assert!(!is_running(&path), "a probe was taken for a run");
        let (locked, started) = mpsc::channel();
        let run = std::thread::spawn(move || locked.send(lock(&path)).unwrap());
        assert!(started.recv_timeout(6 * RETRY).is_err(), "the run did not wait");
        drop(probe);
        assert!(started.recv().unwrap().is_ok());
        run.join().unwrap();
    }

    #[test]
    fn a_folder_that_is_deleted_and_made_again_is_no_longer_that_of_the_first_process() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("seed-0");
        let open = || RunFolder::open(path.clone(), &DocumentMut::new(), StartMode::BeginOrResume);
        let (first, _) = open().unwrap();
        assert!(first.check_still_ours().is_ok());
        fs::remove_dir_all(&path).unwrap();
        assert!(first.check_still_ours().is_err());
        let (second, _) = open().unwrap();
        assert!(second.check_still_ours().is_ok());
        let failure = first.check_still_ours().unwrap_err();
        assert!(failure.message().contains("seed-0: this folder was deleted"), "{failure:?}");
        assert_eq!(failure.code(), 1);
    }
}
