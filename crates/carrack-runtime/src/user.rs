//! Who a container's process runs as: Docker's `user[:group]` by the image's own files, never by the host's.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::rooted::Root;

use crate::{Error, Result};

/// A user of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// Home folder; `/` for a user without an entry.
    pub home: PathBuf,
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// What one of the two files may be long.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The kernel's limit of supplementary groups.
const MAX_GROUPS: usize = 65_536;

/// Resolves `user[:group]` (names or numbers; empty is root) below `rootfs`.
///
/// A name must be in the image's /etc/passwd or /etc/group; a number need not. A name that is all digits is looked
/// up as a name first, as in Docker. With a group given there are no supplementary groups.
pub fn resolve_user(rootfs: BorrowedFd<'_>, user: &str) -> Result<User> {
    let rootfs = rootfs.try_clone_to_owned().during("duplicate", "the root filesystem")?;
    let rootfs = Root::from_fd(rootfs, "/");
    let passwd = read(&rootfs, PASSWD)?;
    let group = read(&rootfs, GROUP)?;
    resolve(user, &passwd, &group)
}

/// Resolves further groups (names or numbers) below `rootfs`, by the same rules.
pub fn resolve_groups(rootfs: BorrowedFd<'_>, names: &[String]) -> Result<Vec<u32>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let rootfs = rootfs.try_clone_to_owned().during("duplicate", "the root filesystem")?;
    let group = read(&Root::from_fd(rootfs, "/"), GROUP)?;
    names.iter().map(|name| find_group(name, name, &group)).collect()
}

fn read(rootfs: &Root, path: &'static str) -> Result<String> {
    let bytes = rootfs.read_small(Path::new(path), MAX_FILE_BYTES)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolve(text: &str, passwd: &str, group: &str) -> Result<User> {
    let (user_text, group_text) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user_text = if user_text.is_empty() { "0" } else { user_text };
    let number = parse_id(text, user_text)?;
    let entries = || passwd.lines().filter_map(Entry::parse);
    let named = entries().find(|entry| entry.name == user_text);
    let entry = named.or_else(|| entries().find(|entry| Some(entry.uid) == number));
    let mut user = match (&entry, number) {
        (Some(entry), _) => {
            User { uid: entry.uid, gid: entry.gid, groups: Vec::new(), home: PathBuf::from(entry.home) }
        }
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: PathBuf::new() },
        (None, None) => {
            return Err(Error::UnknownUser { kind: "user", name: user_text.to_owned(), file: PASSWD });
        }
    };
    if user.home.as_os_str().is_empty() {
        user.home = PathBuf::from("/");
    }
    match (group_text, entry) {
        (Some(name), _) => user.gid = find_group(text, name, group)?,
        (None, Some(entry)) => user.groups = groups_of(entry.name, group),
        (None, None) => {}
    }
    Ok(user)
}

/// A line of /etc/passwd: name, password, uid, gid, comment, home, shell.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    }
}

/// Lines of /etc/group: name, password, gid, members.
fn group_lines(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = id(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn find_group(text: &str, name: &str, group: &str) -> Result<u32> {
    let number = parse_id(text, name)?;
    let named = group_lines(group).find(|(known, ..)| *known == name).map(|(_, gid, _)| gid);
    named.or(number).ok_or_else(|| Error::UnknownUser { kind: "group", name: name.to_owned(), file: GROUP })
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let member_of = group_lines(group).filter(|(_, _, members)| members.split(',').any(|one| one == user));
    let mut groups: Vec<u32> = member_of.map(|(_, gid, _)| gid).take(MAX_GROUPS).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// A number that is an id; `None` for a name. A number that cannot be an id is refused, not looked up as a name.
fn parse_id(text: &str, name: &str) -> Result<Option<u32>> {
    let digits = name.strip_prefix(['-', '+']).unwrap_or(name);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let reason = "expected an id from 0 to 2147483647";
    id(name).map(Some).ok_or_else(|| Error::InvalidUser { text: text.to_owned(), reason })
}

/// Ids above 2^31 - 1 are refused as in Docker; the highest of all would mean "unchanged" to the kernel.
fn id(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| plain && *id <= i32::MAX.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const PASSWD_TEXT: &str =
        "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:34::/srv:\n1000:x:7:8::/odd:\n";
    const GROUP_TEXT: &str = "root:x:0:\nweb:x:34:\ntape:x:26:web,root\nstaff:x:50:alice,web\n";

    fn check(text: &str, uid: u32, gid: u32, groups: &[u32], home: &str) {
        let expected = User { uid, gid, groups: groups.to_vec(), home: home.into() };
        assert_eq!(resolve(text, PASSWD_TEXT, GROUP_TEXT).unwrap(), expected, "{text:?}");
    }

    #[test]
    fn names_and_numbers_resolve_as_in_docker() {
        check("", 0, 0, &[26], "/root");
        check("web", 33, 34, &[26, 50], "/srv");
        check("33", 33, 34, &[26, 50], "/srv");
        check("web:staff", 33, 50, &[], "/srv");
        check("web:1234", 33, 1234, &[], "/srv");
        check("4242", 4242, 0, &[], "/");
        check("4242:staff", 4242, 50, &[], "/");
        check(":staff", 0, 50, &[], "/root");
        check("1000", 7, 8, &[], "/odd");
    }

    #[test]
    fn what_does_not_exist_or_is_no_id_is_refused() {
        for text in ["alice", "web:nobody", "#"] {
            assert!(
                matches!(resolve(text, PASSWD_TEXT, GROUP_TEXT), Err(Error::UnknownUser { .. })),
                "{text}"
            );
        }
        for text in ["4294967295", "2147483648", "-1", "+1", "0:-1", "99999999999999999999"] {
            assert!(
                matches!(resolve(text, PASSWD_TEXT, GROUP_TEXT), Err(Error::InvalidUser { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn files_are_read_below_the_root_and_only_as_regular_files() {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let rootfs = std::fs::File::open(folder.path()).unwrap();
        assert_eq!(resolve_user(rootfs.as_fd(), "5").unwrap().uid, 5, "no files: numbers only");

        std::os::unix::fs::symlink("/etc/shadow", etc.join("passwd")).unwrap();
        assert!(matches!(resolve_user(rootfs.as_fd(), "root"), Err(Error::Sys(_))), "a link");

        std::fs::remove_file(etc.join("passwd")).unwrap();
        let fifo = rustix::fs::mknodat(
            rustix::fs::CWD,
            etc.join("passwd"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        );
        fifo.unwrap();
        assert!(
            matches!(resolve_user(rootfs.as_fd(), "root"), Err(Error::Sys(_))),
            "a FIFO does not hang us"
        );

        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::fs::write(etc.join("passwd"), vec![b'a'; (MAX_FILE_BYTES + 1) as usize]).unwrap();
        assert!(matches!(resolve_user(rootfs.as_fd(), "root"), Err(Error::Sys(_))), "too long");
    }
}
