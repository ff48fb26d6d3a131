//! Training actors on the toys.

use agent::stream;
use baselines::sac::{self, SacConfig};
use smfp::SmfpConfig;
use toys::{Actor, Learner, Measures, PriorIn, Toy};

fn gaussian(seed: u64) -> Actor {
    let keys = r#"
        "actor.width" = 32
        "actor.learning_rate" = 1e-2
        "temperature.automatic" = false
    "#;
    Actor::sac(&testing::config::<SacConfig>(sac::PRESETS, keys), seed)
}

/// SMFP with a threshold on the deviation and clipped actions.
const CLIPPED: &str = r#"
    "actor.width" = 32
    "actor.activation" = "mish"
    "actor.beta1" = 0.9
    "objective.q_scale" = "advantage_std"
    "policy.frequencies" = 2
    "policy.squash" = "clip"
    "policy.latent_std" = 1.0
    "entropy.mode" = "threshold"
    "entropy.alpha" = 0.1
    "entropy.sigma_target" = 0.1
    "entropy.latents" = 0
    "mirror.batch_share" = 0.5
"#;

fn smfp(keys: &str, seed: u64) -> Actor {
    let keys = format!("{CLIPPED}\n{keys}");
    Actor::smfp(&testing::config::<SmfpConfig>(smfp::PRESETS, &keys), seed)
}

#[test]
fn minimising_the_reverse_kl_a_gaussian_ends_at_one_mode_with_the_modes_deviation() {
    let mut learner = Learner::new(Toy::ThreeModes, PriorIn::Value, 1.0, gaussian(1), 64, 1);
    (0..500).for_each(|_| learner.update().unwrap());
    let drawn = learner.draw(2000);
    let modes = Toy::ThreeModes.modes();
    let target = Toy::ThreeModes.exact_points(2000, &mut stream(1, "target"));
    let measures = Measures::of(&drawn.samples, modes, &target);
    assert_eq!(measures.modes, 1, "{measures:?}");
    assert!(measures.shares.iter().any(|share| *share > 0.97), "{measures:?}");
    // The entropy of an isotropic Gaussian in the plane with standard deviation 0.1.
    let expected = 2.0 * (0.1f64.ln() + 0.5 * (std::f64::consts::TAU.ln() + 1.0));
    let entropy = drawn.entropy.unwrap();
    assert!((entropy - expected).abs() < 0.15, "{entropy}, expected {expected}");
}

#[test]
fn the_mirror_term_alone_moves_towards_both_bumps() {
    let keys = r#"
        "mirror.only" = true
        "actor.learning_rate" = 3e-3
        "policy.std_init" = 0.03
        "entropy.sigma_target" = 0.03
        "mirror.actions" = "replay"
        "mirror.temperature" = 0.919
        "mirror.weight_max" = 1e6
    "#;
    let mut learner = Learner::new(Toy::TwoBumps, PriorIn::Replay, 8.0, smfp(keys, 1), 256, 1);
    let target = Toy::TwoBumps.exact_points(2000, &mut stream(1, "target"));
    let w2 = |learner: &Learner| {
        Measures::of(&learner.draw(2000).samples, Toy::TwoBumps.modes(), &target).w2
    };
    let before = w2(&learner);
    (0..600).for_each(|_| learner.update().unwrap());
    let after = w2(&learner);
    assert!(after < 0.5 * before, "{before} before, {after} after");
}

#[test]
fn the_semi_implicit_entropy_finds_the_bump_that_the_conditional_surrogate_misses() {
    let modes = |latents: u32| {
        let keys = format!(
            r#"
            "actor.width" = 64
            "actor.learning_rate" = 3e-3
            "objective.lambda" = 0.0
            "objective.q_scale" = "none"
            "policy.bound_penalty" = 10.0
            "entropy.mode" = "fixed"
            "entropy.alpha" = 1.0
            "entropy.latents" = {latents}
            "#
        );
        let mut learner = Learner::new(Toy::TwoBumps, PriorIn::Value, 8.0, smfp(&keys, 1), 128, 1);
        (0..600).for_each(|_| learner.update().unwrap());
        let target = Toy::TwoBumps.exact_points(2000, &mut stream(1, "target"));
        let measures = Measures::of(&learner.draw(2000).samples, Toy::TwoBumps.modes(), &target);
        println!("{latents}: {measures:?}");
        measures.modes
    };
    assert_eq!((modes(0), modes(8)), (1, 2));
}

#[test]
fn a_seed_gives_the_same_samples_and_drawing_them_changes_nothing() {
    for toy in Toy::ALL {
        let run = |seed: u64, look: bool| {
            let mut learner =
                Learner::new(toy, PriorIn::Replay, toy.scale(), smfp("", seed), 32, seed);
            for _ in 0..5 {
                learner.update().unwrap();
                if look {
                    learner.draw(10);
                }
            }
            learner.draw(100).samples
        };
        assert_eq!(run(1, false), run(1, true), "{toy:?}");
        assert_ne!(run(1, false), run(2, false), "{toy:?}");
    }
}

#[test]
fn lengths_and_entropies_are_in_the_toys_units() {
    // An untrained head has mean z and standard deviation 0.3, in units of half the
    // square's side: 1 and 8.
    for (toy, scale) in [(Toy::ThreeModes, 1.0f64), (Toy::TwoBumps, 8.0)] {
        let drawn = Learner::new(toy, PriorIn::Replay, toy.scale(), smfp("", 3), 32, 3).draw(2000);
        assert!((drawn.sigma_mean.unwrap() / (0.3 * scale) - 1.0).abs() < 1e-5);
        assert!((drawn.spread_z.unwrap() / scale - 1.0).abs() < 0.05);
        let expected = 2.0 * ((0.3 * scale).ln() + 0.5 * (std::f64::consts::TAU.ln() + 1.0));
        assert!((drawn.entropy.unwrap() - expected).abs() < 1e-5);
        let side = drawn.samples.iter().flatten().fold(0.0f64, |most, x| most.max(x.abs()));
        assert_eq!(side, scale, "some of 2,000 samples are clipped to the square's edge");
    }
    let keys = "\"entropy.mode\" = \"none\"\n\"entropy.sigma_target\" = 0.0";
    let drawn = Learner::new(Toy::ThreeModes, PriorIn::Replay, 1.0, smfp(keys, 3), 32, 3).draw(50);
    assert_eq!((drawn.entropy, drawn.sigma_mean), (None, Some(0.0)));
}
