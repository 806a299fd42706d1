//! Why a build fails.

use std::path::PathBuf;

use carrack_dockerfile::ParseError;
use carrack_oci::ReferenceError;

use crate::BackendError;

/// The result of a part of a build.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a build fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] carrack_sys::Error),
    /// An archive of an `ADD` could not be unpacked.
    #[error("cannot unpack {}", archive.display())]
    Unpack {
        /// The archive.
        archive: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The backend could not do its part.
    #[error("cannot {doing}")]
    Backend {
        /// What it was asked.
        doing: String,
        /// Why it could not.
        source: BackendError,
    },
    /// A step failed.
    #[error("line {line}: {instruction}")]
    Step {
        /// The line of the Dockerfile, from 1.
        line: usize,
        /// The instruction as written, cut to a printable length.
        instruction: String,
        /// Why.
        source: Box<Error>,
    },
    /// The command of a `RUN` ended with another code than 0.
    #[error("the command ended with exit code {exit_code}: {command}")]
    CommandFailed {
        /// What was run.
        command: String,
        /// Its code.
        exit_code: i32,
    },
    /// An `ONBUILD` trigger of the base image is no instruction.
    #[error("invalid ONBUILD trigger {trigger:?} of the base image")]
    Trigger {
        /// The trigger.
        trigger: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The text after `FROM` or `--from` is no image.
    #[error("cannot use {text:?} as an image")]
    Reference {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// No file matches a source.
    #[error("{} is not in {place}{}", path.display(), if *ignored { ": .dockerignore excludes it" } else { "" })]
    SourceNotFound {
        /// The path or pattern.
        path: PathBuf,
        /// The build context, a stage or an image.
        place: String,
        /// Whether it exists, but is excluded.
        ignored: bool,
    },
    /// A file of the build context was written to while it was copied.
    #[error("{} has changed during the build", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// A `.dockerignore` file, or a pattern of a `COPY`, is wrong.
    #[error("invalid pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An instruction cannot be carried out as it stands.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn backend(doing: impl Into<String>) -> impl FnOnce(BackendError) -> Self {
        let doing = doing.into();
        move |source| Self::Backend { doing, source }
    }

    /// The exit code of the `RUN` that ended the build, where one did.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::CommandFailed { exit_code, .. } => Some(*exit_code),
            Self::Step { source, .. } => source.exit_code(),
            _ => None,
        }
    }
}
