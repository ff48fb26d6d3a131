//! Whole updates against recordings of an independent implementation in JAX
//! (`scripts/record_smfp_update.py`): critics, actor, lagged policy,
//! temperature and running scale, for every switch of the presets.

use agent::{AgentConfig, stream};
use smfp::{ActorNoise, MirrorNoise, Smfp, SmfpConfig, UpdateNoise};
use testing::Recording;

fn noise(recording: &Recording) -> UpdateNoise {
    let get = |name: &str| recording.get(&format!("noise.{name}"));
    let find = |name: &str| recording.find(&format!("noise.{name}"));
    let mirror = find("mirror.z").map(|z| MirrorNoise {
        z,
        xi: get("mirror.xi"),
        uniform: find("mirror.uniform"),
        choice: get("mirror.choice"),
        eps: get("mirror.eps"),
        e: get("mirror.e"),
        t: get("mirror.t"),
        r: get("mirror.r"),
    });
    UpdateNoise {
        next_z: get("next_z"),
        next_xi: get("next_xi"),
        next_latents: find("next_latents"),
        actor: Some(ActorNoise { z: get("z"), xi: get("xi"), mirror }),
    }
}

#[test]
fn one_update_equals_the_recording_of_an_independent_implementation() {
    testing::in_every_form_and_libtorch(|| {
        let folder = testing::fixtures(env!("CARGO_MANIFEST_DIR"));
        let mut failures = Vec::new();
        for (case, config, recording) in
            testing::cases::<SmfpConfig>(&folder, "cases.toml", "", smfp::PRESETS)
        {
            config.validate().unwrap_or_else(|error| panic!("{case}: {error}"));
            let (obs_dim, act_dim) = recording.dimensions();
            let mut rng = stream(0, "recorded");
            let mut agent = Smfp::new(&config, obs_dim, act_dim, testing::device(), &mut rng);
            recording.start(&case, &mut agent);
            let measured = agent.update_with(&recording.batch(), &noise(&recording));
            failures.extend(recording.differences(&case, &agent, &measured));
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}
