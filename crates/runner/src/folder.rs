//! A run's folder: `results/<algo>[-<name>]/<env>/seed-<n>/`.

use crate::failure::{Failure, Outcome};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

    /// Makes the folder for a new run, or refuses what is there. With
    /// `restart` an old run moves aside first, to `seed-<n>.old-<k>`.
    ///
    /// # Errors
    /// The folder holds a run, another process is at work on it, or it can't
    /// be written.
    pub fn begin(path: PathBuf, restart: bool) -> Outcome<Self> {
        fs::create_dir_all(&path)
            .map_err(|error| Failure::file(&path, "make this folder", error))?;
        let mut lock = lock(&path)?;
        let state = [("DONE", "a finished run"), ("config.toml", "an unfinished run")]
            .into_iter()
            .find(|(file, _)| path.join(file).exists());
        if let Some((_, what)) = state {
            if !restart {
                return Err(Failure::Usage(format!(
                    "{} holds {what}; --restart begins anew and keeps the old one beside it, \
                     --name or --out makes another folder",
                    path.display()
                )));
            }
            move_aside(&path)?;
            fs::create_dir_all(&path)
                .map_err(|error| Failure::file(&path, "make this folder", error))?;
            lock = self::lock(&path)?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a small file whole.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, name: &str, text: &str) -> Outcome<()> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|error| Failure::file(&path, "write", error))
    }

    /// Marks the run as finished.
    ///
    /// # Errors
    /// The mark can't be written.
    pub fn done(&self) -> Outcome<()> {
        self.write("DONE", "")
    }
}

/// How long another's hold on a lock may be a mere look ([`at_work`]).
const LOOK: Duration = Duration::from_millis(50);

fn lock(path: &Path) -> Outcome<File> {
    let file = path.join("lock");
    let lock = File::create(&file).map_err(|error| Failure::file(&file, "write", error))?;
    let mut locked = lock.try_lock();
    if let Err(TryLockError::WouldBlock) = locked {
        std::thread::sleep(LOOK);
        locked = lock.try_lock();
    }
    match locked {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::Usage(format!(
            "{}: another process is at work on this run; wait for it or choose another --seed, \
             --name or --out",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(Failure::file(&file, "lock", error)),
    }
}

/// Whether a process is at work on the run of a folder.
pub fn at_work(path: &Path) -> bool {
    // The system has no way to ask but to take the lock for a moment.
    let looked = File::open(path.join("lock")).map(|lock| lock.try_lock_shared());
    matches!(looked, Ok(Err(TryLockError::WouldBlock)))
}

fn move_aside(path: &Path) -> Outcome<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let free = (1..)
        .map(|k| path.with_file_name(format!("{name}.old-{k}")))
        .find(|candidate| !candidate.exists())
        .expect("numbers do not run out");
    fs::rename(path, &free).map_err(|error| Failure::file(path, "move aside", error))
}
