//! Batches that are looked at: poses, contacts, terms of rewards.

use envs::{Batch, BatchStep, Spec, ids};

fn wave(spec: &Spec, t: u32) -> Vec<f32> {
    (0..spec.act_dim).map(|i| spec.act_high[i] * (t as f32 * 0.7 + i as f32).sin()).collect()
}

/// Steps one environment of a task, calling `see` after the reset and after each step.
fn play(id: &str, steps: u32, mut see: impl FnMut(&Batch, &BatchStep)) -> Vec<u64> {
    let mut batch = Batch::make(id, 1, 1).unwrap();
    let mut obs = vec![0.0; batch.spec().obs_dim];
    let mut step = [BatchStep::default()];
    batch.reset(Some(&[5]), &mut obs).unwrap();
    see(&batch, &step[0]);
    let mut bits = Vec::new();
    for t in 0..steps {
        batch.step(&wave(batch.spec(), t), &mut step, &mut obs).unwrap();
        see(&batch, &step[0]);
        bits.extend(obs.iter().chain([&step[0].reward]).map(|x| x.to_bits()));
    }
    bits.extend(batch.save_state(0).iter().map(|byte| u64::from(*byte)));
    bits
}

#[test]
fn looking_at_a_simulation_changes_no_bit_of_it() {
    for id in ids() {
        let alone = play(id, 120, |_, _| {});
        let mut recorder = None;
        let seen = play(id, 120, |batch, _| {
            batch.look(0, recorder.get_or_insert_with(|| batch.recorder()));
        });
        assert!(alone == seen, "{id}");
    }
}

/// The free joint's coordinates in a saved observation are the torso's pose, computed by hand.
#[test]
fn poses_are_those_of_the_state_after_the_step() {
    let mut batch = Batch::make("Ant-v4", 1, 1).unwrap();
    let mut recorder = batch.recorder();
    let mut obs = vec![0.0; batch.spec().obs_dim];
    let mut step = [BatchStep::default()];
    batch.reset(Some(&[5]), &mut obs).unwrap();
    for t in 0..50 {
        batch.step(&wave(batch.spec(), t), &mut step, &mut obs).unwrap();
        batch.look(0, &mut recorder);
        // qpos without x and y: height, quaternion.
        let norm = obs[1..5].iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((recorder.positions()[1][2] - obs[0]).abs() < 1e-12, "step {t}");
        for (found, x) in recorder.orientations()[1].iter().zip(&obs[1..5]) {
            assert!((found - x / norm).abs() < 1e-9, "step {t}");
        }
    }
}

#[test]
fn a_pole_leans_by_its_joint_angle() {
    let mut recorder = None;
    let mut batch = Batch::make("InvertedPendulum-v5", 1, 1).unwrap();
    let mut obs = vec![0.0; 4];
    let mut step = [BatchStep::default()];
    batch.reset(Some(&[5]), &mut obs).unwrap();
    for _ in 0..20 {
        batch.step(&[3.0], &mut step, &mut obs).unwrap();
        let recorder = recorder.get_or_insert_with(|| batch.recorder());
        batch.look(0, recorder);
        let pole = batch.scene().bodies.iter().position(|name| name == "pole").unwrap();
        // The cart slides along x, the pole turns about y.
        let [w, _, y, _] = recorder.orientations()[pole];
        assert!((2.0 * y.atan2(w) - obs[1]).abs() < 1e-9);
        assert!((recorder.positions()[pole][0] - obs[0]).abs() < 1e-9);
    }
}

#[test]
fn a_robot_at_rest_presses_on_the_floor_with_its_weight() {
    let mut batch = Batch::make("Ant-v4", 1, 1).unwrap();
    let mut obs = vec![0.0; batch.spec().obs_dim];
    let mut step = [BatchStep::default()];
    batch.reset(Some(&[5]), &mut obs).unwrap();
    for _ in 0..400 {
        batch.step(&[0.0; 8], &mut step, &mut obs).unwrap();
    }
    let mut recorder = batch.recorder();
    batch.look(0, &mut recorder);
    let floor = recorder.contact_forces()[0];
    let touching: f64 = recorder.contact_forces()[1..].iter().sum();
    // The sum of `body_mass` in MuJoCo's Python binding, times gravity.
    let weight = 0.91088 * 9.81;
    assert!((floor - weight).abs() < 0.02 * weight, "{floor} {weight}");
    assert!((floor - touching).abs() < 1e-9);
}

#[test]
fn the_terms_of_a_reward_add_up_to_it() {
    for id in ids() {
        let mut steps = 0;
        play(id, 150, |batch, step| {
            if *step == BatchStep::default() || step.reset {
                return;
            }
            assert_eq!(batch.terms(0).count(), batch.spec().terms.len());
            let sum: f64 = batch.terms(0).sum();
            let size = 1.0 + step.reward.abs();
            assert!((sum - step.reward).abs() < 1e-6 * size, "{id}: {sum} {}", step.reward);
            steps += 1;
        });
        assert!(steps > 0, "{id}");
    }
}
