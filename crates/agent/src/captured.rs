//! Updates that are captured as CUDA graphs and replayed.
//!
//! A graph repeats the operations of one update on the same tensors. What differs from one update to the
//! next is put into them before: minibatch and noise lie in buffers, the state changes in place, and
//! counts of the host are increased as the captured update increased them. Updates that take other branches
//! ([`Agent::branches`]) have graphs of their own.

use crate::{Agent, Batch, Metrics, Noise, Random};
use networks::{Buffers, CudaGraphs, Recorder, Replay};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tch::{Device, Kind, Tensor};

/// Updates with the same branches before one is captured, so that libraries such as cuBLAS, and the
/// allocator, are initialised by then.
const WARM_UP: u32 = 3;
/// A captured update may differ from one without a graph by this share of the step that it takes, which
/// is far more than the order of sums changes and far less than an operation left out, ..
const OF_STEP: f64 = 1e-3;
/// .. and by this share of a tensor's size, which is rounding.
const OF_SIZE: f64 = 1e-6;

/// An agent's updates on a device, as graphs from the fourth with the same branches on.
pub struct CapturedUpdates {
    recorder: Box<dyn Recorder>,
    device: Device,
    batch: Option<(Batch, Buffers)>,
    by_branches: HashMap<(bool, Vec<bool>), Update>,
}

/// Updates with the same branches.
struct Update {
    noise: Box<dyn Noise>,
    buffers: Buffers,
    warm_ups: u32,
    graph: Option<Graph>,
}

/// A captured update.
struct Graph {
    graph: Box<dyn Replay>,
    /// Names and numbers of the metrics, which each replay overwrites.
    metrics: (Vec<&'static str>, Tensor),
    /// Counts of the host, and what an update adds to each.
    counts: Vec<(Tensor, i64)>,
}

impl CapturedUpdates {
    /// None so far, of agents on a GPU.
    pub fn new(device: Device) -> Self {
        Self::with_recorder(Box::new(CudaGraphs(device)), device)
    }

    /// None so far, of agents on a device with a recorder of its own.
    pub fn with_recorder(recorder: Box<dyn Recorder>, device: Device) -> Self {
        Self { recorder, device, batch: None, by_branches: HashMap::new() }
    }

    /// [`Agent::update`].
    ///
    /// # Errors
    /// An update can't be captured, or its replay differs from the same update without a graph: one line.
    pub fn update(
        &mut self,
        agent: &mut dyn Agent,
        batch: &Batch,
        rng: &mut Random,
    ) -> Result<Metrics, String> {
        let with_actor = agent.actor_due();
        let mut noise = agent.draw(batch.len(), with_actor, rng);
        let batch = match &mut self.batch {
            Some((own, buffers)) => {
                buffers.refill(&batch.tensors());
                &*own
            }
            empty => {
                let mut own = batch.shallow_clone();
                let buffers = Buffers::replacing(&mut own.tensors_mut(), self.device);
                &empty.insert((own, buffers)).0
            }
        };
        let update = match self.by_branches.entry((with_actor, agent.branches())) {
            Entry::Occupied(entry) => {
                let update = entry.into_mut();
                update.buffers.refill(&shared(noise.tensors()));
                update
            }
            Entry::Vacant(entry) => {
                let buffers = Buffers::replacing(&mut noise.tensors(), self.device);
                entry.insert(Update { noise, buffers, warm_ups: 0, graph: None })
            }
        };
        let noise = update.noise.as_ref();
        if let Some(graph) = &mut update.graph {
            graph.counts.iter_mut().for_each(|(count, added)| drop(count.g_add_scalar_(*added)));
            return graph.replay();
        }
        if update.warm_ups < WARM_UP {
            update.warm_ups += 1;
            let mut metrics = Metrics::default();
            self.recorder.warm_up(&mut || metrics = agent.learn_from(batch, noise))?;
            return Ok(metrics);
        }
        let (graph, metrics) = capture(&*self.recorder, agent, batch, noise)?;
        update.graph = Some(graph);
        Ok(metrics)
    }

