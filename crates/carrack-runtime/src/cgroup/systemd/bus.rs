//! A connection to systemd's manager over its own socket, which exists wherever systemd is process 1, bus or not.
//!
//! Invariant: a call ends with its answer, or with an error after [`LIMIT`]; a job that it starts has then ended too.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::message::{self, ANSWER, Argument, ERROR, FIXED, Received, SIGNAL};
use crate::{Error, Result};

/// How long systemd may take for one call, as in runc.
const LIMIT: Duration = Duration::from_secs(30);

/// Where systemd listens, for root.
pub const SOCKET: &str = "/run/systemd/private";

/// What systemd answers.
#[derive(Debug)]
pub enum Refusal {
    /// An error that it names.
    Named { name: String, text: String },
    /// All else.
    Other(Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Named { name, text } => Error::Systemd { reason: format!("{text} ({name})") },
            Refusal::Other(error) => error,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Jobs that have ended: object path and result.
    ended: Vec<(String, String)>,
    until: Instant,
}

impl Bus {
    /// Connects to the manager that listens on `socket`.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(|error| Error::Systemd {
            reason: format!(
                "cannot connect to {}: {error}; is systemd process 1 of this host, and are you root?",
                socket.display()
            ),
        })?;
        let mut bus = Self { stream, serial: 0, ended: Vec::new(), until: Instant::now() + LIMIT };
        bus.authenticate().map_err(failed)?;
        Ok(bus)
    }

    /// The kernel says who we are; the number is checked against that.
    fn authenticate(&mut self) -> io::Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        // All at once, and no call before the answer: systemd leaves a call alone that it reads together with BEGIN.
        self.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read_exact(&mut byte)?;
            line.extend(byte);
            if line.len() > 512 {
                return Err(io::Error::other("expected a line, got more than 512 bytes"));
            }
        }
        if !line.starts_with(b"OK ") {
            let line = String::from_utf8_lossy(&line);
            return Err(io::Error::other(format!("it does not let us in: {}", line.trim())));
        }
        Ok(())
    }

    /// Calls a method of the manager; returns the first text of the answer.
    pub fn call(&mut self, member: &str, arguments: &[Argument]) -> std::result::Result<String, Refusal> {
        self.until = Instant::now() + LIMIT;
        self.serial += 1;
        let bytes = message::call(self.serial, member, arguments);
        self.stream.write_all(&bytes).map_err(|error| Refusal::Other(failed(error)))?;
        loop {
            let received = self.receive().map_err(|error| Refusal::Other(failed(error)))?;
            let text = received.texts.first().cloned().unwrap_or_default();
            match received.kind {
                _ if received.answers != Some(self.serial) => {}
                ANSWER => return Ok(text),
                ERROR => {
                    return Err(Refusal::Named { name: received.error.unwrap_or_default(), text });
                }
                _ => {}
            }
        }
    }

    /// Calls a method that starts a job, and waits for the job's end; returns its result, `done` where all is well.
    pub fn run_job(&mut self, member: &str, arguments: &[Argument]) -> std::result::Result<String, Refusal> {
        let job = self.call(member, arguments)?;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| *ended == job) {
                return Ok(result.clone());
            }
            self.receive().map_err(|error| Refusal::Other(failed(error)))?;
        }
    }

    fn receive(&mut self) -> io::Result<Received> {
        let broken = || io::Error::other("it sent what is no message of D-Bus");
        let mut fixed = [0; FIXED];
        self.read_exact(&mut fixed)?;
        let rest = message::rest(&fixed).ok_or_else(broken)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(FIXED + rest, 0);
        self.read_exact(&mut bytes[FIXED..])?;
        let received = message::read(&bytes).ok_or_else(broken)?;
        if received.kind == SIGNAL && received.member.as_deref() == Some("JobRemoved") {
            // Number, path, unit, result.
            if let [job, _, result, ..] = &received.texts[..] {
                self.ended.push((job.clone(), result.clone()));
            }
        }
        Ok(received)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {LIMIT:?}")));
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut std::mem::take(&mut buffer)[count..],
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    Error::Systemd { reason: format!("the connection failed: {error}") }
}
