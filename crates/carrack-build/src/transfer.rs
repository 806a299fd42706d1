//! `COPY` and `ADD`: what is copied, from where, and the step around it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use carrack_dockerfile::{Copy, CopySource};
use carrack_layer::{ExtractOptions, extract};
use carrack_oci::{Digest, Hasher};
use carrack_sys::IoContext;

use crate::build::{Builder, StageState};
use crate::copy::{ModeChange, NewFile, Target, Writer, open_archive, resolve_owner};
use crate::ignore::IgnoreList;
use crate::key::{KeyWriter, chain};
use crate::select::{Selection, select, select_with_parents};
use crate::tree::Tree;
use crate::{Backend, Error, Layer, Outcome, Result, Workspace};

/// An instruction with its variables expanded.
struct Transfer {
    /// `COPY` or `ADD`.
    name: &'static str,
    sources: Vec<Source>,
    target: Target,
    chown: Option<String>,
    mode: Option<ModeChange>,
    excludes: IgnoreList,
    parents: bool,
    /// Whether archives are unpacked: local ones by default, fetched ones on demand.
    unpack: Option<bool>,
    link: bool,
}

enum Source {
    Path(String),
    Inline { name: String, content: String },
    Fetched { url: String, name: OsString, file: File, digest: Digest },
}

