//! From lines to stages and instructions.

use std::ops::Range;

use crate::directive::Directives;
use crate::flag::Flags;
use crate::fragment::{Fragment, Parsed, Problem, nearest};
use crate::heredoc::{announced, read_bodies};
use crate::line::{Line, LineReader};
use crate::{Dockerfile, Heredoc, Instruction, InstructionKind, ParseError, Stage, Warning};
use crate::{parse_copy, parse_pairs, parse_run};

/// The largest file that is parsed.
pub const MAX_DOCKERFILE_BYTES: usize = 4 << 20;

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses a Dockerfile.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    if text.len() > MAX_DOCKERFILE_BYTES {
        let message = format!("a file of {} bytes: expected at most {MAX_DOCKERFILE_BYTES}", text.len());
        return Err(ParseError { line: 1, columns: 1..2, message, hint: None });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Directives { escape, syntax, check } = Directives::read(text)?;
    let mut lines = LineReader::new(text, escape);
    let mut file =
        Dockerfile { escape, syntax, check, global_args: vec![], stages: vec![], warnings: vec![] };
    while let Some(line) = lines.instruction() {
        let statement = parse_line(&line, &mut lines, escape)?;
        let physical = line.lines.start..lines.next_number();
        add(&mut file, statement, &line, physical).map_err(|problem| line.error(problem))?;
    }
    if file.stages.is_empty() {
        let line = file.global_args.last().map_or(1, |last| last.lines.start);
        let hint = Some("the smallest Dockerfile is: FROM <image>".to_owned());
        return Err(ParseError {
            line,
            columns: 1..2,
            message: "no FROM: a file needs a stage".to_owned(),
            hint,
        });
    }
    file.warnings.append(&mut lines.warnings);
    file.warnings.sort_by_key(|warning| warning.line);
    Ok(file)
}

/// Parses an `ONBUILD` trigger, as an image config holds it.
pub fn parse_trigger(text: &str) -> Result<Instruction, ParseError> {
    let mut lines = LineReader::new(text, '\\');
    let Some(line) = lines.instruction() else {
        let message = "an empty instruction".to_owned();
        return Err(ParseError { line: 1, columns: 1..2, message, hint: None });
    };
    let statement = parse_line(&line, &mut lines, '\\')?;
    refuse_as_trigger(&statement).map_err(|problem| line.error(problem))?;
    if let Some(second) = lines.instruction() {
        return Err(second.error(second.fragment().problem("a trigger is one instruction")));
    }
    let kind = statement.instruction(&mut Vec::new()).map_err(|problem| line.error(problem))?;
    Ok(Instruction { text: line.text.trim_end().to_owned(), lines: line.lines.clone(), kind })
}

/// One instruction, split but not yet understood.
pub(crate) struct Statement<'a> {
    /// In upper case.
    pub(crate) name: String,
    pub(crate) keyword: Fragment<'a>,
    pub(crate) flags: Flags<'a>,
    pub(crate) arguments: Fragment<'a>,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) escape: char,
}

fn parse_line<'l>(
    line: &'l Line,
    lines: &mut LineReader<'_>,
    escape: char,
) -> Result<Statement<'l>, ParseError> {
    split_with_bodies(line.fragment(), lines, escape).map_err(|problem| line.error(problem))
}

fn split_with_bodies<'l>(
    line: Fragment<'l>,
    lines: &mut LineReader<'_>,
    escape: char,
) -> Parsed<Statement<'l>> {
    let mut statement = Statement::split(line, escape)?;
    // Of `ONBUILD COPY <<EOF ...` the here-document belongs to the inner instruction.
    let inner =
        (statement.name == "ONBUILD").then(|| Statement::split(statement.arguments, escape)).transpose()?;
    let holder = inner.as_ref().unwrap_or(&statement);
    let takes_heredocs = matches!(holder.name.as_str(), "ADD" | "COPY" | "RUN");
    if takes_heredocs && json_array(holder.arguments)?.is_none() {
        let mut heredocs = announced(holder.arguments);
        read_bodies(&mut heredocs, lines, holder.arguments)?;
        statement.heredocs = heredocs;
    }
    Ok(statement)
}

/// Puts a statement where it belongs: before the stages, a new stage, or into the last one.
fn add(file: &mut Dockerfile, statement: Statement<'_>, line: &Line, lines: Range<usize>) -> Parsed<()> {
    let text = line.text.trim_end().to_owned();
    if statement.name == "FROM" {
        file.stages.push(from(statement, lines)?);
        return Ok(());
    }
    let keyword = statement.keyword;
    let mut remarks = Vec::new();
    let kind = statement.instruction(&mut remarks)?;
    file.warnings.extend(remarks.into_iter().map(|message| Warning { line: lines.start, message }));
    let instruction = Instruction { text, lines, kind };
    match (file.stages.last_mut(), &instruction.kind) {
        (Some(stage), _) => stage.instructions.push(instruction),
        (None, InstructionKind::Arg(_)) => file.global_args.push(instruction),
        (None, _) => {
            let message =
                format!("{} before the first FROM: expected FROM or ARG", keyword.text.to_uppercase());
            return Err(keyword.problem(message));
        }
    }
    Ok(())
}

fn from(mut statement: Statement<'_>, lines: Range<usize>) -> Parsed<Stage> {
    let platform = statement.flags.text("platform")?;
    statement.flags.finish("FROM")?;
    let words = statement.arguments.words();
    let (base, name) = match words[..] {
        [base] => (base, None),
        [base, word, name] if word.text.eq_ignore_ascii_case("as") => (base, Some(stage_name(name)?)),
        [] => return Err(statement.keyword.problem("FROM needs an image")),
        [_, word, ..] => return Err(word.problem("expected FROM <image> or FROM <image> AS <name>")),
    };
    Ok(Stage { name, base: base.text.to_owned(), platform, lines, instructions: Vec::new() })
}

