//! A page that shows episodes in 3D: a single file that makes no network requests.
//!
//! A [`Recording`] collects the moments of an episode, [`Run`] names what was recorded, and
//! [`page`] puts runs side by side into one HTML file. Numbers are quantised and compressed
//! (`pack.rs`); meshes are reduced until they fit (`mesh.rs`). The viewer, in `page/`, is WebGL2
//! without a library. A page with [`Live`] also simulates: MuJoCo's WebAssembly build and the policy
//! are in it ([`Engine`]).

mod live;
mod mesh;
mod pack;
mod page;
mod recording;
mod scene;

pub use live::{Engine, Live, Noise, can_live};
pub use mesh::Reduction;
pub use pack::{Pack, Track};
pub use page::{Page, Run, document, viewer};
pub use recording::{Episode, Recording};

/// A page can't be made.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A model's meshes are too large for a page, even when reduced as far as is recognisable.
    #[error(
        "the meshes of {task} take {found} MB of a page even when reduced, at most {most} MB are \
         shown (the largest: '{largest}'); put detailed meshes into a geom group above 2 and \
         simple shapes into group 2 or below"
    )]
    Meshes {
        /// The task.
        task: String,
        /// Their size, in megabytes.
        found: String,
        /// The bound, in megabytes.
        most: String,
        /// The mesh with the most faces.
        largest: String,
    },
}
