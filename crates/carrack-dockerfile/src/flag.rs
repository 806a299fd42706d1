//! Flags of instructions: the words that begin with `--` before the arguments.

use crate::fragment::{Fragment, Parsed, is_blank, nearest};

/// The flags of one instruction; each reader takes what it knows, [`Flags::finish`] refuses the rest.
#[derive(Debug)]
pub(crate) struct Flags<'a> {
    flags: Vec<Flag<'a>>,
    known: Vec<&'static str>,
}

/// One `--name[=value]`.
#[derive(Clone, Debug)]
pub(crate) struct Flag<'a> {
    name: String,
    pub(crate) value: Option<String>,
    pub(crate) at: Fragment<'a>,
}

impl<'a> Flags<'a> {
    /// Splits the flags off; a word `--` ends them.
    pub(crate) fn split(arguments: Fragment<'a>, escape: char) -> (Self, Fragment<'a>) {
        let mut flags = Vec::new();
        let mut rest = arguments.trim();
        while rest.text.starts_with("--") {
            let (text, length) = unquoted_word(rest.text, escape);
            let at = rest.slice(0..length);
            rest = rest.from(length).trim();
            if text == "--" {
                break;
            }
            let (name, value) = match text[2..].split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text[2..].to_owned(), None),
            };
            flags.push(Flag { name, value, at });
        }
        (Self { flags, known: Vec::new() }, rest)
    }

    /// Takes all flags of a name that may be repeated.
    pub(crate) fn all(&mut self, name: &'static str) -> Parsed<Vec<(String, Fragment<'a>)>> {
        self.known.push(name);
        let taken: Vec<Flag<'a>> = self.flags.extract_if(.., |flag| flag.name == name).collect();
        taken
            .into_iter()
            .map(|flag| match flag.value {
                Some(value) => Ok((value, flag.at)),
                None => Err(flag.at.problem(format!("--{name} needs a value: --{name}=..."))),
            })
            .collect()
    }

    /// Takes a flag that has a value.
    pub(crate) fn one(&mut self, name: &'static str) -> Parsed<Option<(String, Fragment<'a>)>> {
        let mut all = self.all(name)?;
        if let Some((_, at)) = all.get(1) {
            return Err(at.problem(format!("--{name} may be given only once")));
        }
        Ok(all.pop())
    }

    /// The value alone.
    pub(crate) fn text(&mut self, name: &'static str) -> Parsed<Option<String>> {
        Ok(self.one(name)?.map(|(value, _)| value))
    }

    /// Takes a flag that is on without a value.
    pub(crate) fn switch(&mut self, name: &'static str) -> Parsed<Option<bool>> {
        for flag in self.flags.iter_mut().filter(|flag| flag.name == name && flag.value.is_none()) {
            flag.value = Some("true".to_owned());
        }
        let Some((value, at)) = self.one(name)? else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(at.problem(format!("invalid value {value:?} of --{name}: expected true or false"))),
        }
    }

    /// Refuses the flags that nobody took.
    pub(crate) fn finish(self, instruction: &str) -> Parsed<()> {
        let Some(flag) = self.flags.first() else { return Ok(()) };
        let problem = flag.at.problem(format!("{instruction} has no flag --{}", flag.name));
        Err(match nearest(&flag.name, &self.known) {
            Some(known) => problem.with_hint(format!("did you mean --{known}?")),
            None if self.known.is_empty() => problem.with_hint("in exec form, words may begin with --"),
            None => problem.with_hint(format!("{instruction} takes --{}", self.known.join(", --"))),
        })
    }
}

/// The first word without quotes and escapes, and its length as written.
fn unquoted_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut open: Option<char> = None;
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match (character, open) {
            (c, None) if is_blank(c) => return (word, index),
            (c, Some(quote)) if c == quote => open = None,
            ('\'' | '"', None) => open = Some(character),
            (c, _) if c == escape => word.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => word.push(character),
        }
    }
    (word, text.len())
}
