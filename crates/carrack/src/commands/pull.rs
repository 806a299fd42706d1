//! `carrack pull`

use carrack_engine::{Engine, Event, Location};
use carrack_oci::{Platform, Reference};
use clap::Args;

use super::Command;
use super::pull_policy::Policy;
use super::registry_flags::{ContentTrustFlag, RegistryFlags};
use crate::context::Context;
use crate::failure::{Result, invalid};
use crate::output::print_line;
use crate::progress::Progress;

pub const EXAMPLES: &str = "Examples:
  carrack pull registry.example/team/app:1.2
  carrack pull --platform linux/arm64 registry.example/team/app
  carrack pull --policy newer registry.example/team/app
  carrack pull --all-tags registry.example/team/app
  carrack pull oci:./layout:1.2
  carrack pull docker-archive:./app.tar";

/// Fetches an image.
#[derive(Args)]
pub struct Pull {
    /// A reference, or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, dir:DIR
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Print the image ID only
    #[arg(short, long)]
    quiet: bool,
    /// Which image of an index, as in linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// When to fetch: always, missing (not here), newer (the registry has another), never
    #[arg(long, value_name = "POLICY", default_value = "always")]
    policy: Policy,
    /// Every tag of the repositories that are named
    #[arg(short, long, conflicts_with = "policy")]
    all_tags: bool,
    #[command(flatten)]
    _content_trust: ContentTrustFlag,
    #[command(flatten)]
    registry: RegistryFlags,
}

impl Command for Pull {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = self.registry.apply(context).engine()?;
        let platform = self.platform.unwrap_or_else(Platform::host);
        let images = match self.all_tags {
            true => all_tags(&engine, &self.images)?,
            false => self.images,
        };
        for image in &images {
            let location: Location = image.parse()?;
            let progress = Progress::new(self.quiet);
            let observer = |event: Event<'_>| progress.observe(event);
            let pulled = match &location {
                Location::Registry(reference) => {
                    // With docker:// it is a full name, and stands for nothing else.
                    let is_full = image.starts_with("docker://");
                    let name = if is_full { reference.to_string() } else { image.clone() };
                    engine.obtain(&name, Some(&platform), self.policy.into(), &observer)?
                }
                local => engine.pull(local, &platform, &observer)?,
            };
            progress.finish();
            let record = &pulled.record;
            if self.quiet {
                print_line(record.id())?;
                continue;
            }
            let state = if pulled.is_new { "Downloaded newer image for" } else { "Image is up to date for" };
            let name =
                record.reference.as_ref().map_or_else(|| record.id().to_string(), |name| name.familiar());
            print_line(format_args!("Digest: {}\nStatus: {state} {name}", record.target.digest))?;
            print_line(record.reference.as_ref().map_or(name, ToString::to_string))?;
        }
        Ok(0)
    }
}

/// Every tag that the repositories have.
fn all_tags(engine: &Engine, repositories: &[String]) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for text in repositories {
        let repository: Reference = text.strip_prefix("docker://").unwrap_or(text).parse()?;
        if repository.tag().is_some() || repository.digest().is_some() {
            return Err(invalid("--all-tags", text, "a repository without tag and digest"));
        }
        let tags = engine.list_tags(&repository, usize::MAX)?;
        images.extend(tags.iter().map(|tag| format!("{text}:{tag}")));
    }
    Ok(images)
}
