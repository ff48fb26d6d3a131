//! SHA-256 of files and bytes.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// The file can't be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    File::open(path).and_then(sha256)
}

/// The SHA-256 of all bytes that a reader gives, in hexadecimal digits.
///
/// # Errors
/// The reader fails.
pub fn sha256(from: impl Read) -> io::Result<String> {
    let mut from = BufReader::with_capacity(1 << 20, from);
    let mut hasher = Sha256::new();
    loop {
        let chunk = from.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        hasher.update(chunk);
        let read = chunk.len();
        from.consume(read);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
