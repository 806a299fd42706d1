//! The superblock and the table of devices.
//!
//! Invariant: what the superblock says is a function of the tree and the devices; it has no time, and no random number.

use crate::inode::{put, u16_at, u32_at, u64_at};
use crate::{BLOCK_BITS, BLOCK_BYTES, Error, Result};

pub(crate) const SUPERBLOCK_AT: usize = 1024;
const SUPERBLOCK_BYTES: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// `SB_CHKSUM` and `MTIME`.
const COMPATIBLE: u32 = 0x1 | 0x2;
/// `CHUNKED_FILE` and `DEVICE_TABLE`.
const INCOMPATIBLE: u32 = 0x4 | 0x8;
const DEVICE_BYTES: usize = 128;
const DEVICES_AT: usize = SUPERBLOCK_AT + SUPERBLOCK_BYTES;
/// In place of a name: by whom it was written, and in which version of the drawing in `lib.rs`.
const VOLUME: &[u8; 16] = b"carrack-index-1\0";
/// Overlayfs takes no more layers, and numbers of records have as much room.
pub(crate) const MAX_DEVICES: usize = 127;

/// A file with the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// What the file is called in the table, at most 64 bytes; the mount does not need it.
    pub tag: Vec<u8>,
    /// Its length.
    pub size_bytes: u64,
}

pub(crate) struct Superblock {
    pub root: u16,
    pub inodes: u64,
    pub blocks: u32,
    pub devices: Vec<Device>,
}

/// The length of all that is before the first inode.
pub(crate) fn header_bytes(devices: usize) -> u64 {
    (DEVICES_AT + devices * DEVICE_BYTES) as u64
}

impl Superblock {
    /// The bytes from 0 to the end of the device table. The checksum covers one block from the superblock on; `rest` is
    /// what follows the table, at least up to there.
    pub fn encode(&self, rest: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = vec![0; DEVICES_AT];
        let devices = u16::try_from(self.devices.len()).unwrap_or(u16::MAX);
        let at = SUPERBLOCK_AT;
        put(&mut bytes, at, &MAGIC.to_le_bytes());
        put(&mut bytes, at + 8, &COMPATIBLE.to_le_bytes());
        bytes[at + 12] = BLOCK_BITS;
        put(&mut bytes, at + 14, &self.root.to_le_bytes());
        put(&mut bytes, at + 16, &self.inodes.to_le_bytes());
        put(&mut bytes, at + 36, &self.blocks.to_le_bytes());
        put(&mut bytes, at + 64, VOLUME);
        put(&mut bytes, at + 80, &INCOMPATIBLE.to_le_bytes());
        put(&mut bytes, at + 86, &devices.to_le_bytes());
        let slot = u16::try_from(DEVICES_AT / DEVICE_BYTES).unwrap_or_default();
        put(&mut bytes, at + 88, &slot.to_le_bytes());
        for device in &self.devices {
            bytes.extend_from_slice(&encode_device(device)?);
        }
        let mut covered = bytes[at..].to_vec();
        covered.extend_from_slice(rest);
        covered.resize(BLOCK_BYTES as usize, 0);
        let checksum = crc32c(&covered);
        put(&mut bytes, at + 4, &checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads the beginning of a file, which is at least one block after the superblock.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |reason| Error::Damaged { offset: SUPERBLOCK_AT as u64, reason };
        let end = SUPERBLOCK_AT + BLOCK_BYTES as usize;
        let mut covered = bytes.get(SUPERBLOCK_AT..end).ok_or(damaged("it ends before"))?.to_vec();
        let block = covered.clone();
        put(&mut covered, 4, &[0; 4]);
        if u32_at(&block, 0) != MAGIC || &block[64..80] != VOLUME {
            return Err(damaged("no index of this version"));
        }
        if u32_at(&block, 4) != crc32c(&covered) {
            return Err(damaged("wrong checksum"));
        }
        let is_ours = block[12] == BLOCK_BITS
            && u32_at(&block, 8) == COMPATIBLE
            && u32_at(&block, 80) == INCOMPATIBLE
            && usize::from(u16_at(&block, 88)) * DEVICE_BYTES == DEVICES_AT;
        let count = usize::from(u16_at(&block, 86));
        if !is_ours || count > MAX_DEVICES {
            return Err(damaged("features that an index does not have"));
        }
        let devices =
            bytes.get(DEVICES_AT..DEVICES_AT + count * DEVICE_BYTES).ok_or(damaged("it ends before"))?;
        Ok(Self {
            root: u16_at(&block, 14),
            inodes: u64_at(&block, 16),
            blocks: u32_at(&block, 36),
            devices: devices.chunks_exact(DEVICE_BYTES).map(decode_device).collect(),
        })
    }
}

/// `erofs_deviceslot`.
fn encode_device(device: &Device) -> Result<[u8; DEVICE_BYTES]> {
    let mut slot = [0; DEVICE_BYTES];
    let blocks = u32::try_from(device.size_bytes.div_ceil(BLOCK_BYTES))
        .map_err(|_| Error::TooLarge { what: "bytes of a layer", limit: BLOCK_BYTES << 32 })?;
    put(&mut slot, 0, &device.tag[..device.tag.len().min(64)]);
    put(&mut slot, 64, &blocks.to_le_bytes());
    Ok(slot)
}

fn decode_device(slot: &[u8]) -> Device {
    let tag = slot[..64].split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    Device { tag, size_bytes: u64::from(u32_at(slot, 64)) * BLOCK_BYTES }
}

/// The checksum of the kernel: CRC-32C (Castagnoli) from all ones, not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let step = |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn every_changed_bit_of_the_superblock_is_found() {
        let devices = vec![Device { tag: b"tar".to_vec(), size_bytes: 1024 }; 2];
        let superblock = Superblock { root: 44, inodes: 7, blocks: 9, devices };
        let rest = vec![7; 4096];
        let mut bytes = superblock.encode(&rest).unwrap();
        bytes.extend_from_slice(&rest);
        assert_eq!(Superblock::decode(&bytes).unwrap().devices, superblock.devices);
        for index in SUPERBLOCK_AT..SUPERBLOCK_AT + 512 {
            let mut damaged = bytes.clone();
            damaged[index] ^= 0x10;
            assert!(Superblock::decode(&damaged).is_err(), "{index}");
        }
    }
}
