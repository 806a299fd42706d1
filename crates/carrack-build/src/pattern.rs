//! Patterns of file names: Go's `filepath.Match`, and the `**` that `.dockerignore` adds to it.
//!
//! A pattern is followed along a path character by character, all its positions at once. So the work for a folder's
//! path is done once for all that is in it, and no pattern takes more than its length times the path's.

use crate::{Error, Result};

/// A part of a pattern that takes at most one character at a time.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(char),
    /// `?`: one character that is no `/`.
    Any,
    /// `*`: characters that are no `/`.
    Star,
    /// `[a-z]`, `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// The begin of `**/`: what follows [`Token::Deep`] may come at once.
    MaybeDeep,
    /// `**/`: any characters up to a `/`.
    Deep,
    /// `**` at the end: all the rest.
    Rest,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

/// The positions in a pattern that a path may have reached, in ascending order.
pub(crate) type Positions = Vec<u32>;

/// Memory that is used again for each name.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    here: Positions,
    next: Positions,
}

/// Whether `name` matches a pattern of Go's `path.Match`, whose `*` does not take a `/`.
pub fn name_matches(pattern: &str, name: &str) -> Result<bool> {
    Ok(Pattern::name(pattern)?.matches(name))
}

impl Pattern {
    /// A pattern of `.dockerignore`, with `**`.
    pub(crate) fn deep(text: &str) -> Result<Self> {
        Self::compile(text, true)
    }

    /// A pattern for one name of a path.
    pub(crate) fn name(text: &str) -> Result<Self> {
        Self::compile(text, false)
    }

    fn compile(text: &str, deep: bool) -> Result<Self> {
        let refuse = |reason| Error::Pattern { pattern: text.to_owned(), reason };
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '*' if deep && characters.next_if_eq(&'*').is_some() => {
                    while characters.next_if_eq(&'*').is_some() {}
                    characters.next_if_eq(&'/');
                    if characters.peek().is_none() {
                        tokens.push(Token::Rest);
                    } else {
                        tokens.extend([Token::MaybeDeep, Token::Deep]);
                    }
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::Any),
                '[' => tokens.push(class(&mut characters).ok_or_else(|| refuse("a [ without its ]"))?),
                '\\' => {
                    let escaped = characters.next().ok_or_else(|| refuse("it ends with a \\"))?;
                    tokens.push(Token::Literal(escaped));
                }
                other => tokens.push(Token::Literal(other)),
            }
        }
        Ok(Self { tokens })
    }

    /// Whether `name` as a whole matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.matches_from(&self.begin(), name, &mut Scratch::default())
    }

    /// Whether `text` ends a match that has come as far as `positions`.
    pub(crate) fn matches_from(&self, positions: &Positions, text: &str, scratch: &mut Scratch) -> bool {
        let Scratch { here, next } = scratch;
        here.clone_from(positions);
        self.follow(here, next, text);
        self.is_match(here)
    }

    pub(crate) fn begin(&self) -> Positions {
        let mut positions = Positions::new();
        self.reach(0, &mut positions);
        positions
    }

    /// Goes on along `text`.
    pub(crate) fn advance(&self, positions: &mut Positions, text: &str) {
        self.follow(positions, &mut Positions::new(), text);
    }

    fn follow(&self, positions: &mut Positions, next: &mut Positions, text: &str) {
        for character in text.chars() {
            if positions.is_empty() {
                return;
            }
            next.clear();
            for position in positions.iter().copied() {
                self.take(position, character, next);
            }
            std::mem::swap(positions, next);
        }
    }

    pub(crate) fn is_match(&self, positions: &Positions) -> bool {
        positions.last().is_some_and(|last| *last as usize == self.tokens.len())
    }

    fn take(&self, position: u32, character: char, next: &mut Positions) {
        let goes_on = match self.tokens.get(position as usize) {
            None => return,
            Some(Token::MaybeDeep) => return, // its `Deep` is among the positions
            Some(Token::Rest) => return self.reach(position, next),
            Some(Token::Star) if character != '/' => return self.reach(position, next),
            Some(Token::Deep) => {
                self.reach(position, next);
                character == '/'
            }
            Some(Token::Star) => false,
            Some(Token::Any) => character != '/',
            Some(Token::Literal(literal)) => *literal == character,
            Some(Token::Class { negated, ranges }) => {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                inside != *negated && character != '/'
            }
        };
        if goes_on {
            self.reach(position + 1, next);
        }
    }

    /// Adds a position, and those that follow it without a character.
    fn reach(&self, position: u32, positions: &mut Positions) {
        if let Err(at) = positions.binary_search(&position) {
            positions.insert(at, position);
        } else {
            return;
        }
        match self.tokens.get(position as usize) {
            Some(Token::Star | Token::Rest) => self.reach(position + 1, positions),
            Some(Token::MaybeDeep) => {
                self.reach(position + 1, positions);
                self.reach(position + 2, positions);
            }
            _ => {}
        }
    }
}

fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && characters.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = class_character(characters)?;
        let high = match characters.next_if_eq(&'-') {
            Some(_) => class_character(characters)?,
            None => low,
        };
        ranges.push((low, high));
    }
}

fn class_character(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match characters.next()? {
        '\\' => characters.next(),
        '-' | ']' => None,
        other => Some(other),
    }
}

/// Whether a path contains a character that makes it a pattern.
pub(crate) fn has_wildcard(text: &str) -> bool {
    let mut escaped = false;
    text.chars().any(|character| {
        let special = !escaped && matches!(character, '*' | '?' | '[');
        escaped = !escaped && character == '\\';
        special
    })
}
