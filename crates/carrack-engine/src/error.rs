//! Errors of operations: what the user asked on the outside, the fact inside, and what to do about it.

use std::path::PathBuf;

use carrack_distribution::Class;

/// The result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on an object failed; `source` says why.
    #[error("cannot {operation} {object}")]
    Operation {
        /// What was asked, as in "pull".
        operation: &'static str,
        /// Of what.
        object: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// A request that contradicts itself or the state it meets.
    #[error("{message}")]
    Refused {
        /// What is wrong, with what was expected.
        message: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// None of the places that may have an image gave it.
    #[error("tried {} places:{}", attempts.len(), list(attempts))]
    Places {
        /// Each place with its failure, in order; at least one.
        attempts: Vec<(String, Error)>,
    },
    /// A settings file is not valid.
    #[error("cannot read the settings in {}: {reason}", file.display())]
    Settings {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A stage could not start its program.
    #[error("{message}")]
    Program {
        /// Why not, with all causes.
        message: String,
        /// 127 (not found), 126 (found, but not executable) or 125, as Docker has it.
        exit_code: u8,
    },
    /// A Dockerfile that does not parse.
    #[error("{rendered}")]
    Dockerfile {
        /// File, line and a caret below the place.
        rendered: String,
    },
    /// A stage, another process of this binary, failed with this message.
    #[error("{0}")]
    Stage(String),
    /// The file system or the kernel.
    #[error(transparent)]
    Sys(#[from] carrack_sys::Error),
    /// The content store.
    #[error(transparent)]
    Content(#[from] carrack_content::Error),
    /// Images, records, archives.
    #[error(transparent)]
    Image(#[from] carrack_image::Error),
    /// Layers as tars.
    #[error(transparent)]
    Layer(#[from] carrack_layer::Error),
    /// Snapshots.
    #[error(transparent)]
    Snapshot(#[from] carrack_snapshot::Error),
    /// A text that cannot name a snapshot.
    #[error(transparent)]
    SnapshotKey(#[from] carrack_snapshot::KeyError),
    /// A remote registry.
    #[error(transparent)]
    Distribution(#[from] carrack_distribution::Error),
    /// The registry that is served here.
    #[error(transparent)]
    Registry(#[from] carrack_registry::Error),
    /// Container records and state.
    #[error(transparent)]
    Container(#[from] carrack_container::Error),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] carrack_runtime::Error),
    /// Networks.
    #[error(transparent)]
    Network(#[from] carrack_network::Error),
    /// Builds.
    #[error(transparent)]
    Build(#[from] carrack_build::Error),
    /// A manifest, index or config from outside.
    #[error(transparent)]
    Document(#[from] carrack_oci::DocumentError),
    /// A reference that is none.
    #[error(transparent)]
    Reference(#[from] carrack_oci::ReferenceError),
}

impl Error {
    /// A refusal with a hint.
    pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: hint.into() }
    }

    /// What the user can do about it; also of an inner error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Operation { source, .. } => source.hint(),
            Self::Refused { hint, .. } if !hint.is_empty() => Some(hint.clone()),
            Self::Distribution(error) => registry_hint(error.class()),
            // The last one is the place that the user named.
            Self::Places { attempts } => attempts.last().and_then(|(_, error)| error.hint()),
            _ => None,
        }
    }

    /// The exit code of a command that ends with this error: 1, unless it says otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Operation { source, .. } => source.exit_code(),
            Self::Program { exit_code, .. } => *exit_code,
            _ => 1,
        }
    }

    /// The exit code of a command that runs a program in a container (Docker: 125, 126, 127).
    pub(crate) fn exit_code_of_run(&self) -> u8 {
        match self {
            Self::Operation { source, .. } => source.exit_code_of_run(),
            Self::Program { exit_code, .. } => *exit_code,
            Self::Runtime(error) => u8::try_from(error.exit_code()).unwrap_or(125),
            _ => 125,
        }
    }

    /// Whether the same operation may succeed later, so that what it has fetched is of use then.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Operation { source, .. } => source.is_transient(),
            Self::Places { attempts } => attempts.iter().any(|(_, error)| error.is_transient()),
            Self::Distribution(error) => {
                matches!(
                    error.class(),
                    Class::Unreachable | Class::RateLimited | Class::Registry | Class::Tls
                )
            }
            _ => false,
        }
    }

    /// Whether the image that was named does not exist here.
    pub fn is_no_such_image(&self) -> bool {
        match self {
            Self::Operation { source, .. } => source.is_no_such_image(),
            Self::Image(carrack_image::Error::NotFound { .. }) => true,
            _ => false,
        }
    }

    /// Whether whoever reads the output of this command has gone away.
    pub fn is_closed_output(&self) -> bool {
        match self {
            Self::Operation { source, .. } => source.is_closed_output(),
            Self::Container(carrack_container::Error::Output { source }) => {
                source.kind() == std::io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    /// Whether the container that was named does not exist.
    pub fn is_no_such_container(&self) -> bool {
        match self {
            Self::Operation { source, .. } => source.is_no_such_container(),
            Self::Container(carrack_container::Error::NotFound { .. }) => true,
            _ => false,
        }
    }

    /// Whether the secret that was named does not exist.
    pub fn is_no_such_secret(&self) -> bool {
        match self {
            Self::Operation { source, .. } => source.is_no_such_secret(),
            Self::Container(carrack_container::Error::SecretNotFound { .. }) => true,
            _ => false,
        }
    }

    /// Message and causes as one text, for another process.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }
}

fn list(attempts: &[(String, Error)]) -> String {
    attempts.iter().map(|(place, error)| format!("\n    {place}: {error}")).collect()
}

/// What to do about a registry that did not do what it was asked.
fn registry_hint(class: Class) -> Option<String> {
    let hint = match class {
        Class::Unauthorized => "log in first: carrack login REGISTRY",
        Class::Denied => "the account has no right to do this",
        Class::NotFound => "check the name and the tag; a private repository looks the same until you log in",
        Class::RateLimited => "wait, or log in: registries let known users fetch more",
        Class::Unreachable => "check the address, and that the registry runs",
        Class::Tls => {
            "put its authority into /etc/containers/certs.d/HOST:PORT/ca.crt, or name it in \
             registries.certificate_authorities of the settings"
        }
        Class::Corrupt => "a proxy may have altered the data; retry",
        Class::Refused | Class::Settings | Class::Local | Class::Registry => return None,
    };
    Some(hint.to_owned())
}

/// Names the operation and its object around an inner error.
pub(crate) trait OperationContext<T> {
    fn operation(self, operation: &'static str, object: impl ToString) -> Result<T>;
}

impl<T, E: Into<Error>> OperationContext<T> for Result<T, E> {
    fn operation(self, operation: &'static str, object: impl ToString) -> Result<T> {
        self.map_err(|source| Error::Operation {
            operation,
            object: object.to_string(),
            source: Box::new(source.into()),
        })
    }
}
