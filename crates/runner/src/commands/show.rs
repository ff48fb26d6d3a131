//! `runner show`: a page with episodes of trained policies in 3D.

use super::flags::EpisodeFlags;
use crate::base::console;
use crate::base::device;
use crate::base::failure::{Failure, Outcome, check_writable};
use crate::base::stop::Stop;
use crate::base::text::shell_word;
use crate::export::live::{self, Source};
use crate::train::evaluator::{Evaluation, Evaluator, Moment};
use crate::train::history;
use crate::train::saved_run::SavedRun;
use agent::{ActMode, Agent};
use clap::Args;
use report::thousands;
use show::{Episode, Page, Recording, Run};
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::Device;

/// What every page contains: it may be written over.
const MARK: &str = "<meta name=\"generator\" content=\"runner show\">";
/// The page's name in the first run's folder.
const NAME: &str = "show.html";
/// Most runs that can be told apart side by side.
const MOST_RUNS: usize = 6;

#[derive(Args)]
pub struct ShowArgs {
    /// Folder of a run; repeat it to show several side by side.
    #[arg(long = "run", value_name = "DIR", required = true)]
    runs: Vec<PathBuf>,
    /// Episodes of each run.
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    episodes: u64,
    /// The page (default: show.html in the folder of the first run).
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Also show the policies as they were before training.
    #[arg(long)]
    untrained: bool,
    /// Also show policies of earlier steps, as many as fit side by side, evenly spaced: of a run
    /// that was trained with --show-every.
    #[arg(long, conflicts_with = "untrained")]
    over_training: bool,
    /// Also let MuJoCo and the policies run in the page (needs `scripts/just setup-live`, once).
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    play: EpisodeFlags,
    /// Megabytes that the page may have.
    #[arg(long, value_name = "MB", default_value_t = 20, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    max_mb: u64,
}

/// The command: writes the page and prints its path.
///
/// # Errors
/// A folder holds no run, a checkpoint or a model can't be used, the page would be too large or
/// would replace a file that is not a page of this command.
pub fn show(args: &ShowArgs) -> Outcome<()> {
    let out = args.out.clone().unwrap_or_else(|| args.runs[0].join(NAME));
    let runs = args
        .runs
        .iter()
        .map(|folder| SavedRun::open(folder, args.play.model.as_deref()))
        .collect::<Outcome<Vec<_>>>()?;
    // Policies of each run before the newest one.
    let earlier = runs
        .iter()
        .map(|run| match (args.over_training, args.untrained) {
            (true, _) => history::steps(&run.folder),
            (_, untrained) => Ok(if untrained { vec![0] } else { vec![] }),
        })
        .collect::<Outcome<Vec<_>>>()?;
    let panels = runs.len() * if args.untrained || args.over_training { 2 } else { 1 };
    if panels > MOST_RUNS {
        return Err(Failure::Usage(format!(
            "{panels} policies side by side: at most {MOST_RUNS} fit; give fewer --run"
        )));
    }
    check_replaceable(&out)?;
    check_writable(out.parent().unwrap_or(Path::new("")))?;
    device::use_threads(1);
    let mode = args.play.mode();
    let mut page = Page::new(&command_line());
    let mut sources = vec![None; runs.len()];
    if args.live {
        for (run, source) in runs.iter().zip(&mut sources) {
            *source = Some(Source::of(run, args.play.model.as_deref())?);
        }
        page.live = Some(live::engine()?);
    }
    let most_earlier = (MOST_RUNS / runs.len()).saturating_sub(1);
    let mut policies_shown = 0;
    for ((run, source), earlier) in runs.iter().zip(&sources).zip(&earlier) {
        let mut evaluator = run.evaluator(args.episodes as usize, args.play.seed, Device::Cpu)?;
        // Before the untrained policy plays, so that a missing checkpoint is known at once.
        let (trained, step) = run.agent(evaluator.spec(), Device::Cpu)?;
        let mut policies = Vec::new();
        let earlier: Vec<u64> = earlier.iter().copied().filter(|other| *other < step).collect();
        for step in history::spread(&earlier, most_earlier) {
            policies.push((run.earlier(evaluator.spec(), Device::Cpu, step)?, step));
        }
        policies.push((trained, step));
        policies_shown += policies.len();
        for (agent, step) in policies {
            let (found, episodes) = record(&mut evaluator, agent.as_ref(), mode)?;
            let name = match step {
                0 => format!("{}, untrained", run.label()),
                _ if args.over_training => format!("{}, step {}", run.label(), thousands(step)),
                _ => run.label(),
            };
            let about = format!("seed {}, step {}", run.seed, thousands(step));
            found.tell(&format!("{name}, {about}"));
            let (scene, spec) = (evaluator.scene(), evaluator.spec());
            let live =
                source.as_ref().map(|source| source.live(agent.as_ref(), mode)).transpose()?;
            let shown = Run { name, about, task: envs::task_name(&run.env).into(), episodes, live };
            if let Some(reduced) = page.add(shown, &scene, spec)? {
                let show::Reduction { before, after } = reduced;
                let [before, after] = [before, after].map(|count| thousands(count as u64));
                console::message(format!(
                    "the meshes of {} are drawn with {after} of their {before} triangles",
                    run.env
                ));
            }
        }
    }
    let text = show::document(&page);
    check_size(text.len(), args.max_mb, args.episodes, policies_shown)?;
    report::whole(&out, |file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::file(&out, "write", error))?;
    console::message(format!(
        "wrote a page of {:.2} MB; open it in a browser",
        text.len() as f64 / 1e6
    ));
    console::data(format!("{}\n", out.display()))
}

