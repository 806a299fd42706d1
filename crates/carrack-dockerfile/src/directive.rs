//! Parser directives (Dockerfile reference, "Parser directives"): comments of the form `# name=value` at the top.

use crate::ParseError;

/// What the directives of a file say.
#[derive(Debug)]
pub(crate) struct Directives {
    pub(crate) escape: char,
    pub(crate) syntax: Option<String>,
    pub(crate) check: Option<String>,
}

impl Directives {
    /// Reads the directives; the first line that is none ends them.
    pub(crate) fn read(text: &str) -> Result<Self, ParseError> {
        let mut directives = Self { escape: '\\', syntax: None, check: None };
        let mut escape_seen = false;
        for (index, line) in text.lines().enumerate() {
            let Some((name, value)) = split(line) else { break };
            let twice = match name.to_ascii_lowercase().as_str() {
                "escape" => {
                    directives.escape = escape_character(value).ok_or_else(|| {
                        error(index, line, format!("invalid escape directive {value:?}: expected \\ or `"))
                    })?;
                    std::mem::replace(&mut escape_seen, true)
                }
                "syntax" => directives.syntax.replace(value.to_owned()).is_some(),
                "check" => directives.check.replace(value.to_owned()).is_some(),
                _ => break,
            };
            if twice {
                return Err(error(index, line, format!("the directive {name:?} may be used only once")));
            }
        }
        Ok(directives)
    }
}

fn escape_character(value: &str) -> Option<char> {
    match value {
        "\\" => Some('\\'),
        "`" => Some('`'),
        _ => None,
    }
}

fn split(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (valid && !value.is_empty()).then_some((name, value))
}

fn error(index: usize, line: &str, message: String) -> ParseError {
    ParseError { line: index + 1, columns: 1..line.chars().count() + 1, message, hint: None }
}
