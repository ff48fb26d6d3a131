//! The numbers of one network, as one flat vector.

use crate::instructions::kernel;
use crate::op::{Op, run};
use crate::pool;
use crate::storage::values_mut;
use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

/// Collects the tensors of a network while it is being laid out.
///
/// Each addition returns the position at which the forward pass will find it.
#[derive(Default)]
pub struct ParamsBuilder {
    names: Vec<String>,
    shapes: Vec<Vec<i64>>,
    values: Vec<f32>,
}

impl ParamsBuilder {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor filled with one value.
    pub fn constant(&mut self, name: impl Into<String>, shape: &[i64], value: f32) -> usize {
        self.push(name.into(), shape, |_| value)
    }

    /// Appends a tensor with entries uniform in (-bound, bound).
    pub fn uniform(
        &mut self,
        name: impl Into<String>,
        shape: &[i64],
        bound: f64,
        rng: &mut impl Rng,
    ) -> usize {
        self.push(name.into(), shape, |_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32)
    }

    fn push(&mut self, name: String, shape: &[i64], mut value: impl FnMut(usize) -> f32) -> usize {
        let count = shape.iter().product::<i64>() as usize;
        self.values.extend((0..count).map(&mut value));
        self.names.push(name);
        self.shapes.push(shape.to_vec());
        self.names.len() - 1
    }

    /// Moves everything to `device` in the given precision (`Kind::Float`, or
    /// `Kind::Double` where a test compares with finite differences).
    pub fn build(self, kind: Kind, device: Device) -> Params {
        let flat = Tensor::from_slice(&self.values).to_device(device).to_kind(kind);
        Params::over(self.names, self.shapes, flat)
    }
}

/// The parameters of one network: a flat vector and named views into it.
pub struct Params {
    names: Vec<String>,
    shapes: Vec<Vec<i64>>,
    flat: Tensor,
    trainable: Vec<Tensor>,
    frozen: Vec<Tensor>,
}

impl Params {
    fn over(names: Vec<String>, shapes: Vec<Vec<i64>>, flat: Tensor) -> Self {
        let mut offset = 0;
        let frozen: Vec<Tensor> = shapes
            .iter()
            .map(|shape| {
                let count = shape.iter().product::<i64>();
                let view = flat.narrow(0, offset, count).view(shape.as_slice());
                offset += count;
                view
            })
            .collect();
        // A detached view shares the storage but is a leaf of its own.
        let trainable = frozen.iter().map(|view| view.detach().set_requires_grad(true)).collect();
        Self { names, shapes, flat, trainable, frozen }
    }

    /// The tensors as leaves of the autograd graph: for the network that learns.
    pub fn trainable(&self) -> &[Tensor] {
        &self.trainable
    }

    /// The tensors outside the graph: gradients pass through a network that is
    /// called with these, but none is computed for them.
    pub fn frozen(&self) -> &[Tensor] {
        &self.frozen
    }

    /// All numbers as one vector that shares their storage.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// All numbers as one vector, to change them.
    pub(crate) fn flat_mut(&mut self) -> &mut Tensor {
        &mut self.flat
    }

    /// Numbers in all tensors.
    pub fn count(&self) -> i64 {
        self.flat.size()[0]
    }

    /// The device of the numbers.
    pub fn device(&self) -> Device {
        self.flat.device()
    }

    /// An independent copy: a target network or an average over updates starts as one.
    pub fn duplicate(&self) -> Self {
        Self::over(self.names.clone(), self.shapes.clone(), self.flat.copy())
    }

    /// The gradient of a scalar with respect to all parameters, as one flat
    /// vector; zero where the scalar does not depend on a parameter.
    pub fn gradient(&self, loss: &Tensor) -> Tensor {
        self.join(&Tensor::run_backward(&[loss], &self.trainable, false, false))
    }

    /// Gradients of all tensors, where they are defined, as one flat vector.
    pub(crate) fn join(&self, gradients: &[Tensor]) -> Tensor {
        if let Some(flat) = self.as_one_vector(gradients) {
            return flat;
        }
        let parts: Vec<Tensor> = gradients
            .iter()
            .zip(&self.trainable)
            .map(|(gradient, leaf)| match gradient.defined() {
                true => gradient.reshape([-1]),
                false => leaf.zeros_like().reshape([-1]),
            })
            .collect();
        Tensor::cat(&parts, 0)
    }

