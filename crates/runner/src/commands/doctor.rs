//! `runner doctor`: what the program runs on, what is wrong with it and how to fix it.

use crate::base::console;
use crate::base::device::linked_with_cuda;
use crate::base::failure::{Failure, Outcome};
use crate::base::versions::{check_libraries, libtorch_version, models_hash, path_of, processor};
use networks::Instructions;

/// The command: prints a line for each thing that was checked.
///
/// # Errors
/// Something is wrong.
pub fn doctor() -> Outcome<()> {
    let mut wrong = 0;
    let mut line = |what: &str, finding: Result<String, String>| {
        let verdict = if finding.is_ok() { "ok   " } else { "WRONG" };
        wrong += usize::from(finding.is_err());
        let text = finding.unwrap_or_else(|text| text);
        console::data(format!("{verdict}  {what}: {text}\n"))
    };
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    line("processor", Ok(format!("{}, {cores} threads", processor())))?;
    let has: Vec<String> = Instructions::available().map(|form| form.to_string()).collect();
    let used = Instructions::in_use();
    line("instructions", Ok(format!("{used} (the processor has {})", has.join(", "))))?;
    line("program", Ok(format!("{} (commit {})", env!("CARGO_PKG_VERSION"), env!("SMFP_COMMIT"))))?;
    let from = |version: String, library| format!("{version} from {}", path_of(library).display());
    line("mujoco", Ok(from(envs::mujoco_version(), "libmujoco.so")))?;
    line("libtorch", Ok(from(libtorch_version(), "libtorch_cpu.so")))?;
    line("cuda", cuda())?;
    line("libraries", check_libraries())?;
    for id in envs::ids() {
        if let Err(error) = envs::Env::make(id) {
            line(id, Err(error.to_string()))?;
        }
    }
    let models = envs::models_dir();
    line(
        "models",
        models_hash().map(|hash| {
            format!("{} tasks from {}, list {}", envs::ids().count(), models.display(), &hash[..12])
        }),
    )?;
    if wrong == 0 {
        Ok(())
    } else {
        let things = if wrong == 1 { "1 thing is" } else { &format!("{wrong} things are") };
        Err(Failure::Failed(format!("{things} wrong, see above")))
    }
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
