//! The commands, one file each: arguments are turned into one call of the engine, its result into output.

mod attach;
mod build;
mod builder;
mod commit;
mod completion;
mod container_exists;
mod container_flags;
mod container_prune;
mod copy;
mod cp;
mod create;
mod diff;
mod events;
mod exec;
mod export;
mod healthcheck;
mod history;
mod image_exists;
mod image_log;
mod image_mount;
mod image_prune;
mod image_tree;
mod images;
mod import;
mod info;
mod init;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod manifest;
mod manual;
mod pause;
mod port;
mod ps;
mod pull;
mod pull_policy;
mod push;
mod registry;
mod registry_flags;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod secret;
mod selection;
mod snapshot;
mod start;
mod stats;
mod stop;
mod stop_flags;
mod system_check;
mod system_df;
mod system_prune;
mod system_start;
mod tag;
mod top;
mod unpack;
mod unpause;
mod untag;
mod update;
mod version;
mod volume;
mod wait;

use std::collections::BTreeMap;

use carrack_engine::Removed;
use serde_json::Value;

use crate::cli::{Entry, entry};
use crate::context::Context;
use crate::failure::Result;
use crate::output::{print_json, print_line};
use crate::template::Template;

/// A command: its arguments, whose doc comments are the help text, and what it does.
pub trait Command: clap::Args {
    /// Runs the command; returns its exit code.
    fn run(self, context: &Context) -> Result<u8>;
}

/// Every command that stands directly behind `carrack`, by name.
pub const ALL: &[Entry] = &[
    entry::<attach::Attach>("attach", "Connect with a running container", attach::EXAMPLES),
    entry::<build::Build>("build", "Build an image from a Dockerfile", build::EXAMPLES),
    entry::<commit::Commit>("commit", "Make an image of what a container has changed", commit::EXAMPLES),
    entry::<completion::Completion>(
        "completion",
        "Print the completion script of a shell",
        completion::EXAMPLES,
    ),
    entry::<copy::Copy>(
        "copy",
        "Copy an image between registries, layouts, archives and the store",
        copy::EXAMPLES,
    ),
    entry::<cp::Cp>("cp", "Copy files between a container and this machine", cp::EXAMPLES),
    entry::<create::Create>("create", "Create a container without starting it", create::EXAMPLES),
    entry::<diff::Diff>("diff", "Show what has changed in the files of a container", diff::EXAMPLES),
    entry::<events::Events>("events", "Show what happens to containers and images", events::EXAMPLES),
    entry::<exec::Exec>("exec", "Run a command in a running container", exec::EXAMPLES),
    entry::<export::Export>("export", "Write the files of a container as a tar", export::EXAMPLES),
    entry::<history::History>("history", "Show how each layer of an image came to be", history::EXAMPLES),
    entry::<images::Images>("images", "List images", images::EXAMPLES),
    entry::<import::Import>("import", "Make an image of a tar of a root filesystem", import::EXAMPLES),
    entry::<info::Info>("info", "Show the host, the store and what containers use", info::EXAMPLES),
    entry::<init::Init>("init", "Set containers up without starting them", init::EXAMPLES),
    entry::<inspect::Inspect>("inspect", "Show all details of containers and images", inspect::EXAMPLES),
    entry::<kill::Kill>("kill", "Send a signal to running containers", kill::EXAMPLES),
    entry::<load::Load>("load", "Load images from an archive or layout", load::EXAMPLES),
    entry::<login::Login>("login", "Keep the credentials of a registry", login::EXAMPLES),
    entry::<logout::Logout>("logout", "Forget the credentials of a registry", ""),
    entry::<logs::Logs>("logs", "Show what a container has printed", logs::EXAMPLES),
    entry::<manual::Manual>("manual", "Write the manual pages into a folder", ""),
    entry::<pause::Pause>("pause", "Let all processes of containers stand still", pause::EXAMPLES),
    entry::<port::Port>("port", "Show the published ports of a container", port::EXAMPLES),
    entry::<ps::Ps>("ps", "List containers", ps::EXAMPLES),
    entry::<pull::Pull>("pull", "Fetch an image from a registry, layout or archive", pull::EXAMPLES),
    entry::<push::Push>("push", "Send an image to a registry, layout or archive", push::EXAMPLES),
    entry::<rename::Rename>("rename", "Give a container another name", rename::EXAMPLES),
    entry::<restart::Restart>("restart", "Stop containers and start them again", restart::EXAMPLES),
    entry::<rm::Rm>("rm", "Remove containers", rm::EXAMPLES),
    entry::<rmi::Rmi>("rmi", "Remove images", rmi::EXAMPLES),
    entry::<run::Run>("run", "Run a command in a new container", run::EXAMPLES),
    entry::<search::Search>("search", "Search the catalogue of a registry", search::EXAMPLES),
    entry::<save::Save>("save", "Save images to an archive", save::EXAMPLES),
    entry::<start::Start>("start", "Start stopped containers", start::EXAMPLES),
    entry::<stats::Stats>("stats", "Show what containers use", stats::EXAMPLES),
    entry::<stop::Stop>("stop", "Stop running containers", stop::EXAMPLES),
    entry::<tag::Tag>("tag", "Give an image a further name", tag::EXAMPLES),
    entry::<top::Top>("top", "Show the processes of a container", top::EXAMPLES),
    entry::<unpack::Unpack>("unpack", "Unpack an image into a folder", unpack::EXAMPLES),
    entry::<unpause::Unpause>("unpause", "Let paused containers go on", ""),
    entry::<untag::Untag>("untag", "Take names from an image", ""),
    entry::<update::Update>("update", "Change the limits of containers", update::EXAMPLES),
    entry::<version::Version>("version", "Show the version", ""),
    entry::<wait::Wait>("wait", "Wait until containers stop, and print their exit codes", wait::EXAMPLES),
];

