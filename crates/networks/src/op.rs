//! The seam between LibTorch's operations and code of our own.
//!
//! Whatever has a form of its own for some device is an [`Op`]: a struct with its
//! arguments, a CPU form and a fallback, next to each other in one file and compared
//! by a test there. Only [`explicit`] decides which of them runs. An op that belongs
//! to autograd's graph is [`Differentiable`] too: [`apply`] makes its CPU form a node
//! of the graph, and [`record`] leaves the backward form to a caller that knows its
//! loss's gradient in closed form, so that the update needs no graph.
//!
//! A new network or loss needs nothing here unless a measurement asks for a form of
//! its own. Code for another instruction set is chosen inside a CPU form
//! (`cpu/product.rs`); a form for another kind or device is a method of the trait and
//! a case of [`explicit`].

use crate::node;
use crate::storage::are_f32_on_cpu;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::Tensor;

/// A function of tensors in two forms.
pub(crate) trait Op: Sized {
    /// What it returns; `()` where it changes tensors in place.
    type Output;

    /// The tensors that it reads or changes. An op that is [`Differentiable`] is a
    /// function of these, in this order.
    fn inputs(&self) -> Vec<&Tensor>;

    /// Code of our own, for `f32` on the CPU. Outside of any graph.
    fn cpu(self) -> Self::Output;

    /// LibTorch's operations, for other devices and kinds; part of the caller's
    /// graph. It is the reference that the other form is tested against.
    fn fallback(self) -> Self::Output;
}

/// An op that can be part of autograd's graph.
pub(crate) trait Differentiable: Op<Output = Tensor> + 'static {
    /// What the forward form leaves for the backward form.
    type Kept: 'static;

    /// [`Op::cpu`], with what the backward form needs.
    fn forward(&self) -> (Tensor, Self::Kept);

    /// From the gradient at the output to those at [`Op::inputs`], where they are
    /// `wanted`, each in the shape of its input.
    fn backward(
        &self,
        kept: &Self::Kept,
        d_output: &Tensor,
        wanted: &[bool],
    ) -> Vec<Option<Tensor>>;
}

/// Whether ops may have their CPU form.
static EXPLICIT: AtomicBool = AtomicBool::new(true);

/// Whether `f32` on the CPU is computed by code of our own, as it is from the start, or by LibTorch's
/// operations like everything else: a setting of the process, for tests of what other devices compute.
pub fn set_explicit(on: bool) {
    EXPLICIT.store(on, Ordering::Relaxed);
}

/// Whether the CPU form can work on these tensors: the decision for all ops.
fn explicit(inputs: &[&Tensor]) -> bool {
    EXPLICIT.load(Ordering::Relaxed) && are_f32_on_cpu(inputs)
}

/// An op outside of any graph.
pub(crate) fn run<O: Op>(op: O) -> O::Output {
    let _guard = tch::no_grad_guard();
    if explicit(&op.inputs()) { op.cpu() } else { op.fallback() }
}

/// An op as part of the caller's graph.
pub(crate) fn apply<O: Differentiable>(op: O) -> Tensor {
    let inputs = op.inputs();
    if !explicit(&inputs) {
        return op.fallback();
    }
    if !node::in_graph(&inputs) {
        return tch::no_grad(|| op.cpu());
    }
    let (mut output, kept) = tch::no_grad(|| op.forward());
    node::attach(&mut output, Recorded { op, kept });
    output
}

/// An op outside of any graph, with its backward pass.
pub(crate) fn record<O: Differentiable>(op: O) -> (Tensor, Backward<O>) {
    if explicit(&op.inputs()) {
        let (output, kept) = tch::no_grad(|| op.forward());
        return (output, Backward::Explicit(Recorded { op, kept }));
    }
    let inputs = handles(op.inputs());
    let output = tch::with_grad(|| op.fallback());
    (output.detach(), Backward::Fallback { inputs, output })
}

