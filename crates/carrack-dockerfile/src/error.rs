//! Errors and warnings that point at their place in the text.

use std::fmt::Write as _;
use std::ops::Range;

/// Why a text is not a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The characters that are wrong, from 1; the end is excluded.
    pub columns: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ParseError {
    /// The error with the line it is about and a caret below the place, for the terminal. `text` is what was parsed.
    pub fn render(&self, file: &str, text: &str) -> String {
        let Range { start, end } = self.columns;
        let mut shown = format!("{file}:{}:{start}: {}\n", self.line, self.message);
        if let Some(line) = text.lines().nth(self.line.saturating_sub(1)) {
            let before: String = line
                .chars()
                .take(start.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let carets = "^".repeat(end.saturating_sub(start).clamp(1, 200));
            let printable: String =
                line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(shown, "{:5} | {printable}\n      | {before}{carets}", self.line);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(shown, "hint: {hint}");
        }
        shown
    }
}

/// Something that is allowed, but most likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The line, from 1.
    pub line: usize,
    /// What looks wrong.
    pub message: String,
}
