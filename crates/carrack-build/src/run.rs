//! `RUN` and `WORKDIR`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use carrack_dockerfile::{CommandLine, Mount, MountKind, Run, RunNetwork};

use crate::build::{Builder, DEFAULT_PATH, StageState};
use crate::copy::{Target, Writer, resolve_owner};
use crate::ignore::IgnoreList;
use crate::key::{KeyWriter, chain};
use crate::select::select;
use crate::{Backend, Error, Event, Outcome, Result, RunStep, StepMount, StepMountKind, Workspace};

/// Where a here-document that begins with `#!` is put to be run.
const SCRIPT_FOLDER: &str = "/dev/pipes";

/// A command, ready to run.
struct Command {
    argv: Vec<String>,
    /// A script that must exist at this path.
    script: Option<(String, String)>,
    /// What the history shows.
    shown: String,
}

impl<B: Backend> Builder<'_, B> {
    /// Makes the folder where it is missing, owned by the user of the stage.
    pub(crate) fn workdir(&mut self, state: &mut StageState, path: &str) -> Result<(String, Outcome)> {
        let workdir = state.configured.set_workdir(path, self.plan.dockerfile.escape)?;
        let text = format!("WORKDIR {workdir}");
        if workdir == "/" {
            return Ok((text, Outcome::UNCHANGED));
        }
        let user = state.configured.config.config.user.clone();
        let mut key = KeyWriter::new("workdir", &state.layers);
        key.text(&workdir).text(&user);
        let key = self.finished_key(key);
        if let Some(outcome) = self.look_up(&key)? {
            return Ok((text, outcome));
        }
        let workspace = self.prepare(&state.layers)?;
        let root = workspace.root();
        if root.metadata(&workdir)?.is_some_and(|metadata| metadata.is_dir()) {
            self.record(&key, &Outcome::UNCHANGED)?;
            return Ok((text, Outcome::UNCHANGED));
        }
        let owner = if user.is_empty() { (0, 0) } else { resolve_owner(root, &user)? };
        let timestamp_unix = self.timestamp_unix;
        Writer { root, owner: Some(owner), mode: None, timestamp_unix }.folder(Path::new(&workdir))?;
        Ok((text, self.commit(workspace, &key)?))
    }

    pub(crate) fn run(&mut self, state: &mut StageState, run: &Run) -> Result<(String, Outcome)> {
        let command = command(state, run)?;
        let text = format!("RUN {}{}", shown_args(state), command.shown);
        let env = environment(state);
        let mounts = self.resolve_mounts(state, run)?;
        let network = if run.network == RunNetwork::Default { self.plan.network } else { run.network };
        let config = &state.configured.config.config;
        let mut key = KeyWriter::new("run", &state.layers);
        key.texts(&command.argv).texts(&env).text(&config.user).text(&config.working_dir);
        key.text(&format!("{network:?}")).text(command.script.as_ref().map_or("", |(_, script)| script));
        for mount in &mounts {
            self.describe_mount(&mut key, mount, state)?;
        }
        let key = self.finished_key(key);
        if let Some(outcome) = self.look_up(&key)? {
            return Ok((text, outcome));
        }
        let mut workspace = self.prepare(&state.layers)?;
        let sources =
            mounts.iter().map(|mount| self.bind_source(mount, state)).collect::<Result<Vec<_>>>()?;
        let mut step = RunStep {
            argv: command.argv,
            env: self.with_predefined(env),
            user: &config.user,
            working_dir: if config.working_dir.is_empty() { "/" } else { &config.working_dir },
            network,
            mounts: Vec::new(),
        };
        step.mounts.extend(command.script.map(|(target, script)| StepMount {
            target,
            kind: StepMountKind::File { content: script.into_bytes(), mode: 0o755 },
        }));
        for (mount, source) in mounts.iter().zip(&sources) {
            step.mounts.push(step_mount(mount, source.as_ref())?);
        }
        self.execute(&mut workspace, &step)?;
        drop(step);
        drop(sources);
        Ok((text, self.commit(workspace, &key)?))
    }

    fn execute(&mut self, workspace: &mut B::Workspace, step: &RunStep<'_>) -> Result<()> {
        let (progress, number) = (self.progress, self.number);
        let mut output = |stream, bytes: &[u8]| progress(Event::Output { number, stream, bytes });
        let exit_code =
            self.backend.run(workspace, step, &mut output).map_err(Error::backend("run the command"))?;
        match exit_code {
            0 => Ok(()),
            exit_code => Err(Error::CommandFailed { command: step.argv.join(" "), exit_code }),
        }
    }

    /// Proxy settings of the build are for the command alone: neither history nor cache knows them.
    fn with_predefined(&self, mut env: Vec<String>) -> Vec<String> {
        for (name, value) in self.globals.predefined() {
            if !env.iter().any(|own| own.split('=').next() == Some(name)) {
                env.push(format!("{name}={value}"));
            }
        }
        env
    }

    fn resolve_mounts(&self, state: &StageState, run: &Run) -> Result<Vec<Mount>> {
        let escape = self.plan.dockerfile.escape;
        let expand = |text: &str| state.configured.expand(text, escape).map_err(|error| error.to_string());
        let resolve = |flag: &carrack_dockerfile::MountFlag| {
            let mut mount =
                flag.resolve(&expand).map_err(|message| Error::invalid(format!("--mount: {message}")))?;
            if !mount.target.is_empty() {
                mount.target = state.configured.absolute(&mount.target);
            }
            if matches!(&mount.kind, MountKind::Cache { from: Some(_), .. }) {
                return Err(Error::invalid("--mount: a cache mount with from is not supported"));
            }
            Ok(mount)
        };
        run.mounts.iter().map(resolve).collect()
    }

    /// Adds what a mount shows to the command. Content of caches and values of secrets do not count.
    fn describe_mount(&mut self, key: &mut KeyWriter, mount: &Mount, state: &StageState) -> Result<()> {
        key.text(&format!("{mount:?}"));
        match &mount.kind {
            MountKind::Bind { from: Some(from), .. } => {
                key.text(&chain(&self.layers_of(from, &state.platform)?));
            }
            MountKind::Bind { from: None, source, .. } => {
                let tree = self.plan.context.tree()?;
                for selection in select(&tree, source, &IgnoreList::default())? {
                    selection.describe(key, &self.plan.context.digests(&tree, &selection)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The file system that a bind mount shows, and the path in it: a stage or an image as it is, of the context a
    /// copy, so that what `.dockerignore` excludes is not seen and the context itself is never written to.
    fn bind_source(&mut self, mount: &Mount, state: &StageState) -> Result<Option<(B::Workspace, String)>> {
        let MountKind::Bind { from, source, read_only } = &mount.kind else { return Ok(None) };
        if let Some(from) = from {
            let layers = self.layers_of(from, &state.platform)?;
            let workspace = if *read_only { self.view(&layers)? } else { self.prepare(&layers)? };
            return Ok(Some((workspace, source.clone())));
        }
        let workspace = self.prepare(&[])?;
        let tree = self.plan.context.tree()?;
        let timestamp_unix = self.timestamp_unix;
        let writer = Writer { root: workspace.root(), owner: None, mode: None, timestamp_unix };
        let path = "/context".to_owned();
        for selection in select(&tree, source, &IgnoreList::default())? {
            let target = Target { path: path.clone().into(), is_folder: false };
            writer.copy(&tree, &selection, &target)?;
        }
        Ok(Some((workspace, path)))
    }

    /// A key, with the timestamp where the user has chosen it: layers made with another are not the same.
    pub(crate) fn finished_key(&self, mut key: KeyWriter) -> crate::CacheKey {
        if self.plan.timestamp_unix.is_some() {
            key.text("timestamp").number(self.timestamp_unix.cast_unsigned());
        }
        key.finish()
    }
}

fn step_mount<'a, W: Workspace>(mount: &Mount, source: Option<&'a (W, String)>) -> Result<StepMount<'a>> {
    let kind = match (&mount.kind, source) {
        (MountKind::Bind { read_only, .. }, Some((workspace, path))) => {
            StepMountKind::Bind { root: workspace.root(), path: path.clone(), read_only: *read_only }
        }
        (MountKind::Bind { .. }, None) => return Err(Error::invalid("a bind mount without a source")),
        (MountKind::Cache { id, sharing, read_only, mode, uid, gid, .. }, _) => StepMountKind::Cache {
            id: id.clone(),
            sharing: *sharing,
            read_only: *read_only,
            new_folder: (*mode, *uid, *gid),
        },
        (MountKind::Tmpfs { size_bytes }, _) => StepMountKind::Tmpfs { size_bytes: *size_bytes },
        (MountKind::Secret { id, env, required, mode, uid, gid }, _) => StepMountKind::Secret {
            id: id.clone(),
            env: env.clone(),
            required: *required,
            file: (*mode, *uid, *gid),
        },
        (MountKind::Ssh { id, required, mode, uid, gid }, _) => {
            StepMountKind::Ssh { id: id.clone(), required: *required, file: (*mode, *uid, *gid) }
        }
    };
    Ok(StepMount { target: mount.target.clone(), kind })
}

/// The whole environment of a command: `ENV` and `ARG`, and a `PATH` in any case.
fn environment(state: &StageState) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    if state.configured.variable("PATH").is_none() {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    env.extend(state.configured.environment.iter().map(|(name, value)| format!("{name}={value}")));
    env
}

/// `|2 a=1 b=2 `, as Docker's history has the arguments before the command.
fn shown_args(state: &StageState) -> String {
    if state.args.is_empty() {
        return String::new();
    }
    let mut text = format!("|{} ", state.args.len());
    for (name, value) in &state.args {
        let value = state.configured.variable(name).or(value.as_deref()).unwrap_or_default();
        text.push_str(&format!("{name}={value} "));
    }
    text
}

/// Puts the command and its here-documents together (Dockerfile reference, "Here-Documents").
fn command(state: &StageState, run: &Run) -> Result<Command> {
    let plain = |argv: Vec<String>| Command { shown: argv.join(" "), argv, script: None };
    let (CommandLine::Shell(text), Some(first)) = (&run.command, run.heredocs.first()) else {
        return Ok(plain(state.configured.command(&run.command)));
    };
    let alone = run.heredocs.len() == 1 && is_only_marker(text);
    let body = first.body();
    if alone && body.starts_with("#!") {
        if first.name.contains('/') || Path::new(&first.name).as_os_str().as_bytes().contains(&0) {
            return Err(Error::invalid(format!("{:?} cannot be the name of a script", first.name)));
        }
        let path = format!("{SCRIPT_FOLDER}/{}", first.name);
        let argv = vec![path.clone()];
        return Ok(Command { shown: path.clone(), argv, script: Some((path, body)) });
    }
    let script = match alone {
        true => body,
        // The shell reads its own here-documents.
        false => {
            let mut script = text.clone();
            for heredoc in &run.heredocs {
                script.push('\n');
                script.push_str(&heredoc.content);
                script.push_str(&heredoc.name);
            }
            script
        }
    };
    Ok(plain(state.configured.command(&CommandLine::Shell(script))))
}

/// Whether the text is `<<EOF` and nothing more.
fn is_only_marker(text: &str) -> bool {
    let after = text.trim().trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<");
    after.is_some_and(|word| !word.trim_start_matches('-').trim_start().contains(char::is_whitespace))
}
