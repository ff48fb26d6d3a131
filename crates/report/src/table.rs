//! Tables of numbers from other programs: delimited text, NumPy's `.npy` and `.npz`.

use crate::Problem;
use ndarray::{ArrayD, ArrayViewD, Axis};
use ndarray_npy::{ViewElement, ViewNpyError, ViewNpyExt};
use serde::Deserialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// How a table's text is read; `.npy` and `.npz` need nothing of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layout {
    /// Between fields: one character, or "blanks" for any number of blanks and tabs.
    pub separator: String,
    /// The decimal point, "." or ",".
    pub decimal: char,
    /// Whether the first line names the columns; otherwise they are numbered from 0.
    pub header: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self { separator: ",".into(), decimal: '.', header: true }
    }
}

impl Layout {
    /// Checks the values.
    ///
    /// # Errors
    /// One of them can't be used; says which, and what is expected.
    pub fn check(&self) -> Result<(), String> {
        if self.separator != "blanks" && (self.separator.len() != 1 || self.separator == ".") {
            return Err(format!(
                "separator is '{}', expected one ASCII character or \"blanks\"",
                self.separator.escape_debug()
            ));
        }
        if !matches!(self.decimal, '.' | ',') || self.separator == self.decimal.to_string() {
            return Err(format!(
                "decimal is '{}', expected \".\" or \",\", and not the separator",
                self.decimal
            ));
        }
        Ok(())
    }
}

/// Columns with names, and rows of fields as text.
pub struct Table {
    names: Vec<String>,
    /// The row's number in the file, for messages, and its fields.
    rows: Vec<(u64, Vec<String>)>,
    decimal: char,
}

