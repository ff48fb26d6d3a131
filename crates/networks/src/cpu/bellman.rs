//! Loops over the values of an ensemble; [`crate::td_errors`] and
//! [`Aggregate`] say what they compute.

use crate::critic::{Aggregate, TdTarget};

/// The values of an ensemble's members joined, for one row.
fn join(aggregate: Aggregate, q: impl ExactSizeIterator<Item = f32>) -> (f32, usize) {
    let count = q.len() as f32;
    let mut q = q.enumerate();
    let (mut which, mut joined) = q.next().expect("an ensemble has members");
    for (i, q) in q {
        match aggregate {
            // NaN stays NaN.
            Aggregate::Min if q < joined || q.is_nan() => (which, joined) = (i, q),
            Aggregate::Mean => joined += q,
            Aggregate::Min | Aggregate::First => {}
        }
    }
    if aggregate == Aggregate::Mean {
        joined /= count;
    }
    (joined, which)
}

/// Values of `members` members, one after the other, joined row by row. `shares`
/// becomes the derivative of each with respect to each member's.
pub(crate) fn joined(
    aggregate: Aggregate,
    q: &[f32],
    members: usize,
    value: &mut [f32],
    shares: &mut [f32],
) {
    let rows = value.len();
    shares.fill(if aggregate == Aggregate::Mean { 1.0 / members as f32 } else { 0.0 });
    for (row, value) in value.iter_mut().enumerate() {
        let (joined, which) = join(aggregate, (0..members).map(|i| q[i * rows + row]));
        *value = joined;
        if aggregate != Aggregate::Mean {
            shares[which * rows + row] = 1.0;
        }
    }
}

/// Sum over the members of mean squared errors, mean value, and in `d_q` the
/// gradient of the former. Members' values lie one after the other; they and those
/// of the next pairs may have more columns than there are rows.
pub(crate) fn td_errors(
    target: &TdTarget,
    (q, d_q): (&[f32], &mut [f32]),
    (next_q, next_first): (&[f32], usize),
    (reward, terminated): (&[f32], &[f32]),
    bonus: Option<&[f32]>,
    members: usize,
) -> (f32, f32) {
    let rows = reward.len();
    let (width, next_width) = (q.len() / members, next_q.len() / members);
    d_q.fill(0.0);
    let (mut loss, mut sum) = (0.0f64, 0.0f64);
    for row in 0..rows {
        let next = (0..members).map(|i| next_q[i * next_width + next_first + row]);
        let next = join(target.aggregate, next).0 + bonus.map_or(0.0, |bonus| bonus[row]);
        let y = reward[row] + next * (1.0 - terminated[row]) * target.gamma as f32;
        for i in 0..members {
            let at = i * width + row;
            let error = q[at] - y;
            d_q[at] = error * (2.0 / rows as f32);
            loss += f64::from(error * error);
            sum += f64::from(q[at]);
        }
    }
    ((loss / rows as f64) as f32, (sum / (rows * members) as f64) as f32)
}