    /// Graphs so far.
    pub fn graphs(&self) -> usize {
        self.by_branches.values().filter(|update| update.graph.is_some()).count()
    }
}

impl Graph {
    fn replay(&mut self) -> Result<Metrics, String> {
        self.graph.replay()?;
        let (names, vector) = &self.metrics;
        Ok(Metrics::from_vector(names, &vector.copy()))
    }
}

/// Captures an update and makes it, after a comparison with the same update without a graph.
fn capture(
    recorder: &dyn Recorder,
    agent: &mut dyn Agent,
    batch: &Batch,
    noise: &dyn Noise,
) -> Result<(Graph, Metrics), String> {
    let state = agent.state();
    let copy = || -> Vec<Tensor> { state.iter().map(|(_, tensor)| tensor.copy()).collect() };
    let before = copy();
    recorder.warm_up(&mut || drop(agent.learn_from(batch, noise)))?;
    let expected = copy();
    for ((_, tensor), before) in state.iter().zip(&before) {
        tensor.shallow_clone().copy_(before);
    }
    let (mut names, mut vector) = (Vec::new(), None);
    let graph = recorder.record(&mut || {
        let metrics = agent.learn_from(batch, noise);
        (names, vector) = (metrics.names().collect(), metrics.vector());
    })?;
    // The host's part of the update has been done by now, the device's only with the replay.
    let is_count = |tensor: &Tensor| tensor.device() == Device::Cpu && tensor.kind() == Kind::Int64;
    let counts = state.iter().zip(&before).filter(|((_, tensor), _)| is_count(tensor));
    let counts = counts
        .map(|((_, now), before)| {
            (now.shallow_clone(), now.int64_value(&[]) - before.int64_value(&[]))
        })
        .collect();
    let vector = vector.ok_or("an update that measures nothing")?;
    let mut graph = Graph { graph, metrics: (names, vector), counts };
    let metrics = graph.replay()?;
    for (((name, found), before), expected) in state.iter().zip(&before).zip(&expected) {
        check(name, before, found, expected)?;
    }
    Ok((graph, metrics))
}

/// Checks that a captured update has made the same step as the update without a graph.
fn check(name: &str, before: &Tensor, found: &Tensor, expected: &Tensor) -> Result<(), String> {
    let [before, found, expected] =
        [before, found, expected].map(|t| t.to_device(Device::Cpu).to_kind(Kind::Double));
    let norm = |tensor: Tensor| tensor.norm().double_value(&[]);
    let (off, step) = (norm(&found - &expected), norm(&expected - before));
    let size = norm(expected);
    // (If training has diverged, the metrics say so.)
    if off <= OF_STEP * step + OF_SIZE * size || !size.is_finite() {
        return Ok(());
    }
    Err(format!("{name} is {off:.2e} off after an update that changes it by {step:.2e}"))
}

fn shared<'a>(tensors: impl IntoIterator<Item = &'a mut Tensor>) -> Vec<&'a Tensor> {
    tensors.into_iter().map(|tensor| &*tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_left_out_or_made_twice_is_seen_and_rounding_is_not() {
        let vector = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float);
        let (before, after) = (vector(&[1.0, -2.0, 3.0]), vector(&[1.001, -2.001, 3.0]));
        let of = |found: &Tensor| check("critic.0.weight", &before, found, &after);
        assert_eq!(of(&after), Ok(()));
        assert_eq!(of(&(&after * (1.0 + 2e-7))), Ok(()));
        let expected = "critic.0.weight is 1.41e-3 off after an update that changes it by 1.41e-3";
        assert_eq!(of(&before).unwrap_err(), expected);
        assert!(of(&(&after * 2.0 - &before)).is_err());
        assert!(of(&(&after * f64::NAN)).is_err(), "the other is finite");
        let count = |n: i64| Tensor::from(n);
        assert!(check("critic_updates", &count(6), &count(7), &count(7)).is_ok());
        assert!(check("critic_updates", &count(6), &count(8), &count(7)).is_err());
    }
}