impl Table {
    /// Reads a table; its format follows from the file's name.
    ///
    /// # Errors
    /// The file can't be read or is no table.
    pub fn read(path: &Path, layout: &Layout) -> Result<Self, Problem> {
        let fail = |error: std::io::Error| Problem::input(path, error);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => {
                let mut bytes = Vec::new();
                File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(fail)?;
                let array = npy(&bytes).and_then(|array| array.ok_or_else(|| TYPES.into()));
                array.and_then(Self::of_array).map_err(|what| Problem::input(path, what))
            }
            Some("npz") => {
                let file = File::open(path).map_err(fail)?;
                Self::of_archive(file).map_err(|what| Problem::input(path, what))
            }
            _ => Self::of_text(path, layout),
        }
    }

    fn of_text(path: &Path, layout: &Layout) -> Result<Self, Problem> {
        let text = std::fs::read(path).map_err(|error| Problem::input(path, error))?;
        let (text, separator): (Cow<[u8]>, u8) = if layout.separator == "blanks" {
            let text = String::from_utf8_lossy(&text);
            let lines =
                text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("\t"));
            (lines.collect::<Vec<_>>().join("\n").into_bytes().into(), b'\t')
        } else {
            (text.into(), layout.separator.as_bytes()[0])
        };
        let fail = |error: csv::Error| Problem::csv(path, &error);
        let mut reader = csv::ReaderBuilder::new()
            .comment(Some(b'#'))
            .delimiter(separator)
            .has_headers(layout.header)
            .from_reader(text.as_ref());
        let trimmed = |record: &csv::StringRecord| -> Vec<String> {
            record.iter().map(|field| field.trim().to_string()).collect()
        };
        let mut names = trimmed(reader.headers().map_err(fail)?);
        if !layout.header {
            names = (0..names.len()).map(|column| column.to_string()).collect();
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(fail)?;
            rows.push((record.position().map_or(0, csv::Position::line), trimmed(&record)));
        }
        Ok(Self { names, rows, decimal: layout.decimal })
    }

    /// Rows and columns of a matrix; a vector is one column.
    fn of_array(array: ArrayD<f64>) -> Result<Self, String> {
        let columns = match array.shape() {
            [0, ..] => return Err("no rows".into()),
            [_] => 1,
            [_, columns] => *columns,
            shape => return Err(format!("shape {shape:?}, expected rows and columns")),
        };
        let rows = array.axis_iter(Axis(0)).zip(1..);
        let rows = rows.map(|(row, n)| (n, row.iter().map(f64::to_string).collect()));
        Ok(Self {
            names: (0..columns).map(|column| column.to_string()).collect(),
            rows: rows.collect(),
            decimal: '.',
        })
    }

    /// A column for every array; of a matrix the means over its rows, as over an evaluation's episodes.
    fn of_archive(file: File) -> Result<Self, String> {
        let mut archive = ZipArchive::new(file).map_err(|error| error.to_string())?;
        let mut columns: Vec<(String, Vec<f64>)> = Vec::new();
        for index in 0..archive.len() {
            let mut member = archive.by_index(index).map_err(|error| error.to_string())?;
            let name = member.name().to_string();
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
            // Arrays of other types, such as names, are no columns.
            let array = npy(&bytes).map_err(|what| format!("{name}: {what}"))?;
            let Some(array) = array else { continue };
            let column = match array.ndim() {
                1 => array.iter().copied().collect(),
                2 if array.shape()[1] > 0 => {
                    array.axis_iter(Axis(0)).map(|row| row.sum() / row.len() as f64).collect()
                }
                _ => continue,
            };
            columns.push((name.trim_end_matches(".npy").to_string(), column));
        }
        let long = columns.iter().map(|(_, column)| column.len()).max().unwrap_or(0);
        let row = |n: usize| {
            let field =
                |(_, column): &(_, Vec<f64>)| column.get(n).map_or(String::new(), f64::to_string);
            (n as u64 + 1, columns.iter().map(field).collect())
        };
        let rows = (0..long).map(row).collect();
        Ok(Self { names: columns.into_iter().map(|(name, _)| name).collect(), rows, decimal: '.' })
    }

    /// The place of a column.
    ///
    /// # Errors
    /// There is none of that name; lists all.
    pub fn column(&self, path: &Path, name: &str) -> Result<usize, Problem> {
        self.names.iter().position(|known| known == name).ok_or_else(|| {
            let all = self.names.join(", ").escape_debug().to_string();
            let first = self.names.first().map_or("", String::as_str);
            let hint = if name.parse::<usize>().is_ok() && !["", "0"].contains(&first) {
                "; columns have numbers with `header = false`"
            } else if self.names.len() == 1 && self.names[0].contains(['\t', ';', ' ', ',']) {
                "; set `separator`"
            } else {
                ""
            };
            Problem::input(path, format!("there is no column '{name}' (all: {all}){hint}"))
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// A field as text; empty if the row is short.
    pub fn text(&self, row: usize, column: usize) -> &str {
        self.rows[row].1.get(column).map_or("", String::as_str)
    }

    /// The number of a row in the file.
    pub fn line(&self, row: usize) -> u64 {
        self.rows[row].0
    }

    /// A field as a number; `None` if it is empty, NaN if it says so.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, path: &Path, row: usize, column: usize) -> Result<Option<f64>, Problem> {
        let field = self.text(row, column);
        if field.is_empty() {
            return Ok(None);
        }
        let plain: Cow<str> = match self.decimal {
            '.' => field.into(),
            comma => field.replace('.', "?").replace(comma, ".").into(),
        };
        plain.parse().map(Some).map_err(|_| {
            let (line, name) = (self.line(row), &self.names[column]);
            Problem::input(path, format!("row {line}: {name} is '{field}', expected a number"))
        })
    }
}

const TYPES: &str = "expected numbers of type float64, float32, int64 or int32";

fn widened<T: Copy + Into<f64>>(array: &ArrayD<T>) -> ArrayD<f64> {
    array.mapv(Into::into)
}

/// The array of a `.npy` file; `None` if it holds no numbers.
fn npy(bytes: &[u8]) -> Result<Option<ArrayD<f64>>, String> {
    // A view, whose shape is checked against the length of the file before anything is allocated.
    fn of<T: ViewElement + Clone>(bytes: &[u8]) -> Result<Option<ArrayD<T>>, String> {
        match ArrayViewD::<T>::view_npy(bytes) {
            Ok(array) => Ok(Some(array.to_owned())),
            Err(ViewNpyError::WrongDescriptor(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
    if let Some(array) = of::<f64>(bytes)? {
        return Ok(Some(array));
    }
    if let Some(array) = of::<f32>(bytes)? {
        return Ok(Some(widened(&array)));
    }
    if let Some(array) = of::<i64>(bytes)? {
        return Ok(Some(array.mapv(|number| number as f64)));
    }
    Ok(of::<i32>(bytes)?.map(|array| widened(&array)))
}
