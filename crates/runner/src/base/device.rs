//! The device of the networks, and settings of the process: threads and memory.

use crate::base::console;
use crate::base::failure::{Failure, Outcome};
use networks::{Instructions, Precision};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tch::{Cuda, Device, Kind, Tensor};

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
        let (why, fix) = without_gpu(driver_version());
        return refuse(&why, fix);
    }
    let count = Cuda::device_count();
    if index as i64 >= count {
        return refuse(&format!("there are {count} GPUs"), "count from 0");
    }
    // The first operation shows whether there is memory, and code for this architecture.
    let ones = Tensor::f_ones([64, 64], (Kind::Float, Device::Cuda(index)));
    let product = ones.and_then(|x| x.f_matmul(&x)).and_then(|x| x.f_to_device(Device::Cpu));
    if let Err(error) = product {
        let (why, fix) = of_first_operation(&error.to_string());
        return refuse(&why, fix);
    }
    explain_full_memory(name.to_string());
    Ok(Device::Cuda(index))
}

/// The version of CUDA that LibTorch is built for, as a driver states its own: 1000 major + 10 minor.
const CUDA: i32 = 13_000;
/// What to do where memory is full.
const FREE_MEMORY: &str =
    "end other programs on it (`nvidia-smi` lists them), use smaller networks";

/// The newest version of CUDA that the NVIDIA driver has; None without a driver.
fn driver_version() -> Option<i32> {
    let mut version = 0;
    // SAFETY: the driver's library is loaded by its documented name; its function has the
    // documented signature, and writes one integer.
    let code = unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY);
        if library.is_null() {
            return None;
        }
        let function = libc::dlsym(library, c"cuDriverGetVersion".as_ptr());
        if function.is_null() {
            return None;
        }
        type GetVersion = unsafe extern "C" fn(*mut libc::c_int) -> libc::c_int;
        std::mem::transmute::<*mut libc::c_void, GetVersion>(function)(&raw mut version)
    };
    (code == 0).then_some(version)
}

/// Why there is no GPU, and what to do, for a driver's version.
fn without_gpu(driver: Option<i32>) -> (String, &'static str) {
    let digits = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
    match driver {
        None => ("there is no NVIDIA driver (libcuda.so.1)".into(), "install one"),
        Some(version) if version < CUDA => {
            let (has, needs) = (digits(version), digits(CUDA));
            let why = format!("the NVIDIA driver has CUDA {has}, LibTorch needs {needs}");
            (why, "update the driver to 580 or newer")
        }
        Some(_) => ("LibTorch finds no GPU".into(), "check `nvidia-smi` and CUDA_VISIBLE_DEVICES"),
    }
}

/// Why a GPU's first operation failed, and what to do, from LibTorch's message.
fn of_first_operation(message: &str) -> (String, &'static str) {
    if message.contains("out of memory") {
        return ("the GPU's memory is full".into(), FREE_MEMORY);
    }
    if message.contains("no kernel image") {
        let why = "this build of LibTorch has no code for the GPU's architecture";
        return (why.into(), "name it in `scripts/bundle.sh --cuda-arch`");
    }
    let first = message.lines().next().unwrap_or_default();
    (format!("the GPU's first operation failed: {first}"), "check `nvidia-smi`")
}

/// From here on, an operation of LibTorch for which the GPU has too little memory ends the process
/// with one line, in place of the report of a panic. (The run can be resumed.)
fn explain_full_memory(name: String) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.contains("CUDA out of memory") {
            let line = format!("error: --device {name}: the GPU's memory is full; {FREE_MEMORY}");
            console::message(line);
            std::process::exit(1);
        }
        report(panic);
    }));
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
    // LibTorch refuses to set it twice.
    if tch::get_num_interop_threads() != 1 {
        tch::set_num_interop_threads(1);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_cannot_be_used_is_explained_in_one_line_with_a_way_out() {
        let of = |driver| without_gpu(driver).0;
        assert!(of(None).contains("no NVIDIA driver"));
        assert_eq!(of(Some(12_040)), "the NVIDIA driver has CUDA 12.4, LibTorch needs 13.0");
        assert_eq!(of(Some(13_000)), "LibTorch finds no GPU");
        // Messages as LibTorch has them: several lines.
        let memory =
            "CUDA out of memory. Tried to allocate 2.00 MiB.\nException raised from malloc";
        let (why, fix) = of_first_operation(memory);
        assert_eq!((why.as_str(), fix), ("the GPU's memory is full", FREE_MEMORY));
        let image = "CUDA error: no kernel image is available for execution on the device\nCUDA";
        assert!(of_first_operation(image).1.contains("--cuda-arch"));
        let (why, _) = of_first_operation("CUDA error: unknown error\nSearch for it");
        assert_eq!(why, "the GPU's first operation failed: CUDA error: unknown error");
    }

    #[test]
    fn a_driver_says_its_version_or_is_missing() {
        // 11.0 to 99.9, where there is one.
        assert!(driver_version().is_none_or(|version| (11_000..100_000).contains(&version)));
    }
}
