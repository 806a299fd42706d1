//! Flags for what a container sees beside its image.

use carrack_engine::{Bind, MountSettings, TmpfsMount};
use clap::Args;

use crate::failure::{Result, invalid};
use crate::units;

#[derive(Args)]
pub struct MountFlags {
    /// Show a file or folder of the host in the container
    #[arg(short, long, value_name = "SOURCE:DESTINATION[:ro]")]
    volume: Vec<String>,
    /// Mount an empty filesystem in memory
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// Size of /dev/shm, as in 64m
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    shm_size: Option<u64>,
}

impl MountFlags {
    /// What is asked of the engine.
    pub fn settings(&self) -> Result<MountSettings> {
        Ok(MountSettings {
            binds: self.volume.iter().map(|text| bind(text)).collect::<Result<_>>()?,
            tmpfs: self.tmpfs.iter().map(|text| tmpfs(text)).collect::<Result<_>>()?,
            read_only: self.read_only,
            shm_size_bytes: self.shm_size,
        })
    }
}

/// `SOURCE:DESTINATION[:ro]`
fn bind(text: &str) -> Result<Bind> {
    let wrong = |expected| invalid("--volume", text, expected);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(wrong("SOURCE:DESTINATION[:ro]")),
    };
    if !source.starts_with(['/', '.']) {
        return Err(wrong("a source that is a path (named volumes are not supported)"));
    }
    if !destination.starts_with('/') {
        return Err(wrong("a destination that is an absolute path"));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "rprivate" | "rbind" => {}
            _ => return Err(wrong("the options ro and rw")),
        }
    }
    let source = std::path::absolute(source).map_err(|_| wrong("a source that is a path"))?;
    Ok(Bind { source, destination: destination.into(), read_only })
}

/// `DIR[:OPTIONS]`
fn tmpfs(text: &str) -> Result<TmpfsMount> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    if !destination.starts_with('/') {
        return Err(invalid("--tmpfs", text, "an absolute path"));
    }
    Ok(TmpfsMount { destination: destination.into(), options: options.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn reads_binds_as_docker() {
        let parsed = bind("/a:/b:ro").unwrap();
        assert_eq!((parsed.source, parsed.read_only), (PathBuf::from("/a"), true));
        for text in ["/a", "name:/b", "/a:b", "/a:/b:shared", "/a:/b:ro:x"] {
            assert!(bind(text).is_err(), "{text:?} was accepted");
        }
    }
}
