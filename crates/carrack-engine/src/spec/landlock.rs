//! `--security-opt landlock=ro:/usr,rw:/tmp`: what of its files a container's processes may reach. An option of
//! carrack's own; it may be given several times.

use carrack_container::SecuritySettings;
use carrack_runtime::Landlock;

use crate::{Error, Result};

const PREFIX: &str = "landlock=";

/// The rules that are asked for; `None` leaves all files within reach.
pub fn landlock(settings: &SecuritySettings) -> Result<Option<Landlock>> {
    let mut landlock = None::<Landlock>;
    for rules in settings.options.iter().filter_map(|option| option.strip_prefix(PREFIX)) {
        landlock.get_or_insert_default().extend(rules).map_err(|expected| {
            let hint = "as in landlock=ro:/usr,rw:/tmp; what no rule names cannot be reached";
            Error::refused(format!("invalid Landlock rules {rules:?}: {expected}"), hint)
        })?;
    }
    Ok(landlock)
}
