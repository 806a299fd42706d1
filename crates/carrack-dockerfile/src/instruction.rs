//! The syntax tree. Texts are as written: variables are expanded later, by who builds.

use std::ops::Range;

use crate::{Heredoc, MountFlag, Warning};

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character, `\` or a backtick.
    pub escape: char,
    /// The value of the `syntax` directive; nothing is loaded for it.
    pub syntax: Option<String>,
    /// The value of the `check` directive.
    pub check: Option<String>,
    /// `ARG` instructions before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// In the order of the file; at least one.
    pub stages: Vec<Stage>,
    /// What is allowed, but most likely not meant.
    pub warnings: Vec<Warning>,
}

impl Dockerfile {
    /// The index of the stage that `--target`, `COPY --from` or a mount names, by name or number. Of several stages
    /// with one name, it is the last.
    pub fn stage(&self, name: &str) -> Option<usize> {
        let by_name = |stage: &Stage| stage.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        let by_number = || name.parse().ok().filter(|number| *number < self.stages.len());
        self.stages.iter().rposition(by_name).or_else(by_number)
    }

    /// The index of the stage that the `FROM` of stage `of` names: only an earlier one, and only by its name.
    pub fn base_stage(&self, base: &str, of: usize) -> Option<usize> {
        let by_name = |stage: &Stage| stage.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(base));
        self.stages[..of].iter().rposition(by_name)
    }
}

/// `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// An image, an earlier stage or `scratch`.
    pub base: String,
    /// `--platform`.
    pub platform: Option<String>,
    /// The physical lines of `FROM`, from 1, end excluded.
    pub lines: Range<usize>,
    /// The instructions after `FROM`.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// As written, continuations joined, without the bodies of here-documents.
    pub text: String,
    /// The physical lines, from 1, end excluded.
    pub lines: Range<usize>,
    /// What it says.
    pub kind: InstructionKind,
}

/// The instructions that may follow `FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`
    Add(Copy),
    /// `ARG`
    Arg(Vec<ArgDeclaration>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: the instruction as text, with the bodies of its here-documents; it has been parsed once.
    OnBuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

/// `name[=default]` of `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: String,
    /// The default, where there is one.
    pub default: Option<String>,
}

/// `key=value` of `ENV` and `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name or label.
    pub key: String,
    /// The value, quotes still in it.
    pub value: String,
}

/// The two forms of `RUN`, `CMD` and `ENTRYPOINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A text for the shell.
    Shell(String),
    /// A JSON array.
    Exec(Vec<String>),
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// At least one.
    pub sources: Vec<CopySource>,
    /// Where to; a `/` at its end says that it is a folder.
    pub destination: String,
    /// `--from` (COPY): a stage or an image.
    pub from: Option<String>,
    /// `--chown`
    pub chown: Option<String>,
    /// `--chmod`: octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents` (COPY)
    pub parents: bool,
    /// `--exclude` patterns.
    pub excludes: Vec<String>,
    /// `--checksum` (ADD)
    pub checksum: Option<String>,
    /// `--keep-git-dir` (ADD)
    pub keep_git_dir: Option<bool>,
    /// `--unpack` (ADD)
    pub unpack: Option<bool>,
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern, or (ADD) a URL.
    Path(String),
    /// A file with the content of a here-document, named as it.
    Inline(Heredoc),
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to run; `<<` words still in it.
    pub command: CommandLine,
    /// The here-documents, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: RunNetwork,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RunNetwork {
    /// The network of the build.
    #[default]
    Default,
    /// Only the loopback interface.
    None,
    /// The host's network.
    Host,
}

/// `HEALTHCHECK`; durations are nanoseconds, 0 means the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, not even that of the base image.
    None,
    /// `HEALTHCHECK [flags] CMD ...`
    Command {
        /// What to run.
        command: CommandLine,
        /// `--interval`
        interval: u64,
        /// `--timeout`
        timeout: u64,
        /// `--start-period`
        start_period: u64,
        /// `--start-interval`
        start_interval: u64,
        /// `--retries`
        retries: u64,
    },
}
