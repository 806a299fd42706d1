//! The processes of a container, from the host's `/proc`: nothing of the image is run or believed.

use std::collections::BTreeSet;
use std::fs;

use carrack_container::{Container, ContainerId};

use crate::error::OperationContext;
use crate::{Engine, Error, Result, limits};

/// A program may have arguments of any length; more than this is not shown.
const MAX_ARGUMENT_BYTES: usize = 64 << 10;

/// A process of a container, as the host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerProcess {
    /// Its id on the host.
    pub pid: i32,
    /// Its id in the container.
    pub container_pid: i32,
    /// The id of its parent on the host.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The number of its terminal, 0 for none.
    pub terminal: u32,
    /// A letter of ps(1), as in `S`.
    pub state: char,
    /// The name of its program, at most 15 bytes.
    pub name: String,
    /// Its arguments, or its name in brackets.
    pub command: String,
    /// CPU time in clock ticks.
    pub cpu_ticks: u64,
    /// When it was started, in clock ticks after the host.
    pub start_ticks: u64,
    /// Its niceness.
    pub nice: i32,
    /// How many threads it has.
    pub threads: u64,
    /// Its virtual memory.
    pub virtual_bytes: u64,
    /// Its memory in use.
    pub resident_bytes: u64,
    /// Its effective user on the host.
    pub uid: u32,
    /// Its effective group on the host.
    pub gid: u32,
    /// Capability sets in hexadecimal: inheritable, permitted, effective, bounding, ambient.
    pub capabilities: [String; 5],
    /// 0: none, 1: strict, 2: filter.
    pub seccomp: u32,
}

impl Engine {
    /// The processes of a running container, by their ids on the host.
    pub fn processes(&self, text: &str) -> Result<Vec<ContainerProcess>> {
        let container = self.containers.find(text)?;
        let processes = self.processes_of(&container).operation("list the processes of container", text)?;
        self.container_event(&container.record, "top", &[]);
        Ok(processes)
    }

    fn processes_of(&self, container: &Container) -> Result<Vec<ContainerProcess>> {
        let init = container.state.init.as_ref().filter(|_| container.state.status.is_running());
        let init = init.ok_or_else(|| {
            let hint = format!("start it first: carrack start {}", container.record.name);
            Error::refused("it is not running", hint)
        })?;
        let pids = match self.pids_in_cgroup(&container.record.id, container)? {
            Some(pids) => pids,
            None => pids_in_namespace(init.pid),
        };
        // One that ends meanwhile is left out.
        Ok(pids.into_iter().filter_map(process).collect())
    }

    fn pids_in_cgroup(&self, id: &ContainerId, container: &Container) -> Result<Option<BTreeSet<i32>>> {
        let cgroup = limits::open_cgroup(id.as_str(), &container.record.host.resources)?;
        let pids = cgroup.map(|cgroup| cgroup.processes()).transpose()?.unwrap_or_default();
        let pids: BTreeSet<i32> = pids.into_iter().map(|pid| pid.as_raw_pid()).collect();
        Ok(Some(pids).filter(|pids| !pids.is_empty()))
    }
}

/// For a container without a cgroup.
fn pids_in_namespace(init: i32) -> BTreeSet<i32> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(init);
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| wanted.is_some() && namespace(*pid) == wanted).collect()
}

fn process(pid: i32) -> Option<ContainerProcess> {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let text = |name: &str| Some(String::from_utf8_lossy(&file(name)?).into_owned());
    let mut process = parse(pid, &text("stat")?, &text("status")?)?;
    let arguments = file("cmdline")?;
    let shown = &arguments[..arguments.len().min(MAX_ARGUMENT_BYTES)];
    let words: Vec<_> =
        shown.split(|byte| *byte == 0).map(|word| printable(&String::from_utf8_lossy(word))).collect();
    let command = words.join(" ");
    process.command = match command.trim_end() {
        "" => format!("[{}]", process.name),
        command => command.to_owned(),
    };
    Some(process)
}

/// proc_pid_stat(5) and proc_pid_status(5)
fn parse(pid: i32, stat: &str, status: &str) -> Option<ContainerProcess> {
    // The name, in brackets, may hold anything.
    let (begin, rest) = stat.rsplit_once(')')?;
    let name = begin.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of the manual is the first after the name.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<i64>().ok();
    let small = |at: usize| number(at).and_then(|value| i32::try_from(value).ok());
    let count = |at: usize| field(at)?.parse::<u64>().ok();
    let line = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let effective = |name: &str| line(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
    let kilobytes = |name: &str| line(name)?.split_ascii_whitespace().next()?.parse::<u64>().ok();
    let set = |name: &str| line(name).unwrap_or_default().to_owned();
    Some(ContainerProcess {
        pid,
        container_pid: line("NSpid")?.split_ascii_whitespace().last()?.parse().ok()?,
        parent: small(4)?,
        group: small(5)?,
        session: small(6)?,
        terminal: number(7).and_then(|value| u32::try_from(value).ok()).unwrap_or(0),
        state: field(3)?.chars().next()?,
        name: printable(name),
        command: String::new(),
        cpu_ticks: count(14)? + count(15)?,
        start_ticks: count(22)?,
        nice: small(19)?,
        threads: count(20)?,
        virtual_bytes: count(23)?,
        // A process that is ending has no memory any more.
        resident_bytes: kilobytes("VmRSS").unwrap_or(0) * 1024,
        uid: effective("Uid")?,
        gid: effective("Gid")?,
        capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(set),
        seccomp: line("Seccomp").and_then(|value| value.parse().ok()).unwrap_or(0),
    })
}

/// A process chooses its name and arguments: they must not reach the terminal as control characters.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b\n(c) S 1 7 7 34816 7 0 0 0 0 0 50 30 0 0 20 5 2 0 4242 8192000 300 0";
        let status =
            "Name:\tx\nUid:\t0\t1001\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t7\t1\nCapEff:\tff\nSeccomp:\t2\n";
        let process = parse(7, stat, status).unwrap();
        assert_eq!((process.name.as_str(), process.state, process.parent), ("a) b?(c", 'S', 1));
        assert_eq!((process.cpu_ticks, process.start_ticks, process.threads), (80, 4242, 2));
        assert_eq!((process.uid, process.gid, process.container_pid), (1001, 0, 1));
        assert_eq!((process.capabilities[2].as_str(), process.seccomp, process.nice), ("ff", 2, 5));
        assert!(parse(7, "7 (x", status).is_none());
    }

    #[test]
    fn this_process_is_found() {
        let own = process(std::process::id() as i32).unwrap();
        assert!(own.resident_bytes > 0 && !own.command.is_empty());
        assert!(pids_in_namespace(own.pid).contains(&own.pid));
    }
}
