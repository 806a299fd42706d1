//! Cp: files between a container and this machine, as a tar between the two ends.
//!
//! Invariant: each end is one folder that is held open, and nothing is resolved outside it: a container that exchanges
//! links and folders meanwhile gets or gives its own files only. To this machine come neither devices nor files that
//! run as somebody else.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use carrack_layer::tar::{Entry, EntryKind};
use carrack_layer::{ArchiveOptions, DiffSummary, ExtractOptions};
use carrack_sys::IoContext;
use carrack_sys::rooted::{FileType, Metadata, Root};

use crate::container_view::{ContainerView, enters};
use crate::error::OperationContext;
use crate::{Engine, Error, Result};

const MAX_LINKS: usize = 40;
/// Set-user-id and set-group-id.
const SPECIAL_BITS: u32 = 0o6000;

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyEnd {
    /// Files of a container.
    Container {
        /// Its name or ID.
        name: String,
        /// The path in it.
        path: PathBuf,
    },
    /// Files of this machine.
    Host(PathBuf),
    /// A tar on standard input or output.
    Stream,
}

/// How files are copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyFiles {
    /// Owners stay as they are.
    pub archive: bool,
    /// A link as the source is followed.
    pub follow_links: bool,
    /// A folder may take the place of a file, and the reverse.
    pub overwrite: bool,
}

/// An opened end.
enum End<'a> {
    Files(Side<'a>),
    Stream,
}

/// A place below a root.
struct Side<'a> {
    view: ContainerView<'a>,
    /// Absolute, without a `/` or `/.` at its end.
    path: PathBuf,
    /// The path ended in `/`, or in `/.`.
    has_slash: bool,
    is_content: bool,
    is_host: bool,
}

impl CopyEnd {
    fn text(&self) -> String {
        match self {
            Self::Container { name, path } => format!("{name}:{}", path.display()),
            Self::Host(path) => path.display().to_string(),
            Self::Stream => "-".to_owned(),
        }
    }
}

impl Engine {
    /// Copies files; returns how long the tar of them is. `input` and `output` are the streams of `-`.
    pub fn copy_files(
        &self,
        source: &CopyEnd,
        destination: &CopyEnd,
        options: CopyFiles,
        streams: (&mut (dyn Read + Send), &mut (dyn Write + Send)),
    ) -> Result<u64> {
        let mut copied = || {
            let from = self.open_end(source, false)?;
            let to = self.open_end(destination, true)?;
            match (from, to) {
                (End::Files(from), End::Files(to)) => copy(&from, &to, options),
                (End::Files(from), End::Stream) => pack_to(&from, options, streams.1),
                (End::Stream, End::Files(to)) => unpack_from(streams.0, &to, options),
                (End::Stream, End::Stream) => {
                    Err(Error::refused("one of the two must be a container", "as in web:/etc/hosts"))
                }
            }
        };
        let copied = copied().operation("copy", format!("{} to {}", source.text(), destination.text()))?;
        self.copy_event("archive-path", source);
        self.copy_event("extract-to-dir", destination);
        Ok(copied)
    }

    /// Docker's words for the two ends of a copy.
    fn copy_event(&self, action: &str, end: &CopyEnd) {
        if let CopyEnd::Container { name, .. } = end
            && let Ok(container) = self.containers.find(name)
        {
            self.container_event(&container.record, action, &[]);
        }
    }

