//! Which files the sources of a `COPY` name: paths, patterns, `--parents`, `--exclude`.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use carrack_sys::rooted::FileType;

use crate::ignore::IgnoreList;
use crate::key::KeyWriter;
use crate::pattern::{Pattern, has_wildcard};
use crate::stat_cache::ContentDigest;
use crate::tree::{Entry, EntryKind, Filter, Tree, resolve, sorted_names};
use crate::{Error, Result};

/// What one source named, or one of the matches of a pattern.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Canonical path in the tree: the folder whose content is taken, or the file.
    pub(crate) base: PathBuf,
    /// The name that a file gets in a folder.
    pub(crate) name: OsString,
    pub(crate) is_folder: bool,
    /// A single entry with an empty path for a file.
    pub(crate) entries: Vec<Entry>,
}

impl Selection {
    /// Adds all that makes a difference in the image to a key: not the times.
    pub(crate) fn describe(&self, key: &mut KeyWriter, digests: &[ContentDigest]) {
        let mut digests = digests.iter();
        key.bytes(self.name.as_bytes()).number(self.is_folder.into()).number(self.entries.len() as u64);
        for entry in &self.entries {
            key.bytes(entry.path.as_os_str().as_bytes()).number(entry.mode.into());
            match &entry.kind {
                EntryKind::File => key.text("file").bytes(digests.next().map_or(&[], |digest| &digest[..])),
                EntryKind::Folder => key.text("folder"),
                EntryKind::Link(target) => key.text("link").bytes(target.as_os_str().as_bytes()),
                EntryKind::Node(kind, device) => {
                    key.text("node").number(kind.as_raw_mode().into()).number(*device)
                }
            };
        }
    }
}

/// Finds what a source names. A pattern that matches nothing gives nothing; a path must exist.
pub(crate) fn select(tree: &Tree<'_>, source: &str, excludes: &IgnoreList) -> Result<Vec<Selection>> {
    let source = lexical(source);
    if !has_wildcard(&source.to_string_lossy()) {
        return Ok(vec![one(tree, &source, excludes)?]);
    }
    let mut selections = Vec::new();
    for path in matches(tree, &source)? {
        match one(tree, &path, excludes) {
            Ok(selection) => selections.push(selection),
            // A dangling link, or an excluded file, that a pattern happened to match.
            Err(Error::SourceNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(selections)
}

/// Finds what a source of `COPY --parents` names: with the folders after its `/./`, or all of them.
pub(crate) fn select_with_parents(tree: &Tree<'_>, source: &str, excludes: &IgnoreList) -> Result<Selection> {
    let (base, below) = source.split_once("/./").unwrap_or(("", source));
    let base = lexical(base);
    let below = lexical(below);
    let missing = || not_found(tree, &base.join(&below), false);
    let found = resolve(tree.root, &base)?.ok_or_else(missing)?;
    let text = below.to_string_lossy();
    let pattern = Pattern::deep(if text.is_empty() { "**" } else { &text })?;
    let filter = Filter { excludes: Some(excludes), include: Some(&pattern) };
    let entries = tree.list(&found, filter)?;
    if entries.is_empty() && !has_wildcard(&text) {
        return Err(missing());
    }
    Ok(Selection { base: found, name: OsString::new(), is_folder: true, entries })
}

fn one(tree: &Tree<'_>, path: &Path, excludes: &IgnoreList) -> Result<Selection> {
    let base = resolve(tree.root, path)?.ok_or_else(|| not_found(tree, path, false))?;
    let name = path.file_name().unwrap_or_default().to_owned();
    let place = tree.root.at(&base)?;
    if place.metadata()?.is_some_and(|metadata| metadata.kind == FileType::Directory) {
        let entries = tree.list(&base, Filter { excludes: Some(excludes), include: None })?;
        if entries.is_empty() && tree.excludes(&base) {
            return Err(not_found(tree, path, true));
        }
        return Ok(Selection { base, name, is_folder: true, entries });
    }
    if tree.excludes(&base) {
        return Err(not_found(tree, path, true));
    }
    let excluded = excludes.excludes(&name.to_string_lossy()) || excludes.excludes(&path.to_string_lossy());
    let entry = match excluded {
        true => None,
        false => Entry::at(place.folder(), place.name(), PathBuf::new())?,
    };
    Ok(Selection { base, name, is_folder: false, entries: entry.into_iter().collect() })
}

fn not_found(tree: &Tree<'_>, path: &Path, ignored: bool) -> Error {
    let path = if tree.is_context { path.to_owned() } else { Path::new("/").join(path) };
    Error::SourceNotFound { path, place: tree.place.to_owned(), ignored }
}

/// A path relative to the root, without `.` and with `..` taken away (Dockerfile reference, "Copying from the build
/// context": what would leave the context stays at its root).
fn lexical(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// The paths that match a pattern, name by name; links among the folders are followed only before the first
/// wildcard.
fn matches(tree: &Tree<'_>, pattern: &Path) -> Result<Vec<PathBuf>> {
    let names: Vec<&OsStr> = pattern.iter().collect();
    let fixed = names.iter().take_while(|name| !has_wildcard(&name.to_string_lossy())).count();
    let prefix: PathBuf = names[..fixed].iter().collect();
    let mut found: Vec<PathBuf> = resolve(tree.root, &prefix)?.into_iter().collect();
    for name in &names[fixed..] {
        let pattern = Pattern::name(&name.to_string_lossy())?;
        let mut next = Vec::new();
        for path in found {
            let place = tree.root.at(&path)?;
            if !place.metadata()?.is_some_and(|metadata| metadata.is_dir()) {
                continue;
            }
            let folder = tree.root.open_dir(&path)?;
            let names = sorted_names(folder.as_fd(), &path)?.into_iter();
            next.extend(
                names.filter(|name| pattern.matches(&name.to_string_lossy())).map(|name| path.join(name)),
            );
        }
        found = next;
    }
    Ok(found)
}
