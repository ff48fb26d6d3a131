//! Pictures of a simulation, drawn by MuJoCo's own renderer: OpenGL on EGL, with a GPU or without,
//! and without a display.

use std::sync::Arc;

use mujoco_rs::renderer::{MjRenderer, RendererError};
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use mujoco_rs::wrappers::mj_visualization::MjvCamera;

use crate::batch::Batch;
use crate::physics::{Simulation, World};
use crate::poses::Recorder;
use crate::state::INTEGRATION;

/// Room for what is drawn besides geoms: sites, lights, parts of tendons.
const DECORATIONS: u32 = 5_000;

/// Draws states of a batch's simulations ([`Batch::state`]).
///
/// It computes with a model and an `mjData` of its own, so simulations do not notice it.
pub struct Renderer {
    renderer: MjRenderer,
    simulation: Simulation,
}

/// Where a picture is taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Camera {
    /// A camera of the model, an index into [`Batch::cameras`].
    Model(usize),
    /// One that looks at a point.
    Orbit(Orbit),
}

/// A camera that looks at a point, in MuJoCo's terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orbit {
    /// The point, in metres.
    pub target: [f64; 3],
    /// The distance from it, in metres.
    pub distance: f64,
    /// The direction of view about the vertical, in degrees: 0 is along x, 90 along y.
    pub azimuth: f64,
    /// The direction of view above the horizon, in degrees: negative from above.
    pub elevation: f64,
}

/// What a robot takes up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    /// The body that all others of the robot hang on: the root of the tree with most shapes.
    pub root: usize,
    /// Lower corner of a box around everything that can move, in metres.
    pub low: [f64; 3],
    /// Upper corner.
    pub high: [f64; 3],
}

/// A picture can't be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// There is no OpenGL without a display: no EGL, or no driver for it.
    #[error("EGL gives no OpenGL context ({0})")]
    NoContext(String),
    /// OpenGL failed.
    #[error("OpenGL failed to draw: {0}")]
    Drawing(String),
}

impl Renderer {
    /// A renderer of pictures of `width` by `height` pixels. `shadows` are the shadows and the
    /// reflections in the floor, which take most of the time if there is no GPU.
    ///
    /// # Errors
    /// [`RenderError::NoContext`].
    pub fn new(
        batch: &Batch,
        [width, height]: [u32; 2],
        shadows: bool,
    ) -> Result<Self, RenderError> {
        let mut model: MjModel = batch.model().clone();
        // A model bounds the size of pictures.
        model.vis_mut().global.offwidth = width as i32;
        model.vis_mut().global.offheight = height as i32;
        if !shadows {
            // mujoco-rs does not give access to the scene's flags.
            model.vis_mut().quality.shadowsize = 0;
            model.mat_reflectance_mut().fill(0.0);
        }
        let renderer = MjRenderer::builder()
            .width(width)
            .height(height)
            .num_visual_internal_geom(DECORATIONS)
            .build(&model)
            .map_err(|error| RenderError::NoContext(text(error)))?;
        Ok(Self { renderer, simulation: Simulation::new(Arc::new(model)) })
    }

    /// Draws a state of an environment. Returns rows of pixels from the top, three bytes each: red,
    /// green, blue.
    ///
    /// # Errors
    /// [`RenderError::Drawing`].
    ///
    /// # Panics
    /// If the state is not one of the batch's, or the model has no such camera.
    pub fn draw(&mut self, state: &[f64], camera: &Camera) -> Result<&[u8], RenderError> {
        self.simulation.set_state(state, INTEGRATION).expect("a state of the same model");
        World::of(&mut self.simulation).forward();
        self.renderer.set_camera(match camera {
            Camera::Model(index) => MjvCamera::new_fixed(named(self.simulation.model())[*index].0),
            Camera::Orbit(Orbit { target, distance, azimuth, elevation }) => MjvCamera {
                lookat: *target,
                distance: *distance,
                azimuth: *azimuth,
                elevation: *elevation,
                ..MjvCamera::new_free(self.simulation.model())
            },
        });
        let failed = |error| RenderError::Drawing(text(error));
        self.renderer.sync_data(&mut self.simulation).map_err(failed)?;
        self.renderer.render().map_err(failed)?;
        Ok(self.renderer.rgb_flat().expect("colours are drawn"))
    }
}

/// To be drawn.
impl Batch {
    /// The names of the model's cameras.
    pub fn cameras(&self) -> Vec<String> {
        named(self.model()).into_iter().map(|(_, name)| name).collect()
    }

    /// MuJoCo's camera for a model as a whole.
    pub fn overview(&self) -> Orbit {
        let camera = MjvCamera::new_free(self.model());
        Orbit {
            target: camera.lookat,
            distance: camera.distance,
            azimuth: camera.azimuth,
            elevation: camera.elevation,
        }
    }
}

impl Recorder {
    /// What the robot takes up at the moment; nothing if no shape can move.
    pub fn extent(&self) -> Option<Extent> {
        let simulation = self.simulation();
        let model = simulation.model();
        let mut shapes = vec![0; model.nbody() as usize];
        let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for (geom, place) in simulation.geom_xpos().iter().enumerate() {
            let body = model.geom_bodyid()[geom] as usize;
            let radius = model.geom_rbound()[geom];
            if body == 0 || radius == 0.0 {
                continue; // the world; a plane
            }
            shapes[model.body_rootid()[body] as usize] += 1;
            for i in 0..3 {
                // A ball around a long shape is larger than the shape in most directions.
                low[i] = low[i].min(place[i] - 0.8 * radius);
                high[i] = high[i].max(place[i] + 0.8 * radius);
            }
        }
        let most = shapes.iter().max().filter(|most| **most > 0)?;
        let root = shapes.iter().position(|count| count == most)?;
        Some(Extent { root, low, high })
    }
}

/// The cameras of a model that have a name: their indices in the model and their names.
fn named(model: &MjModel) -> Vec<(usize, String)> {
    let name = |i| Some((i, model.id_to_name(MjtObjBase::mjOBJ_CAMERA, i)?.to_owned()));
    (0..model.ncam() as usize).filter_map(name).collect()
}

/// A failure's own words on one line; mujoco-rs names only its kind.
fn text(error: RendererError) -> String {
    match &error {
        RendererError::GlutinError(cause) => cause.to_string(),
        other => other.to_string(),
    }
}
