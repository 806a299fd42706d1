//! The columns of `top`: as ps(1) has them, and podman's.

use std::collections::HashMap;

use carrack_engine::ContainerProcess;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Clock ticks a second in /proc, on every architecture (USER_HZ).
const TICKS: u64 = 100;
/// `ps -ef`
pub const FULL: &str = "uid,pid,ppid,c,stime,tname,time,cmd";
/// `ps aux`
pub const USER: &str = "user,pid,pcpu,pmem,vsz,rss,tname,stat,start,time,command";

/// A column: its heading, and what stands below it.
pub struct Column {
    names: &'static [&'static str],
    pub heading: &'static str,
    pub cell: fn(&ContainerProcess, &Host) -> String,
}

/// What cells are made with beside the process.
pub struct Host {
    /// Seconds that the host has been up.
    uptime: f64,
    memory_bytes: u64,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Host {
    /// Reads what the host says; what it does not say is shown as numbers.
    pub fn read() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let uptime = read("/proc/uptime");
        let memory = read("/proc/meminfo");
        let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kilobytes = kilobytes.and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
        Self {
            uptime: uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0),
            memory_bytes: kilobytes.unwrap_or(0) * 1024,
            users: names(&read("/etc/passwd")),
            groups: names(&read("/etc/group")),
        }
    }

    fn seconds_since(&self, start_ticks: u64) -> f64 {
        (self.uptime - start_ticks as f64 / TICKS as f64).max(0.0)
    }
}

/// `name:x:number:...`
fn names(text: &str) -> HashMap<u32, String> {
    let entries = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((number.parse().ok()?, name.to_owned()))
    });
    entries.collect()
}

/// The column that ps(1) knows by `name`.
pub fn of_ps(name: &str) -> Option<&'static Column> {
    PS.iter().find(|column| column.names.contains(&name))
}

/// The column that podman-top(1) knows by `name`.
pub fn of_podman(name: &str) -> Option<&'static Column> {
    let of_both = ["args", "comm", "etime", "nice", "pgid", "rss", "state", "stime", "time", "tty", "vsz"];
    let found = PODMAN.iter().find(|column| column.names.contains(&name));
    found.or_else(|| of_ps(name).filter(|_| of_both.contains(&name)))
}

#[rustfmt::skip]
const PS: &[Column] = &[
    Column { names: &["uid"], heading: "UID", cell: user },
    Column { names: &["user", "euser"], heading: "USER", cell: user },
    Column { names: &["pid", "tgid"], heading: "PID", cell: |process, _| process.pid.to_string() },
    Column { names: &["ppid"], heading: "PPID", cell: |process, _| process.parent.to_string() },
    Column { names: &["c"], heading: "C", cell: |process, host| format!("{:.0}", cpu(process, host).floor()) },
    Column { names: &["pcpu", "%cpu"], heading: "%CPU", cell: |process, host| format!("{:.1}", cpu(process, host)) },
    Column { names: &["pmem", "%mem"], heading: "%MEM", cell: memory },
    Column { names: &["stime"], heading: "STIME", cell: start },
    Column { names: &["start", "start_time", "bsdstart"], heading: "START", cell: start },
    Column { names: &["tname", "tty", "tt"], heading: "TTY", cell: |process, _| terminal(process.terminal) },
    Column { names: &["time", "cputime"], heading: "TIME", cell: |process, _| clock(process.cpu_ticks / TICKS) },
    Column { names: &["etime"], heading: "ELAPSED", cell: elapsed },
    Column { names: &["cmd"], heading: "CMD", cell: |process, _| process.command.clone() },
    Column { names: &["args", "command"], heading: "COMMAND", cell: |process, _| process.command.clone() },
    Column { names: &["comm", "ucmd"], heading: "COMMAND", cell: |process, _| process.name.clone() },
    Column { names: &["vsz", "vsize"], heading: "VSZ", cell: |process, _| (process.virtual_bytes / 1024).to_string() },
    Column { names: &["rss", "rssize"], heading: "RSS", cell: |process, _| (process.resident_bytes / 1024).to_string() },
    Column { names: &["stat"], heading: "STAT", cell: stat },
    Column { names: &["s", "state"], heading: "S", cell: |process, _| process.state.to_string() },
    Column { names: &["ni", "nice"], heading: "NI", cell: |process, _| process.nice.to_string() },
    Column { names: &["nlwp", "thcount"], heading: "NLWP", cell: |process, _| process.threads.to_string() },
    Column { names: &["pgid", "pgrp"], heading: "PGID", cell: |process, _| process.group.to_string() },
    Column { names: &["sid", "sess", "session"], heading: "SID", cell: |process, _| process.session.to_string() },
    Column { names: &["gid", "egid"], heading: "GID", cell: |process, _| process.gid.to_string() },
    Column { names: &["group", "egroup"], heading: "GROUP", cell: group },
];

