//! The runs below a folder, as a live view on a terminal or as a table.
//!
//! It only reads. [`runs`] finds the runs and follows what they write ([`run`]); [`view`] draws
//! them as a [`table`] and a [`curve`]; [`screen`] shows the view and handles keys.

mod curve;
mod run;
mod runs;
mod screen;
mod style;
pub mod table;
#[cfg(test)]
mod tests;
mod view;

pub use runs::Runs;
pub use screen::show;
