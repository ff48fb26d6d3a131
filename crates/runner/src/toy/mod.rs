//! Learning the toys: their tables and pictures (`docs/toys.md`).

mod variants;

use crate::base::console;
use crate::base::failure::{Failure, Outcome};
use crate::train::progress::Progress;
use agent::{Random, stream};
use baselines::dime::DimeConfig;
use baselines::path::PathAgent;
use baselines::sac_flow_g::SacFlowGConfig;
use baselines::sac_flow_t::SacFlowTConfig;
use report::{Log, Panel, Row, Scatter, ToyRow};
use serde::de::DeserializeOwned;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tch::Device;
use toys::{Actor, Learner, Measures, Point, Toy};
use variants::{Group, Variant};

pub use variants::{Choice, groups, named};

/// When the policy is measured, as fractions of the updates.
const MOMENTS: [f64; 6] = [0.0, 0.025, 0.1, 0.25, 0.5, 1.0];
/// The name of rows of a second draw from the target.
const EXACT: &str = "exact";
/// Samples for measurements and pictures.
const SAMPLES: i64 = 2000;

/// What to learn.
pub struct Study {
    pub toy: Toy,
    /// The variants, in groups.
    pub groups: Vec<Group>,
    /// Seeds of every variant; at least one. Pictures show the first.
    pub seeds: Vec<u64>,
    /// Folder for tables and pictures.
    pub out: PathBuf,
}

/// Learns the toy with every variant and seed. Writes a table and a picture for each group, and
/// prints the last rows.
///
/// # Errors
/// An actor that diverged, or files that can't be written.
pub fn run(study: &Study) -> Outcome<()> {
    let Study { toy, groups, seeds, out } = study;
    let toy = *toy;
    std::fs::create_dir_all(out).map_err(|error| Failure::file(out, "make this folder", error))?;
    for group in groups {
        let name = format!("{}-{}.csv", toy.name(), group.picture);
        check_replaceable(&out.join(name), group, seeds)?;
    }
    let exact: Vec<ToyRow> = seeds.iter().map(|seed| exact(toy, *seed)).collect();
    let mut last = exact.clone();
    for group in groups {
        let name = format!("{}-{}", toy.name(), group.picture);
        let mut table = UnfinishedTable::begin(out.join(format!("{name}.csv")))?;
        let mut picture = Picture::new(toy, seeds[0]);
        for row in &exact {
            table.append(row)?;
        }
        for variant in &group.variants {
            for seed in seeds {
                let moments = learn(toy, variant, *seed)?;
                for (row, _) in &moments {
                    table.append(row)?;
                }
                last.extend(moments.last().map(|(row, _)| row.clone()));
                if *seed == picture.seed {
                    picture.add(variant, moments);
                }
            }
        }
        table.finish()?;
        picture.write(&out.join(format!("{name}.png")))?;
    }
    console::rows(&last)
}

/// Checks that a table would lose no row that is not made again.
///
/// # Errors
/// It has rows of other variants, seeds or updates, or is no table of this command.
fn check_replaceable(path: &Path, group: &Group, seeds: &[u64]) -> Outcome<()> {
    if !path.exists() {
        return Ok(());
    }
    let refusal =
        |what: &str| Failure::Usage(format!("{}: {what}; choose another --out", path.display()));
    let old: Vec<ToyRow> = report::read(path).map_err(|_| refusal("is no table of a toy"))?;
    let made_again = |row: &ToyRow| {
        let variant = group.variants.iter().find(|variant| variant.name == row.variant);
        let updates = variant.map(|variant| measured_at(variant.updates));
        seeds.contains(&row.seed)
            && (row.variant == EXACT || updates.is_some_and(|of| of.contains(&row.updates)))
    };
    match old.iter().find(|row| !made_again(row)) {
        None => Ok(()),
        Some(row) => Err(refusal(&format!(
            "has rows of {} with seed {} at {} updates, which this command would not make again",
            row.variant, row.seed, row.updates
        ))),
    }
}

/// The updates at which a policy is measured.
fn measured_at(updates: u64) -> Vec<u64> {
    let mut at: Vec<u64> =
        MOMENTS.iter().map(|part| (part * updates as f64).round() as u64).collect();
    at.dedup();
    at
}

/// A variant's rows, and the samples of each.
type Moments = Vec<(ToyRow, Vec<Point>)>;

/// The actor of SAC Flow or DIME, by its configuration's `agent`.
fn path<C: DeserializeOwned>(
    agent: fn(&C, i64, i64, Device, &mut Random) -> PathAgent,
    variant: &Variant,
    seed: u64,
) -> Actor {
    let config: C = variant.settings.read();
    Actor::path(|obs, act, device, rng| agent(&config, obs, act, device, rng), seed)
}

