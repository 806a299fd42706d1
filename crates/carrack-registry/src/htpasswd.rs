//! The password file, as `htpasswd -B` writes it: `user:bcrypt-hash` lines.
//!
//! Invariant: nothing of a line ever appears in an error or a log.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use bcrypt::HashParts;
use carrack_sys::IoContext;

use crate::{Error, Result};

/// The users and their hashes.
pub(crate) struct Htpasswd(HashMap<String, String>);

impl Htpasswd {
    /// Reads the file; blank lines and those that begin with `#` are skipped.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).during("read", path)?;
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |reason| Error::Htpasswd { path: path.to_owned(), line: number + 1, reason };
            let (user, hash) = line.split_once(':').ok_or_else(|| refuse("expected user:hash"))?;
            if HashParts::from_str(hash).is_err() {
                return Err(refuse("expected a bcrypt hash, as `htpasswd -B` makes it"));
            }
            hashes.insert(user.to_owned(), hash.to_owned());
        }
        Ok(Self(hashes))
    }

    /// Whether `password` is that of `user`. Takes as long for a user that does not exist: some hash is computed in
    /// any case.
    pub(crate) fn verify(&self, user: &str, password: &str) -> bool {
        let known = self.0.get(user);
        let Some(hash) = known.or_else(|| self.0.values().next()) else { return false };
        let is_equal = bcrypt::verify(password, hash).unwrap_or(false);
        is_equal & known.is_some()
    }
}
