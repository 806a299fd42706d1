//! What a build tells while it runs.

use std::time::Duration;

use crate::Stream;

/// Something happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A step begins. Steps are counted from 1 over all stages that are built.
    Step {
        /// Which one.
        number: usize,
        /// How many there are.
        total: usize,
        /// The name of its stage, or its number.
        stage: &'a str,
        /// The instruction as written.
        text: &'a str,
    },
    /// The step is in the cache.
    Cached {
        /// Which step.
        number: usize,
    },
    /// A command wrote something.
    Output {
        /// Which step.
        number: usize,
        /// Where to.
        stream: Stream,
        /// What; lines may be cut anywhere.
        bytes: &'a [u8],
    },
    /// The step is done.
    Done {
        /// Which step.
        number: usize,
        /// How long it took.
        duration: Duration,
    },
    /// Something is allowed, but most likely not meant.
    Warning {
        /// The line of the Dockerfile, where there is one.
        line: Option<usize>,
        /// What.
        message: &'a str,
    },
}
