//! The terms of rewards during training: the columns `reward/NAME` of `train.csv`.

use crate::TrainRow;
use crate::run::Run;
use crate::statistics::mean;
use serde::Serialize;
use std::collections::BTreeSet;

/// How the names of the columns begin.
pub const TERMS: &str = "reward/";
/// Largest number of points of a term's curve.
const MOST_POINTS: usize = 60;

/// A term of a run's reward: step, and mean over the steps since the row before.
pub type RunTerm = (String, Vec<(u64, f64)>);

/// A term of the reward of an algorithm on a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Term {
    /// Its name.
    pub name: String,
    /// Its curve.
    pub points: Vec<TermPoint>,
}

/// A point of a term's curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TermPoint {
    /// Environment steps.
    pub step: u64,
    /// Mean of the term over the training steps since the point before, then over runs.
    pub value: f64,
    /// Number of runs included.
    pub runs: usize,
}

/// The terms in a run's rows, in the order of the columns.
pub fn terms_of(train: &[TrainRow]) -> Vec<RunTerm> {
    let columns = train.first().map_or(&[][..], |row| &row.metrics);
    let named = columns.iter().enumerate().filter_map(|(column, (name, _))| {
        let points = train.iter().filter_map(|row| Some((row.step, row.metrics.get(column)?.1?)));
        let points = points.filter(|(_, value)| value.is_finite()).collect();
        Some((name.strip_prefix(TERMS)?.to_owned(), points))
    });
    named.collect()
}

/// The mean curves of the terms that any of the runs has.
pub fn mean_terms(runs: &[&Run]) -> Vec<Term> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.terms) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| mean_term(name, runs)).collect()
}

fn mean_term(name: &str, runs: &[&Run]) -> Term {
    let all = runs.iter().flat_map(|run| &run.terms);
    let of_name = all.filter(|(other, _)| other == name);
    let curves: Vec<&[(u64, f64)]> = of_name.map(|(_, points)| points.as_slice()).collect();
    let steps: BTreeSet<u64> = curves.iter().copied().flatten().map(|(step, _)| *step).collect();
    let steps: Vec<u64> = steps.into_iter().collect();
    let every = steps.len().div_ceil(MOST_POINTS).max(1);
    let point = |steps: &[u64]| point(steps[0], steps[steps.len() - 1], &curves);
    Term { name: name.to_owned(), points: steps.chunks(every).map(point).collect() }
}

/// The mean over the rows from step `first` to `last`, of which there is at least one.
fn point(first: u64, last: u64, curves: &[&[(u64, f64)]]) -> TermPoint {
    let within = |curve: &&[(u64, f64)]| {
        let here = curve.iter().filter(|(step, _)| (first..=last).contains(step));
        let values: Vec<f64> = here.map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| mean(&values))
    };
    let means: Vec<f64> = curves.iter().filter_map(within).collect();
    TermPoint { step: last, value: mean(&means), runs: means.len() }
}