    fn open_end(&self, end: &CopyEnd, writes: bool) -> Result<End<'_>> {
        let (view, path, is_host) = match end {
            CopyEnd::Stream => return Ok(End::Stream),
            CopyEnd::Host(path) => {
                let absolute = std::path::absolute(path).during("resolve", path)?;
                // Which keeps a slash at the end, and leaves the dot out.
                let has_dot = path == Path::new(".") || path.as_os_str().as_bytes().ends_with(b"/.");
                let kept = if has_dot { absolute.join(".") } else { absolute };
                (ContainerView::of_host()?, kept, true)
            }
            CopyEnd::Container { name, path } => {
                let container = self.containers.find(name)?;
                let mounts = &container.record.host.mounts;
                let inside = Path::new("/").join(path);
                let is_on_root = !mounts.points.iter().any(|point| inside.starts_with(&point.destination));
                if writes && mounts.read_only && is_on_root {
                    return Err(Error::refused("its root is read-only", "as --read-only has it"));
                }
                (self.open_view(&container, writes)?, Path::new("/").join(path), false)
            }
        };
        let bytes = path.as_os_str().as_bytes();
        let is_content = bytes.ends_with(b"/.");
        let has_slash = is_content || bytes.ends_with(b"/");
        let path = path.components().collect();
        Ok(End::Files(Side { view, path, has_slash, is_content, is_host }))
    }
}

/// What is copied, found.
struct Found {
    path: PathBuf,
    metadata: Metadata,
    name: OsString,
}

impl Side<'_> {
    fn root(&self) -> &Root {
        &self.view.root
    }

    /// The source; a link is followed where the user says so.
    fn find(&self, options: CopyFiles) -> Result<Found> {
        let missing = || {
            let message = format!("could not find the file {}", self.path.display());
            Error::refused(message, "paths in a container begin at its root")
        };
        let name = self.path.file_name().unwrap_or_default().to_owned();
        let mut path = self.path.clone();
        for _ in 0..MAX_LINKS {
            let place = match self.root().at(&path) {
                Err(error) if error.is_not_found() => return Err(missing()),
                place => place?,
            };
            let metadata = place.metadata()?.ok_or_else(missing)?;
            if metadata.kind == FileType::Symlink && (options.follow_links || self.has_slash) {
                path = path.parent().unwrap_or(Path::new("/")).join(place.read_link()?);
                continue;
            }
            if self.has_slash && !metadata.is_dir() {
                return Err(Error::refused(format!("{} is not a directory", self.path.display()), ""));
            }
            return Ok(Found { path, metadata, name });
        }
        Err(Error::refused(format!("too many links at {}", self.path.display()), ""))
    }

    /// What is at the destination, links followed.
    fn existing(&self) -> Result<Option<Metadata>> {
        match self.root().metadata(&self.path) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            found => Ok(found?),
        }
    }

    /// Docker's rules: the folder to extract into, and the name that the source gets there; an empty name means that
    /// the content of the source goes into the folder.
    fn target(&self, source: &Found, is_content: bool) -> Result<(Root, OsString)> {
        let shown = self.path.display();
        let is_dir = source.metadata.is_dir();
        match self.existing()? {
            Some(found) if found.is_dir() => {
                let name = if is_dir && is_content { OsString::new() } else { source.name.clone() };
                Ok((self.root().open_dir(&self.path)?, name))
            }
            Some(_) if is_dir => {
                Err(Error::refused(format!("cannot copy a directory to the file {shown}"), ""))
            }
            Some(_) if self.has_slash => Err(Error::refused(format!("{shown} is not a directory"), "")),
            // A link there is followed, what it leads to is replaced.
            Some(_) => self.parent(&self.resolved()?),
            None if self.has_slash && !is_dir => Err(Error::refused(
                format!("the destination directory {shown} does not exist"),
                "make it first, or leave the / at the end out",
            )),
            None => self.parent(&self.path),
        }
    }

    fn resolved(&self) -> Result<PathBuf> {
        let follow = CopyFiles { follow_links: true, ..CopyFiles::default() };
        Ok(self.find(follow)?.path)
    }

    fn parent(&self, path: &Path) -> Result<(Root, OsString)> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let opened = self.root().open_dir(folder).map_err(|error| match error.is_not_found() {
            true => Error::refused(
                format!("the destination directory {} does not exist", folder.display()),
                "make it first",
            ),
            false => error.into(),
        })?;
        Ok((opened, path.file_name().unwrap_or_default().to_owned()))
    }

    /// What is put into the tar on its way here.
    fn extract(
        &self,
        tar: impl Read,
        target: &Root,
        options: CopyFiles,
        chown: Option<(u32, u32)>,
    ) -> carrack_layer::Result<()> {
        let mut admit = |entry: &mut Entry| {
            if matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. }) {
                return Ok(false);
            }
            if self.is_host {
                entry.mode &= !SPECIAL_BITS;
                entry.xattrs.retain(|(name, _)| name != "security.capability");
            }
            if !options.overwrite {
                refuse_other_kind(target, entry)?;
            }
            Ok(true)
        };
        let extraction = ExtractOptions { chown, ..ExtractOptions::default() };
        carrack_layer::extract_with(tar, target, &extraction, &mut admit)
    }
}

