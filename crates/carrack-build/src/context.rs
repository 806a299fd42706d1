//! The build context: the folder that `COPY` and `ADD` take files from, less what `.dockerignore` excludes.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use carrack_sys::IoContext;
use carrack_sys::rooted::{Place, Root};
use sha2::{Digest as _, Sha256};

use crate::ignore::IgnoreList;
use crate::select::Selection;
use crate::stat_cache::{ContentDigest, StatCache};
use crate::tree::{EntryKind, Tree};
use crate::{Error, Result};

/// The largest `.dockerignore` that is read.
const MAX_IGNORE_BYTES: u64 = 1 << 20;

/// A build context.
pub struct Context {
    root: Option<Root>,
    ignore: IgnoreList,
    cache: Option<StatCache>,
}

impl Context {
    /// No context, as for a Dockerfile that comes from standard input.
    pub fn none() -> Self {
        Self { root: None, ignore: IgnoreList::default(), cache: None }
    }

    /// Opens a folder. The patterns are those of `<dockerfile>.dockerignore` where that exists (`dockerfile` being
    /// the path of the Dockerfile on the host), else of the folder's own `.dockerignore`.
    pub fn open(folder: &Path, dockerfile: Option<&Path>) -> Result<Self> {
        let root = Root::open(folder)?;
        let beside = match dockerfile {
            Some(dockerfile) => beside(dockerfile)?,
            None => None,
        };
        let text = match beside {
            Some(text) => Some(text),
            None if root.metadata(".dockerignore")?.is_none() => None,
            None => Some(read_bounded(root.open_file(".dockerignore")?, &folder.join(".dockerignore"))?),
        };
        let ignore = IgnoreList::parse(&text.unwrap_or_default())?;
        Ok(Self { root: Some(root), ignore, cache: None })
    }

    /// Keeps the digests of unchanged files in a cache.
    pub fn with_stat_cache(self, cache: StatCache) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Writes what the cache has learnt.
    pub fn save_stat_cache(&self) -> Result<()> {
        self.cache.as_ref().map_or(Ok(()), StatCache::save)
    }

    pub(crate) fn tree(&self) -> Result<Tree<'_>> {
        let none = || Error::invalid("the build has no context to copy from: give a folder, or use --from");
        let root = self.root.as_ref().ok_or_else(none)?;
        let ignore = (!self.ignore.is_empty()).then_some(&self.ignore);
        Ok(Tree { root, place: "the build context", ignore, is_context: true })
    }

    /// The digests of the regular files of a selection, in order. Those not in the cache are read on several
    /// threads.
    pub(crate) fn digests(&self, tree: &Tree<'_>, selection: &Selection) -> Result<Vec<ContentDigest>> {
        let files = selection.entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let known = |identity| self.cache.as_ref().and_then(|cache| cache.get(identity));
        let mut digests: Vec<Option<ContentDigest>> =
            files.clone().map(|entry| known(&entry.identity)).collect();
        let missing: Vec<usize> = (0..digests.len()).filter(|index| digests[*index].is_none()).collect();
        let files: Vec<_> = files.collect();
        let read = in_parallel(&missing, |index| {
            let (entry, read_at) = (files[index], SystemTime::now());
            let place = tree.root.at(selection.base.join(&entry.path))?;
            let digest = digest_of(&place)?;
            if let Some(cache) = &self.cache {
                cache.put(&entry.identity, &digest, read_at);
            }
            Ok((index, digest))
        })?;
        for (index, digest) in read {
            digests[index] = Some(digest);
        }
        Ok(digests.into_iter().flatten().collect())
    }
}

fn beside(dockerfile: &Path) -> Result<Option<String>> {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".dockerignore");
    let path = Path::new(&name);
    match std::fs::File::open(path) {
        Ok(file) => read_bounded(file, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).during("open", path).map_err(Error::from),
    }
}

fn read_bounded(file: std::fs::File, path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_IGNORE_BYTES + 1).read_to_end(&mut bytes).during("read", path)?;
    if bytes.len() as u64 > MAX_IGNORE_BYTES {
        return Err(Error::invalid(format!("{} is longer than {MAX_IGNORE_BYTES} bytes", path.display())));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn digest_of(place: &Place<'_>) -> Result<ContentDigest> {
    let mut file = place.open_file()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).during("read", place.path())? {
            0 => return Ok(hasher.finalize().into()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Does `work` for each index, on as many threads as there are processors when there is enough of it.
fn in_parallel<T: Send>(indexes: &[usize], work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(indexes.len() / 64 + 1);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some(index) = indexes.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(work(*index)?);
        }
        Ok(done)
    };
    if threads == 1 {
        return worker();
    }
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::with_capacity(indexes.len());
        for handle in handles {
            all.append(
                &mut handle.join().map_err(|_| Error::invalid("a thread that reads files has ended"))??,
            );
        }
        Ok(all)
    })
}