/// An episode of the newest checkpoint of the run in a folder, as data for the viewer. The caller
/// sets the number of threads.
///
/// # Errors
/// The folder holds no run, or its checkpoint or model can't be used.
pub fn replay(folder: &Path) -> Outcome<String> {
    let run = SavedRun::open(folder, None)?;
    let mut evaluator = run.evaluator(1, None, Device::Cpu)?;
    let (agent, step) = run.agent(evaluator.spec(), Device::Cpu)?;
    let (_, episodes) = record(&mut evaluator, agent.as_ref(), ActMode::Deterministic)?;
    let mut page = Page::new("");
    let about = format!("seed {}, step {}", run.seed, thousands(step));
    let shown = Run {
        name: run.label(),
        about,
        task: envs::task_name(&run.env).into(),
        episodes,
        live: None,
    };
    page.add(shown, &evaluator.scene(), evaluator.spec())?;
    Ok(page.data())
}

/// Plays one episode on every environment of an evaluation and records them.
fn record(
    evaluator: &mut Evaluator,
    agent: &dyn Agent,
    mode: ActMode,
) -> Outcome<(Evaluation, Vec<Episode>)> {
    let (scene, spec) = (evaluator.scene(), evaluator.spec().clone());
    let mut recordings: Vec<Recording> = Vec::new();
    let mut recorder = None;
    let mut watch = |moment: Moment| {
        let recorder = recorder.get_or_insert_with(|| moment.envs.recorder());
        moment.envs.look(moment.index, recorder);
        match moment.step {
            None => {
                let mut recording = Recording::new(&scene, &spec);
                recording.begin(recorder);
                recordings.push(recording);
            }
            Some((action, step)) => {
                let terms = moment.envs.terms(moment.index);
                recordings[moment.index].step(recorder, action, step, terms);
            }
        }
    };
    let never = Stop::default();
    let found =
        evaluator.run_watched(agent, mode, &never, &mut watch)?.expect("no stop is requested");
    let totals = found.episodes.iter().map(|(total, _)| *total);
    let episodes = recordings.into_iter().zip(totals).map(|(one, total)| one.finish(total));
    let episodes = episodes.collect();
    Ok((found, episodes))
}

/// The arguments as typed.
fn command_line() -> String {
    let quoted = std::env::args_os().skip(1).map(|word| shell_word(&word.to_string_lossy()));
    std::iter::once("runner".into()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Refuses a page that can't be written, before episodes are played.
fn check_replaceable(out: &Path) -> Outcome<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(Failure::Usage(format!("{}: its folder does not exist", out.display())));
    }
    if !out.exists() {
        return Ok(());
    }
    let ours = std::fs::read_to_string(out).is_ok_and(|text| text.contains(MARK));
    if ours {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{} exists and is not a page of `runner show`; choose another --out",
        out.display()
    )))
}

/// Refuses a page that is too large, before it is written.
fn check_size(bytes: usize, most: u64, episodes: u64, policies: usize) -> Outcome<()> {
    let megabytes = bytes as f64 / 1e6;
    if megabytes <= most as f64 {
        return Ok(());
    }
    let each = megabytes / (episodes * policies as u64) as f64;
    Err(Failure::Usage(format!(
        "the page would have {megabytes:.1} MB, at most {most} are allowed: it has {policies} \
         policies of {episodes} episodes, about {each:.2} MB each; give fewer --episodes or --run, \
         or a larger --max-mb"
    )))
}
