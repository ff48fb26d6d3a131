//! What an update measures: a list of names, and a number for each.

use tch::{Device, Kind, Tensor};

/// Names and tensors of one number each, without gradients, in the order in which they
/// were recorded. The names become columns of `train.csv`.
///
/// The tensors stay on their device until [`read`](Self::read).
#[derive(Debug, Default)]
pub struct Metrics(Vec<(&'static str, Tensor)>);

impl Metrics {
    /// Adds a quantity; `value` holds one number.
    pub fn record(&mut self, name: &'static str, value: &Tensor) {
        self.0.push((name, value.detach()));
    }

    /// Adds what another part of the update measured.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The same numbers under other names: `rename` of each.
    pub fn renamed(self, rename: impl Fn(&'static str) -> &'static str) -> Self {
        Self(self.0.into_iter().map(|(name, value)| (rename(name), value)).collect())
    }

    /// The names, in the order of the values.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// All numbers as one vector on their device, in the order of the names; none if there are none.
    pub(crate) fn vector(&self) -> Option<Tensor> {
        let flat: Vec<Tensor> = self.0.iter().map(|(_, value)| value.reshape([1])).collect();
        (!flat.is_empty()).then(|| Tensor::cat(&flat, 0))
    }

    /// The inverse of [`vector`](Self::vector).
    pub(crate) fn from_vector(names: &[&'static str], vector: &Tensor) -> Self {
        let at = |(i, name): (usize, &&'static str)| (*name, vector.get(i as i64));
        Self(names.iter().enumerate().map(at).collect())
    }

    /// The numbers, in one copy from the device. A GPU finishes its work first, so a training
    /// loop there reads them when it writes its log.
    ///
    /// # Errors
    /// The first that is not finite: training has diverged.
    pub fn read(&self) -> Result<Vec<(&'static str, f64)>, Diverged> {
        let Some(vector) = self.vector() else { return Ok(Vec::new()) };
        let vector = vector.to_kind(Kind::Double).to_device(Device::Cpu);
        let values = Vec::<f64>::try_from(vector).expect("a vector of numbers");
        let named: Vec<_> = self.names().zip(values).collect();
        match named.iter().find(|(_, value)| !value.is_finite()) {
            Some(&(quantity, value)) => Err(Diverged { quantity, value }),
            None => Ok(named),
        }
    }
}

impl<const N: usize> From<[(&'static str, &Tensor); N]> for Metrics {
    fn from(entries: [(&'static str, &Tensor); N]) -> Self {
        Self(entries.map(|(name, value)| (name, value.detach())).into())
    }
}

/// Training has diverged: a metric is not finite.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{quantity} is {value}")]
pub struct Diverged {
    /// The quantity, by the name of its column in `train.csv`.
    pub quantity: &'static str,
    /// Its value.
    pub value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_in_their_order_and_the_first_that_is_not_finite_is_named() {
        let mut metrics = Metrics::from([("loss", &Tensor::from(1.5f32))]);
        metrics.extend(Metrics::from([("alpha", &Tensor::from_slice(&[0.25f32]))]));
        assert_eq!(metrics.read(), Ok(vec![("loss", 1.5), ("alpha", 0.25)]));
        metrics = metrics.renamed(|name| if name == "alpha" { "weight" } else { name });
        assert_eq!(metrics.names().collect::<Vec<_>>(), ["loss", "weight"]);
        metrics.record("entropy", &Tensor::from(f32::NAN));
        metrics.record("grad_norm", &Tensor::from(f32::INFINITY));
        assert_eq!(metrics.read().unwrap_err().to_string(), "entropy is NaN");
    }
}