    /// Tensors that follow each other in memory as one vector, without a copy: what the
    /// explicit backward pass of a network called once returns. None for others.
    fn as_one_vector(&self, parts: &[Tensor]) -> Option<Tensor> {
        let first = parts.first().filter(|first| first.defined())?;
        let size = first.kind().elt_size_in_bytes();
        let mut end = first.data_ptr() as usize;
        for (part, leaf) in parts.iter().zip(&self.trainable) {
            let follows = part.defined()
                && part.data_ptr() as usize == end
                && part.size() == leaf.size()
                && part.is_contiguous();
            if !follows {
                return None;
            }
            end += part.numel() * size;
        }
        // (An error where they follow each other, but in two allocations.)
        first.f_as_strided([self.count()], [1], None).ok()
    }

    /// Polyak averaging: `self <- (1 - tau) self + tau online`. At 1 it is a copy.
    pub fn polyak(&mut self, online: &Params, tau: f64) {
        let _guard = tch::no_grad_guard();
        if tau == 1.0 {
            self.flat.copy_(&online.flat);
            return;
        }
        // (`lerp_` rounds differently on processors with and without FMA.)
        let mut step = &online.flat - &self.flat;
        let _ = step.g_mul_scalar_(tau);
        let _ = self.flat.g_add_(&step);
    }

    /// Divides every row of every matrix by its length.
    pub fn unit_rows(&mut self) {
        run(UnitRows(&mut self.flat, &self.frozen));
    }

    /// The tensors by name, for saving: each shares its storage with `self`.
    pub fn named(&self, prefix: &str) -> Vec<(String, Tensor)> {
        self.names
            .iter()
            .zip(&self.frozen)
            .map(|(name, view)| (format!("{prefix}.{name}"), view.shallow_clone()))
            .collect()
    }
}

/// Rows of length 1 in the matrices among the views of a vector, in place.
struct UnitRows<'a>(&'a mut Tensor, &'a [Tensor]);

impl Op for UnitRows<'_> {
    type Output = ();

    fn inputs(&self) -> Vec<&Tensor> {
        vec![self.0]
    }

    fn cpu(self) {
        // SAFETY: the vector is borrowed mutably from its owner, whose views nobody uses
        // meanwhile.
        #[expect(unsafe_code, reason = "writes the storage of a tensor")]
        let mut rest = unsafe { values_mut(self.0) };
        let mut jobs = Vec::new();
        for view in self.1 {
            let part = rest.split_off_mut(..view.numel()).expect("a vector of all views");
            if let [_, columns] = view.size()[..] {
                jobs.push(move || unit_rows(part, columns as usize));
            }
        }
        pool::run(jobs);
    }

    fn fallback(self) {
        for view in self.1.iter().filter(|view| view.dim() == 2) {
            let length = view.norm_scalaropt_dim(2, [1i64], true).clamp_min(SHORTEST);
            let _ = view.shallow_clone().g_div_(&length);
        }
    }
}

/// Rows are divided by at least this, so that zeros stay zeros.
const SHORTEST: f64 = 1e-12;

kernel! {
    fn unit_rows(matrix: &mut [f32], columns: usize) {
        for row in matrix.chunks_exact_mut(columns) {
            let (blocks, rest) = row.as_chunks::<16>();
            let mut squares = [0.0f32; 16];
            for block in blocks {
                squares.iter_mut().zip(block).for_each(|(sum, x)| *sum += x * x);
            }
            let rest: f32 = rest.iter().map(|x| x * x).sum();
            let length = (squares.iter().sum::<f32>() + rest).sqrt().max(SHORTEST as f32);
            row.iter_mut().for_each(|x| *x /= length);
        }
    }
}

/// Why saved tensors do not fit a network.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A tensor is not in the file.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A tensor has numbers of another kind than the network's, which would be rounded.
    #[error("tensor `{name}` has numbers of kind {found:?}, expected {expected:?}")]
    Kind {
        /// The tensor's name.
        name: String,
        /// The kind in the file.
        found: Kind,
        /// The kind in the network.
        expected: Kind,
    },
    /// A tensor has another shape than the network wants.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape in the file.
        found: Vec<i64>,
        /// The shape in the network.
        expected: Vec<i64>,
    },
}

/// Copies saved tensors over the wanted ones, by name.
///
/// # Errors
/// A tensor that is missing or has another shape or kind; nothing is changed then.
pub fn load_state(
    wanted: &[(String, Tensor)],
    saved: &[(String, Tensor)],
) -> Result<(), StateError> {
    let mut pairs = Vec::with_capacity(wanted.len());
    for (name, to) in wanted {
        let (_, from) = saved
            .iter()
            .find(|(other, _)| other == name)
            .ok_or_else(|| StateError::Missing(name.clone()))?;
        if from.size() != to.size() {
            return Err(StateError::Shape {
                name: name.clone(),
                found: from.size(),
                expected: to.size(),
            });
        }
        if from.kind() != to.kind() {
            return Err(StateError::Kind {
                name: name.clone(),
                found: from.kind(),
                expected: to.kind(),
            });
        }
        pairs.push((to, from));
    }
    let _guard = tch::no_grad_guard();
    for (to, from) in pairs {
        to.shallow_clone().copy_(from);
    }
    Ok(())
}

