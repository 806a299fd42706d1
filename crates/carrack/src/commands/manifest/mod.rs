//! `carrack manifest ...`: lists of images for several platforms, made here and pushed under one name.

mod add;
mod annotate;
mod create;
mod push;
mod remove;
mod show;

use std::collections::BTreeMap;

use carrack_engine::EntryChange;
use clap::Args;

use super::Command;
use crate::cli::{Entry, entry};
use crate::failure::{Result, invalid};

/// The commands of the group.
pub const ENTRIES: [Entry; 9] = [
    entry::<add::Add>("add", "Add images to a manifest list", add::EXAMPLES),
    entry::<annotate::Annotate>("annotate", "Change what a list says of an image", annotate::EXAMPLES),
    entry::<create::Create>("create", "Make a manifest list", create::EXAMPLES),
    entry::<show::Exists>("exists", "Tell by the exit code whether there is a manifest list", ""),
    entry::<show::Inspect>("inspect", "Print a list, index or manifest as it is stored", show::EXAMPLES),
    entry::<show::List>("ls", "List the manifest lists that were made here", ""),
    entry::<push::Push>("push", "Send a manifest list with its images", push::EXAMPLES),
    entry::<remove::Remove>("remove", "Take images from a manifest list", ""),
    entry::<remove::Rm>("rm", "Remove manifest lists", ""),
];

/// What an entry of a list says, where it is to differ from what the image says.
#[derive(Args)]
struct EntryFlags {
    /// Architecture of the CPU
    #[arg(long, value_name = "ARCHITECTURE")]
    arch: Option<String>,
    /// Operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Variant of the CPU
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// What the CPU must be able to do
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,
    /// What the operating system must be able to do
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Annotations
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
}

impl EntryFlags {
    fn change(self) -> Result<EntryChange> {
        Ok(EntryChange {
            architecture: self.arch,
            os: self.os,
            os_version: self.os_version,
            variant: self.variant,
            features: self.features,
            os_features: self.os_features,
            annotations: annotations(&self.annotations)?,
        })
    }

    fn has_platform(&self) -> bool {
        [&self.arch, &self.os, &self.variant, &self.os_version].iter().any(|text| text.is_some())
            || !(self.features.is_empty() && self.os_features.is_empty())
    }
}

fn annotations(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid("--annotation", text, "KEY=VALUE")),
    };
    texts.iter().map(pair).collect()
}
