//! The patterns of `${name#pattern}` and its kin: `?` is one character, `*` any number, `\` makes the next literal.
//!
//! Matching follows all positions of the pattern at once, so its cost is bounded by pattern times text and never
//! explodes; a budget bounds even that.

/// What a pattern may match at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Literal(char),
    Any,
    Star,
}

/// Whether the shortest or the longest match is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Shortest,
    Longest,
}

/// A compiled pattern.
pub(crate) struct Pattern {
    tokens: Vec<Token>,
    /// Steps that may still be made.
    budget: u64,
}

const BUDGET: u64 = 50_000_000;

pub(crate) type Matched<T> = Result<T, String>;

impl Pattern {
    pub(crate) fn new(text: &[char]) -> Matched<Self> {
        let mut tokens = Vec::with_capacity(text.len());
        let mut characters = text.iter().copied();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    Some(next @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(next),
                    Some(next) => return Err(format!("invalid escape \\{next} in a pattern")),
                    None => return Err("a pattern ends with an escape".to_owned()),
                },
                other => Token::Literal(other),
            });
        }
        Ok(Self { tokens, budget: BUDGET })
    }

    /// `${name#pattern}`: the text without what matches at its begin.
    pub(crate) fn trim_prefix(mut self, text: &[char], reach: Reach) -> Matched<String> {
        let end = self.match_length(text, reach)?.unwrap_or(0);
        Ok(text[end..].iter().collect())
    }

    /// `${name%pattern}`: the text without what matches at its end.
    pub(crate) fn trim_suffix(mut self, text: &[char], reach: Reach) -> Matched<String> {
        self.tokens.reverse();
        let reversed: Vec<char> = text.iter().rev().copied().collect();
        let length = self.match_length(&reversed, reach)?.unwrap_or(0);
        Ok(text[..text.len() - length].iter().collect())
    }

    /// `${name/pattern/replacement}`: the first match, or all of them, replaced.
    pub(crate) fn replace(mut self, text: &[char], replacement: &str, all: bool) -> Matched<String> {
        let mut replaced = String::new();
        let mut at = 0;
        while at < text.len() {
            match self.match_length(&text[at..], Reach::Longest)? {
                Some(length) if length > 0 => {
                    replaced.push_str(replacement);
                    at += length;
                    if !all {
                        break;
                    }
                }
                _ => {
                    replaced.push(text[at]);
                    at += 1;
                }
            }
        }
        replaced.extend(&text[at..]);
        Ok(replaced)
    }

    /// The length of the match at the begin of `text`.
    fn match_length(&mut self, text: &[char], reach: Reach) -> Matched<Option<usize>> {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        self.skip_stars(&mut states);
        let mut found = None;
        for length in 0..=text.len() {
            if states[self.tokens.len()] {
                found = Some(length);
                if reach == Reach::Shortest {
                    break;
                }
            }
            let Some(character) = text.get(length) else { break };
            let cost = states.len() as u64;
            self.budget = self.budget.checked_sub(cost).ok_or("the pattern needs too many steps")?;
            states = self.step(&states, *character);
            if !states.contains(&true) {
                break;
            }
        }
        Ok(found)
    }

    fn step(&self, states: &[bool], character: char) -> Vec<bool> {
        let mut next = vec![false; states.len()];
        for (index, token) in self.tokens.iter().enumerate().filter(|(index, _)| states[*index]) {
            match token {
                Token::Star => next[index] = true,
                Token::Any => next[index + 1] = true,
                Token::Literal(literal) => next[index + 1] |= *literal == character,
            }
        }
        self.skip_stars(&mut next);
        next
    }

    /// A star may match nothing.
    fn skip_stars(&self, states: &mut [bool]) {
        for (index, token) in self.tokens.iter().enumerate() {
            if states[index] && *token == Token::Star {
                states[index + 1] = true;
            }
        }
    }
}
