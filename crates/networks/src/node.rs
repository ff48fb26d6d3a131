//! Functions with a backward pass of our own, as nodes of LibTorch's autograd
//! graph: what `torch.autograd.Function` is to Python, over the bridge of
//! `node.cpp`.

#![expect(unsafe_code, reason = "calls into and from C++")]

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use tch::Tensor;
use torch_sys::C_tensor;

/// A function with a backward pass, and what that needs.
pub(crate) trait Function {
    /// The tensors that it is a function of.
    fn inputs(&self) -> Vec<&Tensor>;

    /// From the gradient at the output to those at the inputs, where they are wanted.
    fn backward(&self, d_output: &Tensor, wanted: &[bool]) -> Vec<Option<Tensor>>;
}

/// [`Function::backward`] as the node calls it.
type Callback = unsafe extern "C" fn(
    context: *mut c_void,
    gradient: *mut C_tensor,
    wanted: *const bool,
    gradients: *mut *mut C_tensor,
    inputs: usize,
);

// In `node.cpp`. A `C_tensor` is an `at::Tensor`.
unsafe extern "C" {
    fn networks_in_graph(inputs: *const *const C_tensor, count: usize) -> bool;
    fn networks_attach(
        output: *mut C_tensor,
        inputs: *const *const C_tensor,
        count: usize,
        context: *mut c_void,
        backward: Callback,
        drop: unsafe extern "C" fn(*mut c_void),
    );
}

/// Whether a function of these tensors belongs to the graph.
pub(crate) fn in_graph(inputs: &[&Tensor]) -> bool {
    let pointers: Vec<_> = inputs.iter().map(|tensor| tensor.as_ptr()).collect();
    // SAFETY: the pointers are of tensors that outlive the call.
    unsafe { networks_in_graph(pointers.as_ptr(), pointers.len()) }
}

/// Makes `output`, newly computed, the function's result in the graph.
pub(crate) fn attach(output: &mut Tensor, function: impl Function + 'static) {
    let function: Box<Box<dyn Function>> = Box::new(Box::new(function));
    let inputs: Vec<_> = function.inputs().iter().map(|tensor| tensor.as_ptr()).collect();
    let (output, context) = (output.as_mut_ptr(), Box::into_raw(function).cast());
    // SAFETY: the pointers are of tensors that the function owns. The node owns it
    // from here on, and gives it to `call` and `release` only.
    unsafe { networks_attach(output, inputs.as_ptr(), inputs.len(), context, call, release) };
}

/// Called by the node for its backward pass.
unsafe extern "C" fn call(
    context: *mut c_void,
    gradient: *mut C_tensor,
    wanted: *const bool,
    gradients: *mut *mut C_tensor,
    inputs: usize,
) {
    // SAFETY: the node hands over its own context, a live tensor, and two lists
    // of as many entries as it has inputs.
    let (function, gradient, wanted, gradients) = unsafe {
        (
            &*context.cast::<Box<dyn Function>>(),
            Tensor::clone_from_ptr(gradient),
            std::slice::from_raw_parts(wanted, inputs),
            std::slice::from_raw_parts_mut(gradients, inputs),
        )
    };
    for (to, gradient) in gradients.iter_mut().zip(function.backward(&gradient, wanted)) {
        if let Some(gradient) = gradient {
            // The node owns it from here on.
            *to = ManuallyDrop::new(gradient).as_mut_ptr();
        }
    }
}

/// Called by the node when its context is no longer needed.
unsafe extern "C" fn release(context: *mut c_void) {
    // SAFETY: made by `Box::into_raw` above, and given back once.
    drop(unsafe { Box::from_raw(context.cast::<Box<dyn Function>>()) });
}
