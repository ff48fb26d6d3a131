//! Memory of a replay: anonymous, or a mapped file.

use memmap2::{MmapMut, MmapOptions};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::Path;

/// Why a file does not match a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The file can't be opened or mapped.
    #[error("{0}")]
    File(#[from] io::Error),
    /// The file is too short or too long.
    #[error("{found} bytes, expected {expected}")]
    Size {
        /// Bytes of the file.
        found: u64,
        /// Bytes of a replay of this shape.
        expected: u64,
    },
    /// A slot's number or checksum is wrong.
    #[error("slot {slot} has a wrong number or checksum")]
    Slot {
        /// Index of the slot over all rings.
        slot: usize,
    },
    /// The number of cursors is not that of rings.
    #[error("{found} cursors, expected {expected}")]
    Cursors {
        /// Number of cursors given.
        found: usize,
        /// Number of rings.
        expected: usize,
    },
    /// A cursor's observation has the wrong size.
    #[error("an observation of {found} numbers, expected {expected}")]
    Observation {
        /// Its size.
        found: usize,
        /// Size of an observation.
        expected: usize,
    },
}

/// 32-bit words, initially zero.
pub(crate) struct Storage(MmapMut);

impl Storage {
    pub fn in_memory(bytes: u64) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        Ok(Self(MmapMut::map_anon(bytes)?))
    }

    pub fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let reserved = reserve(&mut file, bytes);
        let storage = reserved.and_then(|()| file.sync_all()).and_then(|()| Self::map(&file));
        if storage.is_err() {
            // A partial file is useless and takes disk space.
            let _ = std::fs::remove_file(path);
        }
        storage
    }

    pub fn open(path: &Path, bytes: u64) -> Result<Self, Damage> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let found = file.metadata()?.len();
        if found != bytes {
            return Err(Damage::Size { found, expected: bytes });
        }
        Ok(Self::map(&file)?)
    }

    #[allow(unsafe_code)]
    fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the file is in a run's folder, whose lock the caller holds:
        // no other process changes or truncates it while it is mapped.
        unsafe { MmapOptions::new().map_mut(file) }.map(Self)
    }

    pub fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }

    pub fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    pub fn flush(&self, offset: usize, bytes: usize) -> io::Result<()> {
        self.0.flush_range(offset, bytes)
    }
}

/// Reserves disk space, so that no later write can fail on a full disk: in a mapped
/// file that would raise a signal instead of returning an error.
fn reserve(file: &mut File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // Without support by the file system, reserve by writing zeros.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.rewind()?;
            io::copy(&mut io::Read::take(io::repeat(0), bytes), file)?;
            file.flush()
        }
        Err(error) => Err(error.into()),
    }
}
