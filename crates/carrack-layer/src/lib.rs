//! Layers: a tar becomes folders and files (apply, extract), and these become a tar (diff, archive).
//!
//! Every tar is hostile. Memory is bounded by the readers here, whatever the tar holds; nothing is written outside
//! the [`Root`](carrack_sys::rooted::Root) that is given; what two tar readers could understand in two ways is refused.

mod apply;
mod bounded;
pub mod compression;
mod diff;
mod error;
mod extract;
mod index;
mod merge;
mod path;
mod scratch;
pub mod tar;
mod unpack;
mod verify;
mod xattr;

pub use apply::{Applied, ApplyOptions, apply};
pub use carrack_erofs::Limits;
pub use diff::{ArchiveOptions, DiffOptions, DiffSummary, archive, archive_live, diff};
pub use error::{Error, Result};
pub use extract::{ExtractOptions, extract, extract_with};
pub use index::{IndexOptions, Indexed, LargeFile, index, index_file, index_or_skim};
pub use merge::{Borrowed, LayerIndex, Merged, merge};
pub use unpack::LinksBelow;
pub use verify::{Difference, verify};
pub use xattr::{OPAQUE_XATTR, is_layer_xattr, is_opaque};
