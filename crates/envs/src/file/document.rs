//! Reads a task's file: which keys it has, of which kind, and the syntax of its expressions.
//! What its names stand for is found when it is compiled for a model.

use std::path::{Path, PathBuf};

use mujoco_rs::wrappers::mj_model::MjtObjBase;
use toml_edit::{Document, Item, Table, TableLike, Value};

use super::parse::{Code, parse};
use super::problem::{Problem, nearest, shown};
use super::remove::KINDS;
use crate::error::Error;
use crate::registry::PerActuator;

/// Largest file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The content of a task's file.
pub(crate) struct TaskFile {
    pub path: PathBuf,
    /// The file as it stands, for the places of problems.
    pub text: String,
    pub model: PathBuf,
    pub order: Order,
    pub random: Random,
    pub steps_per_action: u32,
    pub max_episode_steps: u32,
    pub start: Start,
    pub action: ActionKeys,
    pub model_edits: Vec<(Code, f64)>,
    pub remove: Vec<Removal>,
    /// What is drawn once for each episode.
    pub goal: Vec<(String, Code)>,
    pub observation: Vec<(String, Code)>,
    pub terms: Vec<(String, Code)>,
    pub reward: Code,
    pub terminate: Option<Code>,
}

/// The order of MuJoCo's computations in a step, which decides how fresh positions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// What depends on positions is that of the state before the last MuJoCo step.
    Gymnasium,
    /// It is computed again after the last MuJoCo step.
    DmControl,
}

/// The random stream of initial states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Random {
    Pcg64,
    Mt19937,
}

/// Which joints have random positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joints {
    AsInModel,
    Limited,
    LimitedAndRotational,
}

/// `[start]`.
pub(crate) struct Start {
    pub keyframe: Option<(String, usize)>,
    pub joints: Joints,
    /// What is set, and to what.
    pub set: Vec<(Code, Code)>,
    pub until_no_contact: bool,
    /// Metres by which the free joint is raised until nothing touches, with its place.
    pub raise: Option<(f64, usize)>,
    pub settle_steps: u32,
    pub goal: Moment,
}

/// When the goal is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the initial state, which may depend on it.
    Before,
    /// After it.
    After,
}

/// Objects that are taken out of the model before it is compiled.
pub(crate) struct Removal {
    /// The kind, in words and as MuJoCo's.
    pub kind: (&'static str, MjtObjBase),
    /// A name, or a pattern with `*`.
    pub name: String,
    pub at: usize,
}

/// `[action]`.
pub(crate) struct ActionKeys {
    /// Bounds of the action, for actuators without a range; with their place.
    pub range: Option<(PerActuator<[f64; 2]>, usize)>,
    pub position: Option<PositionKeys>,
    pub at: usize,
}

/// A number for all actuators or one for each, with its place.
pub(crate) type Gain = (PerActuator<f64>, usize);

/// `[action]` of targets for joint positions.
pub(crate) struct PositionKeys {
    pub kp: Gain,
    pub kd: Gain,
    pub scale: Gain,
    /// A keyframe; without, the model's initial position.
    pub default: Option<(String, usize)>,
}

/// Whether a task's id is the path of a file: it ends in `.toml`.
pub fn is_file(id: &str) -> bool {
    Path::new(id).extension().is_some_and(|extension| extension == "toml")
}

/// The name of a task: that of its file, without the folder and `.toml`, or the id.
pub fn task_name(id: &str) -> &str {
    if !is_file(id) {
        return id;
    }
    let name = id.rsplit('/').next().unwrap_or(id);
    name.strip_suffix(".toml").unwrap_or(name)
}

/// Longest name of a task.
const LONGEST_NAME: usize = 100;

/// Whether a task's name, which is that of a folder too, may have a character.
fn fine_in_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Why a task's file can't have this name, if it can't.
pub fn wrong_name(path: &Path) -> Option<String> {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
    let fine = name.len() <= LONGEST_NAME && name.chars().all(fine_in_names);
    if !fine || reserved(name) {
        return Some(format!(
            "the name of the file, which is the task's, may have letters, digits, '-', '_' and '.', \
             and at most {LONGEST_NAME} of them; it can't be 'config' or only dots"
        ));
    }
    None
}

/// Whether a task can't have a name because of the files and folders of runs: a copy of its file lies
/// beside `config.toml`, and a folder of runs has its name.
fn reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case("config") || name.chars().all(|c| c == '.')
}

/// A name that the task's file of a model can have: the model's, with '-' for what it can't have.
pub fn file_name_for(model: &Path) -> String {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let fine = |c: char| if fine_in_names(c) { c } else { '-' };
    let name: String = stem.chars().take(LONGEST_NAME).map(fine).collect();
    if reserved(&name) { "task.toml".into() } else { format!("{name}.toml") }
}

