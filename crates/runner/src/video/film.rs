//! Episodes as they are filmed: their moments, the frames, the camera.

use super::Pictures;
use crate::base::failure::{Failure, Outcome, unknown};
use crate::train::evaluator::Moment;
use crate::train::progress::Progress;
use envs::{Batch, Camera, Extent, Orbit, Recorder, RenderError, Renderer};
use std::io;

/// The camera that goes along with the robot.
pub const TRACKING: &str = "tracking";
/// The camera that stands still, by default where MuJoCo's viewer begins.
pub const FREE: &str = "free";

/// Where the tracking camera looks from: as the page of `runner show`.
const AZIMUTH: f64 = 107.0;
const ELEVATION: f64 = -12.0;
/// Half the height of what it sees at distance 1, a little less than MuJoCo's 45 degrees show.
const TANGENT: f64 = 0.38;
/// Half the time over which its path is smoothed, in seconds, so that it is calm.
const SMOOTHING: f64 = 0.35;
/// How much of the robot's rise it follows: a jump should look like one.
const RISE: f64 = 0.4;
/// Most frames per second that are chosen.
const FASTEST: f64 = 50.0;

/// A camera by name, and where it should be instead of where it would be.
#[derive(Clone, Debug)]
pub struct View {
    /// `tracking`, `free` or the name of a camera of the model, which comes first.
    pub camera: String,
    /// Degrees, see [`Orbit::azimuth`].
    pub azimuth: Option<f64>,
    /// Degrees, see [`Orbit::elevation`].
    pub elevation: Option<f64>,
    /// Metres.
    pub distance: Option<f64>,
}

impl View {
    /// Finds the camera.
    ///
    /// # Errors
    /// There is none of this name, or it can't be moved.
    pub fn aim(&self, envs: &Batch) -> Outcome<Aim> {
        let cameras = envs.cameras();
        if let Some(index) = cameras.iter().position(|name| *name == self.camera) {
            let moved = [self.azimuth, self.elevation, self.distance].iter().any(Option::is_some);
            return if moved {
                Err(Failure::Usage(format!(
                    "--camera {}: the model says where this camera is; --azimuth, --elevation and \
                     --distance are for the cameras {TRACKING} and {FREE}",
                    self.camera
                )))
            } else {
                Ok(Aim::Model(index))
            };
        }
        match self.camera.as_str() {
            TRACKING => Ok(Aim::Robot {
                azimuth: self.azimuth.unwrap_or(AZIMUTH),
                elevation: self.elevation.unwrap_or(ELEVATION),
                distance: self.distance,
            }),
            FREE => {
                let Orbit { target, distance, azimuth, elevation } = envs.overview();
                Ok(Aim::Point(Orbit {
                    target,
                    distance: self.distance.unwrap_or(distance),
                    azimuth: self.azimuth.unwrap_or(azimuth),
                    elevation: self.elevation.unwrap_or(elevation),
                }))
            }
            other => {
                let own = cameras.iter().map(String::as_str);
                let known: Vec<&str> = [TRACKING, FREE].into_iter().chain(own).collect();
                Err(unknown("camera", other, &known))
            }
        }
    }
}

/// What a camera looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// What a camera of the model does.
    Model(usize),
    /// The robot, wherever it goes. Without a distance, the one at which it fills the picture.
    Robot {
        /// Degrees, see [`Orbit::azimuth`].
        azimuth: f64,
        /// Degrees, see [`Orbit::elevation`].
        elevation: f64,
        /// Metres.
        distance: Option<f64>,
    },
    /// A point.
    Point(Orbit),
}

/// An episode's moments: the first one, and one after each step.
#[derive(Default)]
pub struct Take {
    /// MuJoCo's states.
    states: Vec<Vec<f64>>,
    /// The positions of the robot's root.
    path: Vec<[f64; 3]>,
    /// What the robot takes up at first.
    extent: Option<Extent>,
}

