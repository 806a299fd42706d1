//! What the run folder holds beside containers: leases of addresses, ranges of ids, events. Looked at for damage, and for
//! what containers that are gone have left.
//!
//! Invariant: what belongs to a container or a step whose folder is there is never taken away.

use std::path::PathBuf;

use carrack_container::ContainerId;
use carrack_network::Attachment;

use crate::check::{CheckReport, Damage};
use crate::{Engine, Result};

impl Engine {
    /// Adds what is wrong with leases and events.
    pub(crate) fn examine_run_state(&self, report: &mut CheckReport) -> Result<()> {
        for (path, reason) in carrack_network::scan(&self.network_state())?.damaged {
            report.add(format!("file {}", path.display()), reason, Damage::Lease(path));
        }
        let lines = self.event_log().damaged_lines()?;
        if lines > 0 {
            report.add(
                "the log of events".to_owned(),
                format!("{lines} lines are no events"),
                Damage::Events,
            );
        }
        Ok(())
    }

    /// The files of leases whose container or step is gone; needs that no operation is at work.
    pub(crate) fn abandoned_leases(&self) -> Result<Vec<(PathBuf, Attachment)>> {
        let mut leases = carrack_network::scan(&self.network_state())?.leases;
        leases.retain(|lease| !self.is_at_work(&lease.container));
        let path = |lease: &Attachment| {
            self.network_state().join(lease.bridge.as_str()).join(lease.address.to_string())
        };
        Ok(leases.into_iter().map(|lease| (path(&lease), lease)).collect())
    }

    /// Gives back what containers that are gone have left; needs that no operation is at work.
    pub(crate) fn clear_run_state(&self) -> Result<()> {
        for (_, lease) in self.abandoned_leases()? {
            carrack_network::detach(&self.network_state(), &lease)?;
        }
        for (holder, _) in self.abandoned_ranges()? {
            self.release_users(&holder)?;
        }
        Ok(())
    }

    /// Whether a container or a step of this id may still be there, or be just coming.
    fn is_at_work(&self, id: &str) -> bool {
        let is_container = |id: ContainerId| {
            self.containers.folder(&id).exists() || self.containers.run_folder(&id).exists()
        };
        id.parse().is_ok_and(is_container) || self.steps_folder().join(id).exists()
    }

    pub(crate) fn is_container_there(&self, id: &ContainerId) -> bool {
        self.is_at_work(id.as_str())
    }
}
