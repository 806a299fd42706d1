//! Collection: content that no repository names is deleted.
//!
//! Invariant: it runs only while nothing is being named (`Store::naming` held exclusively), and when any record cannot be read
//! it deletes nothing. It never removes a link: a blob that was pushed waits for its manifest for as long as it takes.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::Result;
use crate::repository::all_names;
use crate::store::Store;

impl Store {
    /// Deletes what nothing names, if something was removed since the last time; returns the number of bytes freed.
    pub(crate) fn collect(&self) -> Result<u64> {
        if !self.has_garbage.swap(false, Ordering::Relaxed) {
            return Ok(0);
        }
        let _alone = self.naming.write().unwrap_or_else(PoisonError::into_inner);
        let mut named = HashSet::new();
        for name in all_names(&self.repositories)? {
            let repository = self.repository(&name);
            repository.sweep()?;
            named.extend(repository.digests()?);
        }
        self.content.clear_ingests()?;
        let mut freed_bytes = 0;
        for (digest, size_bytes) in self.content.list()? {
            if !named.contains(&digest) {
                self.content.delete(&digest)?;
                freed_bytes += size_bytes;
            }
        }
        Ok(freed_bytes)
    }
}
