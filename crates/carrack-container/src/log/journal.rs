//! Output for the journal of systemd, by its native protocol: one datagram an entry, fields as `NAME=value` lines or,
//! where the value has line ends, as name, length and bytes (systemd's JOURNAL_NATIVE_PROTOCOL).
//!
//! Invariant: a journal that does not answer holds up the container once, for some seconds; what it does not take is
//! lost and told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use carrack_sys::IoContext;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use super::Stream;
use crate::Result;

/// Where the journal listens.
pub const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// Longer output is cut into several entries; a datagram of this size fits every socket's buffer.
const MAX_ENTRY_BYTES: usize = 48 * 1024;

/// The writer of a container's entries.
#[derive(Debug)]
pub struct JournalWriter {
    socket: OwnedFd,
    /// The fields of every entry, encoded.
    fields: Vec<u8>,
    /// Lines that have not ended, by stream.
    unfinished: [Vec<u8>; 2],
    /// Whether the journal has let an entry wait for too long, and taken none since.
    is_hung: bool,
}

impl JournalWriter {
    /// Connects with the journal at `socket`; `fields` are given with each entry.
    pub fn open(socket: &Path, fields: &[(String, String)]) -> Result<Self> {
        let connected = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .and_then(|fd| connect(&fd, &SocketAddrUnix::new(socket)?).map(|()| fd));
        let socket = connected.during("connect to", socket)?;
        let mut encoded = Vec::new();
        fields.iter().for_each(|(name, value)| field(&mut encoded, name, value.as_bytes()));
        Ok(Self { socket, fields: encoded, unfinished: [Vec::new(), Vec::new()], is_hung: false })
    }

    /// Takes output as it was read.
    pub fn write(&mut self, stream: Stream, output: &[u8]) -> Result<()> {
        for piece in output.split_inclusive(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.unfinished[stream as usize]);
            line.extend_from_slice(piece);
            match line.strip_suffix(b"\n") {
                Some(text) => self.entry(stream, text, false)?,
                None if line.len() >= MAX_ENTRY_BYTES => self.entry(stream, &line, true)?,
                None => self.unfinished[stream as usize] = line,
            }
        }
        Ok(())
    }

    /// Writes what a stream left without a line end.
    pub fn finish(&mut self, stream: Stream) -> Result<()> {
        let rest = std::mem::take(&mut self.unfinished[stream as usize]);
        if rest.is_empty() { Ok(()) } else { self.entry(stream, &rest, true) }
    }

    fn entry(&mut self, stream: Stream, text: &[u8], is_partial: bool) -> Result<()> {
        let mut datagram = self.fields.clone();
        field(&mut datagram, "MESSAGE", text);
        // Docker's and podman's priorities: info, and error for standard error.
        field(&mut datagram, "PRIORITY", if stream == Stream::Stdout { b"6" } else { b"3" });
        if is_partial {
            field(&mut datagram, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        let sent = loop {
            match send(self.socket.as_fd(), &datagram, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                // It has taken more than it has filed: a burst of some hundred lines is enough.
                Err(Errno::AGAIN) if self.has_room() => {}
                sent => break sent,
            }
        };
        self.is_hung = sent.is_err_and(|error| error == Errno::AGAIN);
        sent.map_err(io::Error::from).during("write to", "the journal")?;
        Ok(())
    }
}

impl JournalWriter {
    /// Waits until the journal takes more; not for ever, as the container could not even end meanwhile.
    fn has_room(&self) -> bool {
        const LIMIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
        !self.is_hung && matches!(poll(&mut fds, Some(&LIMIT)), Ok(1) | Err(Errno::INTR))
    }
}

/// Adds a field; the name has been checked.
fn field(to: &mut Vec<u8>, name: &str, value: &[u8]) {
    to.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        to.push(b'\n');
        to.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        to.push(b'=');
    }
    to.extend_from_slice(value);
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn lines_become_entries_with_their_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(JournalWriter::open(&path, &[]).is_err(), "there is no journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let fields = [("CONTAINER_NAME".to_owned(), "web".to_owned()), ("X".to_owned(), "a\nb".to_owned())];
        let mut writer = JournalWriter::open(&path, &fields).unwrap();
        let receive = || {
            let mut buffer = vec![0; 1 << 16];
            let length = journal.recv(&mut buffer).unwrap();
            buffer.truncate(length);
            buffer
        };
        writer.write(Stream::Stdout, b"one\ntw").unwrap();
        let begin = b"CONTAINER_NAME=web\nX\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert_eq!(receive(), [&begin[..], b"MESSAGE=one\nPRIORITY=6\n"].concat());
        writer.write(Stream::Stderr, b"oops\n").unwrap();
        assert_eq!(receive(), [&begin[..], b"MESSAGE=oops\nPRIORITY=3\n"].concat());
        writer.write(Stream::Stdout, b"o\n").unwrap();
        assert_eq!(receive(), [&begin[..], b"MESSAGE=two\nPRIORITY=6\n"].concat());
        writer.write(Stream::Stdout, b"rest").unwrap();
        writer.finish(Stream::Stdout).unwrap();
        let last = receive();
        assert!(last.ends_with(b"MESSAGE=rest\nPRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\n"));
    }
}
