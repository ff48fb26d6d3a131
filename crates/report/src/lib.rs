//! Result files: the schemas of `train.csv`, `eval.csv` and the toys' tables, a log
//! that appends rows to one of them, a tail that reads rows as they are appended, scatter
//! plots of samples, and reports: runs are found (`place`) and read (`run`, `foreign`),
//! compared (`study`, `aggregate`) and displayed (`tables`, `figures`, `page`).

mod aggregate;
mod differences;
mod events;
mod figures;
mod foreign;
mod output;
mod page;
mod place;
mod problem;
mod run;
mod scatter;
pub mod statistics;
mod study;
mod table;
mod tables;
mod tail;
mod terms;
mod toys;
mod train_row;

pub use aggregate::{Aggregate, Improvement, Member};
pub use events::Events;
pub use foreign::{read_action_times, read_mapping};
pub use output::Output;
pub use place::{Place, places};
pub use problem::Problem;
pub use run::{Found, Origin, Point, Run, read_folders};
pub use scatter::{Panel, Row, Scatter};
pub use study::{
    ActionTime, Cell, Cost, CurvePoint, Options, Reaching, Replays, Study, Task, thousands,
};
pub use tables::{ScoreRow, scores};
pub use tail::{News, Tail};
pub use terms::{RunTerm, TERMS, Term, TermPoint};
pub use toys::ToyRow;
pub use train_row::{METRICS, TrainRow};

use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A row of `eval.csv`: one evaluation in one mode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalRow {
    /// Environment steps trained so far.
    pub step: u64,
    /// `deterministic`, `mean`, `stochastic` or `best-of-K`.
    pub mode: String,
    /// Episodes evaluated.
    pub episodes: u64,
    /// Mean return over the episodes.
    pub return_mean: f64,
    /// Standard deviation over the episodes (not over seeds).
    pub return_std: f64,
    /// Smallest return.
    pub return_min: f64,
    /// Largest return.
    pub return_max: f64,
    /// Mean length in steps.
    pub length_mean: f64,
    /// Seconds since the run began.
    pub wall_s: f64,
}

impl EvalRow {
    /// Summarises (return, length) of at least one episode.
    pub fn summarise(step: u64, mode: String, episodes: &[(f64, u32)], wall_s: f64) -> Self {
        let n = episodes.len() as f64;
        let returns = || episodes.iter().map(|(total, _)| *total);
        let return_mean = returns().sum::<f64>() / n;
        let variance = returns().map(|total| (total - return_mean).powi(2)).sum::<f64>() / n;
        Self {
            step,
            mode,
            episodes: episodes.len() as u64,
            return_mean,
            return_std: variance.sqrt(),
            return_min: returns().fold(f64::INFINITY, f64::min),
            return_max: returns().fold(f64::NEG_INFINITY, f64::max),
            length_mean: episodes.iter().map(|(_, length)| f64::from(*length)).sum::<f64>() / n,
            wall_s,
        }
    }
}

/// A CSV file that is appended row by row; each row is passed to the operating system
/// immediately.
pub struct Log<Row> {
    path: PathBuf,
    writer: csv::Writer<File>,
    /// The file has no header yet.
    empty: bool,
    row: PhantomData<Row>,
}

/// A row of a CSV file.
pub trait Record: Serialize {
    /// The names of its columns, where the type's fields don't give them.
    fn header(&self) -> Option<Vec<String>> {
        None
    }
}

impl Record for EvalRow {}
impl Record for ToyRow {}
impl Record for ScoreRow {}

impl<Row: Record> Log<Row> {
    /// Creates a file, which must not exist.
    ///
    /// # Errors
    /// The file exists or can't be written.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Self::append_to(path, file, true))
    }

    /// Resumes a file after its first `bytes`; the rest is truncated. A file that would be empty may be
    /// missing.
    ///
    /// # Errors
    /// The file does not exist or can't be written.
    pub fn resume(path: &Path, bytes: u64) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(bytes == 0).truncate(false);
        let mut file = options.open(path)?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self::append_to(path, file, bytes == 0))
    }

    fn append_to(path: &Path, file: File, empty: bool) -> Self {
        let writer = csv::WriterBuilder::new().has_headers(empty).from_writer(file);
        Self { path: path.into(), writer, empty, row: PhantomData }
    }

    /// Writes the file again if it is no longer at its path, because it was deleted or another
    /// file was moved there: its rows are still in the open file. Returns what was found. The
    /// other file is kept as `<name>.old-K`.
    ///
    /// # Errors
    /// The file can't be written, for example because its folder was deleted too.
    pub fn restore(&mut self) -> std::io::Result<Option<String>> {
        let open = self.writer.get_ref();
        let found = match std::fs::symlink_metadata(&self.path) {
            Ok(other) if is_same(&other, &open.metadata()?) => return Ok(None),
            Ok(_) => {
                let kept = free_name(&self.path);
                std::fs::rename(&self.path, &kept)?;
                format!("another file took its place and is kept as {}", kept.display())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => "it was deleted".into(),
            Err(error) => return Err(error),
        };
        let mut open: &File = open;
        open.seek(SeekFrom::Start(0))?;
        whole(&self.path, |file| std::io::copy(&mut open, file).map(drop))?;
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        file.seek(SeekFrom::End(0))?;
        *self = Self::append_to(&self.path, file, self.empty);
        Ok(Some(found))
    }

    /// Syncs the rows to disk.
    ///
    /// # Errors
    /// Syncing fails.
    pub fn sync(&self) -> std::io::Result<()> {
        self.writer.get_ref().sync_data()
    }

    /// Appends a row (and the header before the first row).
    ///
    /// # Errors
    /// The file can't be written, for example because the disk is full.
    pub fn append(&mut self, row: &Row) -> std::io::Result<()> {
        if std::mem::take(&mut self.empty)
            && let Some(header) = row.header()
        {
            self.writer.write_record(header).map_err(std::io::Error::from)?;
        }
        self.writer.serialize(row).map_err(std::io::Error::from)?;
        self.writer.flush()
    }
}

