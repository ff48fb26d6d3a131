//! The moments of an episode, and their compressed form.

use crate::pack::{Pack, Packer};
use envs::{BatchStep, Recorder, Scene, Spec};
use serde::Serialize;

/// Positions are stored in steps of at most this, in metres. One over 6.5 m would take more than
/// two bytes, so only the roots of kinematic trees have their position in the world.
const COARSEST: f64 = 1e-4;
/// The same for the components of quaternions: an angle of at most 0.01 degrees.
const COARSEST_TURN: f64 = 1e-4;
/// The same for actions and forces, relative to their range.
const COARSEST_SHARE: f64 = 1e-4;

/// Collects the moments of an episode: the first one, and one after each step.
#[derive(Clone, Debug)]
pub struct Recording {
    roots: Vec<usize>,
    act_dim: usize,
    positions: Vec<f64>,
    orientations: Vec<f64>,
    forces: Vec<f64>,
    actions: Vec<f32>,
    rewards: Vec<f32>,
    terms: Vec<f32>,
    term_names: Vec<String>,
    end: End,
    steps: u32,
}

/// Why an episode ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum End {
    /// The simulation diverged: its last step is not shown.
    #[default]
    Diverged,
    /// A terminal state, such as a fall.
    Terminated,
    /// The time limit.
    Truncated,
}

/// An episode as the page reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Episode {
    /// The sum of the rewards, as an evaluation gives it.
    #[serde(rename = "return")]
    pub total: f64,
    /// The number of steps.
    pub steps: u32,
    end: End,
    /// The terms of the reward.
    terms: Vec<String>,
    /// The bodies that touched something.
    touching: Vec<usize>,
    #[serde(flatten)]
    pack: Pack,
}

impl Recording {
    /// An empty recording of a task.
    pub fn new(scene: &Scene, spec: &Spec) -> Self {
        Self {
            roots: scene.roots.clone(),
            act_dim: spec.act_dim,
            positions: Vec::new(),
            orientations: Vec::new(),
            forces: Vec::new(),
            actions: Vec::new(),
            rewards: Vec::new(),
            terms: Vec::new(),
            term_names: spec.terms.clone(),
            end: End::default(),
            steps: 0,
        }
    }

    /// Adds the first moment, after the reset.
    pub fn begin(&mut self, now: &Recorder) {
        self.look(now);
    }

    /// Adds the moment after a step with an action, in the units of the model's controls, and the terms
    /// of its reward.
    pub fn step(
        &mut self,
        now: &Recorder,
        action: &[f32],
        step: &BatchStep,
        terms: impl Iterator<Item = f64>,
    ) {
        self.look(now);
        self.actions.extend(action);
        self.rewards.push(step.reward as f32);
        self.terms.extend(terms.map(|value| value as f32));
        self.steps += 1;
        if step.terminated {
            self.end = End::Terminated;
        } else if step.truncated {
            self.end = End::Truncated;
        }
    }

    fn look(&mut self, now: &Recorder) {
        let bodies = self.roots.len();
        let places = now.positions();
        for (body, root) in self.roots.iter().enumerate() {
            let origin = if *root == body { [0.0; 3] } else { places[*root] };
            self.positions.extend((0..3).map(|i| places[body][i] - origin[i]));
        }
        // A quaternion and its negative are the same rotation; the one nearer to the previous
        // moment's keeps the numbers continuous.
        let before = self.orientations.len().checked_sub(4 * bodies);
        for (body, now) in now.orientations().iter().enumerate() {
            let last = before.map(|at| &self.orientations[at + 4 * body..][..4]);
            let cosine = last.map_or(1.0, |last| last.iter().zip(now).map(|(a, b)| a * b).sum());
            let sign = if cosine < 0.0 { -1.0 } else { 1.0 };
            self.orientations.extend(now.map(|x| sign * x));
        }
        self.forces.extend(now.contact_forces());
    }

