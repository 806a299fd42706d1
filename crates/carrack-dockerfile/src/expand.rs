//! Expansion of variables (Dockerfile reference, "Environment replacement"): quotes, escapes, `$name`, `${name}` and
//! the modifiers `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`.
//!
//! Invariant: the result is at most [`MAX_BYTES`] long, whatever the variables hold.

use crate::pattern::{Pattern, Reach};

/// The longest text that an expansion may give.
const MAX_BYTES: usize = 1 << 20;

/// How deep `${a:-${b:-...}}` may nest.
const MAX_DEPTH: usize = 100;

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot expand {text:?}: {reason}")]
pub struct ExpandError {
    /// The text, cut to a printable length.
    pub text: String,
    /// What is wrong.
    pub reason: String,
}

/// Expands texts with the variables that are set at one place of a Dockerfile.
pub struct Expander<'a> {
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Expander<'a> {
    /// An expander with the file's escape character; `lookup` gives the value of a variable that is set.
    pub fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { escape, lookup }
    }

    /// Expands a word; blanks in it stay.
    pub fn word(&self, text: &str) -> Result<String, ExpandError> {
        Ok(self.run(text, self.escape, true)?.into_iter().map(|(character, _)| character).collect())
    }

    /// Expands, then splits at blanks that are not quoted: a variable may give several words.
    pub fn words(&self, text: &str) -> Result<Vec<String>, ExpandError> {
        let expanded = self.run(text, self.escape, true)?;
        let words = expanded.split(|(character, literal)| !literal && character.is_whitespace());
        Ok(words.filter(|word| !word.is_empty()).map(|word| word.iter().map(|(c, _)| *c).collect()).collect())
    }

    /// Expands a here-document: quotes are ordinary characters, and the escape character is always `\`.
    pub fn document(&self, text: &str) -> Result<String, ExpandError> {
        Ok(self.run(text, '\\', false)?.into_iter().map(|(character, _)| character).collect())
    }

    fn run(&self, text: &str, escape: char, quotes: bool) -> Result<Vec<(char, bool)>, ExpandError> {
        let characters: Vec<char> = text.chars().collect();
        let mut scanner =
            Scanner { characters: &characters, at: 0, depth: 0, escape, quotes, lookup: self.lookup };
        scanner.until(None, false).map_err(|reason| {
            let text = text.chars().take(100).collect();
            ExpandError { text, reason }
        })
    }
}

/// Characters, each with whether it is literal (quoted or escaped) and so never splits words.
type Output = Vec<(char, bool)>;
type Scanned<T> = Result<T, String>;