/// Whether numbers can be the bounds of an action, which are in single precision.
pub(crate) fn is_range(range: [f64; 2]) -> bool {
    let [low, high] = range.map(|bound| bound as f32);
    low < high && (high - low).is_finite()
}

/// What [`is_range`] asks for.
pub(crate) const RANGE: &str =
    "[low, high] with low < high and high - low below 3e38, in single precision";

/// Reads the file and checks its keys and the syntax of its expressions; no model is read.
///
/// # Errors
/// [`Error::UnreadableTask`] and [`Error::TaskFile`].
pub(crate) fn read(path: &Path) -> Result<TaskFile, Error> {
    let fail = |reason: String| Error::UnreadableTask { file: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|cause| fail(cause.to_string()))?;
    if !size.is_file() {
        return Err(fail("not a file".into()));
    }
    if size.len() > LARGEST {
        return Err(fail(format!("{} bytes, expected at most {LARGEST}", size.len())));
    }
    let text = std::fs::read(path).map_err(|cause| fail(cause.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| fail("not UTF-8".into()))?;
    if let Some(reason) = wrong_name(path) {
        return Err(fail(reason));
    }
    parse_file(path, &text).map_err(|problem| problem.in_file(path, &text))
}

fn parse_file(path: &Path, text: &str) -> Result<TaskFile, Problem> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Problem::new(at, format!("not valid TOML: {}", error.message()))
    })?;
    let root = Section { table: document.as_table(), name: "the file", at: 0, text };
    root.only(&[
        "model",
        "order",
        "random",
        "steps_per_action",
        "max_episode_steps",
        "reward",
        "terminate",
        "start",
        "action",
        "model_edits",
        "goal",
        "observation",
        "terms",
    ])?;
    let (model, model_at) =
        root.string("model")?.ok_or_else(|| root.lacks("model", "\"robot.xml\""))?;
    if model.contains('\0') {
        return Err(Problem::new(model_at, "a path with a zero in it"));
    }
    let start = root.section("start")?;
    start.only(&[
        "keyframe",
        "joints",
        "set",
        "until_no_contact",
        "raise",
        "settle_steps",
        "goal",
    ])?;
    let action = root.section("action")?;
    let edits = root.section("model_edits")?;
    let observation = root.section("observation")?.expressions()?;
    if observation.is_empty() {
        return Err(root.lacks("[observation]", "[observation] and below it: position = \"qpos\""));
    }
    Ok(TaskFile {
        path: path.to_owned(),
        text: text.to_owned(),
        model: path.parent().unwrap_or(Path::new("")).join(model),
        order: root
            .choice("order", &[("gymnasium", Order::Gymnasium), ("dm_control", Order::DmControl)])?
            .unwrap_or(Order::Gymnasium),
        random: root
            .choice("random", &[("pcg64", Random::Pcg64), ("mt19937", Random::Mt19937)])?
            .unwrap_or(Random::Pcg64),
        steps_per_action: root.integer("steps_per_action", 1, 10_000)?.unwrap_or(1),
        max_episode_steps: root.integer("max_episode_steps", 1, 1_000_000_000)?.unwrap_or(1000),
        start: Start {
            keyframe: start.string("keyframe")?,
            joints: start
                .choice(
                    "joints",
                    &[
                        ("as in the model", Joints::AsInModel),
                        ("limited", Joints::Limited),
                        ("limited and rotational", Joints::LimitedAndRotational),
                    ],
                )?
                .unwrap_or(Joints::AsInModel),
            set: start.section("set")?.assignments()?,
            until_no_contact: start.boolean("until_no_contact")?.unwrap_or(false),
            raise: start.get("raise", "metres, more than 0, such as 0.01", |item| {
                item.as_value().and_then(number).filter(|step| *step > 0.0)
            })?,
            settle_steps: start.integer("settle_steps", 0, 100_000)?.unwrap_or(0),
            goal: start
                .choice("goal", &[("before", Moment::Before), ("after", Moment::After)])?
                .unwrap_or(Moment::Before),
        },
        action: action_keys(&action)?,
        model_edits: edits.numbers("remove")?,
        remove: removals(&edits.section("remove")?)?,
        goal: root.section("goal")?.expressions()?,
        observation,
        terms: root.section("terms")?.expressions()?,
        reward: root
            .expression("reward")?
            .ok_or_else(|| root.lacks("reward", "reward = \"rate(qpos[0])\""))?,
        terminate: root.expression("terminate")?,
    })
}

