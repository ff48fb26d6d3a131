//! Work of a GPU that is recorded once and then repeated without the host's part in it.

#![expect(unsafe_code, reason = "calls into C++")]

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use tch::Device;

/// Where C++ leaves a message.
type Message = [c_char; 512];

/// The current device and its stream, in C++'s layout.
#[repr(C)]
#[derive(Default)]
struct Current {
    device: i64,
    stream_id: i64,
    stream_device: i8,
    stream_type: i8,
}

// In `cuda_graph.cpp`.
unsafe extern "C" {
    fn networks_graph_new(error: *mut c_char, room: usize) -> *mut c_void;
    fn networks_graph_drop(graph: *mut c_void);
    fn networks_graph_begin(graph: *mut c_void, error: *mut c_char, room: usize) -> bool;
    fn networks_graph_end(graph: *mut c_void, error: *mut c_char, room: usize) -> bool;
    fn networks_graph_replay(graph: *mut c_void, error: *mut c_char, room: usize) -> bool;
    fn networks_stream_enter(
        device: i32,
        before: *mut Current,
        error: *mut c_char,
        room: usize,
    ) -> bool;
    fn networks_stream_leave(before: *const Current, error: *mut c_char, room: usize) -> bool;
}

/// Records work of a device to repeat it.
pub trait Recorder {
    /// Does some work that is to be recorded later: what libraries set up at their first call is there
    /// then.
    ///
    /// # Errors
    /// The device fails.
    fn warm_up(&self, work: &mut dyn FnMut()) -> Result<(), String>;

    /// Records the device's part of some work without doing it; the host's part is done. Tensors that the
    /// work leaves behind hold numbers after a replay. The work must not read a tensor's numbers, nor
    /// copy from main memory.
    ///
    /// # Errors
    /// The work has an operation that can't be recorded: the first line of LibTorch's message.
    fn record(&self, work: &mut dyn FnMut()) -> Result<Box<dyn Replay>, String>;
}

/// Recorded work.
pub trait Replay {
    /// Does the device's part of the work, after what it has to do already.
    ///
    /// # Errors
    /// The device refuses: the first line of LibTorch's message.
    fn replay(&mut self) -> Result<(), String>;
}

/// Records work of a GPU as CUDA graphs.
pub struct CudaGraphs(pub Device);

impl Recorder for CudaGraphs {
    /// On a stream that is not the default one, on which nothing can be captured.
    fn warm_up(&self, work: &mut dyn FnMut()) -> Result<(), String> {
        on_side_stream(self.0, work)
    }

    fn record(&self, work: &mut dyn FnMut()) -> Result<Box<dyn Replay>, String> {
        let graph = make()?;
        on_side_stream(self.0, || {
            // SAFETY: the graph lives until the end of this function.
            tried(|error, room| unsafe { networks_graph_begin(graph.0.as_ptr(), error, room) })?;
            // An operation's error is a panic; the stream must leave the capture all the same.
            let result = catch_unwind(AssertUnwindSafe(work));
            // SAFETY: as above.
            let end =
                tried(|error, room| unsafe { networks_graph_end(graph.0.as_ptr(), error, room) });
            result.map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                first_line(text.unwrap_or("an operation failed"))
            })?;
            end
        })??;
        Ok(Box::new(graph))
    }
}

/// A CUDA graph: the operations of some work with the tensors that they read and write.
struct CudaGraph(NonNull<c_void>);

impl Replay for CudaGraph {
    fn replay(&mut self) -> Result<(), String> {
        // SAFETY: made by `networks_graph_new`, and captured.
        tried(|error, room| unsafe { networks_graph_replay(self.0.as_ptr(), error, room) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: made by `networks_graph_new`, and dropped once.
        unsafe { networks_graph_drop(self.0.as_ptr()) };
    }
}

fn make() -> Result<CudaGraph, String> {
    let mut graph = None;
    tried(|error, room| {
        // SAFETY: the message has this room.
        graph = NonNull::new(unsafe { networks_graph_new(error, room) });
        graph.is_some()
    })?;
    graph.map(CudaGraph).ok_or_else(|| "there is no CUDA graph".into())
}

/// Does some work of a GPU on a stream that is not the default one.
fn on_side_stream<T>(device: Device, work: impl FnOnce() -> T) -> Result<T, String> {
    let Device::Cuda(index) = device else { return Err(format!("{device:?} is no GPU")) };
    let mut before = Current::default();
    // SAFETY: the pointer is of a struct of this layout.
    tried(|error, room| unsafe {
        networks_stream_enter(index as i32, &raw mut before, error, room)
    })?;
    // (A panic of the work ends the process, or leaves a stream that works as well.)
    let result = work();
    // SAFETY: as above.
    tried(|error, room| unsafe { networks_stream_leave(&raw const before, error, room) })?;
    Ok(result)
}

/// Calls a function of C++ that returns whether it succeeded, with room for its message.
fn tried(call: impl FnOnce(*mut c_char, usize) -> bool) -> Result<(), String> {
    let mut message: Message = [0; 512];
    if call(message.as_mut_ptr(), message.len()) {
        return Ok(());
    }
    // SAFETY: the message ends with a zero byte.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) };
    Err(first_line(&text.to_string_lossy()))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_there_is_no_graph_but_one_line_that_says_so() {
        let captured = |device| CudaGraphs(device).record(&mut || ()).err();
        if tch::Cuda::is_available() {
            assert_eq!(captured(Device::Cuda(0)), None);
        } else {
            let why = captured(Device::Cuda(0)).unwrap();
            assert!(why.starts_with("this LibTorch has no CUDA graphs"), "{why}");
            assert!(CudaGraphs(Device::Cuda(0)).warm_up(&mut || ()).is_err());
        }
        assert!(captured(Device::Cpu).is_some());
    }
}
