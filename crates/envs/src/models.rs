//! Finds, checks and loads the MJCF files; checks the MuJoCo version.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mujoco_rs::error::MjEditError;
use mujoco_rs::mujoco_c::mjtEnableBit;
use mujoco_rs::wrappers::mj_editing::MjSpec;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::ffi::xml_error;
use crate::messages::{Message, capture, messages_so_far, one_line};
use crate::registry::open;

/// The MuJoCo version whose results the crate reproduces.
const MUJOCO_VERSION: &str = "3.17.0";

/// The pinned checksums, in `sha256sum`'s format; compiled in, so that they can't be changed
/// together with the models.
const CHECKSUMS: &str = include_str!("../../../models/SHA256SUMS");

/// The folder of MJCF files: `SMFP_MODELS` if set, else `models/` of the clone that contains the
/// running program, else `models/` of the clone in which it was built.
pub fn models_dir() -> PathBuf {
    if let Some(folder) = env::var_os("SMFP_MODELS") {
        return PathBuf::from(folder);
    }
    let program = env::current_exe().unwrap_or_default();
    program
        .ancestors()
        .map(|folder| folder.join("models"))
        .find(|folder| folder.join("SHA256SUMS").is_file())
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models"))
}

/// Checks that `file`, a name within [`models_dir`], is the pinned model, and returns its path.
///
/// # Errors
/// [`Error::MissingModel`] or [`Error::AlteredModel`].
pub fn check_model(file: &str) -> Result<PathBuf, Error> {
    check_in(&models_dir(), file)
}

fn check_in(folder: &Path, file: &str) -> Result<PathBuf, Error> {
    let path = folder.join(file);
    let content =
        fs::read(&path).map_err(|cause| Error::MissingModel { file: path.clone(), cause })?;
    let found: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = CHECKSUMS
        .lines()
        .filter_map(|line| line.split_once("  "))
        .find(|(_, name)| *name == file)
        .map_or("no checksum of it", |(sum, _)| sum);
    if found == expected {
        Ok(path)
    } else {
        Err(Error::AlteredModel { file: path, found, expected: expected.to_owned() })
    }
}

/// Checks a model that a task's file names, if it is one of the pinned models in [`models_dir`].
pub(crate) fn check_if_pinned(file: &Path) -> Result<(), Error> {
    // The file itself may be missing.
    let folder = Path::new(".").join(file).parent().map(Path::canonicalize).transpose();
    let (Ok(models), Ok(folder)) =
        (models_dir().canonicalize(), folder.map(Option::unwrap_or_default))
    else {
        return Ok(());
    };
    let path = folder.join(file.file_name().unwrap_or_default());
    let name = path.strip_prefix(&models).ok().and_then(Path::to_str);
    let pinned = |name: &&str| CHECKSUMS.lines().any(|line| line.ends_with(&format!("  {name}")));
    name.filter(pinned).map_or(Ok(()), |name| check_in(&models, name).map(drop))
}

/// The version of the loaded MuJoCo library, such as "3.17.0".
pub fn mujoco_version() -> String {
    mujoco_rs::mujoco_version().to_owned()
}

/// The model of a task, its own or the user's, as MuJoCo compiled it: the bytes of an MJB file,
/// with everything that the MJCF file includes and every mesh and texture. They can be loaded as
/// a model of the user's, and give the same simulation to the bit.
///
/// # Errors
/// Those of [`Env::make_with_model`](crate::Env::make_with_model).
pub fn compile(id: &str, model: Option<&Path>) -> Result<Vec<u8>, Error> {
    let (_, model) = open(id, model)?;
    let mut bytes = vec![0; model.size()];
    model.save_to_buffer(&mut bytes).expect("the buffer has the model's size");
    Ok(bytes)
}

/// Loads an MJCF file with MuJoCo, or an MJB file, which holds a compiled model.
pub(crate) fn load(path: &Path) -> Result<MjModel, Error> {
    check_readable(path)?;
    if path.extension().is_some_and(|extension| extension == "mjb") {
        let before = messages_so_far();
        let model = MjModel::from_mjb(path)
            .map_err(|_| Error::Model { file: path.to_owned(), message: mjb_error(&before) });
        return supported(model?, path);
    }
    supported(MjModel::from_xml(path).map_err(|cause| rejected(path, &cause))?, path)
}

/// Loads an MJCF file that is changed by `edit` before it is compiled; `broken` makes an error of
/// MuJoCo's reason why it does not compile then.
pub(crate) fn load_edited(
    path: &Path,
    edit: impl FnOnce(&mut MjSpec) -> Result<(), Error>,
    broken: impl FnOnce(String) -> Error,
) -> Result<MjModel, Error> {
    check_readable(path)?;
    let mut spec = MjSpec::from_xml(path).map_err(|cause| rejected(path, &cause))?;
    edit(&mut spec)?;
    let model = spec.compile().map_err(|cause| match cause {
        MjEditError::CompileFailed(reason) => broken(reason),
        cause => broken(cause.to_string()),
    });
    supported(model?, path)
}

fn supported(model: MjModel, path: &Path) -> Result<MjModel, Error> {
    match unsupported(&model) {
        None => Ok(model),
        Some(what) => Err(Error::UnsupportedModel { file: path.to_owned(), what }),
    }
}

