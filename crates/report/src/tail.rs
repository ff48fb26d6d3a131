//! Reads a log of another process as it grows.

use crate::Problem;
use serde::Deserialize;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Reads the new rows of a CSV file, call by call.
///
/// A last line without a line break is incomplete and is read later. A resumed run truncates
/// rows and writes them again with other times; comparing the last line that was read
/// detects this.
pub struct Tail<Row> {
    path: PathBuf,
    /// The file at the last call.
    found: Option<Stamp>,
    header: Vec<u8>,
    /// The last whole line that was read, and where it ends.
    last: Vec<u8>,
    end: u64,
    row: PhantomData<Row>,
}

/// Device, inode, size and time of change: differs if the file was replaced or changed.
#[derive(PartialEq)]
struct Stamp([i64; 5]);

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let (device, inode, size) = (file.dev() as i64, file.ino() as i64, file.size() as i64);
        Self([device, inode, size, file.mtime(), file.mtime_nsec()])
    }
}

/// New rows of a file.
#[derive(Debug, PartialEq)]
pub struct News<Row> {
    /// The new rows.
    pub rows: Vec<Row>,
    /// Whether rows that were read earlier are no longer in the file; `rows` are then all
    /// rows.
    pub rewritten: bool,
}

impl<Row: for<'de> Deserialize<'de>> Tail<Row> {
    /// Starts before the first row. The file need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        let (header, last) = (Vec::new(), Vec::new());
        Self { path, found: None, header, last, end: 0, row: PhantomData }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rows since the last call; `None` if the file has not changed.
    ///
    /// # Errors
    /// The file can't be read, or a row is invalid. The next call then starts again at the
    /// first row.
    pub fn news(&mut self) -> Result<Option<News<Row>>, Problem> {
        let file = match std::fs::metadata(&self.path) {
            Ok(file) => Some(Stamp::of(&file)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Problem::system(&self.path, "read", error)),
        };
        if file == self.found {
            return Ok(None);
        }
        let begun = self.end > 0;
        let news = match file {
            None => Ok(News { rows: Vec::new(), rewritten: begun }),
            Some(_) => self.appended().and_then(|rows| match rows {
                Some(rows) => Ok(News { rows, rewritten: false }),
                None => Ok(News { rows: self.whole()?, rewritten: begun }),
            }),
        };
        if file.is_none() || news.is_err() {
            *self = Self::new(std::mem::take(&mut self.path));
        }
        // An invalid file is not read again until it changes.
        self.found = file;
        news.map(Some)
    }

    /// The rows after the last line that was read; `None` if that line is no longer there, or
    /// if a row is invalid: reading the whole file then reports which.
    fn appended(&mut self) -> Result<Option<Vec<Row>>, Problem> {
        if self.end == 0 {
            return Ok(None);
        }
        let bytes = self.bytes(self.end - self.last.len() as u64)?;
        let Some(new) = bytes.strip_prefix(&self.last[..]) else { return Ok(None) };
        let new = whole_lines(new);
        let rows = parse([&self.header[..], new].concat().as_slice()).ok();
        if rows.is_some() {
            self.passed(new);
        }
        Ok(rows)
    }

    fn whole(&mut self) -> Result<Vec<Row>, Problem> {
        let bytes = self.bytes(0)?;
        let lines = whole_lines(&bytes);
        let rows = parse(lines).map_err(|error| Problem::csv(&self.path, &error))?;
        self.header = lines.split_inclusive(|byte| *byte == b'\n').next().unwrap_or(&[]).to_vec();
        self.end = 0;
        self.passed(lines);
        Ok(rows)
    }

    fn bytes(&self, from: u64) -> Result<Vec<u8>, Problem> {
        let read = || {
            let mut bytes = Vec::new();
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(from))?;
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error: std::io::Error| Problem::system(&self.path, "read", error))
    }

    fn passed(&mut self, lines: &[u8]) {
        self.end += lines.len() as u64;
        if let Some(last) = lines.split_inclusive(|byte| *byte == b'\n').next_back() {
            self.last = last.to_vec();
        }
    }
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    end.map_or(&[], |end| &bytes[..=end])
}

fn parse<Row: for<'de> Deserialize<'de>>(lines: &[u8]) -> Result<Vec<Row>, csv::Error> {
    csv::Reader::from_reader(lines).into_deserialize().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, TrainRow};
    use std::io::Write;

    fn row(step: u64) -> TrainRow {
        TrainRow { step, wall_s: step as f64 / 7.0, ..Default::default() }
    }

    fn add(path: &Path, text: &str) {
        File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn some(news: Result<Option<News<TrainRow>>, Problem>) -> (Vec<TrainRow>, bool) {
        let news = news.unwrap().expect("something new");
        (news.rows, news.rewritten)
    }

    #[test]
    fn each_row_is_returned_once_and_an_incomplete_row_only_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        let mut tail = Tail::<TrainRow>::new(path.clone());
        assert!(tail.news().unwrap().is_none());
        let mut log = Log::create(&path).unwrap();
        log.append(&row(1)).unwrap();
        log.append(&row(2)).unwrap();
        assert_eq!(some(tail.news()), (vec![row(1), row(2)], false));
        assert!(tail.news().unwrap().is_none());
        add(&path, "3,0,0,,,0.0,");
        assert_eq!(some(tail.news()), (vec![], false));
        add(&path, "0.5\n4,0,0,,,");
        let three = TrainRow { step: 3, wall_s: 0.5, ..Default::default() };
        assert_eq!(some(tail.news()), (vec![three], false));
    }

    #[test]
    fn rewritten_rows_replace_those_that_were_read_at_any_length_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        let mut tail = Tail::<TrainRow>::new(path.clone());
        Log::create(&path).unwrap().append(&row(1)).unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        let again = |wall_s| TrainRow { step: 2, wall_s, ..Default::default() };
        let resume = || Log::resume(&path, bytes).unwrap();
        resume().append(&again(0.125)).unwrap();
        assert_eq!(some(tail.news()), (vec![row(1), again(0.125)], false));
        resume().append(&again(0.375)).unwrap();
        assert_eq!(some(tail.news()), (vec![row(1), again(0.375)], true));
        let mut log = resume();
        for wall_s in [0.5, 0.75, 1.0] {
            log.append(&again(wall_s)).unwrap();
        }
        assert_eq!(some(tail.news()), (vec![row(1), again(0.5), again(0.75), again(1.0)], true));
        resume();
        assert_eq!(some(tail.news()), (vec![row(1)], true));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(some(tail.news()), (vec![], true));
    }

    #[test]
    fn an_invalid_row_is_reported_once_by_its_line_and_read_again_when_corrected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        let mut tail = Tail::<TrainRow>::new(path.clone());
        Log::create(&path).unwrap().append(&row(1)).unwrap();
        tail.news().unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        add(&path, "oops,0,0,,,0.0,0.5\n");
        let message = tail.news().unwrap_err().to_string();
        assert!(message.ends_with("train.csv: row 3: column 1: invalid digit found in string"));
        assert!(tail.news().unwrap().is_none());
        Log::resume(&path, bytes).unwrap().append(&row(2)).unwrap();
        assert_eq!(some(tail.news()).0, [row(1), row(2)]);
    }
}