/// Commands of `carrack image` that do not stand alone.
pub const IMAGE_ONLY: [Entry; 7] = [
    entry::<image_exists::Exists>("exists", "Tell by the exit code whether an image is here", ""),
    entry::<inspect::ImageInspect>("inspect", "Show all details of images", ""),
    entry::<image_log::Log>("log", "Show what a name has meant before", image_log::EXAMPLES),
    IMAGE_MOUNT,
    entry::<image_prune::Prune>("prune", "Remove unused images", image_prune::EXAMPLES),
    entry::<image_tree::Tree>(
        "tree",
        "Show the layers of an image, what is shared and what is wasted",
        image_tree::EXAMPLES,
    ),
    IMAGE_UNMOUNT,
];
/// `carrack manifest ...`
pub const MANIFEST: [Entry; 9] = manifest::ENTRIES;
/// `carrack container exists`
pub const CONTAINER_EXISTS: Entry =
    entry::<container_exists::Exists>("exists", "Tell by the exit code whether a container is here", "");
/// `carrack container inspect`
pub const CONTAINER_INSPECT: Entry =
    entry::<inspect::ContainerInspect>("inspect", "Show all details of containers", "");
/// `carrack container prune`
pub const CONTAINER_PRUNE: Entry =
    entry::<container_prune::Prune>("prune", "Remove all containers that do not run", "");
/// `carrack builder prune`
pub const BUILDER_PRUNE: Entry = entry::<builder::Prune>("prune", "Delete the build cache", "");
/// `carrack system ...`
pub const SYSTEM: &[Entry] = &[
    entry::<system_check::Check>(
        "check",
        "Look for damage in the store, and repair it",
        system_check::EXAMPLES,
    ),
    entry::<system_df::DiskFree>("df", "Show what takes space", system_df::EXAMPLES),
    entry::<system_prune::Prune>("prune", "Remove what is not in use", system_prune::EXAMPLES),
    entry::<system_start::Start>("start", "Start the containers that are to run with the host", ""),
    entry::<system_start::Stop>("stop", "Stop all containers, as the host goes down", ""),
];
/// `carrack healthcheck run`
pub const HEALTHCHECK: [Entry; 1] =
    [entry::<healthcheck::Run>("run", "Check the health of a running container now", healthcheck::EXAMPLES)];
