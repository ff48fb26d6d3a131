//! A replay in a file resumes exactly at a checkpoint, and a file that does not match
//! the checkpoint is refused.

use ndarray::aview1;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use replay::{Cursor, Damage, Replay, Sample, Shape};
use std::fs;
use std::path::Path;

const SHAPE: Shape = Shape { envs: 2, window: 24, spare: 20, obs_dim: 3, act_dim: 2 };

/// The step-th reset or step of an environment: episodes of five steps, every second one
/// ending in a terminal state.
fn happen(replay: &mut Replay, env: usize, step: u64) {
    let x = (1000 * env as u64 + step) as f32;
    let obs = [x, x + 0.25, x + 0.5];
    match step % 6 {
        0 => replay.begin(env, aview1(&obs)),
        i => replay.push(env, aview1(&[-x, x / 7.0]), x, aview1(&obs), i == 5 && step % 12 == 5),
    }
}

fn run(replay: &mut Replay, steps: std::ops::Range<u64>) {
    for step in steps {
        (0..SHAPE.envs).for_each(|env| happen(replay, env, step));
    }
}

fn draw(replay: &Replay) -> Sample {
    let mut sample = Sample::new(64, SHAPE.obs_dim, SHAPE.act_dim);
    replay.sample(&mut Pcg64::seed_from_u64(3), &mut sample);
    sample
}

fn same(a: &Replay, b: &Replay) -> bool {
    let (x, y) = (draw(a), draw(b));
    a.len() == b.len()
        && (x.obs, x.action, x.reward) == (y.obs, y.action, y.reward)
        && (x.next_obs, x.terminated) == (y.next_obs, y.terminated)
}

fn reopen(path: &Path, cursors: &[Cursor]) -> Result<Replay, Damage> {
    Replay::open(path, SHAPE, cursors)
}

proptest! {
    /// For any writes after a checkpoint within the spare slots, whether the ring has
    /// wrapped or not.
    #[test]
    fn what_a_checkpoint_saw_is_there_after_more_was_written(before in 2u64..150, after in 0u64..=20) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replay.bin");
        let mut replay = Replay::create(&path, SHAPE).unwrap();
        let mut undisturbed = Replay::in_memory(SHAPE).unwrap();
        run(&mut replay, 0..before);
        replay.flush().unwrap();
        let cursors = replay.cursors();
        run(&mut replay, before..before + after);
        drop(replay);
        run(&mut undisturbed, 0..before);
        let mut resumed = reopen(&path, &cursors).unwrap();
        prop_assert!(same(&resumed, &undisturbed));
        run(&mut resumed, before..before + 60);
        run(&mut undisturbed, before..before + 60);
        prop_assert!(same(&resumed, &undisturbed));
    }

    /// Any flipped bit is detected, or is in a slot that can't be sampled.
    #[test]
    fn a_flipped_bit_is_found_or_of_no_effect(steps in 2u64..100, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replay.bin");
        let mut replay = Replay::create(&path, SHAPE).unwrap();
        run(&mut replay, 0..steps);
        let cursors = replay.cursors();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let damaged = folder.path().join("damaged.bin");
        fs::write(&damaged, bytes).unwrap();
        match reopen(&damaged, &cursors) {
            Ok(resumed) => prop_assert!(same(&resumed, &replay)),
            Err(error) => prop_assert!(matches!(error, Damage::Slot { .. }), "{error}"),
        }
    }
}

#[test]
fn a_checkpoint_is_refused_after_one_write_more_than_there_are_spare_slots() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replay.bin");
    let mut replay = Replay::create(&path, SHAPE).unwrap();
    run(&mut replay, 0..100);
    let cursors = replay.cursors();
    run(&mut replay, 100..120);
    assert!(reopen(&path, &cursors).is_ok());
    run(&mut replay, 120..121);
    assert!(matches!(reopen(&path, &cursors).err(), Some(Damage::Slot { .. })));
}

#[test]
fn a_file_that_is_shorter_longer_or_another_runs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replay.bin");
    let mut replay = Replay::create(&path, SHAPE).unwrap();
    run(&mut replay, 0..50);
    let cursors = replay.cursors();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, SHAPE.bytes());
    let refusal = |bytes: &[u8], cursors: &[Cursor]| {
        let damaged = folder.path().join("damaged.bin");
        fs::write(&damaged, bytes).unwrap();
        reopen(&damaged, cursors).err().expect("refused").to_string()
    };
    assert!(refusal(&bytes[..bytes.len() - 1], &cursors).contains("bytes, expected"));
    assert!(refusal(&[&bytes[..], &[0]].concat(), &cursors).contains("bytes, expected"));
    assert!(refusal(&[], &cursors).contains("0 bytes, expected"));
    assert!(refusal(&vec![0; bytes.len()], &cursors).contains("slot"));
    assert!(refusal(&bytes, &cursors[..1]).contains("1 cursors, expected 2"));
    // Slots with other numbers than the cursors expect: a checkpoint that is too old.
    let later = |cursor: &Cursor| Cursor { written: cursor.written + 30, ..cursor.clone() };
    let later: Vec<Cursor> = cursors.iter().map(later).collect();
    assert!(refusal(&bytes, &later).contains("slot"));
    assert!(matches!(reopen(&folder.path().join("none"), &cursors), Err(Damage::File(_))));
}

/// The rings of a run that becomes longer grow; it then goes on as if they had been long before.
#[test]
fn a_file_grows_and_keeps_its_content_before_and_after_the_rings_wrapped() {
    for (steps, from) in [
        (20, Shape { window: 24, spare: 0, ..SHAPE }), // never full: the window grows too
        (50, Shape { spare: 8, ..SHAPE }),
        (150, Shape { spare: 1, ..SHAPE }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replay.bin");
        let to = Shape { window: if steps == 20 { 90 } else { SHAPE.window }, ..SHAPE };
        let mut replay = Replay::create(&path, from).unwrap();
        let mut long = Replay::in_memory(to).unwrap();
        run(&mut replay, 0..steps);
        run(&mut long, 0..steps);
        let cursors = replay.cursors();
        drop(replay);
        let written: Vec<u64> = cursors.iter().map(|cursor| cursor.written).collect();
        Replay::grow(&path, from, to, &written).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), to.bytes());
        let mut grown = Replay::open(&path, to, &cursors).unwrap();
        assert!(same(&grown, &long), "{steps}");
        run(&mut grown, steps..steps + 100);
        run(&mut long, steps..steps + 100);
        assert!(same(&grown, &long), "{steps}, later");
        assert!(Replay::grow(&path, from, to, &written).is_err(), "its size is no longer that");
    }
}

#[test]
fn a_file_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replay.bin");
    fs::write(&path, "precious").unwrap();
    assert!(Replay::create(&path, SHAPE).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

/// Required size: a million Humanoid transitions in 1.7 GB, with spare slots for two
/// checkpoints 10,000 steps apart in which every step ends an episode.
#[test]
fn a_million_humanoid_transitions_take_less_than_1_7_gb() {
    let (obs_dim, act_dim) = (376, 17);
    let shape = Shape { envs: 1, window: 1_000_000, spare: 40_004, obs_dim, act_dim };
    assert!(shape.bytes() < 1_700_000_000, "{}", shape.bytes());
}