impl Take {
    /// Adds the moments of an evaluation to its episodes.
    pub fn collect(takes: &mut Vec<Self>, recorder: &mut Option<Recorder>, moment: &Moment) {
        let recorder = recorder.get_or_insert_with(|| moment.envs.recorder());
        moment.envs.look(moment.index, recorder);
        if moment.step.is_none() {
            takes.push(Self { extent: recorder.extent(), ..Self::default() });
        }
        let take = &mut takes[moment.index];
        take.states.push(moment.envs.state(moment.index).to_vec());
        let root = take.extent.map_or(0, |extent| extent.root);
        take.path.push(recorder.positions()[root]);
    }

    /// The number of frames at a rate, for steps of `dt` seconds: the first shows the first moment.
    fn frames(&self, rate: f64, dt: f64) -> usize {
        let seconds = (self.states.len() - 1) as f64 * dt;
        // The last moment is shown even if rounding has it a little later.
        (seconds * rate + 1e-6).floor() as usize + 1
    }

    /// What the tracking camera looks at in each moment, and how far away it is for pictures of
    /// `aspect`, width over height.
    fn tracking(&self, dt: f64, aspect: f64) -> (Vec<[f64; 3]>, f64) {
        let start = self.path[0];
        let (low, high) =
            self.extent.map_or(([-1.0; 3], [1.0; 3]), |extent| (extent.low, extent.high));
        let middle: [f64; 3] = std::array::from_fn(|i| (low[i] + high[i]) / 2.0);
        let diagonal = (0..3).map(|i| (high[i] - low[i]).powi(2)).sum::<f64>().sqrt();
        let distance = 0.54 * diagonal / TANGENT * (1.0 / aspect).max(1.0);

        let window = (SMOOTHING / dt).round().max(1.0) as usize;
        let targets = (0..self.path.len()).map(|at| {
            let near = &self.path[at.saturating_sub(window)..self.path.len().min(at + window + 1)];
            std::array::from_fn(|i| {
                let mean = near.iter().map(|place| place[i]).sum::<f64>() / near.len() as f64;
                middle[i] + if i == 2 { RISE } else { 1.0 } * (mean - start[i])
            })
        });
        (targets.collect(), distance)
    }
}

/// The frame rate that steps of `dt` seconds suggest: every n-th step is a frame, at most fifty
/// frames a second.
pub fn natural_rate(dt: f64) -> f64 {
    let every = (1.0 / (dt * FASTEST) - 1e-9).ceil().max(1.0);
    1.0 / (every * dt)
}

/// The moment that is nearest to the time of a frame, of `moments` that are `dt` seconds apart.
fn nearest(frame: usize, rate: f64, dt: f64, moments: usize) -> usize {
    ((frame as f64 / (rate * dt)).round() as usize).min(moments - 1)
}

/// The frames of some episodes, one after the other.
pub struct Film<'a> {
    size: [u32; 2],
    rate: f64,
    /// A state and a camera for each frame.
    frames: Vec<(&'a [f64], Camera)>,
}

impl<'a> Film<'a> {
    /// Chooses the frames of episodes with steps of `dt` seconds: `rate` a second, of `size` pixels.
    pub fn new(takes: &'a [Take], dt: f64, rate: f64, size: [u32; 2], aim: &Aim) -> Self {
        let aspect = f64::from(size[0]) / f64::from(size[1]);
        let mut frames = Vec::new();
        for take in takes {
            let (targets, filling) = take.tracking(dt, aspect);
            for frame in 0..take.frames(rate, dt) {
                let moment = nearest(frame, rate, dt, take.states.len());
                let camera = match *aim {
                    Aim::Model(index) => Camera::Model(index),
                    Aim::Point(orbit) => Camera::Orbit(orbit),
                    Aim::Robot { azimuth, elevation, distance } => Camera::Orbit(Orbit {
                        target: targets[moment],
                        distance: distance.unwrap_or(filling),
                        azimuth,
                        elevation,
                    }),
                };
                frames.push((take.states[moment].as_slice(), camera));
            }
        }
        Self { size, rate, frames }
    }