impl<B: Backend> Builder<'_, B> {
    pub(crate) fn copy(
        &mut self,
        state: &mut StageState,
        copy: &Copy,
        name: &'static str,
    ) -> Result<(String, Outcome)> {
        let (transfer, text) = self.expand_transfer(state, copy, name)?;
        let from = match &copy.from {
            Some(from) => Some(self.layers_of(from, &state.platform)?),
            None => None,
        };
        // A link is made on nothing, so nothing below it counts, except names that must be looked up there.
        let names_owner =
            transfer.chown.as_deref().is_some_and(|owner| owner.contains(|c: char| c.is_alphabetic()));
        let below = if transfer.link && !names_owner { &[][..] } else { &state.layers };
        let mut key = KeyWriter::new(if transfer.link { "link" } else { "copy" }, below);
        key.text(name).text(&transfer.target.path.to_string_lossy()).number(transfer.target.is_folder.into());
        key.text(transfer.chown.as_deref().unwrap_or("")).text(copy.chmod.as_deref().unwrap_or(""));
        key.text(&format!("{:?} {} {:?}", transfer.mode, transfer.parents, transfer.unpack));
        key.texts(&copy.excludes);
        let selections = self.describe_sources(&mut key, &transfer, from.as_deref())?;
        let key = self.finished_key(key);
        if let Some(outcome) = self.look_up(&key)? {
            return Ok((text, outcome));
        }
        let workspace = self.prepare(if transfer.link { &[] } else { &state.layers })?;
        let owner = match &transfer.chown {
            None => None,
            Some(owner) if transfer.link && names_owner => {
                Some(resolve_owner(self.view(&state.layers)?.root(), owner)?)
            }
            Some(owner) => Some(resolve_owner(workspace.root(), owner)?),
        };
        let timestamp_unix = self.timestamp_unix;
        let writer = Writer { root: workspace.root(), owner, mode: transfer.mode.clone(), timestamp_unix };
        match &from {
            None => transfer.write(self.plan.context.tree().ok(), selections, &writer)?,
            Some(layers) => {
                let source = self.view(layers)?;
                let place = copy.from.as_deref().unwrap_or_default();
                let tree = Tree { root: source.root(), place, ignore: None, is_context: false };
                let selections = transfer.select(&tree)?;
                transfer.write(Some(tree), selections, &writer)?;
            }
        }
        Ok((text, self.commit(workspace, &key)?))
    }

    /// Adds what is copied to the key: from the context its content, from a stage or an image its layers.
    fn describe_sources(
        &self,
        key: &mut KeyWriter,
        transfer: &Transfer,
        from: Option<&[Layer]>,
    ) -> Result<Vec<Selection>> {
        for source in &transfer.sources {
            match source {
                Source::Path(path) => key.text("path").text(if from.is_some() { path } else { "" }),
                Source::Inline { name, content } => key.text("inline").text(name).text(content),
                Source::Fetched { url, digest, .. } => key.text("url").text(url).text(digest.as_str()),
            };
        }
        if let Some(layers) = from {
            key.text("from").text(&chain(layers));
            return Ok(Vec::new());
        }
        if !transfer.sources.iter().any(|source| matches!(source, Source::Path(_))) {
            return Ok(Vec::new());
        }
        let tree = self.plan.context.tree()?;
        let selections = transfer.select(&tree)?;
        for selection in &selections {
            let mut part = KeyWriter::part("selection");
            selection.describe(&mut part, &self.plan.context.digests(&tree, selection)?);
            key.text(part.digest().as_str());
        }
        Ok(selections)
    }

    fn expand_transfer(
        &mut self,
        state: &StageState,
        copy: &Copy,
        name: &'static str,
    ) -> Result<(Transfer, String)> {
        let escape = self.plan.dockerfile.escape;
        let expand = |text: &str| state.configured.expand(text, escape);
        let expand_all = |texts: &[String]| texts.iter().map(|text| expand(text)).collect::<Result<Vec<_>>>();
        let chown = copy.chown.as_deref().map(expand).transpose()?.filter(|owner| !owner.is_empty());
        let chmod = copy.chmod.as_deref().map(expand).transpose()?.filter(|mode| !mode.is_empty());
        let mut text = name.to_owned();
        let flags = [("chown", &chown), ("chmod", &chmod)];
        text.extend(flags.iter().filter_map(|(flag, value)| Some(format!(" --{flag}={}", value.as_ref()?))));
        let mut sources = Vec::new();
        for source in &copy.sources {
            match source {
                CopySource::Path(path) => {
                    let path = expand(path)?;
                    text.push_str(&format!(" {path}"));
                    sources.push(self.path_or_url(path, copy, name)?);
                }
                CopySource::Inline(heredoc) => {
                    text.push_str(&format!(" <<{}", heredoc.name));
                    let body = heredoc.body();
                    let content =
                        if heredoc.expand { state.configured.expand_document(&body)? } else { body };
                    sources.push(Source::Inline { name: heredoc.name.clone(), content });
                }
            }
        }
        let destination = expand(&copy.destination)?;
        text.push_str(&format!(" {destination}"));
        let is_folder = matches!(destination.as_str(), "" | "." | "..")
            || destination.ends_with('/')
            || destination.ends_with("/.")
            || destination.ends_with("/..");
        let target = Target { path: state.configured.absolute(&destination).into(), is_folder };
        let excludes = expand_all(&copy.excludes)?;
        let excludes = IgnoreList::new(excludes.iter().map(String::as_str))?;
        let mode = chmod.as_deref().map(ModeChange::parse).transpose()?;
        let (parents, unpack, link) = (copy.parents, copy.unpack, copy.link);
        Ok((Transfer { name, sources, target, chown, mode, excludes, parents, unpack, link }, text))
    }

    fn path_or_url(&mut self, path: String, copy: &Copy, name: &str) -> Result<Source> {
        let is_url = path.starts_with("http://") || path.starts_with("https://");
        let is_git = path.starts_with("git@")
            || path.starts_with("git://")
            || path.starts_with("ssh://")
            || is_url && path.split(['#', '?']).next().is_some_and(|address| address.ends_with(".git"));
        if !is_url && !is_git {
            return match copy.checksum {
                Some(_) => Err(Error::invalid("--checksum is for a URL")),
                None => Ok(Source::Path(path)),
            };
        }
        if name == "COPY" {
            return Err(Error::invalid(format!("COPY cannot fetch {path}: use ADD")));
        }
        if is_git {
            return Err(Error::invalid(format!("ADD of a git repository is not supported: {path}")));
        }
        self.fetch(path, copy.checksum.as_deref())
    }

    fn fetch(&mut self, url: String, checksum: Option<&str>) -> Result<Source> {
        let mut file = self.backend.fetch(&url).map_err(Error::backend(format!("fetch {url}")))?;
        let mut hasher = Hasher::sha256();
        std::io::copy(&mut file, &mut hasher).during("read", &url)?;
        file.seek(SeekFrom::Start(0)).during("read", &url)?;
        let digest = hasher.finish();
        if let Some(expected) = checksum
            && expected != digest.as_str()
        {
            return Err(Error::invalid(format!("checksum of {url}: expected {expected}, got {digest}")));
        }
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = path.splitn(4, '/').nth(3).and_then(|path| path.rsplit('/').next());
        let name = OsString::from(name.filter(|name| !matches!(*name, "." | "..")).unwrap_or_default());
        Ok(Source::Fetched { url, name, file, digest })
    }
}

