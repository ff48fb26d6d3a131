//! The number of threads changes the speed, and no number.

use agent::{ActMode, Agent, Batch, stream};
use baselines::sac::{PRESETS, Sac, SacConfig};
use networks::{normal, set_threads, uniform};
use tch::{Device, Kind, Tensor};

/// Rows that are no multiple of what a thread takes at a time.
const ROWS: i64 = 300;

fn batch() -> Batch {
    let mut rng = stream(1, "batch");
    Batch {
        obs: normal(&mut rng, &[ROWS, 17], Device::Cpu),
        action: uniform(&mut rng, &[ROWS, 6], Device::Cpu) * 2.0 - 1.0,
        reward: normal(&mut rng, &[ROWS], Device::Cpu),
        next_obs: normal(&mut rng, &[ROWS, 17], Device::Cpu),
        terminated: Tensor::zeros([ROWS], (Kind::Float, Device::Cpu)),
    }
}

/// The whole state after some updates, and an action.
fn train(config: &SacConfig, threads: usize) -> Vec<(String, Tensor)> {
    set_threads(threads);
    let mut agent = Sac::new(config, 17, 6, Device::Cpu, &mut stream(1, "test"));
    let (batch, mut rng) = (batch(), stream(1, "learning"));
    for _ in 0..4 {
        agent.update(&batch, &mut rng).read().unwrap();
    }
    let action = agent.act(&batch.obs, ActMode::BestOf(3), &mut rng);
    let mut state: Vec<_> = agent.state().iter().map(|(n, t)| (n.clone(), t.copy())).collect();
    state.push(("action".into(), action));
    state
}

#[test]
fn updates_and_actions_are_the_same_to_the_byte_on_one_two_and_five_threads_in_every_form() {
    testing::in_every_form(|| {
        for kind in ["mlp", "layernorm", "crossq", "xqc"] {
            let keys = format!("\"critic.kind\" = \"{kind}\"\n\"critic.members\" = 3");
            let config: SacConfig = testing::config(PRESETS, &keys);
            let expected = train(&config, 1);
            for threads in [2, 5] {
                for ((name, ours), (_, theirs)) in train(&config, threads).iter().zip(&expected) {
                    assert!(ours.equal(theirs), "{kind}, {threads} threads: {name}");
                }
            }
        }
    });
}