/// A folder does not take the place of a file, nor the reverse.
fn refuse_other_kind(target: &Root, entry: &Entry) -> carrack_layer::Result<()> {
    let is_dir = entry.kind == EntryKind::Directory;
    let Ok(place) = target.at(&entry.path) else { return Ok(()) };
    let reason = match place.metadata()? {
        Some(found) if found.is_dir() && !is_dir => "cannot overwrite a directory with a non-directory",
        Some(found) if !found.is_dir() && is_dir => "cannot overwrite a non-directory with a directory",
        _ => return Ok(()),
    };
    let reason = format!("{reason} (--overwrite does)");
    Err(carrack_layer::Error::Refused { path: entry.path.clone(), reason })
}

fn pack(
    side: &Side<'_>,
    found: &Found,
    name: &OsString,
    out: impl Write,
) -> carrack_layer::Result<DiffSummary> {
    let options = ArchiveOptions { path: found.path.clone(), name: name.into() };
    carrack_layer::archive_live(side.root(), &options, out, &mut enters)
}

fn copy(from: &Side<'_>, to: &Side<'_>, options: CopyFiles) -> Result<u64> {
    let found = from.find(options)?;
    let (target, name) = to.target(&found, from.is_content)?;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = if to.is_host { own } else { (0, 0) };
    let chown = (!options.archive).then_some(owner);
    let (reader, writer) = std::io::pipe().during("create", "a pipe")?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(from, &found, &name, writer));
        let extracted = to.extract(reader, &target, options, chown);
        let packed = packing.join().expect("the thread does not panic");
        match (extracted, packed) {
            // When the source fails, the tar ends early, which is not the reason.
            (Err(carrack_layer::Error::Truncated { .. }) | Ok(()), Err(error)) => Err(error.into()),
            (Err(error), _) => Err(error.into()),
            (Ok(()), Ok(summary)) => Ok(summary.size_bytes),
        }
    })
}

fn pack_to(from: &Side<'_>, options: CopyFiles, out: &mut (dyn Write + Send)) -> Result<u64> {
    let found = from.find(options)?;
    let name = if from.is_content { OsString::new() } else { found.name.clone() };
    Ok(pack(from, &found, &name, out)?.size_bytes)
}

fn unpack_from(input: &mut (dyn Read + Send), to: &Side<'_>, options: CopyFiles) -> Result<u64> {
    let is_folder = to.existing()?.is_some_and(|found| found.is_dir());
    if !is_folder {
        let message = format!("the destination {} is no directory", to.path.display());
        return Err(Error::refused(message, "a tar is extracted into one that exists"));
    }
    let target = to.root().open_dir(&to.path)?;
    let mut counted = Counted { input, bytes: 0 };
    let (_, tar) = carrack_layer::compression::auto(&mut counted).during("read", "standard input")?;
    to.extract(tar, &target, options, None)?;
    Ok(counted.bytes)
}

struct Counted<'a> {
    input: &'a mut (dyn Read + Send),
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