impl Transfer {
    fn select(&self, tree: &Tree<'_>) -> Result<Vec<Selection>> {
        let mut selections = Vec::new();
        for source in &self.sources {
            match source {
                Source::Path(path) if self.parents => {
                    selections.push(select_with_parents(tree, path, &self.excludes)?);
                }
                Source::Path(path) => selections.extend(select(tree, path, &self.excludes)?),
                Source::Inline { .. } | Source::Fetched { .. } => {}
            }
        }
        Ok(selections)
    }

    fn write(&self, tree: Option<Tree<'_>>, selections: Vec<Selection>, writer: &Writer<'_>) -> Result<()> {
        let files = self.sources.iter().filter(|source| !matches!(source, Source::Path(_))).count();
        if selections.len() + files > 1 && !self.parents && !writer.is_folder(&self.target)? {
            let path = self.target.path.display();
            return Err(Error::invalid(format!(
                "{} of several sources to {path}: a folder is expected, ending with /",
                self.name
            )));
        }
        if let Some(tree) = tree {
            for selection in &selections {
                if !self.unpacked(&tree, selection, writer)? {
                    writer.copy(&tree, selection, &self.target)?;
                }
            }
        }
        for source in &self.sources {
            match source {
                Source::Path(_) => {}
                Source::Inline { name, content } => {
                    let new = NewFile { name: OsStr::new(name), mode: 0o644 };
                    writer.file(&mut content.as_bytes(), &self.target, &new)?;
                }
                Source::Fetched { url, name, file, .. } => self.write_fetched(url, name, file, writer)?,
            }
        }
        Ok(())
    }

    /// Unpacks a local archive of an `ADD`; `false` when it is none.
    fn unpacked(&self, tree: &Tree<'_>, selection: &Selection, writer: &Writer<'_>) -> Result<bool> {
        if self.name != "ADD"
            || self.unpack == Some(false)
            || selection.is_folder
            || selection.entries.is_empty()
        {
            return Ok(false);
        }
        let Ok(file) = tree.root.open_file(&selection.base) else { return Ok(false) };
        self.unpack(&file, &selection.base, writer)
    }

    fn unpack(&self, file: &File, path: &Path, writer: &Writer<'_>) -> Result<bool> {
        let Some(tar) = open_archive(file, path)? else { return Ok(false) };
        writer.folder(&self.target.path)?;
        let options = ExtractOptions { folder: self.target.path.clone(), chown: writer.owner };
        extract(tar, writer.root, &options)
            .map_err(|source| Error::Unpack { archive: path.to_owned(), source: Box::new(source) })?;
        Ok(true)
    }

    fn write_fetched(&self, url: &str, name: &OsStr, file: &File, writer: &Writer<'_>) -> Result<()> {
        if self.unpack == Some(true) && self.unpack(file, Path::new(url), writer)? {
            return Ok(());
        }
        if name.is_empty() && writer.is_folder(&self.target)? {
            return Err(Error::invalid(format!("{url} has no file name: the destination must be a file")));
        }
        let mut content: &mut dyn Read = &mut &*file;
        writer.file(&mut content, &self.target, &NewFile { name, mode: 0o600 })
    }
}