#[rustfmt::skip]
const PODMAN: &[Column] = &[
    Column { names: &["pid"], heading: "PID", cell: |process, _| process.container_pid.to_string() },
    Column { names: &["ppid"], heading: "PPID", cell: |process, _| process.parent.to_string() },
    Column { names: &["user", "ruser"], heading: "USER", cell: user },
    Column { names: &["group", "rgroup"], heading: "GROUP", cell: group },
    Column { names: &["hpid"], heading: "HPID", cell: |process, _| process.pid.to_string() },
    Column { names: &["huser"], heading: "HUSER", cell: user },
    Column { names: &["hgroup"], heading: "HGROUP", cell: group },
    Column { names: &["pcpu", "%C"], heading: "%CPU", cell: |process, host| format!("{:.3}", cpu(process, host)) },
    Column { names: &["capinh"], heading: "CAPINH", cell: |process, _| process.capabilities[0].clone() },
    Column { names: &["capprm"], heading: "CAPPRM", cell: |process, _| process.capabilities[1].clone() },
    Column { names: &["capeff"], heading: "CAPEFF", cell: |process, _| process.capabilities[2].clone() },
    Column { names: &["capbnd"], heading: "CAPBND", cell: |process, _| process.capabilities[3].clone() },
    Column { names: &["capamb"], heading: "CAPAMB", cell: |process, _| process.capabilities[4].clone() },
    Column { names: &["seccomp"], heading: "SECCOMP", cell: seccomp },
];

fn user(process: &ContainerProcess, host: &Host) -> String {
    host.users.get(&process.uid).cloned().unwrap_or_else(|| process.uid.to_string())
}

fn group(process: &ContainerProcess, host: &Host) -> String {
    host.groups.get(&process.gid).cloned().unwrap_or_else(|| process.gid.to_string())
}

/// CPU time in per cent of the time since its start.
fn cpu(process: &ContainerProcess, host: &Host) -> f64 {
    let lived = host.seconds_since(process.start_ticks);
    let used = process.cpu_ticks as f64 / TICKS as f64;
    if lived > 0.0 { used * 100.0 / lived } else { 0.0 }
}

fn memory(process: &ContainerProcess, host: &Host) -> String {
    format!("{:.1}", process.resident_bytes as f64 * 100.0 / host.memory_bytes.max(1) as f64)
}

/// The time of day, or the day when that is not today.
fn start(process: &ContainerProcess, host: &Host) -> String {
    let lived = host.seconds_since(process.start_ticks) as i64;
    let now = Timestamp::now();
    let Ok(started) = now.checked_sub(lived.seconds()) else { return "?".to_owned() };
    let zone = TimeZone::system();
    let (started, now) = (started.to_zoned(zone.clone()), now.to_zoned(zone));
    let format = if started.date() == now.date() { "%H:%M" } else { "%b%d" };
    started.strftime(format).to_string()
}

fn elapsed(process: &ContainerProcess, host: &Host) -> String {
    let seconds = host.seconds_since(process.start_ticks) as u64;
    let (days, rest) = (seconds / 86400, seconds % 86400);
    match (days, rest / 3600) {
        (0, 0) => format!("{:02}:{:02}", rest / 60, rest % 60),
        (0, _) => clock(rest),
        _ => format!("{days}-{}", clock(rest)),
    }
}

/// `HH:MM:SS`
fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `pts/0`; the kernel's number has the minor in two parts (proc_pid_stat(5)).
fn terminal(number: u32) -> String {
    let (major, minor) = (number >> 8 & 0xfff, (number & 0xff) | (number >> 12 & 0xfff00));
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

fn stat(process: &ContainerProcess, _: &Host) -> String {
    let mut text = process.state.to_string();
    match process.nice {
        ..0 => text.push('<'),
        0 => {}
        _ => text.push('N'),
    }
    if process.session == process.pid {
        text.push('s');
    }
    if process.threads > 1 {
        text.push('l');
    }
    text
}

fn seccomp(process: &ContainerProcess, _: &Host) -> String {
    match process.seccomp {
        0 => "disabled",
        1 => "strict",
        2 => "filter",
        _ => "?",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_those_of_ps() {
        let host = Host {
            uptime: 1000.0,
            memory_bytes: 1 << 30,
            users: names("root:x:0:0::/root:/bin/sh\nbroken\n"),
            groups: HashMap::new(),
        };
        let process = ContainerProcess {
            pid: 7,
            session: 7,
            terminal: 34818,
            state: 'S',
            cpu_ticks: 5000,
            start_ticks: 90_000,
            threads: 3,
            nice: 5,
            resident_bytes: 1 << 29,
            gid: 44,
            ..ContainerProcess::default()
        };
        let cell = |name: &str| (of_ps(name).unwrap().cell)(&process, &host);
        let seen = ["uid", "group", "pcpu", "pmem", "tty", "stat", "time", "etime", "rss"].map(cell);
        assert_eq!(seen, ["root", "44", "50.0", "50.0", "pts/2", "SNsl", "00:00:50", "01:40", "524288"]);
    }
}