/// Whether both are the same file, not only at the same path.
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The first of `<path>.old-1`, `<path>.old-2` and so on that does not exist.
pub fn free_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    (1..)
        .map(|k| {
            let mut name = name.to_os_string();
            name.push(format!(".old-{k}"));
            path.with_file_name(name)
        })
        .find(|path| !path.exists())
        .expect("there are numbers enough")
}

/// Writes a file atomically: under a temporary name, which is then renamed, so that an
/// older file is replaced completely or not at all.
///
/// # Errors
/// It can't be written; an older file is then unchanged, and the temporary one is deleted.
pub fn whole(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let temporary = unfinished(path);
    let written = File::create(&temporary).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    written.inspect_err(|_| {
        // It only takes space, and the disk may be full.
        let _ = std::fs::remove_file(&temporary);
    })
}

/// The temporary name of a file until it is complete: `<name>.unfinished`.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".unfinished");
    path.with_file_name(name)
}

/// Writes rows as CSV, with their header.
///
/// # Errors
/// `to` can't be written.
pub fn write<Row: Record>(to: impl Write, rows: &[Row]) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(to);
    if let Some(header) = rows.first().and_then(Record::header) {
        writer.write_record(header).map_err(std::io::Error::from)?;
    }
    for row in rows {
        writer.serialize(row).map_err(std::io::Error::from)?;
    }
    writer.flush()
}

/// Reads all rows of a CSV file with the given schema.
///
/// # Errors
/// The file can't be read or a row does not fit the schema.
pub fn read<Row: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<Row>, csv::Error> {
    csv::Reader::from_path(path)?.deserialize().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_written_and_missing_quantities_are_empty_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        let metrics = vec![("critic_loss".into(), Some(0.5)), ("of_its_own".into(), None)];
        let row = TrainRow { step: 10, metrics, wall_s: 1.25, ..Default::default() };
        let mut log = Log::create(&path).unwrap();
        log.append(&row).unwrap();
        log.append(&row).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "step,updates,episodes,return_mean,length_mean,critic_loss,of_its_own,steps_per_s,\
             wall_s\n10,0,0,,,0.5,,0.0,1.25\n10,0,0,,,0.5,,0.0,1.25\n"
        );
        assert_eq!(read::<TrainRow>(&path).unwrap(), [row.clone(), row]);
    }

    #[test]
    fn a_log_never_overwrites_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.csv");
        std::fs::write(&path, "precious").unwrap();
        assert!(Log::<EvalRow>::create(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_resumed_log_keeps_the_rows_of_the_checkpoint_and_truncates_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        let row = |step| TrainRow { step, ..Default::default() };
        Log::create(&path).unwrap().append(&row(1)).unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        let mut log = Log::resume(&path, bytes).unwrap();
        log.append(&row(2)).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"3,0,").unwrap();
        Log::resume(&path, bytes).unwrap().append(&row(4)).unwrap();
        assert_eq!(read::<TrainRow>(&path).unwrap(), [row(1), row(4)]);

        // Some programs that copy folders leave out empty files.
        std::fs::remove_file(&path).unwrap();
        assert!(Log::<TrainRow>::resume(&path, bytes).is_err());
        Log::resume(&path, 0).unwrap().append(&row(5)).unwrap();
        assert_eq!(read::<TrainRow>(&path).unwrap(), [row(5)]);
    }

    #[test]
    fn a_log_that_is_deleted_or_replaced_is_written_again_and_loses_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        let row = |step| TrainRow { step, ..Default::default() };
        let mut log = Log::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(log.restore().unwrap().unwrap(), "it was deleted");
        log.append(&row(1)).unwrap();
        assert_eq!(log.restore().unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        log.append(&row(2)).unwrap();
        log.restore().unwrap().unwrap();
        log.append(&row(3)).unwrap();
        // As an editor saves: a new file is renamed over the old one.
        for text in ["precious", "precious too"] {
            let theirs = folder.path().join("theirs");
            std::fs::write(&theirs, text).unwrap();
            std::fs::rename(theirs, &path).unwrap();
            let found = log.restore().unwrap().unwrap();
            assert!(found.contains("is kept as"), "{found}");
        }
        log.append(&row(4)).unwrap();
        assert_eq!(read::<TrainRow>(&path).unwrap(), [row(1), row(2), row(3), row(4)]);
        let kept = |k| std::fs::read_to_string(folder.path().join(format!("train.csv.old-{k}")));
        assert_eq!(
            (kept(1).unwrap(), kept(2).unwrap()),
            ("precious".into(), "precious too".into())
        );
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(log.restore().is_err(), "without its folder it can't be written");
    }

    #[test]
    fn a_file_that_cannot_be_written_whole_leaves_the_old_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.csv");
        whole(&path, |file| file.write_all(b"old")).unwrap();
        let full = |file: &mut File| {
            file.write_all(b"half of the n")?;
            Err(ErrorKind::StorageFull.into())
        };
        assert_eq!(whole(&path, full).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn episodes_are_summarised() {
        let row = EvalRow::summarise(7, "stochastic".into(), &[(1.0, 10), (3.0, 20)], 0.0);
        assert_eq!((row.return_mean, row.return_std, row.length_mean), (2.0, 1.0, 15.0));
        assert_eq!((row.return_min, row.return_max, row.episodes), (1.0, 3.0, 2));
    }
}
