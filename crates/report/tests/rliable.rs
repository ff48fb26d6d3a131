//! Compares the statistics with rliable's, recorded by `scripts/record_rliable.py`.

use report::statistics::{
    Interval, REPETITIONS, Scores, bootstrap, interquartile_mean, mean_of_tasks,
    probability_of_improvement, profile,
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Fixture {
    scores: BTreeMap<String, Scores>,
    thresholds: Vec<f64>,
    aggregates: BTreeMap<String, Aggregates>,
    profiles: BTreeMap<String, Profile>,
    improvements: Vec<Improvement>,
}

#[derive(Deserialize)]
struct Aggregates {
    mean: f64,
    iqm: f64,
    ends: Ends,
}

#[derive(Deserialize)]
struct Profile {
    above: Vec<f64>,
    ends: Ends,
}

#[derive(Deserialize)]
struct Improvement {
    x: String,
    y: String,
    probability: f64,
    ends: Ends,
}

/// Bounds of the ends of an interval: lowest and highest value of each.
#[derive(Deserialize)]
struct Ends {
    low: [Vec<f64>; 2],
    high: [Vec<f64>; 2],
}

impl Ends {
    fn check(&self, what: &str, intervals: &[Interval]) {
        assert_eq!(self.low[0].len(), intervals.len());
        for (i, Interval { low, high }) in intervals.iter().enumerate() {
            for (end, range) in [(low, &self.low), (high, &self.high)] {
                let (least, most) = (range[0][i] - 1e-9, range[1][i] + 1e-9);
                assert!((least..=most).contains(end), "{what} {i}: {end}, {least} to {most}");
            }
        }
    }
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/rliable.json")).unwrap()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn means_and_interquartile_means_are_rliables_and_their_intervals_too() {
    let fixture = fixture();
    assert_eq!(fixture.aggregates.len(), 6);
    for (name, expected) in &fixture.aggregates {
        let scores = &fixture.scores[name];
        close(mean_of_tasks(scores), expected.mean);
        close(interquartile_mean(scores), expected.iqm);
        let both = |[drawn]: [&Scores; 1]| vec![mean_of_tasks(drawn), interquartile_mean(drawn)];
        expected.ends.check(name, &bootstrap([scores], REPETITIONS, both).unwrap());
    }
}

#[test]
fn profiles_are_rliables_and_their_intervals_too() {
    let fixture = fixture();
    assert_eq!(fixture.profiles.len(), 6);
    for (name, expected) in &fixture.profiles {
        let (scores, thresholds) = (&fixture.scores[name], &fixture.thresholds);
        for (found, expected) in profile(scores, thresholds).iter().zip(&expected.above) {
            close(*found, *expected);
        }
        let all = |[drawn]: [&Scores; 1]| profile(drawn, thresholds);
        expected.ends.check(name, &bootstrap([scores], REPETITIONS, all).unwrap());
    }
}

#[test]
fn probabilities_of_improvement_are_rliables_and_their_intervals_too() {
    let fixture = fixture();
    assert_eq!(fixture.improvements.len(), 4);
    for expected in &fixture.improvements {
        let (x, y) = (&fixture.scores[&expected.x], &fixture.scores[&expected.y]);
        close(probability_of_improvement(x, y), expected.probability);
        let better = |[x, y]: [&Scores; 2]| vec![probability_of_improvement(x, y)];
        expected.ends.check(&expected.x, &bootstrap([x, y], REPETITIONS, better).unwrap());
    }
}
