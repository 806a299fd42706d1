//! Flags that limit a container.

use carrack_engine::{Resources, Ulimit};
use clap::Args;

use crate::failure::{Result, invalid};
use crate::units;

#[derive(Args)]
pub struct ResourceFlags {
    /// Limit of memory, as in 512m
    #[arg(short, long, value_name = "BYTES", value_parser = units::parse_bytes)]
    memory: Option<u64>,
    /// Limit of memory and swap together, as in 1g; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Limit of CPU time, as a number of CPUs
    #[arg(long, value_name = "NUMBER", value_parser = units::parse_cpus)]
    cpus: Option<u64>,
    /// Weight of CPU time under contention
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// CPUs to run on, as in 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Limit of processes and threads; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Limit a resource of each process, as in nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
}

impl ResourceFlags {
    /// What is asked of the engine.
    pub fn resources(&self) -> Result<Resources> {
        Ok(Resources {
            memory_bytes: self.memory.filter(|bytes| *bytes > 0),
            memory_swap_bytes: self.memory_swap.as_deref().map(memory_swap).transpose()?,
            nano_cpus: self.cpus,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            pids_limit: self.pids_limit,
            ulimits: self.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_>>()?,
        })
    }
}

fn memory_swap(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes =
        units::parse_bytes(text).map_err(|_| invalid("--memory-swap", text, "a size, as in 1g, or -1"))?;
    Ok(i64::try_from(bytes).unwrap_or(-1))
}

/// `NAME=SOFT[:HARD]`
fn ulimit(text: &str) -> Result<Ulimit> {
    let parse = || {
        let (name, limits) = text.split_once('=')?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let number = |text: &str| if text == "unlimited" { Some(-1) } else { text.parse().ok() };
        Some(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
    };
    parse().ok_or_else(|| invalid("--ulimit", text, "NAME=SOFT[:HARD], as in nofile=1024:2048"))
}
