//! Instructions that change only the config: pure functions on it.

use std::collections::BTreeMap;

use carrack_dockerfile::{
    CommandLine, ExpandError, Expander, Healthcheck, InstructionKind, Pair, parse_trigger,
};
use carrack_oci::{ContainerConfig, ImageConfig};

use crate::{Error, Result};

/// Applies `--change` texts of `import` and `commit`: instructions that change only the config.
pub fn apply_changes(config: &mut ImageConfig, changes: &[String]) -> Result<()> {
    let mut configured = Configured::new(std::mem::replace(config, ImageConfig::empty(&config.platform())));
    for change in changes {
        let parsed = match change.trim_start().get(..8).filter(|start| start.eq_ignore_ascii_case("ONBUILD "))
        {
            Some(_) => carrack_dockerfile::parse(&format!("FROM scratch\n{change}"))
                .map(|mut file| file.stages.swap_remove(0).instructions.swap_remove(0)),
            None => parse_trigger(change),
        };
        let instruction = parsed
            .map_err(|error| Error::invalid(format!("invalid change {change:?}: {}", error.message)))?;
        if let InstructionKind::Workdir(path) = &instruction.kind {
            configured.set_workdir(path, '\\')?;
        } else if configured.apply(&instruction.kind, '\\')?.is_none() {
            return Err(Error::invalid(format!("{change:?} does more than change the config")));
        }
    }
    *config = configured.config;
    Ok(())
}

/// A config while instructions change it.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    pub(crate) config: ImageConfig,
    /// The variables that instructions see: those of the config, and `ARG`s. What was set last is the value.
    pub(crate) environment: Vec<(String, String)>,
    /// Whether this stage has set `CMD`: an `ENTRYPOINT` drops that of the base image.
    pub(crate) has_cmd: bool,
}