/// Learns a toy, and measures the policy at some moments.
fn learn(toy: Toy, variant: &Variant, seed: u64) -> Outcome<Moments> {
    let actor = match variant.algo.as_str() {
        "smfp" => Actor::smfp(&variant.settings.read(), seed),
        "sac" => Actor::sac(&variant.settings.read(), seed),
        "sac-flow-g" => path(SacFlowGConfig::agent, variant, seed),
        "sac-flow-t" => path(SacFlowTConfig::agent, variant, seed),
        "dime" => path(DimeConfig::agent, variant, seed),
        "flowrl" => Actor::flowrl(&variant.settings.read(), seed),
        other => panic!("toys.toml has no variants of {other}"),
    };
    let batch = variant.settings.train.batch_size as i64;
    let mut learner = Learner::new(toy, variant.prior, variant.scale, actor, batch, seed);
    let target = toy.exact_points(SAMPLES, &mut stream(seed, "target"));
    let label = format!("{} {} seed {seed}", toy.name(), variant.name);
    let progress = Progress::new(&label, variant.updates);
    let measured_at = measured_at(variant.updates);
    let (mut learning, mut moments) = (Duration::ZERO, Vec::new());
    for updates in 0..=variant.updates {
        if updates > 0 {
            let begun = Instant::now();
            learner.update().map_err(|diverged| {
                Failure::Failed(format!("{label}: diverged at update {updates}: {diverged}"))
            })?;
            learning += begun.elapsed();
            progress.at(updates);
        }
        if measured_at.contains(&updates) {
            let drawn = learner.draw(SAMPLES);
            let measures = Measures::of(&drawn.samples, toy.modes(), &target);
            let row = ToyRow {
                updates,
                entropy_surrogate: drawn.entropy,
                sigma_mean: drawn.sigma_mean,
                spread_z: drawn.spread_z,
                wall_s: learning.as_secs_f64(),
                ..row(toy, &variant.name, seed, &measures)
            };
            moments.push((row, drawn.samples));
        }
    }
    let (end, _) = moments.last().expect("the last update is measured");
    progress.note(variant.updates, &format!("{}, {:.0} s", summary(end), end.wall_s));
    progress.finish();
    Ok(moments)
}

/// The row of a second draw from the target, for comparison with policies.
fn exact(toy: Toy, seed: u64) -> ToyRow {
    let target = toy.exact_points(SAMPLES, &mut stream(seed, "target"));
    let again = toy.exact_points(SAMPLES, &mut stream(seed, "target again"));
    row(toy, EXACT, seed, &Measures::of(&again, toy.modes(), &target))
}

/// A row with the columns that are computed from samples.
fn row(toy: Toy, variant: &str, seed: u64, measures: &Measures) -> ToyRow {
    ToyRow {
        toy: toy.name().to_string(),
        variant: variant.to_string(),
        seed,
        modes: measures.modes as u64,
        share_1: measures.shares[0],
        share_2: measures.shares[1],
        share_3: measures.shares.get(2).copied(),
        w2: measures.w2,
        ..ToyRow::default()
    }
}

fn summary(row: &ToyRow) -> String {
    format!("modes {}, W2 {:.2}", row.modes, row.w2)
}

/// A table that is written under another name and renamed when it is complete.
struct UnfinishedTable {
    path: PathBuf,
    log: Log<ToyRow>,
    /// Held until the table is finished.
    _lock: File,
}

impl UnfinishedTable {
    /// Begins the table; what an earlier command left unfinished is deleted.
    fn begin(path: PathBuf) -> Outcome<Self> {
        let unfinished = report::unfinished(&path);
        let fail = |error| Failure::file(&unfinished, "write", error);
        let locked = |file: std::io::Result<File>| {
            let file = file.map_err(fail)?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(TryLockError::Error(error)) => Err(fail(error)),
                Err(TryLockError::WouldBlock) => Err(Failure::Usage(format!(
                    "{}: another process writes this table; wait for it or choose another --out",
                    unfinished.display()
                ))),
            }
        };
        if unfinished.exists() {
            let _old = locked(File::open(&unfinished))?;
            std::fs::remove_file(&unfinished).map_err(fail)?;
        }
        let log = Log::create(&unfinished).map_err(fail)?;
        let _lock = locked(File::open(&unfinished))?;
        Ok(Self { path, log, _lock })
    }

    fn append(&mut self, row: &ToyRow) -> Outcome<()> {
        let fail = |error| Failure::file(&report::unfinished(&self.path), "write", error);
        self.log.append(row).map_err(fail)
    }

    fn finish(self) -> Outcome<()> {
        std::fs::rename(report::unfinished(&self.path), &self.path)
            .map_err(|error| Failure::file(&self.path, "write", error))
    }
}

/// The picture of a group, which shows one seed.
struct Picture {
    seed: u64,
    scatter: Scatter,
}

impl Picture {
    fn new(toy: Toy, seed: u64) -> Self {
        let behind = toy.exact_points(SAMPLES, &mut stream(seed, "target"));
        let scatter = Scatter { behind, half_side: toy.scale(), rows: Vec::new() };
        Self { seed, scatter }
    }

    fn add(&mut self, variant: &Variant, moments: Moments) {
        let summary = moments.last().map(|(row, _)| summary(row)).unwrap_or_default();
        let panel = |(row, samples): (ToyRow, Vec<Point>)| Panel {
            caption: format!("{}", row.updates),
            samples,
        };
        // The policies start out the same, so the first measurement is left out.
        let panels = moments.into_iter().skip(1).map(panel).collect();
        self.scatter.rows.push(Row { label: vec![variant.name.clone(), summary], panels });
    }

    fn write(self, path: &Path) -> Outcome<()> {
        self.scatter.write(path).map_err(|error| Failure::file(path, "write", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_another_process_writes_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("three-modes-both.csv");
        let first = UnfinishedTable::begin(path.clone()).unwrap();
        let Err(failure) = UnfinishedTable::begin(path.clone()) else { panic!("two at once") };
        assert!(failure.code() == 2 && failure.message().contains("another process"));
        first.finish().unwrap();
        assert!(path.exists());

        // What a process that was killed left behind is begun again.
        drop(UnfinishedTable::begin(path.clone()).unwrap());
        UnfinishedTable::begin(path).unwrap().finish().unwrap();
    }
}
