//! `--chown` and the owner of a `WORKDIR`: names are looked up in the files of the image, never on the host.

use carrack_sys::rooted::Root;

use crate::{Error, Result};

/// The largest passwd or group file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Uid and gid of `user[:group]` (Dockerfile reference, "COPY --chown"). A user alone stands for its group too: a
/// number for the same number, a name for the group that passwd has.
pub(crate) fn resolve_owner(root: &Root, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own_gid) = match number(user) {
        Some(uid) => (uid, uid),
        None if user.is_empty() => (0, 0),
        None => {
            let fields = lookup(root, "/etc/passwd", user)?;
            (field(&fields, 2, user)?, field(&fields, 3, user)?)
        }
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match number(group) {
            Some(gid) => gid,
            None => field(&lookup(root, "/etc/group", group)?, 2, group)?,
        },
    };
    Ok((uid, gid))
}

/// Numbers up to those that the kernel takes; its last one means "leave as it is".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number < u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn lookup(root: &Root, file: &str, name: &str) -> Result<Vec<String>> {
    let text = root.read_small(file, MAX_BYTES)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(|line| line.split(':'));
    let found = lines.find(|fields| fields.clone().next() == Some(name));
    match found {
        Some(fields) => Ok(fields.map(str::to_owned).collect()),
        None => Err(Error::invalid(format!("cannot find {name:?} in {file} of the image"))),
    }
}

fn field(fields: &[String], index: usize, name: &str) -> Result<u32> {
    let wrong = || Error::invalid(format!("the entry of {name:?} in the image has no valid number"));
    fields.get(index).and_then(|field| number(field)).ok_or_else(wrong)
}
