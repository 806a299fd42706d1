//! The records of a PAX extended header: `LENGTH KEY=VALUE\n`.
//!
//! Invariant: each key comes at most once, and a key that would change where data are or end is used or refused,
//! never skipped.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::sparse;

type Result<T> = std::result::Result<T, String>;

const SPARSE: &[u8] = b"GNU.sparse.";

/// What the extended header of one entry says.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link_target: Option<Vec<u8>>,
    pub size_bytes: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(OsString, Vec<u8>)>,
    pub sparse: Option<sparse::Records>,
}

impl Records {
    /// Reads the records that go before one entry.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut records = Self::default();
        each_record(bytes, |key, value| records.take(key, value))?;
        Ok(records)
    }

    /// Checks a global header. Docker ignores these; one that would matter is refused.
    pub fn check_global(bytes: &[u8]) -> Result<()> {
        each_record(bytes, |key, _| match key {
            b"path" | b"linkpath" | b"size" => Err(format!("global PAX header with {}", key.escape_ascii())),
            key if is_sparse(key) => Err("sparse file".to_owned()),
            _ => Ok(()),
        })
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(key) = key.strip_prefix(SPARSE) {
            return self.sparse.get_or_insert_default().take(key, value);
        }
        if is_sparse(key) {
            return Err("sparse file of an unknown form".to_owned());
        }
        if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
            return Ok(()); // POSIX: as if the key were not there
        }
        let invalid = || format!("invalid PAX value of {}", key.escape_ascii());
        match key {
            b"path" => self.path = Some(without_nul(value).ok_or_else(invalid)?),
            b"linkpath" => self.link_target = Some(without_nul(value).ok_or_else(invalid)?),
            b"size" => self.size_bytes = Some(decimal(value).ok_or_else(invalid)?),
            b"uid" => self.uid = Some(decimal(value).ok_or_else(invalid)?),
            b"gid" => self.gid = Some(decimal(value).ok_or_else(invalid)?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(invalid)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = without_nul(name).ok_or_else(invalid)?;
                    self.xattrs.push((OsStr::from_bytes(&name).to_owned(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn is_sparse(key: &[u8]) -> bool {
    key.starts_with(SPARSE) || key == b"SCHILY.realsize"
}

/// Version 0.0 of sparse files has one record for each number.
fn is_list(key: &[u8]) -> bool {
    matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes")
}

fn each_record(bytes: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    let mut keys = HashSet::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (key, value, next) = split_record(rest).ok_or("malformed PAX record")?;
        if !keys.insert(key) && !is_list(key) {
            return Err(format!("PAX key {} comes twice", key.escape_ascii()));
        }
        take(key, value)?;
        rest = next;
    }
    Ok(())
}

/// Splits `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record, from what follows.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = decimal(&bytes[..space])?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let key = &record[..equals];
    (!key.is_empty()).then_some((key, &record[equals + 1..], &bytes[length..]))
}

fn without_nul(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec())
}

fn decimal<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are dropped.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds: i64 = decimal(parts.next()?)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, nanoseconds) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}
