//! The memory of this process.
//!
//! Invariant: only what the kernel can read again, unchanged, from the program's file is given back.

use std::fs;
use std::io;
use std::sync::OnceLock;

/// Gives back the pages of the program itself that nothing has written to; the kernel brings those back, from its
/// cache, that are used again. A process that waits for long keeps no more resident than its waiting takes.
pub fn release_program_pages() -> io::Result<()> {
    static RANGES: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
    let ranges = match RANGES.get() {
        Some(known) => known,
        None => {
            let found = program_ranges(&fs::read_to_string("/proc/self/smaps")?);
            RANGES.get_or_init(|| found)
        }
    };
    for (start, length) in ranges {
        // SAFETY: the range is a mapping of this program's file that cannot be written to and has no page of its
        // own, so that reading it again gives the same bytes.
        let done = unsafe { libc::madvise(*start as *mut libc::c_void, *length, libc::MADV_DONTNEED) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Start and length of the read-only mappings of the program's file without a page that differs from the file. What
/// the loader has written to before it was made read-only (RELRO) has some.
fn program_ranges(smaps: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut program = None;
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some("0")) => ranges.extend(candidate.take()),
            (Some(range), Some(rights)) if !range.ends_with(':') => {
                let inode = words.nth(2).filter(|inode| *inode != "0");
                // The first mapping is that of the program.
                program = program.or(inode);
                let is_ours = inode.is_some() && inode == program && !rights.contains('w');
                candidate = parse_range(range).filter(|_| is_ours);
            }
            _ => {}
        }
    }
    ranges
}

fn parse_range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16));
    let (start, end) = (start.ok()?, end.ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_given_back() {
        let smaps = "\
00400000-00401000 r--p 00000000 fe:00 740895 /bin/carrack
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
00401000-01334000 r-xp 00001000 fe:00 740895 /bin/carrack
Anonymous:             0 kB
01334000-017f1000 r--p 00f34000 fe:00 740895 /bin/carrack
Anonymous:             8 kB
017f1000-01803000 rw-p 013f0000 fe:00 740895 /bin/carrack
Anonymous:             0 kB
02000000-02001000 r--p 00000000 fe:00 99 /lib/other
Anonymous:             0 kB
7ffc92d57000-7ffc92d78000 r--p 00000000 00:00 0 [vvar]
Anonymous:             0 kB
";
        assert_eq!(program_ranges(smaps), [(0x40_0000, 0x1000), (0x40_1000, 0xf3_3000)]);
    }

    #[test]
    fn the_program_goes_on() {
        let text = String::from("read again from the file");
        release_program_pages().unwrap();
        assert_eq!(text.to_uppercase(), "READ AGAIN FROM THE FILE");
    }
}
