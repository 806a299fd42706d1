//! Files of a new layer that lie in the tars of other layers already: the next version of an app has most of the last.
//!
//! ```text
//! layers/ALGORITHM-HEX/files    the large files of a layer, in order of their keys, 12 bytes each:
//!                               │ key, 8 bytes │ place in the tar in blocks of 512 bytes, 4 bytes │
//! ```
//!
//! Invariant: a list is a hint; what is shared was compared byte by byte while it came.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

use carrack_content::{Blob, BlobWriter, Lender, Parts};
use carrack_erofs::BLOCK_BYTES;
use carrack_layer::LargeFile;
use carrack_oci::DiffId;
use carrack_sys::{IoContext, atomic};

use super::layers::Layers;
use crate::Result;
use crate::folders::{folder_names, parse_file_name};

const FILES: &str = "files";
const ENTRY_BYTES: usize = 12;
/// As many files of one layer are listed, and of all layers together looked at: 2 MiB of memory.
const MAX_LISTED: usize = 1 << 16;
const MAX_KNOWN: usize = 1 << 17;
/// As many tars of others are open at once.
const MAX_OPEN: usize = 16;
/// As many lenders may one layer have: each is one more device of its mount.
const MAX_LENDERS: usize = 32;
const COMPARE_BYTES: usize = 64 << 10;

/// What was found in a tar that was written down.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What lies in other tars.
    pub parts: Parts,
    /// All large files.
    pub files: Vec<LargeFile>,
}

/// A large file of another layer.
#[derive(Clone, Copy)]
struct Known {
    key: u64,
    block: u32,
    layer: u16,
}

/// Compares what comes with what is there.
pub(super) struct Sharing<'a> {
    layers: &'a Layers,
    /// Where the tar's reader says which files come.
    announced: Rc<RefCell<Vec<LargeFile>>>,
    expected: VecDeque<LargeFile>,
    loan: Option<Loan>,
    lenders: Option<Lenders>,
    found: Found,
    /// As much of the tar has come.
    position: u64,
}

/// A file that is the same as another one so far.
struct Loan {
    file: LargeFile,
    tar: Rc<Blob>,
    /// Where it begins in that tar.
    start: u64,
}

/// The large files of all layers, and the tars of those that were asked for.
#[derive(Default)]
struct Lenders {
    known: Vec<Known>,
    layers: Vec<DiffId>,
    open: HashMap<u16, Option<Rc<Blob>>>,
}

impl<'a> Sharing<'a> {
    pub fn new(layers: &'a Layers, announced: Rc<RefCell<Vec<LargeFile>>>) -> Self {
        Self {
            layers,
            announced,
            expected: VecDeque::new(),
            loan: None,
            lenders: None,
            found: Found::default(),
            position: 0,
        }
    }

    /// Writes the next bytes of the tar, or leaves out what others have.
    pub fn put_down(&mut self, mut bytes: &[u8], writer: &mut BlobWriter) -> io::Result<()> {
        self.take_announced();
        while !bytes.is_empty() {
            let count = match &self.loan {
                Some(_) => self.compare(bytes, writer)?,
                None => {
                    let next = self.expected.front().map_or(u64::MAX, |file| file.offset - self.position);
                    let count = bytes.len().min(usize::try_from(next).unwrap_or(usize::MAX));
                    writer.write_all(&bytes[..count])?;
                    count
                }
            };
            self.position += count as u64;
            bytes = &bytes[count..];
            self.begin_file();
        }
        Ok(())
    }

    /// What was found; all bytes have come.
    pub fn finish(mut self, writer: &mut BlobWriter) -> io::Result<Found> {
        self.take_back(writer)?;
        Ok(self.found)
    }

    fn take_announced(&mut self) {
        for file in self.announced.borrow_mut().drain(..) {
            if self.found.files.len() < MAX_LISTED && file.offset >= self.position {
                self.found.files.push(file);
                self.expected.push_back(file);
            }
        }
        self.begin_file();
    }

    /// Where a large file begins here: looks for one like it.
    fn begin_file(&mut self) {
        let Some(file) = self.expected.pop_front_if(|file| file.offset <= self.position) else { return };
        let layers = self.layers;
        self.loan = self.lenders.get_or_insert_with(|| Lenders::load(layers)).find(layers, &file);
    }

    /// Compares the next bytes of a file; returns how many were decided.
    fn compare(&mut self, bytes: &[u8], writer: &mut BlobWriter) -> io::Result<usize> {
        let Some(loan) = &self.loan else { return Ok(0) };
        let done = self.position - loan.file.offset;
        let left = usize::try_from(loan.file.size_bytes - done).unwrap_or(usize::MAX);
        let count = bytes.len().min(left).min(COMPARE_BYTES);
        let mut others = [0; COMPARE_BYTES];
        let others = &mut others[..count];
        // What cannot be read is not shared.
        let is_same = loan.tar.read_exact_at(others, loan.start + done).is_ok() && *others == bytes[..count];
        if !is_same {
            self.take_back(writer)?;
            return Ok(0);
        }
        writer.leave_out(&bytes[..count])?;
        if count == left {
            self.keep_loan(writer)?;
        }
        Ok(count)
    }

