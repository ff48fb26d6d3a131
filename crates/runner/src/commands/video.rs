//! `runner video`: a video of a run's policy, drawn by MuJoCo's own renderer.

use super::flags::EpisodeFlags;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct VideoArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// The video: NAME.mp4, NAME.gif, or a folder for frames as PNG (default: video.mp4 in the
    /// run's folder).
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Episodes, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    episodes: u64,
    #[command(flatten)]
    play: EpisodeFlags,
    /// The policy as it was at this step: 0 (untrained), or one that --show-every kept (default:
    /// the newest checkpoint).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    step: Option<u64>,
    /// Width and height in pixels.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "640x480", value_parser = size)]
    size: [u32; 2],
    /// Frames per second of simulated time; each shows the nearest step (default: every n-th step,
    /// at most 50 frames per second).
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, value_parser = fps)]
    fps: Option<f64>,
    /// Camera: tracking (goes along with the robot), free (stands still), or one of the model's.
    #[arg(long, value_name = "NAME", default_value = "tracking")]
    camera: String,
    /// Direction of view about the vertical, in degrees, of tracking and free: 90 is along y.
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true,
          value_parser = |text: &str| within(text, -360.0, 360.0))]
    azimuth: Option<f64>,
    /// Direction of view above the horizon, in degrees, of tracking and free: negative from above.
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true,
          value_parser = |text: &str| within(text, -90.0, 90.0))]
    elevation: Option<f64>,
    /// Distance from what is looked at, in metres, of tracking and free.
    #[arg(long, value_name = "METRES", allow_negative_numbers = true,
          value_parser = |text: &str| within(text, 0.01, 10_000.0))]
    distance: Option<f64>,
    /// Without shadows and reflections: three times as fast without a GPU.
    #[arg(long)]
    no_shadows: bool,
}

/// The largest video, also on end: what H.264's encoder takes.
const LARGEST: [u32; 2] = [3840, 2160];
/// The smallest side of one.
const SMALLEST: u32 = 16;

/// Reads `--size`.
fn size(text: &str) -> Result<[u32; 2], String> {
    let sides = text.split_once(['x', 'X']);
    let sides = sides.and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
    let size: [u32; 2] = sides.ok_or("expected WIDTHxHEIGHT in pixels, such as 640x480")?;
    let [long, short] = [size[0].max(size[1]), size[0].min(size[1])];
    if long > LARGEST[0] || short > LARGEST[1] {
        return Err(format!("at most {}x{} pixels, or on end", LARGEST[0], LARGEST[1]));
    }
    if short < SMALLEST {
        return Err(format!("at least {SMALLEST} pixels each way"));
    }
    Ok(size)
}

/// Reads `--fps`.
fn fps(text: &str) -> Result<f64, String> {
    within(text, 1.0, 240.0)
}

/// Reads a number.
fn within(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| format!("expected a number from {low} to {high}"))
}

/// The command of a build without it.
///
/// # Errors
/// Always: says how to build it.
#[cfg(not(feature = "video"))]
pub fn video(_: &VideoArgs) -> crate::base::failure::Outcome<()> {
    Err(crate::base::failure::Failure::Usage(
        "this program was built without the feature `video`; `cargo run -p runner --features video \
         -- video ...` builds it (1 to 2 minutes more, once), or use `runner show`, which needs \
         only a browser"
            .into(),
    ))
}

#[cfg(feature = "video")]
pub use with_feature::video;

#[cfg(feature = "video")]
mod with_feature {
    use super::VideoArgs;
    use crate::base::console;
    use crate::base::device;
    use crate::base::failure::Outcome;
    use crate::base::stop::Stop;
    use crate::train::evaluator::Moment;
    use crate::train::progress::Progress;
    use crate::train::saved_run::SavedRun;
    use crate::video::film::{Drawn, Film, Take, View, natural_rate};
    use crate::video::output::Output;
    use envs::Renderer;
    use report::thousands;
    use tch::Device;

    /// The video's name in the run's folder.
    const NAME: &str = "video.mp4";

    /// The command: writes the video and prints its path.
    ///
    /// # Errors
    /// The folder holds no run, a checkpoint or the model can't be used, there is no such camera or
    /// no OpenGL, or the video would replace a file of another kind.
    pub fn video(args: &VideoArgs) -> Outcome<()> {
        let run = SavedRun::open(&args.run, args.play.model.as_deref())?;
        let out = args.out.clone().unwrap_or_else(|| run.folder.join(NAME));
        let output = Output::new(&out)?;
        output.format.check(args.size, args.fps)?;
        device::use_threads(1);
        let mut evaluator = run.evaluator(args.episodes as usize, args.play.seed, Device::Cpu)?;
        let spec = evaluator.spec().clone();
        let (agent, step) = match args.step {
            Some(step) => (run.earlier(&spec, Device::Cpu, step)?, step),
            None => run.agent(&spec, Device::Cpu)?,
        };
        let view = View {
            camera: args.camera.clone(),
            azimuth: args.azimuth,
            elevation: args.elevation,
            distance: args.distance,
        };
        let aim = view.aim(evaluator.envs())?;
        let mut renderer = Renderer::new(evaluator.envs(), args.size, !args.no_shadows)?;

        let (mut takes, mut recorder) = (Vec::new(), None);
        let mut watch = |moment: Moment| Take::collect(&mut takes, &mut recorder, &moment);
        let never = Stop::default();
        let found = evaluator.run_watched(agent.as_ref(), args.play.mode(), &never, &mut watch)?;
        let subject = format!("{}, seed {}, step {}", run.label(), run.seed, thousands(step));
        found.expect("no stop is requested").tell(&subject);

        let rate = args.fps.unwrap_or_else(|| natural_rate(spec.dt));
        let film = Film::new(&takes, spec.dt, rate, args.size, &aim);
        let progress = Progress::new("frames", film.count() as u64);
        let drawn = &mut Drawn { film: &film, renderer: &mut renderer, progress: &progress };
        let written = output.write(drawn);
        progress.finish();
        written?;
        console::message(format!(
            "wrote {} frames, {:.1} s at {rate:.4} frames per second, {:.1} MB",
            thousands(film.count() as u64),
            film.seconds(),
            output.size() as f64 / 1e6
        ));
        console::data(format!("{}\n", output.path.display()))
    }
}