struct Scanner<'a> {
    characters: &'a [char],
    at: usize,
    depth: usize,
    escape: char,
    quotes: bool,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += 1;
        Some(character)
    }

    /// Expands up to `stop` (which is consumed) or to the end. `keep_escapes`: a pattern reads them itself.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Scanned<Output> {
        let mut output = Output::new();
        while let Some(character) = self.next() {
            match character {
                c if Some(c) == stop => return Ok(output),
                '\'' if self.quotes => self.single_quoted(&mut output)?,
                '"' if self.quotes => self.double_quoted(&mut output, keep_escapes)?,
                '$' => {
                    let value = self.variable()?;
                    output.extend(value.chars().map(|c| (c, false)));
                }
                c if c == self.escape => {
                    if keep_escapes {
                        output.push((c, true));
                    }
                    output.extend(self.next().map(|escaped| (escaped, true)));
                }
                c => output.push((c, false)),
            }
            if output.len() > MAX_BYTES {
                return Err(format!("the result is longer than {MAX_BYTES} characters"));
            }
        }
        match stop {
            None => Ok(output),
            Some('}') => Err("a ${ without its }".to_owned()),
            Some(stop) => Err(format!("a ${{ without its {stop}")),
        }
    }

    fn single_quoted(&mut self, output: &mut Output) -> Scanned<()> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(character) => output.push((character, true)),
                None => return Err("a ' without its end".to_owned()),
            }
        }
    }

    fn double_quoted(&mut self, output: &mut Output, keep_escapes: bool) -> Scanned<()> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => {
                    let value = self.variable()?;
                    output.extend(value.chars().map(|c| (c, true)));
                    if output.len() > MAX_BYTES {
                        return Err(format!("the result is longer than {MAX_BYTES} characters"));
                    }
                }
                Some(character) if character == self.escape => {
                    let special =
                        self.peek().is_some_and(|next| matches!(next, '"' | '$') || next == self.escape);
                    if keep_escapes || !special {
                        output.push((character, true));
                    }
                    if special {
                        output.extend(self.next().map(|escaped| (escaped, true)));
                    }
                }
                Some(character) => output.push((character, true)),
                None => return Err("a \" without its end".to_owned()),
            }
        }
    }

    /// What follows a `$`.
    fn variable(&mut self) -> Scanned<String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                (self.lookup)(&name).unwrap_or_default()
            });
        }
        self.at += 1;
        if self.depth == MAX_DEPTH {
            return Err(format!("substitutions nest deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let value = self.substitution();
        self.depth -= 1;
        value
    }

    /// What follows a `${`, up to its `}`.
    fn substitution(&mut self) -> Scanned<String> {
        let name = self.name();
        if name.is_empty() {
            return Err("bad substitution: expected a name after ${".to_owned());
        }
        let value = (self.lookup)(&name);
        match self.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let value = value.filter(|value| !value.is_empty());
                match self.next() {
                    Some(operator @ ('-' | '+' | '?')) => {
                        self.alternative(&name, operator, value, "set and not empty")
                    }
                    other => Err(unsupported(&format!(":{}", shown(other)))),
                }
            }
            Some(operator @ ('-' | '+' | '?')) => self.alternative(&name, operator, value, "set"),
            Some(operator @ ('#' | '%')) => self.trim(operator, &value.unwrap_or_default()),
            Some('/') => self.replace(&value.unwrap_or_default()),
            None => Err("a ${ without its }".to_owned()),
            other => Err(unsupported(&shown(other))),
        }
    }

    fn alternative(
        &mut self,
        name: &str,
        operator: char,
        value: Option<String>,
        need: &str,
    ) -> Scanned<String> {
        let word = text(&self.until(Some('}'), false)?);
        match (operator, value) {
            ('-', None) => Ok(word),
            ('-' | '?', Some(value)) => Ok(value),
            ('+', Some(_)) => Ok(word),
            ('?', None) if word.is_empty() => Err(format!("{name} must be {need}")),
            ('?', None) => Err(format!("{name}: {word}")),
            _ => Ok(String::new()),
        }
    }

    fn trim(&mut self, operator: char, value: &str) -> Scanned<String> {
        let longest = self.peek() == Some(operator);
        self.at += usize::from(longest);
        let reach = if longest { Reach::Longest } else { Reach::Shortest };
        let word: Vec<char> = self.until(Some('}'), true)?.into_iter().map(|(c, _)| c).collect();
        let value: Vec<char> = value.chars().collect();
        let pattern = Pattern::new(&word)?;
        if operator == '#' { pattern.trim_prefix(&value, reach) } else { pattern.trim_suffix(&value, reach) }
    }

    fn replace(&mut self, value: &str) -> Scanned<String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let word: Vec<char> = self.until(Some('/'), true)?.into_iter().map(|(c, _)| c).collect();
        let replacement = text(&self.until(Some('}'), false)?);
        let value: Vec<char> = value.chars().collect();
        if value.len().saturating_mul(replacement.len()) > MAX_BYTES * 64 {
            return Err("the replacement gives too long a text".to_owned());
        }
        Pattern::new(&word)?.replace(&value, &replacement, all)
    }

    /// Letters, digits and `_`; only digits after a leading digit; or one of the shell's special names.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(character) = self.peek() {
            let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
            let special = name.is_empty() && "@*#?-$!".contains(character);
            let belongs = character.is_ascii_digit()
                || !starts_with_digit && (character.is_alphanumeric() || character == '_')
                || special;
            if !belongs {
                break;
            }
            name.push(character);
            self.at += 1;
            if special {
                break;
            }
        }
        name
    }
}

fn text(output: &[(char, bool)]) -> String {
    output.iter().map(|(character, _)| *character).collect()
}

fn shown(character: Option<char>) -> String {
    character.map(String::from).unwrap_or_default()
}

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier {modifier:?}: expected one of :- - :+ + :? ? # ## % %% / //")
}
