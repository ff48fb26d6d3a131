//! Functions whose value and slope are known already.

use crate::op::{Differentiable, Op, apply};
use tch::Tensor;

/// A function of x that has been computed outside of the graph, as part of it: `value`
/// (B) at `x` (B, n), where its gradient is `slope` (B, n). Both are constants of the
/// graph, so a second derivative is zero.
pub fn with_slope(value: Tensor, x: &Tensor, slope: Tensor) -> Tensor {
    apply(WithSlope { value, x: x.shallow_clone(), slope })
}

struct WithSlope {
    value: Tensor,
    x: Tensor,
    slope: Tensor,
}

impl Op for WithSlope {
    type Output = Tensor;

    fn inputs(&self) -> Vec<&Tensor> {
        vec![&self.x]
    }

    fn cpu(self) -> Tensor {
        self.value
    }

    fn fallback(self) -> Tensor {
        let step = self.slope * (&self.x - self.x.detach());
        self.value + step.sum_dim_intlist(&[1i64][..], false, None)
    }
}

impl Differentiable for WithSlope {
    type Kept = ();

    fn forward(&self) -> (Tensor, ()) {
        // (Not the same tensor: the node must not own its own output.)
        (self.value.detach(), ())
    }

    fn backward(&self, (): &(), d_output: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        vec![Some(d_output.unsqueeze(1) * &self.slope)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn both_forms_have_the_value_and_the_slope() {
        let value = Tensor::from_slice(&[5f32, -1.0]);
        let slope = Tensor::from_slice2(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        // `f32` takes the CPU form, `f64` the fallback.
        for kind in [Kind::Float, Kind::Double] {
            let x = Tensor::from_slice2(&[[7f32, 8.0, 9.0], [0.0, 1.0, 2.0]]);
            let x = x.to_kind(kind).set_requires_grad(true);
            let y = with_slope(value.to_kind(kind), &x, slope.to_kind(kind));
            assert_eq!(y.detach(), value.to_kind(kind));
            let weights = Tensor::from_slice(&[2f32, -3.0]).to_kind(kind);
            let scalar = (&y * &weights).sum(kind);
            let gradient = Tensor::run_backward(&[scalar], &[x], false, false).remove(0);
            assert_eq!(gradient, weights.unsqueeze(1) * slope.to_kind(kind), "{kind:?}");
        }
    }
}