/// What MuJoCo accepts and this crate can't name, save or simulate.
fn unsupported(model: &MjModel) -> Option<String> {
    let names: Vec<u8> = model.names().iter().map(|byte| *byte as u8).collect();
    let strange = names.split(|byte| *byte == 0).find(|name| str::from_utf8(name).is_err());
    if let Some(name) = strange {
        let name = String::from_utf8_lossy(name);
        return Some(format!("the name '{name}' is not UTF-8, expected a file in UTF-8"));
    }
    let timestep = model.opt().timestep;
    if !(timestep > 0.0 && timestep.is_finite()) {
        return Some(format!("its timestep is {timestep}, expected seconds above 0"));
    }
    for (flag, bit) in [("sleep", mjtEnableBit::mjENBL_SLEEP), ("ipc", mjtEnableBit::mjENBL_IPC)] {
        if model.opt().enableflags & bit as i32 != 0 {
            return Some(format!(
                "it enables {flag}, whose state can't be saved with a simulation's: \
                 remove the flag from <option>"
            ));
        }
    }
    // A component of the action is an actuator's control, and has its name, gear and force.
    let sizes = model.actuator_ctrlnum().iter().zip(model.actuator_outnum());
    let (actuator, (controls, forces)) = sizes.enumerate().find(|(_, sizes)| *sizes != (&1, &1))?;
    let name = model.id_to_name(MjtObjBase::mjOBJ_ACTUATOR, actuator).unwrap_or_default();
    Some(format!(
        "actuator {actuator} '{name}' has {controls} controls and {forces} forces, expected one of each"
    ))
}

/// Prepares for MuJoCo, whose message does not distinguish a missing file from a malformed one.
fn check_readable(path: &Path) -> Result<(), Error> {
    let found = mujoco_version();
    if found != MUJOCO_VERSION {
        return Err(Error::MujocoVersion { found, expected: MUJOCO_VERSION });
    }
    File::open(path).map_err(|cause| Error::UnreadableModel { file: path.to_owned(), cause })?;
    if path.to_str().is_none() {
        let what = "MuJoCo can't read it, as its path is not UTF-8".into();
        return Err(Error::UnsupportedModel { file: path.to_owned(), what });
    }
    capture();
    Ok(())
}

fn rejected(path: &Path, cause: &dyn std::error::Error) -> Error {
    let message = one_line(&xml_error(path).unwrap_or_else(|| cause.to_string()));
    Error::Model { file: path.to_owned(), message }
}

/// Why an MJB file is refused: MuJoCo returns no reason, but most often gives it as a message that
/// was not among those `before`.
fn mjb_error(before: &[Message]) -> String {
    let mut new = messages_so_far().into_iter().filter(|message| !before.contains(message));
    let reason = new.next_back().map(|message| format!("{}; ", message.text));
    format!(
        "{}expected a model that MuJoCo {MUJOCO_VERSION} compiled, whole, or its MJCF file",
        reason.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_altered_model_is_refused_with_how_to_fix_it() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = || check_in(folder.path(), "hopper.xml").unwrap_err();
        assert!(matches!(refusal(), Error::MissingModel { .. }));
        assert!(refusal().to_string().contains("scripts/just setup"));

        let mut content = fs::read(check_model("hopper.xml").unwrap()).unwrap();
        fs::write(folder.path().join("hopper.xml"), &content).unwrap();
        assert!(check_in(folder.path(), "hopper.xml").is_ok());

        content.push(b'\n');
        fs::write(folder.path().join("hopper.xml"), &content).unwrap();
        assert!(matches!(refusal(), Error::AlteredModel { .. }));
        assert_eq!(refusal().to_string().lines().count(), 1);
    }

    #[test]
    fn a_model_that_mujoco_accepts_and_that_cannot_be_simulated_here_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arm.xml");
        let refusal = |option: &str, joint: &[u8], actuator: &str| {
            let head = format!("<mujoco><option {option}</option><worldbody><body><joint name='");
            let tail =
                "' type='slide'/><geom size='1'/></body></worldbody><actuator><motor joint='";
            let end = format!("'/>{actuator}</actuator></mujoco>");
            let parts = [head.as_bytes(), joint, tail.as_bytes(), joint, end.as_bytes()];
            fs::write(&file, parts.concat()).unwrap();
            load(&file).err().map(|error| error.to_string())
        };
        assert_eq!(refusal(">", b"hip", ""), None);
        for (option, joint, actuator, words) in [
            (">", &b"h\xfcft"[..], "", "not UTF-8"),
            ("timestep='nan'>", b"hip", "", "timestep is NaN"),
            ("timestep='-0.01'>", b"hip", "", "timestep is -0.01"),
            ("><flag sleep='enable'/>", b"hip", "", "enables sleep"),
            (
                ">",
                b"hip",
                "<pid name='servo' joint='hip' kp='1'/>",
                "actuator 1 'servo' has 2 controls",
            ),
            (
                ">",
                b"hip",
                "<dcmotor joint='hip' input='none' motorconst='1' resistance='1'/>",
                "actuator 1 '' has 0 controls",
            ),
        ] {
            let message = refusal(option, joint, actuator).unwrap_or_else(|| panic!("{words}"));
            assert!(message.contains("arm.xml: ") && message.contains(words), "{message}");
        }
    }
}
