//! `update`.

use std::path::PathBuf;

use carrack_engine::runtime::oci::Changes;
use clap::Args;

use super::Context;
use crate::failure::Result;

/// Sets other limits; those that are not named stay.
#[derive(Args)]
pub struct Update {
    /// File with resources of the specification, - for standard input; other options are then not looked at
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of disk accesses, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Length of a period of CPU time, in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// CPU time in a period, in microseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Relative weight of CPU time
    #[arg(long, value_name = "N", alias = "cpu-shares")]
    cpu_share: Option<u64>,
    /// Length of a period of realtime, in microseconds
    #[arg(long, value_name = "N")]
    cpu_rt_period: Option<u64>,
    /// Realtime in a period, in microseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// Processors, as in 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory, in bytes; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory: Option<i64>,
    /// Memory that is kept for it, in bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together, in bytes; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// Processes; -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// The id of the container
    #[arg(value_name = "ID")]
    id: String,
}

impl Update {
    pub fn run(self, context: &Context) -> Result<u8> {
        let resources = match &self.resources {
            Some(path) if path.as_os_str() == "-" => Changes::read("/dev/stdin".as_ref())?,
            Some(path) => Changes::read(path)?,
            None => self.changes().resources(),
        };
        context.runtime.find(&self.id)?.update(&resources)?;
        Ok(0)
    }

    fn changes(&self) -> Changes {
        Changes {
            blkio_weight: self.blkio_weight,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_share,
            cpu_rt_period: self.cpu_rt_period,
            cpu_rt_runtime: self.cpu_rt_runtime,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            memory_bytes: self.memory,
            memory_reservation_bytes: self.memory_reservation,
            memory_swap_bytes: self.memory_swap,
            pids_limit: self.pids_limit,
        }
    }
}
