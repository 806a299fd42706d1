//! A tar writer that writes what it is told, hostile names too: ustar, with PAX records for what ustar cannot hold.

const BLOCK_BYTES: usize = 512;

/// One entry, in tar's own terms.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// Writes entries one after the other into memory.
#[derive(Default)]
pub struct TarWriter {
    bytes: Vec<u8>,
}

impl TarWriter {
    /// An archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a regular file with mode 0644, owner 0:0 and time 0.
    pub fn file(&mut self, name: &str, content: &[u8]) -> &mut Self {
        self.entry(&Header::regular(name.as_bytes()), content);
        self
    }

    /// Appends a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        let header =
            Header { kind: b'2', link: target.into(), mode: 0o777, ..Header::regular(name.as_bytes()) };
        self.entry(&header, b"");
        self
    }

    /// Appends a hardlink to what the archive has, or a layer below, as `target`.
    pub fn hardlink(&mut self, name: &str, target: &str) -> &mut Self {
        let header = Header { kind: b'1', link: target.into(), ..Header::regular(name.as_bytes()) };
        self.entry(&header, b"");
        self
    }

    pub(crate) fn entry(&mut self, header: &Header, content: &[u8]) {
        let pax = header.pax_records();
        if !pax.is_empty() {
            let extended = Header { kind: b'x', ..Header::regular(b"PaxHeaders/entry") };
            self.block(&extended, &pax);
        }
        self.block(header, content);
    }

    fn block(&mut self, header: &Header, content: &[u8]) {
        self.bytes.extend_from_slice(&header.encode(content.len() as u64));
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    }

    /// The archive, ended by two blocks of zeros.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(bytes.len() + 2 * BLOCK_BYTES, 0);
        bytes
    }
}

impl Header {
    /// A regular file.
    pub(crate) fn regular(name: &[u8]) -> Self {
        let (link, xattrs) = (Vec::new(), Vec::new());
        Self {
            name: name.to_vec(),
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            link,
            device: (0, 0),
            xattrs,
        }
    }

    fn pax_records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut record = |key: &str, value: &[u8]| {
            let body = 1 + key.len() + 1 + value.len() + 1;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            records.extend_from_slice(format!("{length} {key}=").as_bytes());
            records.extend_from_slice(value);
            records.push(b'\n');
        };
        if self.name.len() > 100 {
            record("path", &self.name);
        }
        if self.link.len() > 100 {
            record("linkpath", &self.link);
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id > 0o7_777_777 {
                record(key, id.to_string().as_bytes());
            }
        }
        for (name, value) in &self.xattrs {
            record(&format!("SCHILY.xattr.{name}"), value);
        }
        records
    }

    fn encode(&self, size_bytes: u64) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let mut put = |offset: usize, width: usize, value: &[u8]| {
            let value = &value[..value.len().min(width)];
            block[offset..offset + value.len()].copy_from_slice(value);
        };
        put(0, 100, &self.name);
        put(100, 8, format!("{:07o}", self.mode).as_bytes());
        put(108, 8, format!("{:07o}", self.uid.min(0o7_777_777)).as_bytes());
        put(116, 8, format!("{:07o}", self.gid.min(0o7_777_777)).as_bytes());
        put(124, 12, format!("{size_bytes:011o}").as_bytes());
        put(136, 12, format!("{:011o}", self.mtime).as_bytes());
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, &self.link);
        put(257, 8, b"ustar\x0000");
        put(329, 8, format!("{:07o}", self.device.0).as_bytes());
        put(337, 8, format!("{:07o}", self.device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn gnu_tar_reads_what_is_written() {
        let long = format!("{}/file", "d".repeat(120));
        let bytes = TarWriter::new().file("a", b"1").file(&long, b"2").symlink("l", "a").finish();
        let mut tar = Command::new("tar");
        let tar = tar.args(["-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = tar.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("a\n{long}\nl\n"));
    }
}
