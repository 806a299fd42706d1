//! Any bytes as a tar: an error or entries, whose data have the length that they say; and what is read can be written
//! and read again.
#![no_main]

use std::io::Cursor;

use carrack_layer::tar::{EntryKind, Reader, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    let mut writer = Writer::new(Vec::new());
    let mut entries = Vec::new();
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(_) => return,
        };
        assert!(entry.mode <= 0o7777);
        assert!(entry.kind == EntryKind::File || entry.size_bytes == 0);
        let mut data = Vec::new();
        loop {
            match reader.next_chunk() {
                Ok([]) => break,
                Ok(chunk) => data.extend_from_slice(chunk),
                Err(_) => return,
            }
        }
        assert_eq!(data.len() as u64, entry.size_bytes);
        if writer.append(&entry, Cursor::new(&data)).is_err() {
            return;
        }
        entries.push(entry);
    }
    if reader.finish().is_err() {
        return;
    }
    let written = writer.finish().expect("memory takes all");
    let mut again = Reader::new(&written[..]);
    for entry in &entries {
        let read = again.next_entry().expect("what was written can be read").expect("no entry is lost");
        assert_eq!(read.path, entry.path);
        assert_eq!((&read.kind, read.mode, read.uid, read.gid), (&entry.kind, entry.mode, entry.uid, entry.gid));
        assert_eq!((read.size_bytes, &read.xattrs), (entry.size_bytes, &entry.xattrs));
    }
    assert!(again.next_entry().expect("the end can be read").is_none());
});