fn action_keys(section: &Section) -> Result<ActionKeys, Problem> {
    let position =
        section.choice("kind", &[("motor", false), ("position", true)])?.unwrap_or(false);
    section.only(if position {
        &["kind", "kp", "kd", "scale", "default"]
    } else {
        &["kind", "range"]
    })?;
    let range = section.per_actuator("range", RANGE, pair)?;
    let position = match position {
        false => None,
        true => {
            let positive = "a number above 0";
            let above = |value: &Value| number(value).filter(|x| *x > 0.0);
            let kp = section.per_actuator("kp", positive, above)?;
            let least = |value: &Value| number(value).filter(|x| *x >= 0.0);
            let kd = section.per_actuator("kd", "a number of at least 0", least)?;
            let scale = section.per_actuator("scale", positive, above)?;
            Some(PositionKeys {
                kp: kp.ok_or_else(|| section.lacks("kp", "kp = 20.0"))?,
                kd: kd.ok_or_else(|| section.lacks("kd", "kd = 0.5"))?,
                scale: scale.unwrap_or((PerActuator::All(1.0), section.at)),
                default: section.string("default")?,
            })
        }
    };
    Ok(ActionKeys { range, position, at: section.at })
}

/// `[model_edits.remove]`: for each kind of object a list of names.
fn removals(section: &Section) -> Result<Vec<Removal>, Problem> {
    section.only(&KINDS.map(|(kind, _)| kind))?;
    let mut removals = Vec::new();
    let known = KINDS.iter().filter_map(|kind| Some((*kind, section.table.get(kind.0)?)));
    for (kind, item) in known {
        let at = section.place_of(kind.0, item);
        let expected =
            || Problem::new(at, format!("{}: expected names, such as [\"wall_*\"]", kind.0));
        for value in item.as_array().ok_or_else(expected)? {
            let name = value.as_str().filter(|name| !name.is_empty()).ok_or_else(expected)?;
            let at = value.span().map_or(at, |span| span.start);
            removals.push(Removal { kind, name: name.to_owned(), at });
        }
    }
    Ok(removals)
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_float().or_else(|| Some(value.as_integer()? as f64));
    number.filter(|number| number.is_finite())
}

/// The bounds of an action.
fn pair(value: &Value) -> Option<[f64; 2]> {
    let numbers: Vec<f64> = value.as_array()?.iter().map(number).collect::<Option<_>>()?;
    <[f64; 2]>::try_from(numbers).ok().filter(|range| is_range(*range))
}

/// A table of the file.
struct Section<'a> {
    table: &'a dyn TableLike,
    name: &'a str,
    at: usize,
    text: &'a str,
}

static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);

impl<'a> Section<'a> {
    /// Checks that there are no other keys.
    fn only(&self, known: &[&str]) -> Result<(), Problem> {
        for (key, item) in self.table.iter() {
            if !known.contains(&key) {
                let near = nearest(key, known.iter().copied());
                let hint = near.map(|near| format!("did you mean '{near}'? ")).unwrap_or_default();
                let message = format!(
                    "unknown key '{}' in {}; {hint}(all: {})",
                    shown(key),
                    self.name,
                    known.join(", ")
                );
                return Err(Problem::new(self.place_of(key, item), message));
            }
        }
        Ok(())
    }

    fn place_of(&self, key: &str, item: &Item) -> usize {
        let key = self.table.get_key_value(key).and_then(|(key, _)| key.span());
        key.or(item.span()).map_or(self.at, |span| span.start)
    }

    fn lacks(&self, key: &str, example: &str) -> Problem {
        Problem::new(self.at, format!("{key} is missing in {}, such as {example}", self.name))
    }

