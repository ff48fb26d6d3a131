//! The scale of Q from the values of a mirror term's candidates (`q_scale = "value_std"`).

mod common;

use agent::{AgentConfig, Batch, stream};
use baselines::mdpo::{self, Mdpo, MdpoConfig, MdpoNoise};
use baselines::meanflow::{self, MeanFlowConfig};
use common::named;
use networks::{normal, uniform};
use tch::{Device, Kind, Tensor};

const VALUE_STD: &str = "\"objective.q_scale\" = \"value_std\"";

/// MDPO's running scale after an update, whose noise for the policy's actions and for the lagged
/// policy's candidates are drawn from the given seeds.
fn scale_after_update(actions: u64, candidates: u64) -> f64 {
    let config: MdpoConfig = common::config(mdpo::PRESETS, VALUE_STD);
    config.validate().unwrap();
    let mut agent = Mdpo::new(&config, 5, 3, Device::Cpu, &mut stream(0, "agent"));
    let mut rng = stream(0, "batch");
    let batch = Batch {
        obs: normal(&mut rng, &[16, 5], Device::Cpu),
        action: uniform(&mut rng, &[16, 3], Device::Cpu) * 2.0 - 1.0,
        reward: normal(&mut rng, &[16], Device::Cpu),
        next_obs: normal(&mut rng, &[16, 5], Device::Cpu),
        terminated: Tensor::zeros([16], (Kind::Float, Device::Cpu)),
    };
    let draw = |seed| {
        MdpoNoise::draw(&config, 16, 3, true, Device::Cpu, &mut stream(seed, "noise"))
            .actor
            .unwrap()
    };
    let mut noise = MdpoNoise::draw(&config, 16, 3, true, Device::Cpu, &mut rng);
    let mut actor = draw(actions);
    actor.candidates = draw(candidates).candidates;
    noise.actor = Some(actor);
    agent.update_with(&batch, &noise).read().unwrap();
    let sums = &named(&agent, "q_scale")[0];
    sums.double_value(&[0]) / sums.double_value(&[1])
}

#[test]
fn mdpos_scale_depends_on_the_candidates_of_its_mirror_term_alone() {
    let scale = scale_after_update(1, 1);
    assert!(scale > 0.0, "{scale}");
    assert_eq!(scale_after_update(2, 1), scale);
    assert_ne!(scale_after_update(1, 2), scale);
}

#[test]
fn algorithms_without_candidates_refuse_it_with_one_line() {
    let kl = format!("{VALUE_STD}\n\"mirror.kind\" = \"kl\"");
    let one = format!("{VALUE_STD}\n\"mirror.candidates\" = 1");
    let refusals = [
        common::config::<MdpoConfig>(mdpo::PRESETS, &kl).validate(),
        common::config::<MdpoConfig>(mdpo::PRESETS, &one).validate(),
        common::config::<MeanFlowConfig>(meanflow::PRESETS, VALUE_STD).validate(),
    ];
    for refusal in refusals {
        let message = refusal.unwrap_err();
        assert!(message.starts_with("objective.q_scale = \"value_std\" needs"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}
