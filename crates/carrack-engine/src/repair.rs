//! Repair: what a check finds is taken away or made anew, until the store is whole again.
//!
//! Invariant: a repair only removes what is of no use as it is; what it cannot make anew it leaves for the next pull.

use std::fs;

use carrack_image::{Image, ImageRecord};
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, tree};

use crate::check::{CheckDepth, CheckReport, Damage, Problem};
use crate::{Engine, Result};

/// Taking a blob away breaks its images, taking these away leaves garbage: the rounds follow such chains to their end.
const MAX_ROUNDS: usize = 6;

/// What a repair has done.
#[derive(Debug, Default)]
pub struct Repaired {
    /// What was wrong and is not any more.
    pub repaired: Vec<Problem>,
    /// The store after it.
    pub report: CheckReport,
}

impl Engine {
    /// Waits for all operations, then checks and repairs. Damaged containers, and files among volumes, are removed with
    /// `force` only: they may hold the only copy of something.
    pub fn repair(&self, depth: CheckDepth, force: bool) -> Result<Repaired> {
        let alone = Lock::exclusive(&self.operations_lock())?;
        let mut repaired = Vec::new();
        let mut report = self.examine(depth)?;
        for _ in 0..MAX_ROUNDS {
            let mut done = self.repair_all(&report.problems, false)?;
            // A container may be whole again when what it stands on is.
            if done.is_empty() && force {
                done = self.repair_all(&report.problems, true)?;
            }
            if done.is_empty() {
                break;
            }
            repaired.extend(done);
            // Bytes that were read once need not be read again.
            report = self.examine(CheckDepth::Quick)?;
        }
        drop(alone);
        if report.problems.is_empty() {
            self.collect_garbage()?;
        }
        report.leftovers = self.leftovers().unwrap_or_default();
        Ok(Repaired { repaired, report })
    }

    /// Returns the problems that something was done about.
    fn repair_all(&self, problems: &[Problem], force: bool) -> Result<Vec<Problem>> {
        let mut done = Vec::new();
        for problem in problems {
            if self.repair_damage(&problem.damage, force)? {
                done.push(problem.clone());
            }
        }
        Ok(done)
    }

    /// Whether anything was done about damage.
    pub(crate) fn repair_damage(&self, damage: &Damage, force: bool) -> Result<bool> {
        match damage {
            Damage::Stray(path) => tree::remove_tree(path)?,
            Damage::Foreign(path) if force => tree::remove_tree(path)?,
            // Those that borrow from it may be whole; where they are not, they are damage of their own.
            Damage::Blob(digest) if self.content.is_lender(digest)? => self.content.retire(digest)?,
            Damage::Blob(digest) => self.content.delete(digest)?,
            Damage::Record(path) => self.images.remove_damaged(path)?,
            Damage::List(path) => self.lists.remove_damaged(path)?,
            Damage::Image(record) => self.forget(record)?,
            Damage::Stack(record) => {
                if let Err(error) = self.stack_again(record) {
                    tracing::warn!(%error, "the image {} cannot be stacked again", record.id().short());
                    self.forget(record)?;
                }
            }
            Damage::Snapshot(problem) => self.snapshots.remove_damaged(problem)?,
            Damage::Container(id) if force => {
                self.containers.lock(id)?.delete()?;
                let snapshot = carrack_snapshot::SnapshotKey::new(&format!("container-{id}"))?;
                self.snapshots.discard(&snapshot)?;
            }
            Damage::Name(id, name) => self.containers.link_again(id, name)?,
            Damage::Volume(name) => {
                let _alone = self.volumes.alone()?;
                self.volumes.restore(name)?;
            }
            Damage::Lease(path) => carrack_network::remove_damaged(&self.network_state(), path)?,
            Damage::Events => self.event_log().repair()?,
            Damage::Elsewhere(driver, damage) => {
                return self.under(*driver)?.repair_elsewhere(damage, force);
            }
            Damage::Container(_) | Damage::Foreign(_) | Damage::LostVolume(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Deletes the record of an image, so that the next pull brings what is missing.
    fn forget(&self, record: &ImageRecord) -> Result<()> {
        let path = self.images.path(record);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).during("remove", &path)?
            }
            _ => Ok(()),
        }
    }

    /// Makes the missing snapshots of an image from its layers.
    pub(crate) fn stack_again(&self, record: &ImageRecord) -> Result<()> {
        let image = Image::load(&self.content, &record.manifest)?;
        let mut unpacked = Vec::new();
        for (position, layer) in image.layers().into_iter().enumerate() {
            if !self.snapshots.contains(&layer.chain_id)? {
                unpacked.push((position, self.unpack_layer(&layer.descriptor.digest, layer.diff_id)?));
            }
        }
        self.stack_layers(&image, unpacked)
    }
}
