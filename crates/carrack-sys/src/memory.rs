//! The memory of this process.
//!
//! Invariant: only what the kernel can read again, unchanged, from the program's file is given back.

use std::fs;
use std::sync::OnceLock;

use rustix::event::{PollFd, Timespec};
#[cfg(target_arch = "x86_64")]
use rustix::io::Errno;

/// `poll`, at the beginning of what may be a long wait: what is free of the heap, and the pages of the program itself that
/// nothing has written to, are given back first; the kernel brings those back, from its cache, that are used again.
/// Around each byte that is touched it maps what its cache has in one piece, from 64 KiB to 2 MiB: nothing else is called
/// between the two, and the pages of that code are a mapping of their own.
pub fn poll_at_rest(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> rustix::io::Result<usize> {
    static RANGES: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
    let ranges = match RANGES.get() {
        Some(known) => known,
        None => {
            // Without it the process is larger, and works as well.
            let found = fs::read_to_string("/proc/self/smaps").map(|smaps| program_ranges(&smaps));
            set_apart(release_and_poll as *const () as usize);
            RANGES.get_or_init(|| found.unwrap_or_default())
        }
    };
    crate::heap::release();
    release_and_poll(ranges, fds, timeout)
}

/// Makes the page that has the function at `address`, and the one after it, a mapping of their own: those whose advice
/// differs are not joined.
fn set_apart(address: usize) {
    const PAGE_BYTES: usize = 4096;
    let start = address / PAGE_BYTES * PAGE_BYTES;
    // SAFETY: the advice tells how the pages will be read; it changes nothing in them.
    unsafe { libc::madvise(start as *mut libc::c_void, 2 * PAGE_BYTES, libc::MADV_RANDOM) };
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn release_and_poll(
    ranges: &[(usize, usize)],
    fds: &mut [PollFd<'_>],
    timeout: Option<&Timespec>,
) -> rustix::io::Result<usize> {
    let mut timeout = timeout.copied();
    let timeout = timeout.as_mut().map_or(0, |timeout| std::ptr::from_mut(timeout) as usize);
    for (start, length) in ranges {
        // SAFETY: the range is a mapping of this program's file that cannot be written to and has no page of its own,
        // so that reading it again gives the same bytes.
        unsafe { system_call(libc::SYS_madvise, [*start, *length, libc::MADV_DONTNEED as usize, 0, 0]) };
    }
    let pointer = fds.as_mut_ptr() as usize;
    // SAFETY: `PollFd` is the kernel's `pollfd`, of which there are as many as said; the time is null or a local of the
    // kernel's form, which it may write to; there is no signal mask.
    let result = unsafe { system_call(libc::SYS_ppoll, [pointer, fds.len(), timeout, 0, 8]) };
    match usize::try_from(result) {
        Ok(count) => Ok(count),
        Err(_) => Err(Errno::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL))),
    }
}

/// A system call without the C library.
///
/// # Safety
///
/// As the call demands of its arguments.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn system_call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    let mut result = number as isize;
    // SAFETY: the kernel's convention: the result in rax, rcx and r11 are lost; the caller answers for the rest.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
fn release_and_poll(
    ranges: &[(usize, usize)],
    fds: &mut [PollFd<'_>],
    timeout: Option<&Timespec>,
) -> rustix::io::Result<usize> {
    for (start, length) in ranges {
        // SAFETY: the range is a mapping of this program's file that cannot be written to and has no page of its own,
        // so that reading it again gives the same bytes.
        unsafe { libc::madvise(*start as *mut libc::c_void, *length, libc::MADV_DONTNEED) };
    }
    rustix::event::poll(fds, timeout)
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
    fn the_code_that_waits_is_a_mapping_of_its_own() {
        let address = release_and_poll as *const () as usize;
        set_apart(address);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ranges = maps.lines().filter_map(|line| parse_range(line.split_ascii_whitespace().next()?));
        let found = ranges.into_iter().find(|(start, length)| (*start..start + length).contains(&address));
        let (_, length) = found.unwrap();
        assert!(length <= 8192, "{length} bytes are mapped together");
    }

    #[test]
    fn the_program_goes_on_and_the_wait_tells_what_poll_tells() {
        use rustix::event::PollFlags;
        let text = String::from("read again from the file");
        let (read, mut write) = std::io::pipe().unwrap();
        let short = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let mut fds = [PollFd::new(&read, PollFlags::IN)];
        assert_eq!(poll_at_rest(&mut fds, Some(&short)), Ok(0));
        assert_eq!(text.to_uppercase(), "READ AGAIN FROM THE FILE");
        std::io::Write::write_all(&mut write, b"x").unwrap();
        assert_eq!(poll_at_rest(&mut fds, None), Ok(1));
        assert!(fds[0].revents().contains(PollFlags::IN));
    }
}
