//! Logical lines: physical lines joined at continuations, without comments, with a map back to where each part stood.

use std::ops::Range;

use crate::fragment::{Fragment, Problem};
use crate::{ParseError, Warning};

/// One instruction as it is written, continuations joined.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) text: String,
    pieces: Vec<Piece>,
    /// The physical lines, from 1, end excluded.
    pub(crate) lines: Range<usize>,
}

/// A part of a logical line that stood on one physical line.
#[derive(Debug)]
struct Piece {
    /// Where it begins in the logical text, in bytes.
    start: usize,
    line: usize,
    /// Where it begins on its physical line, in characters from 1.
    column: usize,
}

impl Line {
    pub(crate) fn fragment(&self) -> Fragment<'_> {
        Fragment { text: &self.text, start: 0 }
    }

    pub(crate) fn error(&self, problem: Problem) -> ParseError {
        let Problem { span, message, hint } = problem;
        let start = span.start.min(self.text.len());
        let index = self.pieces.partition_point(|piece| piece.start <= start).saturating_sub(1);
        let Some(piece) = self.pieces.get(index) else {
            return ParseError { line: self.lines.start, columns: 1..2, message, hint };
        };
        let piece_end = self.pieces.get(index + 1).map_or(self.text.len(), |next| next.start);
        let characters = |range: Range<usize>| self.text.get(range).map_or(0, |text| text.chars().count());
        let first = piece.column + characters(piece.start..start);
        let width = characters(start..span.end.clamp(start, piece_end)).max(1);
        ParseError { line: piece.line, columns: first..first + width, message, hint }
    }
}

/// Walks the physical lines of a file.
pub(crate) struct LineReader<'a> {
    lines: std::iter::Peekable<std::str::SplitInclusive<'a, char>>,
    /// The number of the line last taken, from 1.
    number: usize,
    escape: char,
    pub(crate) warnings: Vec<Warning>,
}

impl<'a> LineReader<'a> {
    pub(crate) fn new(text: &'a str, escape: char) -> Self {
        Self { lines: text.split_inclusive('\n').peekable(), number: 0, escape, warnings: Vec::new() }
    }

    /// The next physical line with its line end, as the body of a heredoc has it.
    pub(crate) fn raw(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.number += 1;
        Some(line)
    }

    /// The next instruction; comments and empty lines before and within it are dropped.
    pub(crate) fn instruction(&mut self) -> Option<Line> {
        let mut line = Line::default();
        let mut continued = false;
        let mut empty_line = false;
        while let Some(raw) = self.raw() {
            let physical = raw.trim_end_matches(['\r', '\n']);
            if physical.trim_start().starts_with('#') {
                continue;
            }
            if physical.trim().is_empty() {
                empty_line |= continued;
                continue;
            }
            let shown = if continued { physical } else { physical.trim_start() };
            let column = physical.chars().count() - shown.chars().count() + 1;
            if line.pieces.is_empty() {
                line.lines.start = self.number;
            }
            line.pieces.push(Piece { start: line.text.len(), line: self.number, column });
            let (part, more) = self.without_continuation(shown);
            line.text.push_str(part);
            continued = more;
            if !more {
                break;
            }
        }
        if line.pieces.is_empty() {
            return None;
        }
        line.lines.end = self.number + 1;
        if empty_line {
            let message =
                "an empty line within an instruction: the line before it ends with a continuation".to_owned();
            self.warnings.push(Warning { line: line.lines.start, message });
        }
        Some(line)
    }

    /// The line of the last raw line, for the range of an instruction with heredocs.
    pub(crate) fn next_number(&self) -> usize {
        self.number + 1
    }

    /// A line ends with a continuation when its last character that is not blank is the escape character, unless
    /// another escape character stands before it.
    fn without_continuation<'t>(&self, text: &'t str) -> (&'t str, bool) {
        let Some(before) = text.trim_end_matches([' ', '\t']).strip_suffix(self.escape) else {
            return (text, false);
        };
        if before.ends_with(self.escape) { (text, false) } else { (before, true) }
    }
}