/// `carrack image mount`
const IMAGE_MOUNT: Entry =
    entry::<image_mount::Mount>("mount", "Mount images read only", image_mount::EXAMPLES);
/// `carrack image unmount`
const IMAGE_UNMOUNT: Entry = entry::<image_mount::Unmount>("unmount", "Unmount images", "");
/// `carrack snapshot ...`
pub const SNAPSHOT: [Entry; 8] = [
    entry::<snapshot::Commit>("commit", "Make an active snapshot a committed one", ""),
    entry::<snapshot::Diff>("diff", "Write the changes of a snapshot as a layer", ""),
    entry::<snapshot::List>("ls", "List snapshots", ""),
    entry::<snapshot::Mounts>("mounts", "Show how a snapshot is mounted, or mount it", ""),
    entry::<snapshot::Prepare>("prepare", "Make a writable snapshot", ""),
    entry::<snapshot::Remove>("rm", "Remove snapshots", ""),
    entry::<snapshot::Usage>("usage", "Show what snapshots hold", ""),
    entry::<snapshot::View>("view", "Make a read-only snapshot", ""),
];
/// `carrack secret ...`
pub const SECRET: [Entry; 5] = [
    entry::<secret::Create>("create", "Keep a secret", secret::CREATE_EXAMPLES),
    entry::<secret::Exists>("exists", "Tell by the exit code whether a secret is here", ""),
    entry::<secret::Inspect>("inspect", "Show all of secrets but their data", ""),
    entry::<secret::List>("ls", "List secrets", secret::LIST_EXAMPLES),
    entry::<secret::Remove>("rm", "Remove secrets", ""),
];
/// `carrack volume ...`
pub const VOLUME: [Entry; 6] = [
    entry::<volume::Create>("create", "Make a volume", volume::CREATE_EXAMPLES),
    entry::<volume::Exists>("exists", "Tell by the exit code whether a volume is here", ""),
    entry::<volume::Inspect>("inspect", "Show all details of volumes", ""),
    entry::<volume::List>("ls", "List volumes", volume::LIST_EXAMPLES),
    entry::<volume::Prune>("prune", "Remove unused volumes", ""),
    entry::<volume::Remove>("rm", "Remove volumes", ""),
];
/// `carrack registry serve`
pub const REGISTRY_SERVE: Entry =
    entry::<registry::Serve>("serve", "Serve images by the OCI distribution protocol", registry::EXAMPLES);

/// Shows each object as `--format` asks: by a template, or all together as JSON. Fails at the end when one is not there,
/// as Docker does.
fn show_each(
    objects: &[String],
    format: Option<&str>,
    inspect: impl Fn(&str) -> Result<Value>,
) -> Result<u8> {
    let template = format.map(Template::parse_format).transpose()?;
    let mut values = Vec::new();
    let exit_code = for_each(objects, |object| {
        let value = inspect(object)?;
        match &template {
            Some(template) => print_line(template.render(&value)?)?,
            None => values.push(value),
        }
        Ok(())
    })?;
    if template.is_none() {
        print_json(&Value::Array(values))?;
    }
    Ok(exit_code)
}

/// Labels and options as a map: `KEY=VALUE`, or `KEY` for an empty value.
fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    texts.iter().map(|text| pair(text)).collect()
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// Says which images a prune has removed, if any.
fn print_pruned(images: &[Removed]) -> Result<()> {
    if images.is_empty() {
        return Ok(());
    }
    print_line("Deleted Images:")?;
    for removed in images {
        match removed {
            Removed::Untagged(name) => print_line(format_args!("untagged: {name}"))?,
            Removed::Deleted(id) => print_line(format_args!("deleted: {id}"))?,
        }
    }
    print_line("")
}

/// Does the same to each object; one that fails is reported, the others are done all the same (exit code 1).
fn for_each(objects: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut exit_code = 0;
    for object in objects {
        if let Err(failure) = act(object) {
            failure.report();
            exit_code = 1;
        }
    }
    Ok(exit_code)
}
