//! Tars written byte by byte, independently of the writer under test, and a look at what became of them.
#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use carrack_layer::{Applied, ApplyOptions, Error, apply};
use carrack_sys::rooted::Root;
use carrack_sys::tree;

/// Fields of a raw header that tests change.
pub struct Raw<'a> {
    pub name: &'a [u8],
    pub flag: u8,
    pub mode: &'a str,
    pub uid: &'a [u8],
    pub size: Option<&'a str>,
    pub target: &'a [u8],
    pub device: (&'a str, &'a str),
    pub data: &'a [u8],
}

impl Default for Raw<'_> {
    fn default() -> Self {
        let (name, target, data) = (b"".as_slice(), b"".as_slice(), b"".as_slice());
        Self { name, flag: b'0', mode: "644", uid: b"0", size: None, target, device: ("", ""), data }
    }
}

#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn raw(mut self, raw: &Raw<'_>) -> Self {
        let mut block = [0u8; 512];
        let mut put = |start: usize, bytes: &[u8]| block[start..start + bytes.len()].copy_from_slice(bytes);
        put(0, raw.name);
        put(100, raw.mode.as_bytes());
        put(108, raw.uid);
        put(116, b"0");
        let size = format!("{:o}", raw.data.len());
        put(124, raw.size.unwrap_or(&size).as_bytes());
        put(136, b"7346545000");
        put(156, &[raw.flag]);
        put(157, raw.target);
        put(257, b"ustar\x0000");
        put(329, raw.device.0.as_bytes());
        put(337, raw.device.1.as_bytes());
        put(148, b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(raw.data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &str) -> Self {
        self.raw(&Raw { name: name.as_bytes(), data: data.as_bytes(), ..Raw::default() })
    }

    pub fn dir(self, name: &str) -> Self {
        self.raw(&Raw { name: name.as_bytes(), flag: b'5', mode: "755", ..Raw::default() })
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(&Raw { name: name.as_bytes(), flag: b'2', target: target.as_bytes(), ..Raw::default() })
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(&Raw { name: name.as_bytes(), flag: b'1', target: target.as_bytes(), ..Raw::default() })
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        self.raw(&Raw { name: b"pax", flag: b'x', data: &data, ..Raw::default() })
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// A target `inside/` beside `outside/secret`, which no archive may reach.
pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub root: Root,
}

pub fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inside")).unwrap();
    std::fs::create_dir(folder.path().join("outside")).unwrap();
    std::fs::write(folder.path().join("outside/secret"), "secret").unwrap();
    let root = Root::open(&folder.path().join("inside")).unwrap();
    Fixture { folder, root }
}

impl Fixture {
    pub fn apply(&self, tar: &[u8]) -> Result<Applied, Error> {
        let result = apply(tar, &self.root, &ApplyOptions::default());
        self.assert_outside_is_untouched();
        result
    }

    pub fn assert_outside_is_untouched(&self) {
        let outside = self.folder.path().join("outside");
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
        let secret = std::fs::metadata(outside.join("secret")).unwrap();
        assert_eq!((secret.mode() & 0o7777, secret.nlink(), secret.uid()), (0o644, 1, 0));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 2);
    }

    /// What is below the target, one line for each name.
    pub fn listing(&self) -> BTreeMap<String, String> {
        listing(&self.root)
    }

    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join("inside").join(path)
    }
}

pub fn listing(root: &Root) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    tree::walk(root, |place| {
        let metadata = place.metadata()?.unwrap();
        let kind = match metadata.kind {
            _ if metadata.is_whiteout() => "whiteout".to_owned(),
            rustix::fs::FileType::Symlink => format!("-> {}", place.read_link()?.display()),
            rustix::fs::FileType::RegularFile => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut place.open_file()?, &mut text).unwrap();
                format!("{text:?}")
            }
            rustix::fs::FileType::Directory if carrack_layer::is_opaque(place)? => "opaque".to_owned(),
            rustix::fs::FileType::Directory => "folder".to_owned(),
            other => format!("{other:?} {}", metadata.device),
        };
        lines.insert(place.path().as_os_str().as_bytes().escape_ascii().to_string(), kind);
        Ok::<_, carrack_sys::Error>(true)
    })
    .unwrap();
    lines
}

pub fn lines<const N: usize>(lines: [(&str, &str); N]) -> BTreeMap<String, String> {
    lines.into_iter().map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}
