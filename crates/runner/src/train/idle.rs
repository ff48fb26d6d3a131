//! Settings that the user chose but that have no effect, such as the rate of target networks that
//! the critics don't have: two runs that differ in one of them are the same run.

use super::settings::Settings;
use toml_edit::DocumentMut;

/// A line for each key that differs from the preset and has no effect.
pub fn of(settings: &Settings, preset: &DocumentMut) -> Vec<String> {
    let mut lines = Vec::new();
    for idle in settings.algorithm.idle() {
        for path in idle.keys {
            let (section, key) = path.split_once('.').expect("section.key");
            let value = |document: &DocumentMut| document[section][key].to_string();
            let chosen = value(&settings.document);
            if chosen.trim() != value(preset).trim() {
                let because = idle.because;
                lines.push(format!("{path} = {} has no effect: {because}", chosen.trim()));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use crate::train::registry::ALGORITHMS;
    use crate::train::settings::{Settings, Sources, resolve};
    use agent::{ActMode, Batch, stream};
    use std::collections::BTreeSet;
    use tch::{Device, Kind, Tensor};
    use toml_edit::Value;

    const OBS: i64 = 4;
    const ACT: i64 = 2;
    const ROWS: i64 = 8;

    /// Settings of small networks, with more set.
    fn with(algo: &str, more: &[&str]) -> Option<Settings> {
        let small = ["critic.width=8", "actor.width=8", "critic.renorm_warmup=1"];
        let set: Vec<String> = small.iter().chain(more).map(|word| word.to_string()).collect();
        let sources =
            Sources { algo, env: "Hopper-v4", preset: "default", set: &set, ..Default::default() };
        resolve(&sources).ok()
    }

    /// Every tensor of an agent after some updates, and its actions.
    fn trained(settings: &Settings) -> Vec<(String, Tensor)> {
        let mut agent = settings.algorithm.build(OBS, ACT, Device::Cpu, &mut stream(1, "networks"));
        let mut rng = stream(2, "learning");
        let wave = |shape: &[i64], phase: f64| {
            let count: i64 = shape.iter().product();
            let at = Tensor::arange(count, (Kind::Float, Device::Cpu));
            (at * 1.7 + phase).sin().reshape(shape)
        };
        for update in 0..4 {
            let phase = f64::from(update);
            let batch = Batch {
                obs: wave(&[ROWS, OBS], phase),
                action: wave(&[ROWS, ACT], phase + 1.0),
                reward: wave(&[ROWS], phase + 2.0) * 3.0,
                next_obs: wave(&[ROWS, OBS], phase + 3.0),
                terminated: Tensor::zeros([ROWS], (Kind::Float, Device::Cpu)),
            };
            agent.update(&batch, &mut rng);
        }
        let action = agent.act(&wave(&[ROWS, OBS], 9.0), ActMode::Explore, &mut rng);
        let copies = agent.state().into_iter().map(|(name, tensor)| (name, tensor.copy()));
        copies.chain([("action".into(), action)]).collect()
    }

    /// Another value of a key, of its type.
    fn another(value: &Value) -> String {
        match value {
            Value::Boolean(it) => (!it.value()).to_string(),
            Value::Integer(it) => (it.value() + 2).to_string(),
            Value::Float(it) => (it.value() * 0.5 + 0.011).to_string(),
            // `mirror.actions`, which no preset has at this.
            Value::String(it) if ["policy", "replay"].contains(&&**it.value()) => {
                "\"broad\"".into()
            }
            other => panic!("{other}"),
        }
    }

    /// Choices under which keys are idle, with those of the default presets.
    const CHOICES: [&[&str]; 20] = [
        &[],
        &["critic.kind=mlp"],
        &["critic.kind=layernorm"],
        &["critic.kind=crossq"],
        &["critic.kind=xqc"],
        &["critic.kind=crossq", "critic.renorm=false"],
        &["temperature.automatic=false"],
        &["objective.q_scale=none"],
        &["noise.target=0"],
        &["mirror.kind=kl"],
        &["mirror.actions=replay"],
        &["flow.adaptive_power=0"],
        &["entropy.mode=threshold", "entropy.latents=0", "policy.squash=clip"],
        &["entropy.mode=fixed", "entropy.alpha_decay_updates=100"],
        &["objective.lambda=0"],
        &["objective.lambda=0", "mirror.actions=replay"],
        &["entropy.mode=none", "entropy.latents=0"],
        &["entropy.mode=none", "entropy.latents=0", "entropy.alpha_decay_updates=100"],
        &["entropy.mode=fixed", "objective.lambda=0"],
        &["regression.uniform=0"],
    ];

    #[test]
    fn a_key_that_is_called_idle_changes_no_bit_of_an_agent_and_a_user_who_sets_it_is_told() {
        let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
        for algo in ALGORITHMS.iter().map(|algorithm| algorithm.name) {
            for choice in CHOICES {
                // Not every algorithm has every choice, but all have what makes the networks small.
                assert!(with(algo, &[]).is_some(), "{algo}");
                let Some(settings) = with(algo, choice) else { continue };
                let expected = trained(&settings);
                for path in settings.algorithm.idle().iter().flat_map(|idle| idle.keys) {
                    let (section, key) = path.split_once('.').unwrap();
                    let value = another(settings.document[section][key].as_value().unwrap());
                    let assignment = format!("{path}={value}");
                    let more: Vec<&str> = choice.iter().copied().chain([&*assignment]).collect();
                    let other = with(algo, &more).expect("the value is in range");
                    let case = format!("{algo} {choice:?} {assignment}");
                    let told = |line: &String| line.starts_with(&format!("{path} = "));
                    assert!(other.idle.iter().any(told), "{case}: {:?}", other.idle);
                    let others = trained(&other);
                    let differs =
                        |((_, a), (_, b)): &(&(String, Tensor), &(String, Tensor))| !a.equal(b);
                    if let Some(((name, _), _)) = expected.iter().zip(&others).find(differs) {
                        wrong.push(format!("{case}: {name} differs"));
                    }
                    seen.insert(*path);
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(seen.len() >= 20, "{seen:?}");
    }

    #[test]
    fn what_has_an_effect_and_what_the_preset_has_already_is_not_remarked_on() {
        let told = |algo, set: &[&str]| with(algo, set).unwrap().idle;
        let words = told("crossq", &["critic.tau=0.5"]);
        let expected = "critic.tau = 0.5 has no effect: critic.kind = \"crossq\" has no target";
        assert!(words[0].starts_with(expected), "{words:?}");
        assert!(told("crossq", &["critic.tau=0.005"]).is_empty(), "the preset's own value");
        let sac: Vec<String> = told("sac", &["critic.tau=0.5"]);
        assert!(sac.iter().all(|line| !line.contains("critic.tau")), "{sac:?}");
    }
}
