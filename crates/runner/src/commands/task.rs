//! `runner task`: tasks of the user's own, which are files ([docs/tasks.md](../../../../docs/tasks.md)).

use crate::base::console::{self, message};
use crate::base::failure::{Failure, Outcome};
use crate::base::text::shell_word;
use clap::Args;
use envs::numpy::Generator;
use envs::{Env, Spec, Term};
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

/// Random steps that a check makes.
const STEPS: usize = 100;

#[derive(Args)]
pub struct TaskCheckArgs {
    /// The task's file (or the id of a built-in task).
    #[arg(value_name = "FILE")]
    task: String,
    /// Seed of the initial states and of the random actions.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
}

#[derive(Args)]
pub struct TaskNewArgs {
    /// The model: an MJCF file.
    #[arg(value_name = "MODEL.xml")]
    model: PathBuf,
    /// The file to write (default: next to the model, with its name and the ending .toml).
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Smallest, mean and largest of the numbers seen.
#[derive(Clone, Copy)]
struct Seen {
    least: f64,
    sum: f64,
    most: f64,
    count: usize,
    finite: bool,
}

impl Seen {
    const NOTHING: Self =
        Self { least: f64::INFINITY, sum: 0.0, most: f64::NEG_INFINITY, count: 0, finite: true };

    fn add(&mut self, x: f64) {
        self.least = self.least.min(x);
        self.most = self.most.max(x);
        self.sum += x;
        self.count += 1;
        self.finite &= x.is_finite();
    }

    fn row(&self) -> String {
        let mean = self.sum / self.count as f64;
        format!("{:>11.4} {mean:>11.4} {:>11.4}", self.least, self.most)
    }
}

/// `task check`: prints tables of what the task is and gives, and warnings.
///
/// # Errors
/// A mistake in the file, or a model that does not fit it.
pub fn check(args: &TaskCheckArgs) -> Outcome<()> {
    let mut env = Env::make(&args.task)?;
    let spec = env.spec().clone();
    let mut warnings: Vec<String> = envs::take_messages()
        .into_iter()
        .map(|said| format!("MuJoCo: {}{}", said.text, times(said.count)))
        .collect();
    // What was not finite, the first error, and how often.
    let mut divergences: Vec<(&str, envs::Error, u64)> = Vec::new();

    let mut observations = vec![Seen::NOTHING; spec.obs_dim];
    let mut terms = vec![Seen::NOTHING; spec.terms.len()];
    let mut rewards = Seen::NOTHING;
    let mut episodes = 0;
    let mut random = Generator::new(u64::MAX - args.seed);
    let mut obs = vec![0.0; spec.obs_dim];
    env.reset(Some(args.seed), &mut obs);
    for _ in 0..STEPS {
        observations.iter_mut().zip(&obs).for_each(|(seen, x)| seen.add(*x));
        let bounds = spec.act_low.iter().zip(&spec.act_high);
        let action: Vec<f32> = bounds
            .map(|(low, high)| random.uniform(f64::from(*low), f64::from(*high)) as f32)
            .collect();
        let step = env.step(&action, &mut obs)?;
        observations.iter_mut().zip(&obs).for_each(|(seen, x)| seen.add(*x));
        terms.iter_mut().zip(env.terms()).for_each(|(seen, x)| seen.add(x));
        rewards.add(step.reward);
        let diverged = env.check().err();
        episodes += usize::from(step.terminated || step.truncated);
        if step.terminated || step.truncated || diverged.is_some() {
            env.reset(None, &mut obs);
        }
        if let Some(error) = diverged {
            // The errors differ in their steps.
            let kind = if let envs::Error::Diverged { warning, .. } = error { warning } else { "" };
            match divergences.iter_mut().find(|(known, ..)| *known == kind) {
                Some((.., count)) => *count += 1,
                None => divergences.push((kind, error, 1)),
            }
        }
    }
    warnings.extend(
        divergences
            .iter()
            .map(|(_, first, count)| format!("{first}, under random actions{}", times(*count))),
    );
    warn(&mut warnings, &spec, &observations, &terms, &rewards);
    if env.ends_at_once()? {
        warnings.push("every episode ends at its first step: look at terminate and [start]".into());
    }

    console::data(tables(&spec, &observations, &terms, &rewards, episodes))?;
    warnings.iter().for_each(|warning| message(format!("warning: {warning}")));
    Ok(())
}

/// How often, unless it was once.
fn times(count: u64) -> String {
    if count == 1 { String::new() } else { format!(" ({count} times)") }
}

/// Adds what looks like a mistake.
fn warn(
    warnings: &mut Vec<String>,
    spec: &Spec,
    observations: &[Seen],
    terms: &[Seen],
    rewards: &Seen,
) {
    for Term { name, start, length, .. } in &spec.observation {
        let seen = &observations[*start..][..*length];
        let still: Vec<usize> =
            (0..seen.len()).filter(|i| seen[*i].least == seen[*i].most).collect();
        if seen.iter().any(|seen| !seen.finite) {
            warnings.push(format!("observation {name} was not finite"));
        } else if still.len() == seen.len() {
            warnings.push(format!("observation {name} is constant"));
        } else if !still.is_empty() {
            let still: Vec<String> = still.iter().map(usize::to_string).collect();
            warnings.push(format!("observation {name}: constant numbers {}", still.join(", ")));
        }
    }
    let all = spec.terms.iter().map(|name| format!("term {name}")).zip(terms);
    for (name, seen) in all.chain([("the reward".to_owned(), rewards)]) {
        if !seen.finite {
            warnings.push(format!("{name} was not finite"));
        } else if seen.least == seen.most {
            warnings.push(format!("{name} never moved: it was always {}", seen.least));
        }
    }
}

fn tables(
    spec: &Spec,
    observations: &[Seen],
    terms: &[Seen],
    rewards: &Seen,
    episodes: usize,
) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}: {} observations, {} actions; {} s per action ({} MuJoCo steps), at most {} actions per \
         episode\nmodel: {}\n",
        spec.id,
        spec.obs_dim,
        spec.act_dim,
        spec.dt,
        spec.frame_skip,
        spec.max_episode_steps,
        spec.model_file
    );
    let _ = writeln!(text, "{:35} {:>11} {:>11}", "actions", "from", "to");
    for (i, name) in spec.actuators.iter().enumerate() {
        let (low, high) = (spec.act_low[i], spec.act_high[i]);
        let _ = writeln!(text, "{i:>3} {name:31} {low:>11} {high:>11}");
    }
    let columns = "      least        mean        most";
    let _ = writeln!(text, "\nobservation                 numbers {columns}");
    for Term { name, expression, start, length, entries } in &spec.observation {
        let mut seen = Seen::NOTHING;
        for one in &observations[*start..][..*length] {
            seen.least = seen.least.min(one.least);
            seen.most = seen.most.max(one.most);
            seen.sum += one.sum;
            seen.count += one.count;
        }
        let slice = format!("{start}:{}", start + length);
        let _ = writeln!(text, "{name:24} {slice:>10} {}", seen.row());
        let _ = writeln!(text, "    = {expression}");
        let named = (*start..).zip(entries).map(|(i, entry)| format!("{i} {entry}"));
        lines(named, &mut text);
    }
    let _ = writeln!(text, "\n{:35} {columns}", format!("{STEPS} random steps, {episodes} ends"));
    let all = spec.terms.iter().map(String::as_str).zip(terms);
    for (name, seen) in all.chain([("reward", rewards)]) {
        let _ = writeln!(text, "{name:35} {}", seen.row());
    }
    text
}

