//! The page: a single file that makes no network requests.

use crate::Error;
use crate::live::{Engine, Live};
use crate::recording::Episode;
use crate::scene::Scene;
use envs::Spec;
use serde::Serialize;

const PAGE: &str = include_str!("page/page.html");
/// Each file replaces the comment that names it.
const PARTS: [(&str, &str); 8] = [
    ("/* page.css */", include_str!("page/page.css")),
    ("/* data.js */", include_str!("page/data.js")),
    ("/* matrix.js */", include_str!("page/matrix.js")),
    ("/* shapes.js */", include_str!("page/shapes.js")),
    ("/* render.js */", include_str!("page/render.js")),
    ("/* camera.js */", include_str!("page/camera.js")),
    ("/* plots.js */", include_str!("page/plots.js")),
    ("/* page.js */", include_str!("page/page.js")),
];
/// The parts of live mode, which other pages leave out.
const LIVE_PARTS: [(&str, &[&str]); 4] = [
    // MuJoCo's loader (Embind) compiles functions from text.
    ("/* live policy */", &[" 'unsafe-eval' blob:"]),
    ("/* live.css */", &[include_str!("page/live/live.css")]),
    ("<!-- live.html -->", &[include_str!("page/live/live.html")]),
    (
        "/* live.js */",
        &[
            include_str!("page/live/task.js"),
            include_str!("page/live/compare.js"),
            include_str!("page/live/live.js"),
        ],
    ),
];
/// Where the data goes.
const HERE: &str = "{\"data\": \"here\"}";

/// What a page shows: runs side by side.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    /// Models; several runs may have the same.
    scenes: Vec<Scene>,
    runs: Vec<Shown>,
    /// The version of MuJoCo that simulated them.
    mujoco: String,
    version: &'static str,
    /// The command that made the page.
    command: String,
    /// What simulates in the page, if it has live mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Engine>,
}

/// A policy whose episodes are shown.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// What it is called on the page, such as "smfp".
    pub name: String,
    /// What else identifies it, such as "seed 0, step 20,000".
    pub about: String,
    /// The task.
    pub task: String,
    /// Its episodes.
    pub episodes: Vec<Episode>,
    /// What the page simulates with it, if it has live mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

#[derive(Clone, Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    run: Run,
    scene: usize,
    /// Seconds of a step.
    dt: f64,
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Page {
    /// An empty page, which names the command that made it.
    pub fn new(command: &str) -> Self {
        Self {
            mujoco: envs::mujoco_version(),
            version: env!("CARGO_PKG_VERSION"),
            command: command.into(),
            ..Self::default()
        }
    }

    /// Adds a run. Returns what was left out of its meshes, if anything was.
    ///
    /// # Errors
    /// [`Error::Meshes`].
    pub fn add(
        &mut self,
        run: Run,
        scene: &envs::Scene,
        spec: &Spec,
    ) -> Result<Option<crate::Reduction>, Error> {
        let scene = Scene::of(scene, &run.task)?;
        let reduced = scene.reduced;
        let known = self.scenes.iter().position(|known| *known == scene);
        let place = known.unwrap_or_else(|| {
            self.scenes.push(scene);
            self.scenes.len() - 1
        });
        self.runs.push(Shown {
            run,
            scene: place,
            dt: spec.dt,
            low: spec.act_low.clone(),
            high: spec.act_high.clone(),
        });
        Ok(reduced)
    }

    /// The page's data as JSON.
    pub fn data(&self) -> String {
        serde_json::to_string(self).expect("a page has no keys but strings")
    }
}

/// The HTML file of a page.
pub fn document(page: &Page) -> String {
    // Escaped, so that a name can't close the element.
    assembled(page.live.is_some()).replace(HERE, &page.data().replace('<', "\\u003c"))
}

/// The HTML file of the viewer, without data: [`document`] puts them where it has
/// `{"data": "here"}`.
pub fn viewer() -> String {
    assembled(false)
}

fn assembled(live: bool) -> String {
    let page = PARTS.iter().fold(PAGE.to_string(), |page, (name, text)| page.replace(name, text));
    LIVE_PARTS.iter().fold(page, |page, (name, texts)| {
        page.replace(name, &if live { texts.concat() } else { String::new() })
    })
}