fn stage_name(name: Fragment<'_>) -> Parsed<String> {
    let lower = name.text.to_ascii_lowercase();
    let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    let message =
        format!("invalid stage name {:?}: expected a letter, then letters, digits, - _ .", name.text);
    if valid { Ok(lower) } else { Err(name.problem(message)) }
}

impl<'a> Statement<'a> {
    fn split(fragment: Fragment<'a>, escape: char) -> Parsed<Self> {
        let (keyword, rest) = fragment.split_word();
        let name = keyword.text.to_ascii_uppercase();
        if !KEYWORDS.contains(&name.as_str()) {
            return Err(unknown(keyword, &name));
        }
        let (flags, arguments) = Flags::split(rest, escape);
        Ok(Self { name, keyword, flags, arguments, heredocs: Vec::new(), escape })
    }

    /// Understands everything but `FROM`.
    pub(crate) fn instruction(self, remarks: &mut Vec<String>) -> Parsed<InstructionKind> {
        match self.name.as_str() {
            "ADD" => parse_copy::add(self).map(InstructionKind::Add),
            "ARG" => parse_pairs::arg(self).map(InstructionKind::Arg),
            "CMD" => parse_run::command(self, remarks).map(InstructionKind::Cmd),
            "COPY" => parse_copy::copy(self).map(InstructionKind::Copy),
            "ENTRYPOINT" => parse_run::command(self, remarks).map(InstructionKind::Entrypoint),
            "ENV" => parse_pairs::pairs(self, remarks).map(InstructionKind::Env),
            "EXPOSE" => self.words().map(InstructionKind::Expose),
            "HEALTHCHECK" => parse_run::healthcheck(self, remarks).map(InstructionKind::Healthcheck),
            "LABEL" => parse_pairs::pairs(self, remarks).map(InstructionKind::Label),
            "MAINTAINER" => self.whole().map(InstructionKind::Maintainer),
            "ONBUILD" => self.trigger().map(InstructionKind::OnBuild),
            "RUN" => parse_run::run(self, remarks).map(InstructionKind::Run),
            "SHELL" => parse_run::shell(self).map(InstructionKind::Shell),
            "STOPSIGNAL" => self.whole().map(InstructionKind::StopSignal),
            "USER" => self.whole().map(InstructionKind::User),
            "VOLUME" => self.volumes().map(InstructionKind::Volume),
            "WORKDIR" => self.whole().map(InstructionKind::Workdir),
            _ => Err(self.keyword.problem("FROM is not allowed here")),
        }
    }

    /// Refuses what is left of the flags, then requires arguments.
    pub(crate) fn needs_arguments(&mut self) -> Parsed<()> {
        std::mem::replace(&mut self.flags, Flags::split(self.arguments.slice(0..0), self.escape).0)
            .finish(&self.name)?;
        if self.arguments.is_empty() {
            return Err(self.keyword.problem(format!("{} needs an argument", self.name)));
        }
        Ok(())
    }

    fn whole(mut self) -> Parsed<String> {
        self.needs_arguments()?;
        Ok(self.arguments.text.to_owned())
    }

    fn words(mut self) -> Parsed<Vec<String>> {
        self.needs_arguments()?;
        Ok(self.arguments.words().into_iter().map(|word| word.text.to_owned()).collect())
    }

    fn volumes(mut self) -> Parsed<Vec<String>> {
        self.needs_arguments()?;
        let volumes = self.list()?;
        if volumes.is_empty() || volumes.iter().any(|volume| volume.trim().is_empty()) {
            return Err(self.arguments.problem("a volume cannot be an empty text"));
        }
        Ok(volumes.into_iter().map(|volume| volume.trim().to_owned()).collect())
    }

    /// A JSON array, or words.
    pub(crate) fn list(&self) -> Parsed<Vec<String>> {
        let words = || self.arguments.words().into_iter().map(|word| word.text.to_owned()).collect();
        Ok(json_array(self.arguments)?.unwrap_or_else(words))
    }

    fn trigger(mut self) -> Parsed<String> {
        self.needs_arguments()?;
        let mut inner = Statement::split(self.arguments, self.escape)?;
        refuse_as_trigger(&inner)?;
        inner.heredocs.clone_from(&self.heredocs);
        inner.instruction(&mut Vec::new())?;
        let mut text = self.arguments.text.to_owned();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Ok(text)
    }
}

fn refuse_as_trigger(statement: &Statement<'_>) -> Parsed<()> {
    let refused = matches!(statement.name.as_str(), "ONBUILD" | "FROM" | "MAINTAINER");
    let message = format!("{} cannot be an ONBUILD trigger, nor a change of a config", statement.name);
    if refused { Err(statement.keyword.problem(message)) } else { Ok(()) }
}

fn unknown(keyword: Fragment<'_>, name: &str) -> Problem {
    let shown: String = keyword.text.chars().take(40).collect();
    let problem = keyword.problem(format!("unknown instruction {shown:?}"));
    match nearest(name, &KEYWORDS) {
        Some(meant) => problem.with_hint(format!("did you mean {meant}?")),
        None => problem.with_hint("a line that continues the one before needs \\ at the end of that line"),
    }
}

/// Reads the arguments as a JSON array of strings; `None` when they are not JSON, which makes them shell form.
pub(crate) fn json_array(arguments: Fragment<'_>) -> Parsed<Option<Vec<String>>> {
    if !arguments.text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(arguments.text) else { return Ok(None) };
    let texts = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(arguments.problem("the array of an exec form may contain only strings")),
    });
    texts.collect::<Parsed<Vec<String>>>().map(Some)
}
