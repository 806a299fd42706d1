//! `COPY` and `ADD`.

use crate::fragment::{Fragment, Parsed};
use crate::parse::Statement;
use crate::{Copy, CopySource, Heredoc};

pub(crate) fn copy(mut statement: Statement<'_>) -> Parsed<Copy> {
    let from = statement.flags.one("from")?;
    if let Some((from, at)) = &from
        && from.contains('$')
    {
        let problem = at.problem("--from cannot have variables");
        return Err(problem.with_hint("give a stage the name, as in FROM $BASE AS name, and copy from that"));
    }
    let from = from.map(|(from, _)| from).filter(|from| !from.is_empty());
    let parents = statement.flags.switch("parents")?.unwrap_or(false);
    let flags = Copy { from, parents, ..common_flags(&mut statement)? };
    finish(statement, flags)
}

pub(crate) fn add(mut statement: Statement<'_>) -> Parsed<Copy> {
    let checksum = statement.flags.text("checksum")?;
    let keep_git_dir = statement.flags.switch("keep-git-dir")?;
    let unpack = statement.flags.switch("unpack")?;
    let flags = Copy { checksum, keep_git_dir, unpack, ..common_flags(&mut statement)? };
    finish(statement, flags)
}

fn common_flags(statement: &mut Statement<'_>) -> Parsed<Copy> {
    Ok(Copy {
        chown: statement.flags.text("chown")?,
        chmod: statement.flags.text("chmod")?,
        link: statement.flags.switch("link")?.unwrap_or(false),
        excludes: statement.flags.all("exclude")?.into_iter().map(|(pattern, _)| pattern).collect(),
        ..Copy::default()
    })
}

fn finish(mut statement: Statement<'_>, flags: Copy) -> Parsed<Copy> {
    statement.needs_arguments()?;
    let arguments = statement.arguments;
    let mut words = match statement.heredocs.is_empty() {
        true => statement.list()?,
        // `<< EOF` is one word although it has a blank.
        false => join_markers(arguments),
    };
    let destination = words.pop().unwrap_or_default();
    if words.is_empty() {
        return Err(arguments.problem(format!("{} needs a source and a destination", statement.name)));
    }
    if Heredoc::from_word(&destination).is_some() {
        return Err(arguments.problem("a here-document cannot be a destination"));
    }
    let mut heredocs = statement.heredocs.into_iter();
    let mut source = |word: String| match Heredoc::from_word(&word).and_then(|_| heredocs.next()) {
        Some(heredoc) if is_file_name(&heredoc.name) => Ok(CopySource::Inline(heredoc)),
        Some(heredoc) => Err(arguments.problem(format!("{:?} cannot be the name of a file", heredoc.name))),
        None => Ok(CopySource::Path(word)),
    };
    let sources = words.into_iter().map(&mut source).collect::<Parsed<Vec<CopySource>>>()?;
    Ok(Copy { sources, destination, ..flags })
}

fn join_markers(arguments: Fragment<'_>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in arguments.words() {
        match words.last_mut() {
            Some(last) if matches!(last.as_str(), "<<" | "<<-") => last.push_str(word.text),
            _ => words.push(word.text.to_owned()),
        }
    }
    words
}

fn is_file_name(name: &str) -> bool {
    !name.contains(['/', '\0']) && !matches!(name, "." | "..")
}
