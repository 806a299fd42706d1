//! Here-documents (Dockerfile reference, "Here-Documents"): finding `<<EOF` words, and the bodies that follow.

use crate::fragment::{Fragment, Parsed};
use crate::line::LineReader;

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; also the name of the file that `COPY <<name` makes.
    pub name: String,
    /// Whether variables in it are expanded: no part of the word was quoted.
    pub expand: bool,
    /// `<<-`: tabs at the begin of each line are dropped.
    pub strip_tabs: bool,
    /// The lines between, each with its line end.
    pub content: String,
}

impl Heredoc {
    /// The body, without leading tabs where the word asked for it.
    pub fn body(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// Reads `word` as `[fd]<<[-]word`; the content is empty still.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let rest = rest.trim_start();
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let (name, quoted) = unquote(rest)?;
        let single = !name.is_empty() && !name.contains(char::is_whitespace);
        single.then_some(Self { name, expand: !quoted, strip_tabs, content: String::new() })
    }
}

/// Removes quotes and escapes; `None` when a quote is not closed.
fn unquote(text: &str) -> Option<(String, bool)> {
    let mut plain = String::new();
    let mut quoted = false;
    let mut open: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, open) {
            (c, Some(quote)) if c == quote => open = None,
            ('\'' | '"', None) => {
                open = Some(character);
                quoted = true;
            }
            ('\\', None | Some('"')) => plain.push(characters.next()?),
            _ => plain.push(character),
        }
    }
    open.is_none().then_some((plain, quoted))
}

/// The here-documents that the arguments of an instruction announce, in order.
pub(crate) fn announced(arguments: Fragment<'_>) -> Vec<Heredoc> {
    if !arguments.text.contains("<<") {
        return Vec::new();
    }
    quoted_words(arguments.text).iter().filter_map(|word| Heredoc::from_word(word)).collect()
}

/// Splits as a shell does, but keeps quotes and escapes; blanks after `<<` belong to the word.
fn quoted_words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut open: Option<char> = None;
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        if open.is_none() && character.is_whitespace() {
            let after_marker = start.is_some_and(|start| is_marker(&text[start..index]));
            if !after_marker && let Some(start) = start.take() {
                words.push(&text[start..index]);
            }
            continue;
        }
        start.get_or_insert(index);
        match (character, open) {
            (c, Some(quote)) if c == quote => open = None,
            ('\'' | '"', None) => open = Some(character),
            ('\\', None | Some('"')) => {
                characters.next();
            }
            _ => {}
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

fn is_marker(word: &str) -> bool {
    matches!(word.trim_end().trim_start_matches(|c: char| c.is_ascii_digit()), "<<" | "<<-")
}

/// Takes the bodies of `heredocs` from the lines that follow the instruction.
pub(crate) fn read_bodies(
    heredocs: &mut [Heredoc],
    lines: &mut LineReader<'_>,
    at: Fragment<'_>,
) -> Parsed<()> {
    for heredoc in heredocs {
        loop {
            let Some(line) = lines.raw() else {
                let message = format!("here-document without its end: expected a line {:?}", heredoc.name);
                let hint = "a << that begins no here-document must be quoted";
                return Err(at.problem(message).with_hint(hint));
            };
            let bare = line.trim_end_matches(['\r', '\n']);
            let bare = if heredoc.strip_tabs { bare.trim_start_matches('\t') } else { bare };
            if bare == heredoc.name {
                break;
            }
            heredoc.content.push_str(line);
        }
    }
    Ok(())
}
