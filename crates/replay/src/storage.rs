//! Memory that a replay lives in: anonymous, or a mapped file.

use memmap2::{MmapMut, MmapOptions};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::Path;

/// Why a file is not the replay that a checkpoint saw.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The system does not let us use the file.
    #[error("{0}")]
    File(#[from] io::Error),
    /// The file is too short or too long.
    #[error("{found} bytes, expected {expected}")]
    Size {
        /// Bytes of the file.
        found: u64,
        /// Bytes of its sizes.
        expected: u64,
    },
    /// A slot's number or checksum is wrong.
    #[error("slot {slot} is not what was written there")]
    Slot {
        /// Counted over all rings.
        slot: usize,
    },
    /// There is not a cursor for each ring.
    #[error("{found} cursors, expected {expected}")]
    Cursors {
        /// Cursors given.
        found: usize,
        /// Rings.
        expected: usize,
    },
    /// A cursor's observation has another size.
    #[error("an observation of {found} numbers, expected {expected}")]
    Observation {
        /// Numbers given.
        found: usize,
        /// Numbers of an observation.
        expected: usize,
    },
}

/// Words of 32 bits, all zero at first.
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
            // Half a file is of no use and takes the space that is short.
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
        // SAFETY: the file belongs to a run's folder, whose lock the caller holds:
        // nobody else changes or shortens it while it is mapped.
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

/// Takes space on the disk, so that no later write can fail for want of it: in a
/// mapped file that would be a signal, not an error.
fn reserve(file: &mut File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // A file system that can't reserve is made to by writing.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.rewind()?;
            io::copy(&mut io::Read::take(io::repeat(0), bytes), file)?;
            file.flush()
        }
        Err(error) => Err(error.into()),
    }
}