/// Writes words into indented lines, each not much longer than the tables.
fn lines(words: impl Iterator<Item = String>, text: &mut String) {
    const WIDTH: usize = 90;
    let mut width = 0;
    for word in words {
        let next = word.chars().count() + 2;
        if width == 0 || width + next > WIDTH {
            text.push_str(if width == 0 { "      " } else { ",\n      " });
            width = 0;
        } else {
            text.push_str(", ");
        }
        text.push_str(&word);
        width += next;
    }
    if width > 0 {
        text.push('\n');
    }
}

/// `task new`: writes the file and prints its path.
///
/// # Errors
/// A model that can't be read or has nothing to control; a file that has no name for a task, exists, or
/// can't be written.
pub fn new(args: &TaskNewArgs) -> Outcome<()> {
    let beside = || args.model.with_file_name(envs::file_name_for(&args.model));
    let out = args.out.clone().unwrap_or_else(beside);
    let refused = |why: &str| Err(Failure::Usage(format!("{}: {why}", out.display())));
    if !envs::is_file(&out.to_string_lossy()) {
        return refused("a task's file ends in .toml");
    }
    if let Some(why) = envs::wrong_name(&out) {
        return refused(&why);
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return refused("its folder does not exist");
    }
    let named = path_from(&out, &args.model);
    let text = envs::sketch(&args.model, &named.to_string_lossy())?;
    let write = || {
        let mut file = std::fs::File::create_new(&out)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            let path = out.display();
            return Failure::Usage(format!("{path} exists; delete it, or give another with --out"));
        }
        Failure::file(&out, "write", error)
    })?;
    console::data(format!("{}\n", out.display()))?;
    message(format!("next: runner task check {}", shell_word(&out.display().to_string())));
    Ok(())
}

/// The model's path as the file names it: relative to the file's folder, so that both can be moved
/// together, unless they have nothing in common but the root.
fn path_from(file: &Path, model: &Path) -> PathBuf {
    let folder = |path: &Path| Path::new(".").join(path).parent()?.canonicalize().ok();
    let (Some(from), Some(to), Some(name)) = (folder(file), folder(model), model.file_name())
    else {
        return model.to_owned();
    };
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    if shared == 1 {
        return to.join(name);
    }
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect::<PathBuf>().join(name)
}
