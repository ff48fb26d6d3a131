//! Replaying a list of actions, for comparison with Gymnasium (`scripts/parity.py`).

use std::io::{self, Seek, Write};
use std::path::Path;

use ndarray::{Array1, Array2, ArrayView2};
use ndarray_npy::{NpzWriter, ViewNpyExt};

use crate::env::Env;
use crate::error::Error;

/// Results of replaying T actions over E episodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Observations after each step, (T, `obs_dim`).
    pub obs: Array2<f64>,
    /// Observations of all resets in order, (E, `obs_dim`).
    pub reset_obs: Array2<f64>,
    /// Rewards, (T,).
    pub reward: Array1<f64>,
    /// 1 where the step reached a terminal state, (T,).
    pub terminated: Array1<u8>,
    /// 1 where the step reached the time limit, (T,).
    pub truncated: Array1<u8>,
    /// The terms of the rewards by name, (T,) each.
    pub terms: Vec<(String, Array1<f64>)>,
}

/// Resets with `seed`, applies every row of `actions` (T, `act_dim`), and resets without a seed
/// whenever an episode ends, even after the last row.
///
/// # Errors
/// [`Error::ActionLength`] or [`Error::NonFiniteAction`] of the first bad row.
pub fn replay(env: &mut Env, seed: u64, actions: ArrayView2<f32>) -> Result<Trace, Error> {
    let width = env.spec().obs_dim;
    let length = actions.nrows();
    let mut trace = Trace {
        obs: Array2::zeros((length, width)),
        reset_obs: Array2::zeros((0, width)),
        reward: Array1::zeros(length),
        terminated: Array1::zeros(length),
        truncated: Array1::zeros(length),
        terms: env.spec().terms.iter().map(|name| (name.clone(), Array1::zeros(length))).collect(),
    };
    let mut observation = vec![0.0; width];
    let mut action = vec![0.0; actions.ncols()];

    let mut reset = |env: &mut Env, seed| {
        env.reset(seed, &mut observation);
        trace.reset_obs.push_row((&observation[..]).into()).expect("rows have one width");
    };
    reset(env, Some(seed));
    for (t, row) in actions.outer_iter().enumerate() {
        action.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
        let mut shown = trace.obs.row_mut(t);
        let shown = shown.as_slice_mut().expect("rows are contiguous");
        let step = env.step(&action, shown)?;
        trace.reward[t] = step.reward;
        trace.terminated[t] = u8::from(step.terminated);
        trace.truncated[t] = u8::from(step.truncated);
        for ((_, values), value) in trace.terms.iter_mut().zip(env.terms()) {
            values[t] = value;
        }
        if step.terminated || step.truncated {
            reset(env, None);
        }
    }
    Ok(trace)
}

/// Reads actions: a `.npy` file of `f32` of shape (T, `act_dim`).
///
/// # Errors
/// [`Error::TraceFile`] if the file does not exist or has other content.
pub fn read_npy(file: &Path) -> Result<Array2<f32>, Error> {
    let fail = |reason: String| Error::TraceFile { file: file.to_owned(), reason };
    let bytes = std::fs::read(file).map_err(|cause| fail(cause.to_string()))?;
    // A view checks the shape in the header against the length of the file.
    let view = ArrayView2::<f32>::view_npy(&bytes).map_err(|cause| {
        let cause = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        fail(format!("{cause}; expected a float32 array of shape (T, act_dim)"))
    })?;
    Ok(view.to_owned())
}

/// Writes a trace as `.npz`, with the names of [`Trace`]'s fields; a term is `term_NAME`.
///
/// # Errors
/// `to` can't be written.
pub fn write_npz(to: impl Write + Seek, trace: &Trace) -> io::Result<()> {
    let mut npz = NpzWriter::new(to);
    let write = || {
        npz.add_array("obs", &trace.obs)?;
        npz.add_array("reset_obs", &trace.reset_obs)?;
        npz.add_array("reward", &trace.reward)?;
        npz.add_array("terminated", &trace.terminated)?;
        npz.add_array("truncated", &trace.truncated)?;
        for (name, values) in &trace.terms {
            npz.add_array(format!("term_{name}"), values)?;
        }
        npz.finish()
    };
    write().map(drop).map_err(|cause: ndarray_npy::WriteNpzError| io::Error::other(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::WriteNpyExt;
    use proptest::prelude::*;

    fn npy() -> Vec<u8> {
        let mut bytes = Vec::new();
        Array2::<f32>::ones((5, 3)).write_npy(&mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Array2<f32>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read_npy(file.path())
    }

    #[test]
    fn a_shape_beyond_the_file_is_refused_and_not_allocated() {
        // The same number of bytes: the header has padding.
        for shape in ["(99999999999999, 3)", "(5, 999999999999999999)", "(6, 3)"] {
            let mut bytes = npy();
            let at = bytes.windows(6).position(|window| window == b"(5, 3)").unwrap();
            let padding = shape.len() - 6;
            bytes.splice(at..at + 6, shape.bytes());
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            bytes.drain(end - padding..end);
            assert!(read(&bytes).is_err(), "{shape}");
        }
    }

    proptest! {
        #[test]
        fn a_spoilt_file_of_actions_is_read_or_refused(
            at in any::<prop::sample::Index>(),
            with in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut bytes = npy();
            let at = at.index(bytes.len());
            let end = (at + with.len()).min(bytes.len());
            bytes.splice(at..end, with);
            let _ = read(&bytes);
            let _ = read(&bytes[..at]);
        }
    }
}