    /// The number of frames.
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// How long the film is.
    pub fn seconds(&self) -> f64 {
        self.count() as f64 / self.rate
    }
}

/// A film as it is drawn.
pub struct Drawn<'a> {
    /// The film.
    pub film: &'a Film<'a>,
    /// Draws pictures of the film's size.
    pub renderer: &'a mut Renderer,
    /// Counts frames.
    pub progress: &'a Progress,
}

impl Pictures for Drawn<'_> {
    fn size(&self) -> [u32; 2] {
        self.film.size
    }

    fn rate(&self) -> f64 {
        self.film.rate
    }

    fn count(&self) -> usize {
        self.film.count()
    }

    fn picture(&mut self, index: usize) -> io::Result<&[u8]> {
        self.progress.at(index as u64);
        let (state, camera) = &self.film.frames[index];
        self.renderer.draw(state, camera).map_err(io::Error::other)
    }
}

impl From<RenderError> for Failure {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::NoContext(_) => Self::Usage(format!(
                "{error}; install the packages libegl1, libegl-mesa0 and libgl1-mesa-dri (names of \
                 Debian and Ubuntu), or use `runner show`: its page is drawn by a browser"
            )),
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_shows_the_moment_nearest_to_its_time_and_time_stays_true() {
        // Hopper: 125 steps a second, of which every third is a frame.
        let rate = natural_rate(0.008);
        assert!((rate - 125.0 / 3.0).abs() < 1e-9);
        let shown: Vec<_> = (0..4).map(|frame| nearest(frame, rate, 0.008, 100)).collect();
        assert_eq!(shown, [0, 3, 6, 9]);
        // At another rate no moment is further away than half a step, also after a long time.
        for frame in 0..10_000 {
            let moment = nearest(frame, 30.0, 0.008, 50_000);
            assert!((moment as f64 * 0.008 - frame as f64 / 30.0).abs() <= 0.004 + 1e-9);
        }
        // HalfCheetah at 20 steps a second: a film of more frames repeats some.
        assert_eq!(natural_rate(0.05), 20.0);
        let shown: Vec<_> = (0..7).map(|frame| nearest(frame, 30.0, 0.05, 100)).collect();
        assert_eq!(shown, [0, 1, 1, 2, 3, 3, 4]);
    }

    #[test]
    fn a_film_lasts_as_long_as_its_episode() {
        let take = |steps: usize| Take { states: vec![vec![]; steps + 1], ..Take::default() };
        assert_eq!(take(1000).frames(30.0, 0.008), 241); // 8 s
        assert_eq!(take(1000).frames(natural_rate(0.015), 0.015), 501); // every second step
        assert_eq!(take(1).frames(30.0, 0.008), 1);
        assert_eq!(take(0).frames(30.0, 0.008), 1);
    }

    #[test]
    fn the_tracking_camera_goes_along_calmly_and_follows_a_jump_less() {
        let extent = Extent { root: 1, low: [-0.5, -0.1, 0.0], high: [0.5, 0.1, 1.0] };
        let bounce = |t: usize| if t.is_multiple_of(2) { 0.0 } else { 0.2 };
        let path = (0..200).map(|t| [t as f64 * 0.01, 0.0, 0.7 + bounce(t)]).collect();
        let take = Take { states: vec![vec![]; 200], path, extent: Some(extent) };
        let (targets, distance) = take.tracking(0.01, 1.5);
        assert!(distance > 1.5 && distance < 3.0, "{distance}");
        assert!((targets[100][0] - 1.0).abs() < 0.01, "{:?}", targets[100]);
        let heights = targets[50..150].iter().map(|target| target[2]);
        let (low, high) = heights.fold((9.0f64, 0.0f64), |(l, h), z| (l.min(z), h.max(z)));
        assert!(high - low < 0.005 && (low - 0.54).abs() < 0.02, "{low} {high}");
        // A tall picture needs more distance for the same width.
        assert!(take.tracking(0.01, 0.5).1 > 1.9 * distance);
    }
}
