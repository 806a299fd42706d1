//! The time zone of a container: the host's rules of it, bound over the image's `/etc/localtime`.

use std::fs;
use std::path::{Component, Path};

use carrack_container::Bind;
use carrack_sys::{IoContext, atomic};

use crate::{Error, Result};

const ZONES: &str = "/usr/share/zoneinfo";
/// The rules of the host itself.
const LOCAL: &str = "/etc/localtime";

/// Copies the rules of `zone` (a name as in `Europe/Berlin`, or `local`) into `folder`; returns how they are bound.
/// Without a zone there is nothing to bind.
pub(crate) fn bind(zone: &str, folder: &Path) -> Result<Option<Bind>> {
    if zone.is_empty() {
        return Ok(None);
    }
    let rules = read(zone)?;
    let source = folder.join("localtime");
    fs::write(&source, rules).during("write", &source)?;
    Ok(Some(Bind { source, destination: "/etc/localtime".into(), read_only: true }))
}

/// Reads the rules of a zone.
pub(crate) fn read(zone: &str) -> Result<Vec<u8>> {
    let file = match zone {
        "local" => Path::new(LOCAL).to_owned(),
        _ => Path::new(ZONES).join(zone),
    };
    let is_name = Path::new(zone).components().all(|part| matches!(part, Component::Normal(_)));
    let rules = if is_name && file.is_file() { atomic::read(&file)? } else { None };
    rules.filter(|rules| rules.starts_with(b"TZif")).ok_or_else(|| {
        let hint = format!("expected local, or a name below {ZONES}, as in Europe/Berlin");
        Error::refused(format!("unknown time zone {zone:?}"), hint)
    })
}
