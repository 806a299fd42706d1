//! `carrack registry serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use carrack_engine::registry;
use clap::Args;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

pub const EXAMPLES: &str = "Examples:
  carrack registry serve
  htpasswd -Bbn me secret > users
  carrack registry serve --listen 0.0.0.0:5000 --htpasswd users --tls-cert cert.pem --tls-key key.pem";

/// Serves images by the OCI distribution protocol until it is interrupted.
#[derive(Args)]
pub struct Serve {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// File of users and bcrypt hashes, made by htpasswd -B; without it everybody may read and write
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Command for Serve {
    fn run(self, context: &Context) -> Result<u8> {
        let options = registry::Options {
            listen: self.listen,
            root: context.environment().paths.root.join("registry"),
            htpasswd: self.htpasswd,
            tls: self.tls_cert.zip(self.tls_key),
        };
        registry::serve(&options, |address| {
            // A client that reads this line may connect; nobody may be there to read it.
            let _ = print_line(format_args!("listening on {address}"));
        })
        .map_err(carrack_engine::Error::from)?;
        Ok(0)
    }
}