/// Joins several lists of named tensors into one.
pub fn merge_state(
    parts: impl IntoIterator<Item = Vec<(String, Tensor)>>,
) -> Vec<(String, Tensor)> {
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn two_tensors() -> Params {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(1);
        let mut builder = ParamsBuilder::new();
        builder.uniform("a", &[2, 3], 1.0, &mut rng);
        builder.constant("b", &[3], 2.0);
        builder.build(Kind::Float, Device::Cpu)
    }

    #[test]
    fn views_share_the_flat_vector_and_gradients_come_back_in_its_order() {
        let p = two_tensors();
        let loss = (&p.trainable()[1] * &p.trainable()[1]).sum(Kind::Float);
        let grad = p.gradient(&loss);
        let expected = Tensor::from_slice(&[0f32, 0., 0., 0., 0., 0., 4., 4., 4.]);
        assert_eq!(grad, expected);
        // Views of one vector are returned as they are; others are joined.
        let both = Tensor::cat(&[p.flat(), p.flat()], 0);
        let views = |second: i64| [both.narrow(0, 0, 6).view([2, 3]), both.narrow(0, second, 3)];
        let one = p.as_one_vector(&views(6)).expect("they follow each other");
        assert_eq!((one.data_ptr(), &one), (both.data_ptr(), p.flat()));
        assert!(p.as_one_vector(&views(7)).is_none());
        let _ = p.flat().shallow_clone().fill_(7.0);
        assert_eq!(p.trainable()[0].double_value(&[1, 2]), 7.0);
    }

    #[test]
    fn polyak_averaging_moves_by_tau_and_leaves_the_online_network_alone() {
        let online = two_tensors();
        let mut target = online.duplicate();
        let _ = target.flat().shallow_clone().zero_();
        let before = online.flat().copy();
        target.polyak(&online, 0.25);
        assert!(target.flat().allclose(&(&before * 0.25), 1e-6, 1e-7, false));
        assert_eq!(online.flat(), &before);
        // A rate of 1 copies, also next to numbers in which the difference would be lost.
        let _ = target.flat().shallow_clone().fill_(1e9);
        target.polyak(&online, 1.0);
        assert_eq!(target.flat(), &before);
    }

    #[test]
    fn rows_of_matrices_get_length_one_and_vectors_stay_as_they_are() {
        // `f32` takes the CPU form, `f64` the fallback.
        for kind in [Kind::Float, Kind::Double] {
            let mut rng = rand_pcg::Pcg64::seed_from_u64(2);
            let mut builder = ParamsBuilder::new();
            builder.constant("shift", &[3], 2.0);
            builder.uniform("a", &[5, 37], 4.0, &mut rng);
            builder.constant("zeros", &[1, 2], 0.0);
            let mut p = builder.build(kind, Device::Cpu);
            let before: Vec<Tensor> = p.frozen().iter().map(Tensor::copy).collect();
            p.unit_rows();
            let [shift, a, zeros] = p.frozen() else { panic!("three tensors") };
            assert_eq!((shift, zeros), (&before[0], &before[2]));
            let length = (&before[1] * &before[1]).sum_dim_intlist(&[1i64][..], true, None).sqrt();
            assert!(a.allclose(&(&before[1] / length), 1e-6, 1e-7, false), "{kind:?}");
        }
    }

    #[test]
    fn loading_names_what_is_missing_or_misshapen_and_changes_nothing() {
        let p = two_tensors();
        let load =
            |saved: &[(String, Tensor)]| load_state(&p.named("n"), saved).unwrap_err().to_string();
        let before = p.flat().copy();
        let short = vec![("n.a".to_string(), Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)))];
        assert_eq!(load(&short), "tensor `n.b` is missing");
        let wrong = vec![
            ("n.a".to_string(), Tensor::zeros([2, 3], (Kind::Float, Device::Cpu))),
            ("n.b".to_string(), Tensor::zeros([4], (Kind::Float, Device::Cpu))),
        ];
        assert_eq!(load(&wrong), "tensor `n.b` has shape [4], expected [3]");
        let kind = vec![
            ("n.a".to_string(), Tensor::zeros([2, 3], (Kind::Float, Device::Cpu))),
            ("n.b".to_string(), Tensor::zeros([3], (Kind::Int, Device::Cpu))),
        ];
        assert_eq!(load(&kind), "tensor `n.b` has numbers of kind Int, expected Float");
        assert_eq!(p.flat(), &before);
    }
}
