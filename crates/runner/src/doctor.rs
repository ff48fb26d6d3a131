//! What the program runs on: versions, paths, and whether they are sound.

use crate::device::{linked_with_cuda, loaded_libraries};
use crate::failure::{Failure, Outcome};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Versions that every result is stamped with.
pub fn versions() -> Vec<(&'static str, String)> {
    vec![
        ("smfp", env!("CARGO_PKG_VERSION").to_string()),
        ("mujoco", envs::mujoco_version()),
        ("libtorch", libtorch_version()),
        ("models", models_hash().unwrap_or_else(|_| "unknown".into())),
    ]
}

/// The processor's name.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).into()
}

/// The command `doctor`: a line for each thing; those that are wrong say the mend.
///
/// # Errors
/// Something is wrong.
pub fn doctor() -> Outcome<()> {
    let mut wrong = 0;
    let mut line = |what: &str, finding: Result<String, String>| match finding {
        Ok(text) => println!("ok     {what}: {text}"),
        Err(text) => {
            wrong += 1;
            println!("WRONG  {what}: {text}");
        }
    };
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    line("processor", Ok(format!("{}, {cores} threads", processor())));
    line("program", Ok(format!("{} (commit {})", env!("CARGO_PKG_VERSION"), env!("SMFP_COMMIT"))));
    line("mujoco", Ok(format!("{} from {}", envs::mujoco_version(), path_of("libmujoco.so"))));
    line("libtorch", Ok(format!("{} from {}", libtorch_version(), path_of("libtorch_cpu.so"))));
    line("cuda", cuda());
    line("libraries", check_libraries());
    for id in envs::ids() {
        if let Err(error) = envs::Env::make(id) {
            line(id, Err(error.to_string()));
        }
    }
    let models = envs::models_dir();
    line(
        "models",
        models_hash().map(|hash| {
            format!("{} tasks from {}, list {}", envs::ids().count(), models.display(), &hash[..12])
        }),
    );
    if wrong == 0 {
        Ok(())
    } else {
        let things = if wrong == 1 { "1 thing is" } else { &format!("{wrong} things are") };
        Err(Failure::Failed(format!("{things} wrong, see above")))
    }
}

/// LibTorch's version as set-up recorded it beside the library in use.
pub fn libtorch_version() -> String {
    let lib = PathBuf::from(path_of("libtorch_cpu.so"));
    let recorded = lib.parent().and_then(Path::parent).map(|root| root.join("build-version"));
    let text = recorded.and_then(|file| fs::read_to_string(file).ok());
    text.map_or_else(|| "unknown".into(), |text| text.trim().to_string())
}

fn path_of(library: &str) -> String {
    let found = loaded_libraries().into_iter().find(|path| path.contains(library));
    found.unwrap_or_else(|| "nowhere".into())
}

fn cuda() -> Result<String, String> {
    if !linked_with_cuda() {
        return Ok(
            "not linked (the CPU build of LibTorch); `scripts/just setup-cuda` adds it".into()
        );
    }
    if !tch::Cuda::is_available() {
        return Err("linked, but LibTorch finds no GPU; check the driver with `nvidia-smi`".into());
    }
    let cudnn = if tch::Cuda::cudnn_is_available() { "with" } else { "without" };
    Ok(format!("{} devices, {cudnn} cuDNN", tch::Cuda::device_count()))
}

/// Compares the native libraries in use with the checksums that set-up wrote,
/// and LibTorch's version with the pinned one.
///
/// # Errors
/// One line: the file, what is wrong with it, the mend.
pub fn check_libraries() -> Result<String, String> {
    let (found, pinned) = (libtorch_version(), env!("SMFP_TORCH_VERSION"));
    if found != pinned {
        let file = path_of("libtorch_cpu.so");
        return Err(format!(
            "{file} is version {found}, expected {pinned}; run `scripts/just setup`"
        ));
    }
    let root = PathBuf::from(path_of("libmujoco.so"));
    // third_party/mujoco/lib/libmujoco.so.X
    let root = root.ancestors().nth(3).unwrap_or(Path::new("")).to_path_buf();
    let list = root.join("SHA256SUMS");
    let text = fs::read_to_string(&list)
        .map_err(|error| format!("{}: {error}; run `scripts/just setup`", list.display()))?;
    let mut checked = 0;
    for entry in text.lines() {
        let (expected, name) = entry
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{}: bad line '{entry}'", list.display()))?;
        let path = root.join(name.trim_start().trim_start_matches('*'));
        let mend = "delete it and run `scripts/just setup`";
        let found =
            sha256_of(&path).map_err(|error| format!("{}: {error}; {mend}", path.display()))?;
        if found != expected {
            return Err(format!("{} was altered (its SHA-256 is {found}); {mend}", path.display()));
        }
        checked += 1;
    }
    Ok(format!("{checked} files match {}", list.display()))
}

/// The hash of the list of models' hashes: one name for all models.
fn models_hash() -> Result<String, String> {
    let list = envs::models_dir().join("SHA256SUMS");
    sha256_of(&list)
        .map_err(|error| format!("{}: {error}; run `scripts/just setup`", list.display()))
}

/// A file's SHA-256 in hexadecimal digits.
///
/// # Errors
/// The file can't be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    File::open(path).and_then(sha256)
}

/// The SHA-256, in hexadecimal digits, of what comes.
///
/// # Errors
/// It can't be read.
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
