//! Embedding of the flow time.

use std::f64::consts::FRAC_PI_2;
use tch::Tensor;

/// temb(t) = [sin(k pi t / 2), cos(k pi t / 2)], k = 1..K.
///
/// Low frequencies only: the MeanFlow target differentiates the network with
/// respect to t, and a frequency of w multiplies that derivative by w.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeEmbedding {
    frequencies: i64,
}

impl TimeEmbedding {
    /// An embedding with K frequencies, hence 2 K numbers.
    pub fn new(frequencies: i64) -> Self {
        Self { frequencies }
    }

    /// Numbers in an embedding.
    pub fn dim(&self) -> i64 {
        2 * self.frequencies
    }

    fn angles(&self, t: &Tensor) -> (Tensor, Tensor) {
        let rates =
            Tensor::arange_start(1, self.frequencies + 1, (t.kind(), t.device())) * FRAC_PI_2;
        (t * &rates, rates)
    }

    /// The embedding of times `t` of shape (B, 1): shape (B, 2 K).
    pub fn forward(&self, t: &Tensor) -> Tensor {
        let (angles, _) = self.angles(t);
        Tensor::cat(&[angles.sin(), angles.cos()], 1)
    }

    /// The embedding and its derivative with respect to t.
    pub fn jvp(&self, t: &Tensor) -> (Tensor, Tensor) {
        let (angles, rates) = self.angles(t);
        let (sin, cos) = (angles.sin(), angles.cos());
        let tangent = Tensor::cat(&[&cos * &rates, -(&sin * &rates)], 1);
        (Tensor::cat(&[sin, cos], 1), tangent)
    }
}
