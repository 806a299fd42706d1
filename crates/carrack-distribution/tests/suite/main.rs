//! The client against a scripted server with faults, and against Debian's docker-registry.

mod authorization;
mod certificates;
mod documents;
mod faults;
mod helpers;
mod peer;
mod server;
mod uploads;

use std::cell::Cell;
use std::io::{self, Write};
use std::time::Duration;

use carrack_distribution::{AuthFile, BlobSink, Client, ClientOptions, RetryPolicy};
use carrack_oci::{Descriptor, Reference, Repository};

/// Options whose pauses and timeouts suit a test.
fn options(auth: AuthFile) -> ClientOptions {
    let mut options = ClientOptions::new("carrack-test/1", auth);
    options.retry = RetryPolicy {
        attempts: 4,
        initial_delay: Duration::from_millis(5),
        max_delay: Duration::from_secs(2),
    };
    options.timeouts.idle = Duration::from_secs(2);
    options.timeouts.document = Duration::from_secs(3);
    options
}

fn anonymous() -> Client {
    Client::new(options(AuthFile::none())).unwrap()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn repository(host: &str, path: &str) -> Repository {
    reference(&format!("{host}/{path}")).repository().clone()
}

/// Bytes that differ at each offset, so that a wrong resume is seen.
fn blob(size: usize) -> (Vec<u8>, Descriptor) {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let bytes: Vec<u8> = (0..size).map(|_| next()).collect();
    let descriptor = Descriptor::of(carrack_oci::media_type::OCI_LAYER, &bytes);
    (bytes, descriptor)
}

/// A sink that counts how often it began anew.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    restarts: Cell<u32>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSink for Sink {
    fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn restart(&mut self) -> io::Result<()> {
        self.restarts.set(self.restarts.get() + 1);
        self.bytes.clear();
        Ok(())
    }
}