    /// Compresses the episode; `total` is its return.
    pub fn finish(self, total: f64) -> Episode {
        let bodies = self.roots.len();
        let rows = || self.forces.chunks_exact(bodies);
        let touching: Vec<usize> =
            (1..bodies).filter(|body| rows().any(|row| row[*body] > 0.0)).collect();
        let forces: Vec<f64> =
            rows().flat_map(|row| touching.iter().map(|body| row[*body])).collect();
        let actions: Vec<f64> = self.actions.iter().map(|x| f64::from(*x)).collect();
        let largest = |all: &[f64]| all.iter().fold(1e-9f64, |most, x| most.max(x.abs()));

        let mut packer = Packer::default();
        packer.numbers("positions", 3 * bodies, &self.positions, COARSEST);
        packer.numbers("orientations", 4 * bodies, &self.orientations, COARSEST_TURN);
        packer.numbers("forces", touching.len(), &forces, COARSEST_SHARE * largest(&forces));
        packer.numbers("actions", self.act_dim, &actions, COARSEST_SHARE * largest(&actions));
        packer.exact("rewards", 1, &self.rewards);
        packer.exact("terms", self.term_names.len(), &self.terms);
        Episode {
            total,
            steps: self.steps,
            end: self.end,
            terms: self.term_names,
            touching,
            pack: packer.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::tests::unpack;
    use envs::Batch;

    /// An episode with random-looking actions, and the poses that it had.
    #[expect(clippy::type_complexity, reason = "a tuple of a test")]
    fn play(
        id: &str,
        steps: u32,
    ) -> (Scene, Episode, Vec<(Vec<[f64; 3]>, Vec<[f64; 4]>)>, Vec<f64>) {
        let mut batch = Batch::make(id, 1, 1).unwrap();
        let (spec, scene) = (batch.spec().clone(), batch.scene());
        let mut recording = Recording::new(&scene, &spec);
        let mut recorder = batch.recorder();
        let mut obs = vec![0.0; spec.obs_dim];
        let mut step = [BatchStep::default()];
        let (mut poses, mut rewards) = (Vec::new(), Vec::new());
        batch.reset(Some(&[3]), &mut obs).unwrap();
        batch.look(0, &mut recorder);
        recording.begin(&recorder);
        let mut keep = |now: &Recorder| {
            poses.push((now.positions().to_vec(), now.orientations().to_vec()));
        };
        keep(&recorder);
        for t in 0..steps {
            let noise =
                |i: usize| ((t as f32 * 12.9898 + i as f32 * 78.233).sin() * 43_758.547).fract();
            let action: Vec<f32> = (0..spec.act_dim).map(|i| spec.act_high[i] * noise(i)).collect();
            batch.step(&action, &mut step, &mut obs).unwrap();
            if step[0].reset {
                continue;
            }
            batch.look(0, &mut recorder);
            recording.step(&recorder, &action, &step[0], batch.terms(0));
            keep(&recorder);
            rewards.push(step[0].reward);
        }
        let total = rewards.iter().sum();
        (scene, recording.finish(total), poses, rewards)
    }

    /// The largest errors of a position, in metres, and of an angle, in radians.
    fn errors(id: &str, steps: u32) -> (f64, f64) {
        let (scene, episode, poses, _) = play(id, steps);
        let tracks = unpack(&episode.pack);
        let bodies = scene.bodies.len();
        let (mut place, mut turn) = (0.0f64, 0.0f64);
        for (t, (positions, orientations)) in poses.iter().enumerate() {
            let at = |body: usize| -> [f64; 3] {
                std::array::from_fn(|i| tracks[0][(t * bodies + body) * 3 + i])
            };
            for body in 0..bodies {
                let root = scene.roots[body];
                let origin = if root == body { [0.0; 3] } else { at(root) };
                for i in 0..3 {
                    place = place.max((at(body)[i] + origin[i] - positions[body][i]).abs());
                }
                let q = &tracks[1][(t * bodies + body) * 4..][..4];
                let size = q.iter().map(|x| x * x).sum::<f64>().sqrt();
                let distance = |sign: f64| {
                    let gap = q.iter().zip(&orientations[body]).map(|(a, b)| a / size - sign * b);
                    gap.map(|x| x * x).sum::<f64>().sqrt()
                };
                turn = turn.max(2.0 * distance(1.0).min(distance(-1.0)));
            }
        }
        (place, turn)
    }

    #[test]
    fn poses_are_stored_to_a_tenth_of_a_millimetre_and_a_hundredth_of_a_degree() {
        for id in ["Humanoid-v4", "HumanoidStandup-v4", "Ant-v4", "HalfCheetah-v4", "Pusher-v5"] {
            let (place, turn) = errors(id, 400);
            assert!(place < 1e-4, "{id}: {place} m");
            assert!(turn.to_degrees() < 0.01, "{id}: {} degrees", turn.to_degrees());
        }
    }

    #[test]
    fn a_thousand_steps_of_the_humanoid_take_less_than_the_bound_of_a_page() {
        let (_, episode, ..) = play("HumanoidStandup-v4", 1000);
        assert_eq!(episode.steps, 1000);
        let size = serde_json::to_string(&episode).unwrap().len();
        assert!(size < 350_000, "{size} bytes");
    }

    #[test]
    fn rewards_are_exact_to_f32_and_the_end_is_told() {
        let (_, episode, _, rewards) = play("Hopper-v4", 300);
        assert_eq!(episode.end, End::Terminated);
        let tracks = unpack(&episode.pack);
        let first = rewards[..episode.steps as usize].iter().zip(&tracks[4]);
        assert!(first.into_iter().all(|(reward, found)| f64::from(*reward as f32) == *found));
        assert_eq!(episode.terms, ["forward", "survive", "ctrl"]);
        assert_eq!(tracks[5].len(), 3 * tracks[4].len());
    }

    #[test]
    fn a_rotation_goes_on_where_its_quaternion_changes_sign() {
        let (scene, episode, ..) = play("HumanoidStandup-v4", 400);
        let width = 4 * scene.bodies.len();
        let turns = &unpack(&episode.pack)[1];
        for (before, after) in turns.chunks(width).zip(turns.chunks(width).skip(1)) {
            for (a, b) in before.chunks(4).zip(after.chunks(4)) {
                assert!(a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() > 0.0);
            }
        }
    }
}
