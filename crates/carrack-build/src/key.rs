//! Cache keys: two steps with one key do the same.
//!
//! A key holds all that a step can see: the layers below it (their chain ID, not how they came to be), and what the
//! instruction reads after expansion. So a changed `LABEL` above a `RUN` costs nothing, and a step that was run
//! again with the same result leaves those after it cached.

use std::fmt;

use carrack_oci::{ChainId, DiffId, Digest, Hasher};

use crate::Layer;

/// Bumped when the same instruction begins to do something else.
const FORMAT: &str = "carrack build 1";

/// The key of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(Digest);

impl CacheKey {
    /// The digest that the key is; its hex part is safe as a file name.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Collects the fields of a key; each is stored with its length, so that no two lists of fields look the same.
pub(crate) struct KeyWriter(Hasher);

impl KeyWriter {
    pub(crate) fn new(kind: &str, parent: &[Layer]) -> Self {
        let mut writer = Self(Hasher::sha256());
        writer.text(FORMAT).text(kind).text(&chain(parent));
        writer
    }

    /// For a digest of something that is then a field of a key.
    pub(crate) fn part(kind: &str) -> Self {
        let mut writer = Self(Hasher::sha256());
        writer.text(kind);
        writer
    }

    pub(crate) fn bytes(&mut self, field: &[u8]) -> &mut Self {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field);
        self
    }

    pub(crate) fn text(&mut self, field: &str) -> &mut Self {
        self.bytes(field.as_bytes())
    }

    pub(crate) fn number(&mut self, field: u64) -> &mut Self {
        self.0.update(&field.to_le_bytes());
        self
    }

    pub(crate) fn texts<T: AsRef<str>>(&mut self, fields: &[T]) -> &mut Self {
        self.number(fields.len() as u64);
        for field in fields {
            self.text(field.as_ref());
        }
        self
    }

    pub(crate) fn finish(self) -> CacheKey {
        CacheKey(self.0.finish())
    }

    pub(crate) fn digest(self) -> Digest {
        self.0.finish()
    }
}

/// The chain ID of a stack of layers; empty for none.
pub(crate) fn chain(layers: &[Layer]) -> String {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    ChainId::stack(&diff_ids).pop().map(|chain| chain.to_string()).unwrap_or_default()
}
