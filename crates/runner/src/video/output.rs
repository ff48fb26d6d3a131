//! Where a video is written, and as what.

use super::{Pictures, frames, gif, mp4};
use crate::base::failure::{Failure, Outcome};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What every file holds, so that only files of this command are written over.
pub const MARK: &str = "runner video";
/// Where files have it: behind the first bytes, but not behind the pictures.
const HEAD: u64 = 64 << 10;

/// A frame of a GIF that is to be shown for less than 0.02 s is shown for 0.1 s.
const FASTEST_GIF: f64 = 50.0;

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// H.264 in MP4.
    Mp4,
    /// An animated GIF.
    Gif,
    /// A folder of PNG images.
    Frames,
}

impl Format {
    /// Checks a size in pixels, and a number of frames per second if one is asked for.
    ///
    /// # Errors
    /// The format can't have it.
    pub fn check(self, [width, height]: [u32; 2], rate: Option<f64>) -> Outcome<()> {
        let odd = width % 2 == 1 || height % 2 == 1;
        if self == Self::Mp4 && odd {
            return Err(Failure::Usage(format!(
                "--size {width}x{height}: an MP4 needs an even width and height, such as {}x{}",
                width.next_multiple_of(2),
                height.next_multiple_of(2)
            )));
        }
        if let Some(rate) = rate.filter(|rate| self == Self::Gif && *rate > FASTEST_GIF) {
            return Err(Failure::Usage(format!(
                "--fps {rate}: browsers play a GIF of more than {FASTEST_GIF} frames per second in \
                 slow motion"
            )));
        }
        Ok(())
    }
}

/// A file or folder to write.
#[derive(Debug)]
pub struct Output {
    /// Its path.
    pub path: PathBuf,
    /// What it will be.
    pub format: Format,
}

impl Output {
    /// Checks where a video is to be written, before it is made.
    ///
    /// # Errors
    /// The name does not say what it should be, its folder does not exist, or it would replace what
    /// this command did not write.
    pub fn new(path: &Path) -> Outcome<Self> {
        let refuse = |what: &str| Err(Failure::Usage(format!("{} {what}", path.display())));
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        let format = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("mp4") => Format::Mp4,
            Some("gif") => Format::Gif,
            None if extension.is_none() && path.file_name().is_some() => Format::Frames,
            _ => return refuse("is no name for a video: expected NAME.mp4, NAME.gif or a folder"),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(Failure::Usage(format!("{}: its folder does not exist", path.display())));
        }
        let output = Self { path: path.to_owned(), format };
        if !output.replaceable(path) {
            return refuse("exists and was not written by `runner video`; choose another --out");
        }
        let temporary = report::unfinished(path);
        if format == Format::Frames && !output.replaceable(&temporary) {
            return refuse(&format!(
                "needs the name {} for a while; choose another --out",
                temporary.display()
            ));
        }
        Ok(output)
    }

    /// Writes the video: under another name first, so that there is never half a one.
    ///
    /// # Errors
    /// A picture can't be drawn, or something can't be written.
    pub fn write(&self, pictures: &mut dyn Pictures) -> Outcome<()> {
        match self.format {
            Format::Mp4 => report::whole(&self.path, |file| mp4::write(file, pictures)),
            Format::Gif => report::whole(&self.path, |file| gif::write(file, pictures)),
            Format::Frames => self.write_folder(pictures),
        }
        .map_err(|error| {
            if self.format == Format::Frames {
                // What is there only takes space, and the disk may be full.
                let _ = fs::remove_dir_all(report::unfinished(&self.path));
            }
            Failure::file(&self.path, "write", error)
        })
    }

    /// What was written, in bytes.
    pub fn size(&self) -> u64 {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |data| data.len());
        match fs::read_dir(&self.path) {
            Ok(entries) => entries.flatten().map(|entry| bytes(&entry.path())).sum(),
            Err(_) => bytes(&self.path),
        }
    }

    fn write_folder(&self, pictures: &mut dyn Pictures) -> io::Result<()> {
        let temporary = report::unfinished(&self.path);
        let remove = |folder: &Path| match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        remove(&temporary)?;
        fs::create_dir(&temporary)?;
        frames::write(&temporary, pictures)?;
        remove(&self.path)?;
        fs::rename(&temporary, &self.path)
    }

    /// Whether nothing is at `path`, or only what this command writes.
    fn replaceable(&self, path: &Path) -> bool {
        if fs::symlink_metadata(path).is_err() {
            return true;
        }
        if self.format != Format::Frames {
            return path.is_file() && ours(path);
        }
        let Ok(mut entries) = fs::read_dir(path) else { return false };
        entries.all(|entry| {
            let Ok(entry) = entry else { return false };
            entry.file_name().to_str().is_some_and(frames::is_name)
                // A frame that was being written when the program was killed.
                && (ours(&entry.path()) || entry.metadata().is_ok_and(|data| data.len() == 0))
        })
    }
}

/// Whether a file was written by this command.
fn ours(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok() && head.windows(MARK.len()).any(|bytes| bytes == MARK.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SIZE, Square};
    use super::*;

    #[test]
    fn only_videos_of_the_command_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "b.GIF", "frames"] {
            let path = folder.path().join(name);
            let write = |count| Output::new(&path).unwrap().write(&mut Square::new(10.0, count));
            write(3).unwrap();
            write(2).unwrap();
            assert!(!report::unfinished(&path).exists());
        }
        let frames = folder.path().join("frames");
        assert_eq!(fs::read_dir(&frames).unwrap().count(), 2, "the third is gone");
        let decoder = png::Decoder::new(io::BufReader::new(
            File::open(frames.join("frame-00001.png")).unwrap(),
        ));
        let mut reader = decoder.read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!([info.width, info.height], SIZE);
        assert_eq!(rgb[3 * (32 * SIZE[0] as usize + 14)..][..3], Square::colour(1, 14, 32));

        let refused = |name: &str| {
            let Failure::Usage(message) = Output::new(&folder.path().join(name)).unwrap_err()
            else {
                panic!("exit code")
            };
            message
        };
        fs::write(folder.path().join("mine.mp4"), "mine").unwrap();
        assert!(refused("mine.mp4").contains("choose another --out"));
        fs::write(frames.join("notes.txt"), "mine").unwrap();
        assert!(refused("frames").contains("choose another --out"));
        fs::remove_file(frames.join("notes.txt")).unwrap();
        fs::write(frames.join("frame-00007.png"), "mine").unwrap();
        assert!(refused("frames").contains("choose another --out"));
        fs::create_dir(folder.path().join("dir.mp4")).unwrap();
        assert!(refused("dir.mp4").contains("choose another --out"));
        assert!(refused("film.avi").contains("expected NAME.mp4, NAME.gif or a folder"));
        assert!(refused("none/a.mp4").contains("its folder does not exist"));
        fs::create_dir(folder.path().join("new.unfinished")).unwrap();
        fs::write(folder.path().join("new.unfinished/mine"), "mine").unwrap();
        assert!(refused("new").contains("new.unfinished"));
    }

    #[test]
    fn sizes_and_rates_that_a_format_lacks_are_refused() {
        let refused = |format: Format, size, rate| {
            format.check(size, rate).err().map(|failure| failure.message().to_owned())
        };
        assert!(refused(Format::Mp4, [641, 480], None).unwrap().contains("such as 642x480"));
        assert_eq!(refused(Format::Gif, [641, 480], Some(50.0)), None);
        assert!(refused(Format::Gif, [640, 480], Some(60.0)).unwrap().contains("50"));
        assert_eq!(refused(Format::Mp4, [640, 480], Some(60.0)), None);
    }
}