/// The backward pass of a recorded op.
pub(crate) enum Backward<O: Differentiable> {
    /// By code of our own.
    Explicit(Recorded<O>),
    /// By autograd, through a graph that nobody else sees.
    Fallback { inputs: Vec<Tensor>, output: Tensor },
}

impl<O: Differentiable> Backward<O> {
    /// Whether it is code of our own.
    pub fn is_explicit(&self) -> bool {
        matches!(self, Self::Explicit(_))
    }

    /// From the gradient at the output to those at [`Op::inputs`], where they require
    /// one.
    pub fn gradients(self, d_output: &Tensor) -> Vec<Option<Tensor>> {
        match self {
            Self::Explicit(Recorded { op, kept }) => tch::no_grad(|| {
                let wanted: Vec<bool> = op.inputs().iter().map(|x| x.requires_grad()).collect();
                op.backward(&kept, d_output, &wanted)
            }),
            Self::Fallback { inputs, output } => {
                let wanted: Vec<&Tensor> = inputs.iter().filter(|x| x.requires_grad()).collect();
                let scalar = tch::with_grad(|| (&output * d_output).sum(output.kind()));
                let gradients = Tensor::run_backward(&[scalar], &wanted, false, false);
                let mut gradients = gradients.into_iter();
                let gradient = |x: &Tensor| if x.requires_grad() { gradients.next() } else { None };
                inputs.iter().map(gradient).collect()
            }
        }
    }
}

/// An op whose forward form has run.
pub(crate) struct Recorded<O: Differentiable> {
    op: O,
    kept: O::Kept,
}

impl<O: Differentiable> node::Function for Recorded<O> {
    fn inputs(&self) -> Vec<&Tensor> {
        self.op.inputs()
    }

    fn backward(&self, d_output: &Tensor, wanted: &[bool]) -> Vec<Option<Tensor>> {
        self.op.backward(&self.kept, d_output, wanted)
    }
}

/// Handles of the same tensors, to own them.
pub(crate) fn handles<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<Tensor> {
    tensors.into_iter().map(Tensor::shallow_clone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// a b.
    struct Product {
        a: Tensor,
        b: Tensor,
    }

    impl Op for Product {
        type Output = Tensor;

        fn inputs(&self) -> Vec<&Tensor> {
            vec![&self.a, &self.b]
        }

        fn cpu(self) -> Tensor {
            self.forward().0
        }

        fn fallback(self) -> Tensor {
            self.a * self.b
        }
    }

    impl Differentiable for Product {
        type Kept = ();

        fn forward(&self) -> (Tensor, ()) {
            (&self.a * &self.b, ())
        }

        fn backward(&self, (): &(), d: &Tensor, wanted: &[bool]) -> Vec<Option<Tensor>> {
            vec![wanted[0].then(|| d * &self.b), wanted[1].then(|| d * &self.a)]
        }
    }

    #[test]
    fn a_recorded_op_has_the_gradients_that_are_wanted_and_leaves_no_graph() {
        // `f32` takes the CPU form, `f64` the fallback.
        for kind in [Kind::Float, Kind::Double] {
            let a = Tensor::from_slice(&[2f32, 3.0]).to_kind(kind).set_requires_grad(true);
            let b = Tensor::from_slice(&[5f32, 7.0]).to_kind(kind);
            let d = Tensor::from_slice(&[1f32, -1.0]).to_kind(kind);
            let _guard = tch::no_grad_guard();
            let (ab, pass) = record(Product { a: a.shallow_clone(), b: b.shallow_clone() });
            assert_eq!(ab, &a * &b);
            assert!(!ab.requires_grad());
            let gradients = pass.gradients(&d);
            assert_eq!(gradients[0].as_ref(), Some(&(&d * &b)), "{kind:?}");
            assert!(gradients[1].is_none(), "{kind:?}");
        }
    }
}
