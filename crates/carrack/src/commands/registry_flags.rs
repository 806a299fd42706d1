//! The flags about registries that `pull`, `push`, `login` and others share.

use std::path::PathBuf;

use carrack_engine::RegistryAccess;
use clap::{ArgAction, Args};

use crate::context::Context;

#[derive(Args, Default)]
pub struct RegistryFlags {
    /// File with the credentials of registries
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Folder with the certificates of the registry: *.crt authorities, *.cert and *.key our own
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Demand TLS and trusted certificates (true), or do without (false); by default as configured
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    tls_verify: Option<bool>,
}

/// Docker's flag, which its scripts pass: there is no Notary here, so nothing is to be disabled.
#[derive(Args)]
pub struct ContentTrustFlag {
    #[arg(
        long,
        hide = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = disabled
    )]
    disable_content_trust: Option<bool>,
}

fn disabled(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        _ => {
            Err("expected true: carrack checks digests, and has no Notary that could check signatures"
                .to_owned())
        }
    }
}

impl RegistryFlags {
    /// The surroundings with what the flags say.
    pub fn apply(self, context: &Context) -> Context {
        let access = RegistryAccess { tls_verify: self.tls_verify, certificates: self.cert_dir };
        context.with_auth_file(self.authfile).with_registry_access(access)
    }
}
