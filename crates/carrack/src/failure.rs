//! How a command fails: the message, its causes, a hint, and the exit code.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;

use carrack_engine::Error;

use crate::output::visible;

/// The result of a command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// carrack itself failed before a container's program could (Docker's convention for `run`), or was used wrongly.
pub const USAGE_EXIT_CODE: u8 = 125;
/// 128 and the number of SIGPIPE.
const CLOSED_OUTPUT_EXIT_CODE: u8 = 141;

/// Why a command ended, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn StdError + Send + Sync>,
    exit_code: u8,
}

impl Failure {
    /// A failure that has no inner error.
    pub fn message(message: impl Into<String>) -> Self {
        Self { error: message.into().into(), exit_code: 1 }
    }

    /// A failure with an exit code of its own.
    pub fn with_exit_code(message: impl Into<String>, exit_code: u8) -> Self {
        Self { exit_code, ..Self::message(message) }
    }

    /// The same failure in a command whose exit code is that of a container: 125 stands for carrack's own.
    pub fn of_run(self) -> Self {
        Self { exit_code: if self.exit_code == 1 { USAGE_EXIT_CODE } else { self.exit_code }, ..self }
    }

    /// The message alone, for a log.
    pub fn text(&self) -> String {
        self.error.to_string()
    }

    /// Prints message, causes and hint to standard error.
    pub fn report(&self) -> ExitCode {
        // As a program that SIGPIPE ends: nobody wants to hear of it.
        if self.error.downcast_ref::<Error>().is_some_and(Error::is_closed_output) {
            return ExitCode::from(CLOSED_OUTPUT_EXIT_CODE);
        }
        let mut text = format!("error: {}\n", self.error);
        let mut cause = self.error.source();
        let mut last = self.error.to_string();
        while let Some(error) = cause {
            let message = error.to_string();
            // Errors of the system have their cause in their own text.
            if !last.ends_with(&message) {
                let _ = writeln!(text, "  caused by: {message}");
            }
            last = message;
            cause = error.source();
        }
        if let Some(hint) = hint(&*self.error) {
            let _ = writeln!(text, "hint: {hint}");
        }
        let text = if io::stderr().is_terminal() { visible(&text) } else { text.into() };
        let _ = io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.exit_code)
    }
}

/// The first hint that an error or one of its causes has.
fn hint(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(hint) = error.downcast_ref::<Error>().and_then(Error::hint) {
        return Some(hint);
    }
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        && !rustix::process::geteuid().is_root()
    {
        return Some("layers and containers need root: run carrack as root".to_owned());
    }
    error.source().and_then(hint)
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        Self { exit_code: error.exit_code(), error: Box::new(error) }
    }
}

/// A command line that parses, but does not mean anything.
pub fn usage(error: clap::Error) -> Failure {
    Failure { error: error.to_string().into(), exit_code: USAGE_EXIT_CODE }
}

/// A flag whose value is wrong.
pub fn invalid(flag: &str, value: &str, expected: &str) -> Failure {
    let message = format!("invalid value {value:?} of {flag}: expected {expected}");
    Failure { error: message.into(), exit_code: USAGE_EXIT_CODE }
}
