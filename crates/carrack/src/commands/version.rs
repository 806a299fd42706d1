//! `carrack version`

use clap::Args;
use serde_json::json;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{print, print_line};
use crate::template::Template;

/// Shows the version.
#[derive(Args)]
pub struct Version {
    /// Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Version {
    fn run(self, _context: &Context) -> Result<u8> {
        let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        match self.format.as_deref() {
            None => print(format!("Version:  {version}\nOS/Arch:  linux/{arch}\n"))?,
            Some(format) => {
                let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
                let part = json!({
                    "Version": version, "APIVersion": version, "ApiVersion": version, "Os": "linux",
                    "OsArch": format!("linux/{arch}"), "Arch": arch, "KernelVersion": kernel,
                    "GoVersion": "", "GitCommit": "", "BuildTime": "", "Experimental": false,
                });
                // Docker has the same fields for its client and its daemon; here both are this binary.
                let value = json!({"Client": part, "Server": part});
                print_line(Template::parse_format(format)?.render(&value)?)?;
            }
        }
        Ok(0)
    }
}
