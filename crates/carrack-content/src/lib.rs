//! Blobs by digest.
//!
//! ```text
//! <root>/
//!   blobs/sha256/<hex>      complete and verified; named last, so a name is a promise
//!   ingest/<alg>-<hex>      bytes of a blob whose digest is known; a later process goes on where this one ended
//!   ingest/<alg>-<hex>.lock one writer a digest, between processes
//!   ingest/new-<pid>-<n>    bytes of a blob whose digest is not known yet; useless after its process
//!   composed/  lent/        blobs that borrow from others, and what is left of lenders: `parts.rs`, `lending.rs`
//! ```
//!
//! Invariant: a file below `blobs/` has the content its name says. It was hashed while it was written, synced, and
//! only then renamed; a crash leaves it in `ingest/`.

mod blocks;
mod check;
mod error;
mod ingest;
mod lending;
mod parts;
mod store;
mod writer;

pub use blocks::BlockWriter;
pub use error::{Error, Result};
pub use ingest::Ingest;
pub use lending::Lent;
pub use parts::{Blob, Lender, Part, Parts};
pub use store::ContentStore;
pub use writer::{BlobWriter, ScratchWriter};
