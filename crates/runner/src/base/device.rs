//! Where networks live.

use crate::base::failure::{Failure, Outcome};
use tch::{Cuda, Device};

/// Reads `--device`, of whatever machine.
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

/// Reads `--device`, of this machine. There is no silent fall-back: CUDA that is
/// not there is an error.
///
/// # Errors
/// An unknown device, or a CUDA device that this machine does not have.
pub fn parse(name: &str) -> Outcome<Device> {
    let Device::Cuda(index) = named(name)? else { return Ok(Device::Cpu) };
    let refuse = |why: &str, mend: &str| {
        Err(Failure::Usage(format!("--device {name}: {why}; {mend}, or use --device cpu")))
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

/// Lets networks use some threads, and each of LibTorch's operations only the
/// one that calls it.
///
/// LibTorch's own threads would add the parts of a sum in another order, so that
/// results depended on their number; ours don't.
pub fn use_threads(threads: usize) {
    tch::set_num_threads(1);
    tch::set_num_interop_threads(1);
    networks::set_threads(threads);
    keep_freed_memory();
}

/// Tells glibc's allocator to keep what is freed: an update allocates and frees
/// the same few hundred kilobytes again and again, and getting them from the
/// system anew, a page fault every 4 kB, would cost as much as the arithmetic.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 28);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

/// Whether the CUDA half of LibTorch is loaded into this process.
pub fn linked_with_cuda() -> bool {
    loaded_libraries().iter().any(|path| path.contains("libtorch_cuda.so"))
}

/// Paths of the shared libraries that this process has loaded.
pub fn loaded_libraries() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut paths: Vec<String> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains(".so"))
        .map(str::to_string)
        .collect();
    paths.sort();
    paths.dedup();
    paths
}
