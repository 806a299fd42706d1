//! What other storage drivers than this invocation's have in the same root: looked at, and repaired, as they would.
//!
//! Invariant: an image loses nothing because of another driver's snapshots, which can be made again; only what a
//! container has written there cannot.

use std::collections::BTreeMap;

use carrack_image::{Image, ImageRecord};
use carrack_oci::ChainId;
use carrack_snapshot::Driver;

use crate::check::{CheckDepth, CheckReport, Damage, Problem};
use crate::{Engine, Result};

impl Engine {
    /// The same stores under another driver.
    pub(crate) fn under(&self, driver: Driver) -> Result<Self> {
        let mut environment = self.environment.clone();
        environment.settings.storage.driver = Some(driver);
        Self::open(environment)
    }

    /// Adds what is wrong in the stores of other drivers.
    pub(crate) fn examine_other_drivers(&self, depth: CheckDepth, report: &mut CheckReport) -> Result<()> {
        for driver in self.other_drivers() {
            let mut found = CheckReport::default();
            self.under(driver)?.examine_own_snapshots(depth, &mut found)?;
            report.snapshots += found.snapshots;
            report.problems.extend(found.problems.into_iter().map(|problem| Problem {
                object: format!("{} of the driver {driver}", problem.object),
                reason: problem.reason,
                damage: Damage::Elsewhere(driver, Box::new(problem.damage)),
            }));
        }
        Ok(())
    }

    /// Looks at the snapshots of this driver alone, not at the images that they were made of.
    fn examine_own_snapshots(&self, depth: CheckDepth, report: &mut CheckReport) -> Result<()> {
        self.examine_snapshots(report)?;
        let snapshots = self.snapshots.list()?;
        report.snapshots = snapshots.len();
        let images = self.images_by_top()?;
        for snapshot in &snapshots {
            let (Some(key), Some(parent)) = (snapshot.key(), &snapshot.parent) else { continue };
            let Some((record, image)) = images.get(parent) else { continue };
            let layers = image.layers();
            let mut missing =
                layers.iter().filter(|layer| !self.snapshots.contains(&layer.chain_id).unwrap_or(false));
            if let Some(layer) = missing.next() {
                let reason =
                    format!("the snapshot {} is not in the store, and {key} stands on it", layer.chain_id);
                report.add(format!("image {}", record.id().short()), reason, Damage::Stack(record.clone()));
            }
        }
        if depth == CheckDepth::Full {
            let mut compared = std::collections::BTreeSet::new();
            for (record, _) in images.values() {
                self.compare_layers(record, &mut compared, report)?;
            }
        }
        // What is wrong with an image, the driver in use says.
        report.problems.retain(|problem| !matches!(problem.damage, Damage::Image(_)));
        Ok(())
    }

    /// The images whose documents can be read, by their topmost layer.
    fn images_by_top(&self) -> Result<BTreeMap<ChainId, (Box<ImageRecord>, Image)>> {
        let records = self.images.scan()?.records.into_iter();
        let loaded = records.filter_map(|record| {
            let image = Image::load(&self.content, &record.manifest).ok()?;
            Some((image.chain_id()?, (Box::new(record), image)))
        });
        Ok(loaded.collect())
    }

    /// Whether anything was done about damage in the store of this driver, which is not the one in use.
    pub(crate) fn repair_elsewhere(&self, damage: &Damage, force: bool) -> Result<bool> {
        match damage {
            Damage::Stack(record) => {
                let stacked = self.stack_again(record);
                if let Err(error) = &stacked {
                    tracing::warn!(%error, "the image {} cannot be stacked again", record.id().short());
                }
                Ok(stacked.is_ok())
            }
            damage => self.repair_damage(damage, force),
        }
    }
}
