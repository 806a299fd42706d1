//! Progress: one function that every long operation calls, from any thread.

use std::time::Duration;

use carrack_oci::Digest;

/// Where events go.
pub type Observer<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// What an operation tells while it works.
#[derive(Debug)]
pub enum Event<'a> {
    /// A sentence for the user.
    Status(&'a str),
    /// A blob went on.
    Blob {
        /// Which one.
        digest: &'a Digest,
        /// How far it is.
        phase: Phase,
    },
    /// A warning: the operation goes on.
    Warning(&'a str),
    /// A build began a step.
    Step {
        /// Counted from 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// The instruction as written.
        instruction: &'a str,
    },
    /// The cache had the result of the step.
    StepCached,
    /// A build finished a step.
    StepDone {
        /// How long it took.
        duration: Duration,
    },
    /// Bytes that a build's `RUN` printed.
    Output(&'a [u8]),
}

/// How far a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is known and waits for its turn.
    Waiting,
    /// Its destination has it already.
    Exists,
    /// Bytes travel.
    Transferring {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The layer is being applied to a snapshot.
    Unpacking,
    /// The layer is being compressed for its way out.
    Compressing,
    /// The registry linked it from another repository.
    Mounted,
    /// The registry has it now.
    Pushed,
    /// Nothing is left to do.
    Complete,
}