impl Configured {
    pub(crate) fn new(config: ImageConfig) -> Self {
        let split = |entry: &String| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), value.to_owned())
        };
        let environment = config.config.env.iter().map(split).collect();
        Self { config, environment, has_cmd: false }
    }

    pub(crate) fn expand(&self, text: &str, escape: char) -> Result<String> {
        self.with_expander(escape, |expander| expander.word(text))
    }

    pub(crate) fn expand_document(&self, text: &str) -> Result<String> {
        self.with_expander('\\', |expander| expander.document(text))
    }

    fn with_expander<T>(
        &self,
        escape: char,
        work: impl FnOnce(&Expander<'_>) -> Result<T, ExpandError>,
    ) -> Result<T> {
        let lookup = |name: &str| self.variable(name).map(str::to_owned);
        work(&Expander::new(escape, &lookup)).map_err(|error| Error::invalid(error.to_string()))
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Sets a variable for instructions, not for the image.
    pub(crate) fn set_variable(&mut self, name: &str, value: String) {
        match self.environment.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.environment.push((name.to_owned(), value)),
        }
    }

    /// Applies an instruction that changes only the config, and says what the history has of it; `None` for the
    /// others, of which nothing is applied.
    pub(crate) fn apply(&mut self, kind: &InstructionKind, escape: char) -> Result<Option<String>> {
        Ok(Some(match kind {
            InstructionKind::Cmd(command) => {
                let words = self.command(command);
                self.has_cmd = true;
                let text = format!("CMD {}", quoted(&words));
                self.container().cmd = Some(words);
                text
            }
            InstructionKind::Entrypoint(command) => self.set_entrypoint(command),
            InstructionKind::Env(pairs) => self.set_env(pairs, escape)?,
            InstructionKind::Label(pairs) => self.set_labels(pairs, escape)?,
            InstructionKind::Expose(ports) => self.expose(ports, escape)?,
            InstructionKind::Healthcheck(check) => self.set_healthcheck(check),
            InstructionKind::Maintainer(name) => {
                self.config.author = Some(name.clone());
                format!("MAINTAINER {name}")
            }
            InstructionKind::OnBuild(trigger) => {
                self.container().on_build.get_or_insert_default().push(trigger.clone());
                format!("ONBUILD {trigger}")
            }
            InstructionKind::Shell(words) => {
                self.container().shell = Some(words.clone());
                format!("SHELL [{}]", words.join(" "))
            }
            InstructionKind::StopSignal(signal) => {
                let signal = self.expand(signal, escape)?;
                check_signal(&signal)?;
                let text = format!("STOPSIGNAL {signal}");
                self.container().stop_signal = Some(signal);
                text
            }
            InstructionKind::User(user) => {
                let user = self.expand(user, escape)?;
                let text = format!("USER {user}");
                self.container().user = user;
                text
            }
            InstructionKind::Volume(volumes) => self.add_volumes(volumes, escape)?,
            InstructionKind::Add(_)
            | InstructionKind::Arg(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Run(_)
            | InstructionKind::Workdir(_) => return Ok(None),
        }))
    }

    /// Sets the working folder, relative to the one before, and returns it.
    pub(crate) fn set_workdir(&mut self, path: &str, escape: char) -> Result<String> {
        let path = self.expand(path, escape)?;
        let workdir = self.absolute(&path);
        self.container().working_dir.clone_from(&workdir);
        Ok(workdir)
    }

    /// A path of the image in its shortest form, relative to the working folder where it is not absolute.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let workdir = &self.config.config.working_dir;
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{workdir}/{path}") };
        let mut names: Vec<&str> = Vec::new();
        for name in whole.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(name),
            }
        }
        format!("/{}", names.join("/"))
    }

    /// The words of a command: those of the exec form, or the shell's with the text.
    pub(crate) fn command(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(text) => self.shell().into_iter().chain([text.clone()]).collect(),
        }
    }

    pub(crate) fn shell(&self) -> Vec<String> {
        let own = self.config.config.shell.clone().filter(|shell| !shell.is_empty());
        own.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    fn container(&mut self) -> &mut ContainerConfig {
        &mut self.config.config
    }

    fn set_entrypoint(&mut self, command: &CommandLine) -> String {
        let words = self.command(command);
        if !self.has_cmd {
            self.container().cmd = None;
        }
        let text = format!("ENTRYPOINT {}", quoted(&words));
        self.container().entrypoint = Some(words).filter(|words| !words.is_empty());
        text
    }

    /// All values of one instruction see the variables as they were before it.
    fn expand_pairs(&self, pairs: &[Pair], escape: char) -> Result<Vec<(String, String)>> {
        let expand = |pair: &Pair| Ok((self.expand(&pair.key, escape)?, self.expand(&pair.value, escape)?));
        pairs.iter().map(expand).collect()
    }

    fn set_env(&mut self, pairs: &[Pair], escape: char) -> Result<String> {
        let mut text = "ENV".to_owned();
        for (name, value) in self.expand_pairs(pairs, escape)? {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::invalid(format!("invalid name or value of the variable {name:?}")));
            }
            let entry = format!("{name}={value}");
            text.push(' ');
            text.push_str(&entry);
            let prefix = format!("{name}=");
            let env = &mut self.container().env;
            match env.iter_mut().find(|own| own.starts_with(&prefix)) {
                Some(own) => *own = entry,
                None => env.push(entry),
            }
            self.set_variable(&name, value);
        }
        Ok(text)
    }

    fn set_labels(&mut self, pairs: &[Pair], escape: char) -> Result<String> {
        let mut text = "LABEL".to_owned();
        for (key, value) in self.expand_pairs(pairs, escape)? {
            text.push_str(&format!(" {key}={value}"));
            self.container().labels.get_or_insert_default().insert(key, value);
        }
        Ok(text)
    }

    fn expose(&mut self, ports: &[String], escape: char) -> Result<String> {
        let mut exposed = Vec::new();
        for port in ports {
            for word in self.with_expander(escape, |expander| expander.words(port))? {
                exposed.extend(exposed_ports(&word)?);
            }
        }
        exposed.sort();
        let text = format!("EXPOSE [{}]", exposed.join(" "));
        let all = self.container().exposed_ports.get_or_insert_with(BTreeMap::new);
        all.extend(exposed.into_iter().map(|port| (port, Default::default())));
        Ok(text)
    }

    fn set_healthcheck(&mut self, check: &Healthcheck) -> String {
        let check = match check {
            Healthcheck::None => {
                carrack_oci::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() }
            }
            Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
                let test = match command {
                    CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                    CommandLine::Exec(words) => [&["CMD".to_owned()], &words[..]].concat(),
                };
                carrack_oci::Healthcheck {
                    test,
                    interval: *interval,
                    timeout: *timeout,
                    start_period: *start_period,
                    start_interval: *start_interval,
                    retries: *retries,
                }
            }
        };
        let text = format!("HEALTHCHECK {}", quoted(&check.test));
        self.container().healthcheck = Some(check);
        text
    }

    fn add_volumes(&mut self, volumes: &[String], escape: char) -> Result<String> {
        let expanded: Vec<String> =
            volumes.iter().map(|volume| self.expand(volume, escape)).collect::<Result<_>>()?;
        if expanded.iter().any(String::is_empty) {
            return Err(Error::invalid("a volume cannot be an empty text"));
        }
        let text = format!("VOLUME [{}]", expanded.join(" "));
        let all = self.container().volumes.get_or_insert_with(BTreeMap::new);
        all.extend(expanded.into_iter().map(|volume| (volume, Default::default())));
        Ok(text)
    }
}

/// A list as Docker's history shows it: `["a" "b"]`.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

/// `port[-port][/protocol]`, after Docker's rule also behind a host address and port, which mean nothing here.
fn exposed_ports(text: &str) -> Result<Vec<String>> {
    let wrong = || Error::invalid(format!("invalid port {text:?}: expected port[-port][/tcp|udp|sctp]"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let ports = ports.rsplit(':').next().unwrap_or_default();
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

const SIGNALS: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT \
     STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";

/// A signal's name, with or without `SIG`, or its number.
fn check_signal(text: &str) -> Result<()> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, sign: char| {
        let offset = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(sign));
        offset.and_then(|offset| offset.parse::<u8>().ok()).is_some_and(|offset| offset <= 30)
    };
    let known = SIGNALS.split_whitespace().any(|signal| signal == name)
        || text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
        || real_time("RTMIN", '+')
        || real_time("RTMAX", '-');
    if known { Ok(()) } else { Err(Error::invalid(format!("unknown signal {text:?}"))) }
}