    /// The whole file was the same.
    fn keep_loan(&mut self, writer: &mut BlobWriter) -> io::Result<()> {
        let Some(loan) = &self.loan else { return Ok(()) };
        let size_bytes = loan.file.size_bytes;
        let owner = loan.tar.owner(loan.start..loan.start + size_bytes);
        let has_room = |owner: &Lender| {
            let lenders = self.found.parts.lenders();
            lenders.len() < MAX_LENDERS || lenders.contains(owner)
        };
        match owner.filter(|(owner, _)| has_room(owner)) {
            Some((owner, offset)) => {
                let place = loan.file.offset..loan.file.offset + size_bytes;
                self.found.parts.push(place, owner, offset);
                self.loan = None;
                Ok(())
            }
            None => self.take_back_to(loan.file.offset + size_bytes, writer),
        }
    }

    /// The file is another one: writes what was left out of it.
    fn take_back(&mut self, writer: &mut BlobWriter) -> io::Result<()> {
        self.take_back_to(self.position, writer)
    }

    fn take_back_to(&mut self, end: u64, writer: &mut BlobWriter) -> io::Result<()> {
        let Some(Loan { file, tar, start }) = self.loan.take() else { return Ok(()) };
        let read = |buffer: &mut [u8], offset: u64| tar.read_exact_at(buffer, start + (offset - file.offset));
        writer.write_after_all(file.offset..end, &read)
    }
}

impl Lenders {
    /// Reads the lists of layers, the newest first, as far as memory goes.
    fn load(layers: &Layers) -> Self {
        let mut lenders = Self::default();
        // Without a list nothing is shared, and nothing is wrong.
        let names = folder_names(layers.folder()).unwrap_or_default();
        let mut lists: Vec<_> = names.iter().filter_map(|name| list_of(layers, name)).collect();
        lists.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
        for (_, layer) in lists {
            let Ok(Some(bytes)) = atomic::read(&layers.path(&layer).join(FILES)) else { continue };
            let room = MAX_KNOWN - lenders.known.len();
            let Ok(number) = u16::try_from(lenders.layers.len()) else { break };
            lenders.known.extend(entries(&bytes).take(room).map(|(key, block)| Known {
                key,
                block,
                layer: number,
            }));
            lenders.layers.push(layer);
        }
        lenders.known.sort_by_key(|known| (known.key, known.layer));
        lenders.known.dedup_by_key(|known| known.key);
        lenders
    }

    fn find(&mut self, layers: &Layers, file: &LargeFile) -> Option<Loan> {
        let place = self.known.binary_search_by_key(&file.key, |known| known.key).ok()?;
        let Known { block, layer, .. } = self.known[place];
        if self.open.len() > MAX_OPEN {
            self.open.clear();
        }
        let digest = &self.layers[usize::from(layer)].0;
        let tar =
            self.open.entry(layer).or_insert_with(|| layers.content().open_blob(digest).ok().map(Rc::new));
        let start = u64::from(block) * BLOCK_BYTES;
        Some(Loan { file: *file, tar: Rc::clone(tar.as_ref()?), start })
    }
}

/// When the list of a layer was written, and the layer.
fn list_of(layers: &Layers, name: &str) -> Option<(SystemTime, DiffId)> {
    let layer = DiffId(parse_file_name(name)?);
    let modified = fs::metadata(layers.path(&layer).join(FILES)).and_then(|metadata| metadata.modified());
    Some((modified.ok()?, layer))
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = (u64, u32)> {
    bytes.chunks_exact(ENTRY_BYTES).map(|entry| {
        let (key, block) = entry.split_at(8);
        let key = u64::from_le_bytes(key.try_into().expect("8 bytes"));
        (key, u32::from_le_bytes(block.try_into().expect("4 bytes")))
    })
}

/// Writes the list of a layer into its folder.
pub(super) fn write_list(folder: &Path, files: &[LargeFile]) -> Result<()> {
    let block = |file: &LargeFile| u32::try_from(file.offset / BLOCK_BYTES).ok();
    let mut entries: Vec<_> = files.iter().filter_map(|file| Some((file.key, block(file)?))).collect();
    entries.truncate(MAX_LISTED);
    entries.sort_unstable();
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(key, block)| key.to_le_bytes().into_iter().chain(block.to_le_bytes()))
        .collect();
    if bytes.is_empty() {
        return Ok(());
    }
    let path = folder.join(FILES);
    Ok(fs::write(&path, bytes).during("write", &path)?)
}
