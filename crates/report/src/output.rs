//! A report's folder: writes the files, and never overwrites files that are not a report's.

use crate::study::Study;
use crate::{Problem, figures, page, tables};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Lists the files of a report, so that the next report knows which it may overwrite.
const LIST: &str = "FILES";
/// The list's first line.
const HEAD: &str = "# Files of a report: `runner report` may write over these, and over no others.";

/// A folder that a report may be written to.
pub struct Output {
    folder: PathBuf,
    /// Files of an earlier report.
    earlier: BTreeSet<String>,
}

impl Output {
    /// Checks the folder, which need not exist; changes nothing.
    ///
    /// # Errors
    /// It contains files, but no earlier report.
    pub fn look(folder: &Path) -> Result<Self, Problem> {
        let list = folder.join(LIST);
        let ours = |text: &String| text.lines().next() == Some(HEAD);
        match std::fs::read_to_string(&list) {
            Ok(text) if ours(&text) => {
                // The list is untrusted: names outside this folder are ignored.
                let here = |name: &&str| Path::new(name).file_name() == Some((*name).as_ref());
                let earlier = text.lines().skip(1).filter(here).map(str::to_string).collect();
                return Ok(Self { folder: folder.to_path_buf(), earlier });
            }
            Ok(_) => return Err(Problem::input(&list, "is not a report's; choose another --out")),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(Problem::input(folder, "is not a folder; choose another --out"));
            }
            Err(error) => return Err(Problem::system(&list, "read", error)),
        }
        // A first report that was killed may have left the beginning of its list.
        let begun = crate::unfinished(&list);
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries.flatten().filter(|entry| entry.path() != begun).count(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(Problem::system(folder, "read this folder", error)),
        };
        if entries > 0 {
            let what = "contains files but no earlier report; choose another --out";
            return Err(Problem::input(folder, what));
        }
        Ok(Self { folder: folder.to_path_buf(), earlier: BTreeSet::new() })
    }

    /// Writes a study, each file atomically and the page last. Files of an earlier report
    /// that this one does not have are removed. Returns the path of the page.
    ///
    /// # Errors
    /// A file that is not a report's has the name of a file to be written, or writing fails.
    pub fn write(&self, study: &Study) -> Result<PathBuf, Problem> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, text) in tables::csv_files(study) {
            files.push((name.to_string(), text.into_bytes()));
        }
        files.push(("report.md".into(), tables::markdown(study).into_bytes()));
        for figure in figures::figures(study) {
            files.push((format!("{}.svg", figure.name), figure.svg().into_bytes()));
            files.push((format!("{}.png", figure.name), figure.png()));
        }
        files.push(("index.html".into(), page::page(study).into_bytes()));
        let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
        for name in names.difference(&self.earlier) {
            let path = self.folder.join(name);
            if path.exists() {
                return Err(Problem::input(
                    &path,
                    "is not a report's; move it or choose another --out",
                ));
            }
        }
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| Problem::system(&self.folder, "create this folder", error))?;
        // Before the files, so that an interrupted report can be written again.
        self.list(self.earlier.union(&names))?;
        for (name, bytes) in &files {
            self.put(name, bytes)?;
        }
        for name in self.earlier.difference(&names) {
            let path = self.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Problem::system(&path, "remove", error));
                }
                _ => {}
            }
        }
        self.list(names.iter())?;
        Ok(self.folder.join("index.html"))
    }

    fn list<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
        let lines: String = names.map(|name| format!("{name}\n")).collect();
        self.put(LIST, format!("{HEAD}\n{lines}").as_bytes())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let path = self.folder.join(name);
        crate::whole(&path, |file| file.write_all(bytes))
            .map_err(|error| Problem::system(&path, "write", error))
    }
}
