//! The device of the networks, and settings of the process: threads and memory.

use crate::base::failure::{Failure, Outcome};
use networks::{Instructions, Precision};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tch::{Cuda, Device};

/// Reads `--device`; whether this machine has it is not checked.
///
/// # Errors
/// An unknown device.
pub fn named(name: &str) -> Outcome<Device> {
    Ok(match name {
        "cpu" => Device::Cpu,
        "cuda" => Device::Cuda(0),
        _ => {
            let index = name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
            Device::Cuda(index.ok_or_else(|| {
                Failure::Usage(format!("--device {name}: expected cpu, cuda or cuda:INDEX"))
            })?)
        }
    })
}

/// Reads `--device` and checks that this machine has it. There is no silent
/// fall-back: a missing GPU is an error.
///
/// # Errors
/// An unknown device, or a CUDA device that this machine does not have.
pub fn available(name: &str) -> Outcome<Device> {
    let Device::Cuda(index) = named(name)? else { return Ok(Device::Cpu) };
    let refuse = |why: &str, fix: &str| {
        Err(Failure::Usage(format!("--device {name}: {why}; {fix}, or use --device cpu")))
    };
    if !linked_with_cuda() {
        return refuse(
            "this program is linked with the CPU build of LibTorch",
            "run `scripts/just setup-cuda` and build again",
        );
    }
    if !Cuda::is_available() {
        return refuse("LibTorch finds no GPU", "check the NVIDIA driver with `nvidia-smi`");
    }
    let count = Cuda::device_count();
    if index as i64 >= count {
        return refuse(&format!("there are {count} GPUs"), "count from 0");
    }
    Ok(Device::Cuda(index))
}

/// Processors that this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Sets up the process for networks on `threads` threads, before the first of them is used.
///
/// [`networks::set_threads`] also limits each of LibTorch's operations to the thread
/// that calls it: LibTorch's own threads would add the parts of a sum in another order,
/// and results would depend on their number.
pub fn use_threads(threads: usize) {
    tch::set_num_interop_threads(1);
    networks::set_threads(threads);
    keep_freed_memory();
}

/// Tells glibc's allocator to keep freed memory: an update allocates and frees the same
/// few hundred kilobytes each time. Returning them to the system and getting them back,
/// with a page fault every 4 kB, would cost as much as the arithmetic.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets two parameters of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 28);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

/// Whether the CUDA half of LibTorch is loaded into this process.
pub fn linked_with_cuda() -> bool {
    loaded_libraries().iter().any(|path| path.ends_with("libtorch_cuda.so"))
}

/// Paths of the shared libraries that this process has loaded. Paths are bytes, and may hold blanks.
pub fn loaded_libraries() -> BTreeSet<PathBuf> {
    let maps = std::fs::read("/proc/self/maps").unwrap_or_default();
    let path = |line: &[u8]| {
        // Addresses, rights, offset, device, inode; what is mapped comes last.
        let first = line.iter().position(|byte| *byte == b'/')?;
        Some(PathBuf::from(OsStr::from_bytes(&line[first..])))
    };
    let library = |path: &PathBuf| path.to_string_lossy().contains(".so");
    maps.split(|byte| *byte == b'\n').filter_map(path).filter(library).collect()
}

/// Checks that updates on this device can be made in this precision.
///
/// # Errors
/// The processor lacks it, or the networks are on a GPU.
pub fn check_precision(precision: Precision, device: Device) -> Outcome<()> {
    let refuse = |why: &str| {
        let message = format!("train.precision = \"{precision}\": {why}; use \"f32\"");
        Err(Failure::Usage(message))
    };
    match device {
        Device::Cpu => precision.check().or_else(|why| refuse(&why)),
        _ if precision == Precision::Bf16 => refuse("it is for networks on a CPU"),
        _ => Ok(()),
    }
}

/// Makes the CPU kernels use the instructions that `SMFP_INSTRUCTIONS` names, if it is set;
/// else the fastest that the processor has.
///
/// # Errors
/// An unknown name, or instructions that the processor lacks.
pub fn choose_instructions(name: Option<&OsStr>) -> Outcome<()> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(()) };
    let chosen = name.to_string_lossy().parse().and_then(Instructions::set);
    chosen.map_err(|error| Failure::Usage(format!("SMFP_INSTRUCTIONS: {error}")))
}
