//! What a user means by the text that names an image: a name, a digest or the beginning of an ID.
//!
//! Follows Docker: a name is tried before an ID, `name` is `name:latest`, and an ID may be shortened as long as only
//! one image begins with it. Where nothing has the name on Docker Hub, `localhost/name` is tried as Podman does:
//! that is what its archives call an image built without a registry. Last come the names that the configuration has
//! for one without a registry: its alias, or the search registries. Beyond Docker, `name@{1}` is what the name meant
//! before, `name@{2}` before that, and `name@{0}` what it means now.

use std::fmt;
use std::sync::Arc;

use carrack_oci::{Digest, Reference};

use crate::{Error, ImageRecord, ImageStore, LogEntry, Result};

/// How a user named an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedBy {
    /// By a name, with or without a tag.
    Name,
    /// By repository and digest.
    Digest,
    /// By its ID or the beginning of it.
    Id,
}

/// The image that a user named.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The record that was named; the first one when the image was named by ID.
    pub record: ImageRecord,
    /// How it was named.
    pub matched_by: MatchedBy,
    /// Every record of this image ID, the named one among them.
    pub names: Vec<ImageRecord>,
}

/// Full names that a text may stand for when no image has it as its own name.
#[derive(Clone, Default)]
pub struct ShortNames(Option<Arc<Expand>>);

/// The full names, or what is wrong with the configuration that has them.
type Expand = dyn Fn(&str) -> Result<Vec<Reference>, String> + Send + Sync;

impl ShortNames {
    /// Has `expand` say what a text may stand for; it is asked only when it matters.
    pub fn new(expand: impl Fn(&str) -> Result<Vec<Reference>, String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(expand)))
    }

    fn of(&self, text: &str) -> Result<Vec<Reference>> {
        let names = self.0.as_ref().map_or_else(|| Ok(Vec::new()), |expand| expand(text));
        names.map_err(|reason| Error::ShortName { text: text.to_owned(), reason })
    }
}

impl fmt::Debug for ShortNames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ShortNames").finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Finds the image that `text` names.
    ///
    /// Errors that callers branch on: [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn find(&self, text: &str) -> Result<Found> {
        let (record, matched_by) = self.find_record(text)?;
        let names = self.names_of(record.id())?;
        Ok(Found { record, matched_by, names })
    }

    /// The record that `text` names and how, without the other names of its image: where a name is given, this
    /// reads one file however many images there are.
    pub fn find_record(&self, text: &str) -> Result<(ImageRecord, MatchedBy)> {
        if let Some((name, number)) = past_name(text) {
            return self.find_past(text, name, number);
        }
        match self.find_by_name(text) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Ok((self.find_by_id(text)?, MatchedBy::Id)),
            // An ID needs no configuration.
            Err(error @ Error::ShortName { .. }) => match self.find_by_id(text) {
                Err(Error::NotFound { .. }) => Err(error),
                found => Ok((found?, MatchedBy::Id)),
            },
            Err(error) => Err(error),
        }
    }

    fn find_by_name(&self, text: &str) -> Result<Option<(ImageRecord, MatchedBy)>> {
        let Ok(reference) = text.parse::<Reference>() else { return Ok(None) };
        if let Some(found) = self.find_by_reference(text, &reference)? {
            return Ok(Some(found));
        }
        if Reference::short_name(text).is_some() {
            for name in self.short_names.of(text)?.iter().filter(|name| **name != reference) {
                if let Some(found) = self.find_by_reference(&name.to_string(), name)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn find_by_reference(
        &self,
        text: &str,
        reference: &Reference,
    ) -> Result<Option<(ImageRecord, MatchedBy)>> {
        if let Some(digest) = reference.digest() {
            let record = match self.get(&reference.at(digest.clone()))? {
                None => self.find_by_digest(reference, digest)?,
                exact => exact,
            };
            return Ok(record.map(|record| (record, MatchedBy::Digest)));
        }
        let local = || format!("localhost/{text}").parse::<Reference>().ok();
        let record = match self.get(reference)? {
            None if reference.familiar_repository() == without_tag(text) => {
                local().map_or(Ok(None), |local| self.get(&local))?
            }
            exact => exact,
        };
        Ok(record.map(|record| (record, MatchedBy::Name)))
    }

    /// What a name meant `number` changes ago.
    fn find_past(&self, text: &str, name: &str, number: usize) -> Result<(ImageRecord, MatchedBy)> {
        let log = self.log_of(name)?;
        let Some(entry) = log.get(number) else {
            let reason = match log.len() {
                1 => format!("{name} has meant nothing else, expected {name}@{{0}}"),
                count => format!("the log of {name} goes from {name}@{{0}} to {name}@{{{}}}", count - 1),
            };
            return Err(Error::Past { text: text.to_owned(), reason });
        };
        if number == 0 {
            return Ok((entry.record.clone(), MatchedBy::Name));
        }
        let mut here = self.names_of(entry.record.id())?;
        // The same image may have been compressed, and so have another manifest, since.
        here.sort_by_key(|record| record.manifest.digest != entry.record.manifest.digest);
        match here.into_iter().next() {
            Some(record) => Ok((record, MatchedBy::Id)),
            None => {
                let reason = format!("the image {} was removed", entry.record.id());
                Err(Error::Past { text: text.to_owned(), reason })
            }
        }
    }

    /// The log of the name that a user gives, which must be one that means something now.
    pub fn log_of(&self, name: &str) -> Result<Vec<LogEntry>> {
        let not_found = || Error::NotFound { text: name.to_owned() };
        let (record, _) = self.find_by_name(name)?.ok_or_else(not_found)?;
        let reference = record.reference.ok_or_else(not_found)?;
        self.log(&reference)
    }

    /// A tagged image of the repository that was pulled as this digest; the digest outweighs a tag beside it.
    fn find_by_digest(&self, reference: &Reference, digest: &Digest) -> Result<Option<ImageRecord>> {
        let is_meant = |record: &ImageRecord| {
            let same =
                record.reference.as_ref().is_some_and(|own| own.repository() == reference.repository());
            same && (record.target.digest == *digest || record.manifest.digest == *digest)
        };
        Ok(self.list()?.into_iter().find(is_meant))
    }

    fn find_by_id(&self, text: &str) -> Result<ImageRecord> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if prefix.is_empty() || !is_hex {
            return Err(Error::NotFound { text: text.to_owned() });
        }
        let begins = |digest: &Digest| digest.algorithm() == "sha256" && digest.hex().starts_with(prefix);
        let mut found: Vec<ImageRecord> = Vec::new();
        for record in self.list()? {
            let is_known = found.iter().any(|known| known.id() == record.id());
            if begins(record.id()) && !is_known {
                found.push(record);
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Error::NotFound { text: text.to_owned() }),
            _ => Err(Error::Ambiguous {
                text: text.to_owned(),
                candidates: found.iter().map(|record| record.id().short().to_owned()).collect(),
            }),
        }
    }
}

/// Takes `name@{number}`, what a name meant before, apart.
pub fn past_name(text: &str) -> Option<(&str, usize)> {
    let (name, number) = text.strip_suffix('}')?.rsplit_once("@{")?;
    Some((name, number.parse().ok()?))
}

fn without_tag(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(name, _)| name)
}