    /// A value of some kind.
    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Item) -> Option<T>,
    ) -> Result<Option<(T, usize)>, Problem> {
        let Some(item) = self.table.get(key) else { return Ok(None) };
        let at = item.span().map_or(self.at, |span| span.start);
        match read(item) {
            Some(value) => Ok(Some((value, at))),
            None => {
                let found = item.to_string();
                let message = format!("{key} is {}, expected {expected}", shown(found.trim()));
                Err(Problem::new(at, message))
            }
        }
    }

    fn string(&self, key: &str) -> Result<Option<(String, usize)>, Problem> {
        self.get(key, "a text in quotes", |item| item.as_str().map(str::to_owned))
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, Problem> {
        Ok(self.get(key, "true or false", Item::as_bool)?.map(|(value, _)| value))
    }

    /// A value for all actuators, or a list of one for each.
    fn per_actuator<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<(PerActuator<T>, usize)>, Problem> {
        let expected = format!("{expected}, or a list of one such for each actuator");
        self.get(key, &expected, |item| {
            let value = item.as_value()?;
            let each = || value.as_array()?.iter().map(&read).collect::<Option<Vec<T>>>();
            let each = || each().filter(|values| !values.is_empty());
            read(value).map(PerActuator::All).or_else(|| each().map(PerActuator::Each))
        })
    }

    fn integer(&self, key: &str, least: u32, most: u32) -> Result<Option<u32>, Problem> {
        let read = |item: &Item| {
            let value = u32::try_from(item.as_integer()?).ok()?;
            (least..=most).contains(&value).then_some(value)
        };
        let expected = format!("a whole number from {least} to {most}");
        Ok(self.get(key, &expected, read)?.map(|(value, _)| value))
    }

    fn choice<T: Copy>(&self, key: &str, known: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some((word, at)) = self.string(key)? else { return Ok(None) };
        match known.iter().find(|(name, _)| *name == word) {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(Problem::unknown(at, key, &word, known.iter().map(|(name, _)| *name))),
        }
    }

    fn section(&self, key: &'a str) -> Result<Section<'a>, Problem> {
        let table = match self.table.get(key) {
            None => &*EMPTY as &dyn TableLike,
            Some(item) => item.as_table_like().ok_or_else(|| {
                let message = format!("{key} is no table, expected [{key}]");
                Problem::new(self.place_of(key, item), message)
            })?,
        };
        let at = self.table.get(key).and_then(Item::span).map_or(self.at, |span| span.start);
        Ok(Section { table, name: key, at, text: self.text })
    }

    /// An expression: a text, or a number.
    fn expression(&self, key: &str) -> Result<Option<Code>, Problem> {
        self.table.get(key).map(|item| self.code(key, item)).transpose()
    }

    fn code(&self, key: &str, item: &Item) -> Result<Code, Problem> {
        let span = item.span().unwrap_or(self.at..self.at);
        let raw = self.text.get(span.clone()).unwrap_or_default();
        if let Some(number) = item.as_value().and_then(number) {
            // TOML has ways to write a number that expressions lack, such as 1_000 and 0x10.
            return parse(raw, span.start, true)
                .or_else(|_| parse(&format!("{number:?}"), span.start, false));
        }
        let Some(value) = item.as_str() else {
            let message =
                format!("'{}' is no expression, expected such as \"qpos[0]\"", shown(key));
            return Err(Problem::new(span.start, message));
        };
        let (base, exact) = place(raw, value, span.start);
        parse(value, base, exact)
    }

    /// All keys, each a name with an expression, in the file's order.
    fn expressions(&self) -> Result<Vec<(String, Code)>, Problem> {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let entries = self.table.iter().map(|(key, item)| {
            if key.is_empty()
                || !key.chars().all(fine)
                || key.starts_with(|c: char| c.is_ascii_digit())
            {
                let expected = "a name may have letters, digits and '_', and begins with a letter";
                let message = format!("'{}': {expected}", shown(key));
                return Err(Problem::new(self.place_of(key, item), message));
            }
            Ok((key.to_owned(), self.code(key, item)?))
        });
        entries.collect()
    }

    /// All keys, each an expression for what is set.
    fn assignments(&self) -> Result<Vec<(Code, Code)>, Problem> {
        let entries = self.table.iter().map(|(key, item)| {
            let target = self.target(key, item)?;
            Ok((target, self.code(key, item)?))
        });
        entries.collect()
    }

    fn target(&self, key: &str, item: &Item) -> Result<Code, Problem> {
        let at = self.place_of(key, item);
        // A quoted key has its expression after the quote.
        let exact = self.text.get(at + 1..).is_some_and(|rest| rest.starts_with(key));
        parse(key, at + usize::from(exact), exact)
    }

    /// All keys but one, each an expression for what is set, with a number.
    fn numbers(&self, but: &str) -> Result<Vec<(Code, f64)>, Problem> {
        let keys = self.table.iter().filter(|(key, _)| *key != but);
        let entries = keys.map(|(key, item)| {
            let value = item.as_value().and_then(number).ok_or_else(|| {
                Problem::new(
                    self.place_of(key, item),
                    format!("'{}': expected a number", shown(key)),
                )
            })?;
            Ok((self.target(key, item)?, value))
        });
        entries.collect()
    }
}

/// Where a text's content begins in the file, and whether it stands there as it is.
fn place(raw: &str, value: &str, start: usize) -> (usize, bool) {
    let delimiters = ["\"\"\"\n", "'''\n", "\"\"\"", "'''", "\"", "'"];
    for delimiter in delimiters {
        let content = raw.strip_prefix(delimiter);
        if content.is_some_and(|content| content.starts_with(value)) {
            return (start + delimiter.len(), true);
        }
    }
    (start, false)
}
