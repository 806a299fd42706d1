//! `ENV`, `LABEL` and `ARG`.

use crate::fragment::{Fragment, Parsed, is_blank};
use crate::parse::Statement;
use crate::{ArgDeclaration, Pair};

/// `key=value ...`, or the old form `key value`.
pub(crate) fn pairs(mut statement: Statement<'_>, remarks: &mut Vec<String>) -> Parsed<Vec<Pair>> {
    statement.needs_arguments()?;
    let words = quoted_words(statement.arguments, statement.escape);
    if words.first().is_some_and(|first| !first.text.contains('=')) {
        let (key, value) = statement.arguments.split_word();
        if value.is_empty() {
            return Err(key.problem(format!("{} needs a value: {}=...", statement.name, key.text)));
        }
        let name = &statement.name;
        remarks.push(format!("the old form of {name}: write {name} {}=value", key.text));
        return Ok(vec![Pair { key: key.text.to_owned(), value: value.text.to_owned() }]);
    }
    words.into_iter().map(|word| pair(word, &statement.name)).collect()
}

fn pair(word: Fragment<'_>, instruction: &str) -> Parsed<Pair> {
    let Some((key, value)) = word.text.split_once('=') else {
        let hint = "a value with blanks needs quotes: key=\"some value\"";
        return Err(word.problem(format!("expected key=value, got {:?}", word.text)).with_hint(hint));
    };
    if key.is_empty() {
        return Err(word.problem(format!("a name of {instruction} cannot be empty")));
    }
    Ok(Pair { key: key.to_owned(), value: value.to_owned() })
}

pub(crate) fn arg(mut statement: Statement<'_>) -> Parsed<Vec<ArgDeclaration>> {
    statement.needs_arguments()?;
    let words = quoted_words(statement.arguments, statement.escape).into_iter();
    words
        .map(|word| {
            let (name, default) = match word.text.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word.text, None),
            };
            if name.is_empty() || name.contains(['"', '\'']) {
                return Err(
                    word.problem(format!("invalid name {name:?} of ARG: expected name or name=default"))
                );
            }
            Ok(ArgDeclaration { name: name.to_owned(), default })
        })
        .collect()
}

/// Splits at blanks that are neither quoted nor escaped; quotes and escapes stay in the words.
fn quoted_words(arguments: Fragment<'_>, escape: char) -> Vec<Fragment<'_>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut open: Option<char> = None;
    let mut characters = arguments.text.char_indices();
    while let Some((index, character)) = characters.next() {
        if open.is_none() && is_blank(character) {
            words.extend(start.take().map(|start| arguments.slice(start..index)));
            continue;
        }
        start.get_or_insert(index);
        match (character, open) {
            (c, Some(quote)) if c == quote => open = None,
            ('\'' | '"', None) => open = Some(character),
            (c, None | Some('"')) if c == escape => {
                characters.next();
            }
            _ => {}
        }
    }
    words.extend(start.map(|start| arguments.from(start)));
    words
}
