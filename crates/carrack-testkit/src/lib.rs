//! What tests are made of: images written as readable text, and stores, containers and registries that go away with
//! the test, also when it panics.
//!
//! Invariant: nothing here uses carrack's own layer or image code, so that a fault there cannot hide itself.

mod fixture;
mod line;
mod registry;
mod run;
mod store;
mod sweep;
mod tar;

pub use fixture::{FixtureLayer, ImageFixture, LayerFormat};
pub use registry::Registry;
pub use run::Run;
pub use store::Store;
pub use tar::TarWriter;
