//! Where builds differ from Docker's, and what the reference leaves open.
//!
//! - A cache key holds the chain ID below the step, not the instructions that led to it (BuildKit: both). Metadata
//!   instructions are not steps of the cache at all: they are functions on the config.
//! - `COPY --from` keeps the owner of the files, as BuildKit and Buildah do; the reference says they become root's.
//!   From the build context they are root's.
//! - Of the variables of one name, `ENV` and `ARG`, that which was set last is the value (BuildKit). The reference
//!   says that `ENV` always wins, which differs only for an `ARG` below the `ENV`.
//! - Here-documents of `COPY` lose the backslash before any character (BuildKit), not only before `$`, a backquote
//!   and a backslash as in a shell.
//! - `--chmod` applies to what is copied, with the new folder that stands for a copied folder; folders above it that
//!   have to be made are 0755 (BuildKit gives an octal mode to these too, and so makes folders that nobody may enter).
//! - Several sources need a destination that is a folder or ends with `/`; BuildKit lets them overwrite each other.
//! - A bind mount of the build context is a copy of what `.dockerignore` lets through, made for the step.
//! - Extended attributes are copied between stages (`security.capability`, `user.*`), not from the build context.
//! - Sockets are left out; a device in the build context is an error.
//! - `ADD` of a git repository, and `from` of a cache mount, are errors.
//! - Stages are built one after the other.
