//! Slices of an instruction's text that know where they stand, so that an error can point at them.

use std::ops::Range;

/// What is wrong, and where in the logical line (byte offsets).
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

pub(crate) type Parsed<T> = Result<T, Problem>;

/// A part of a logical line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

impl<'a> Fragment<'a> {
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        Self { text: &self.text[range.clone()], start: self.start + range.start }
    }

    pub(crate) fn from(self, offset: usize) -> Self {
        self.slice(offset..self.text.len())
    }

    pub(crate) fn trim(self) -> Self {
        let end = self.text.trim_end().len();
        let start = end - self.text[..end].trim_start().len();
        self.slice(start..end)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.text.is_empty()
    }

    /// The first word and what follows it, without the white space between them.
    pub(crate) fn split_word(self) -> (Self, Self) {
        let all = self.trim();
        let end = all.text.find(is_blank).unwrap_or(all.text.len());
        (all.slice(0..end), all.from(end).trim())
    }

    /// All words, split at white space only.
    pub(crate) fn words(self) -> Vec<Self> {
        let mut rest = self;
        let mut words = Vec::new();
        loop {
            let (word, after) = rest.split_word();
            if word.is_empty() {
                return words;
            }
            words.push(word);
            rest = after;
        }
    }

    pub(crate) fn problem(self, message: impl Into<String>) -> Problem {
        Problem { span: self.start..self.start + self.text.len(), message: message.into(), hint: None }
    }
}

pub(crate) fn is_blank(character: char) -> bool {
    character.is_whitespace()
}

/// The candidate that a mistyped `word` most likely means.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let measured = candidates.iter().map(|candidate| (distance(word, candidate), *candidate));
    measured.filter(|(distance, _)| *distance <= allowed).min().map(|(_, candidate)| candidate)
}

/// Damerau's distance for neighbours: insertions, deletions, replacements, and swaps of two letters.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().take(64).collect(), right.chars().collect());
    // The first row and column: only insertions, only deletions.
    let edge = |i: usize, j: usize| if i == 0 { j } else { i };
    let row = |i: usize| (0..=right.len()).map(|j| edge(i, j)).collect::<Vec<usize>>();
    let mut rows: Vec<Vec<usize>> = (0..=left.len()).map(row).collect();
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let change = usize::from(left[i - 1] != right[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}
