//! `carrack info`

use clap::Args;
use serde_json::Value;

use super::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::output::{print, print_line};
use crate::template::Template;
use crate::units::format_bytes;

pub const EXAMPLES: &str = "Examples:
  carrack info
  carrack info --format '{{.Driver}} {{.CgroupVersion}}'";

/// Shows the host, the store, and what of the kernel containers use.
#[derive(Args)]
pub struct Info {
    /// Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl Command for Info {
    fn run(self, context: &Context) -> Result<u8> {
        let info = context.engine()?.info()?;
        match self.format.as_deref() {
            Some(format) => print_line(Template::parse_format(format)?.render(&info)?)?,
            None => print(text(&info))?,
        }
        Ok(0)
    }
}

/// Docker's lines for the server.
fn text(info: &Value) -> String {
    let word = |field: &str| match &info[field] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let mut lines = vec![
        format!("Containers: {}", word("Containers")),
        format!(" Running: {}", word("ContainersRunning")),
        format!(" Paused: {}", word("ContainersPaused")),
        format!(" Stopped: {}", word("ContainersStopped")),
        format!("Images: {}", word("Images")),
        format!("Server Version: {}", word("ServerVersion")),
        format!("Storage Driver: {}", word("Driver")),
        format!("Logging Driver: {}", word("LoggingDriver")),
        format!("Cgroup Driver: {}", word("CgroupDriver")),
        format!("Cgroup Version: {}", word("CgroupVersion")),
        "Security Options:".to_owned(),
    ];
    let options = info["SecurityOptions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.extend(options.map(|option| format!(" {option}")));
    lines.extend([
        format!("Kernel Version: {}", word("KernelVersion")),
        format!("Operating System: {}", word("OperatingSystem")),
        format!("OSType: {}", word("OSType")),
        format!("Architecture: {}", word("Architecture")),
        format!("CPUs: {}", word("NCPU")),
        format!("Total Memory: {}", format_bytes(info["MemTotal"].as_u64().unwrap_or(0))),
        format!("Name: {}", word("Name")),
        format!("Root Dir: {}", word("DockerRootDir")),
        format!("Run Dir: {}", word("RunRoot")),
    ]);
    lines.join("\n") + "\n"
}
