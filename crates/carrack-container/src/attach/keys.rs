//! The keys with which a user leaves a container that goes on running.

use std::str::FromStr;

use crate::{Error, Result};

/// A sequence of keys, as Docker writes it: `ctrl-p,ctrl-q`, `a,b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// `ctrl-p,ctrl-q`.
    fn default() -> Self {
        Self(vec![control(b'p'), control(b'q')])
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(Self).ok_or_else(|| Error::InvalidDetachKeys { text: text.chars().take(100).collect() })
    }
}

fn key(text: &str) -> Option<u8> {
    match (text.as_bytes(), text.strip_prefix("ctrl-").map(str::as_bytes)) {
        (_, Some([letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => {
            Some(control(*letter))
        }
        ([single], None) if single.is_ascii_graphic() => Some(*single),
        _ => None,
    }
}

fn control(letter: u8) -> u8 {
    letter & 0x1f
}

/// Looks for the keys in input that comes in pieces.
pub(super) struct KeyScanner<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl<'a> KeyScanner<'a> {
    pub(super) fn new(keys: &'a DetachKeys) -> Self {
        Self { keys: &keys.0, matched: 0 }
    }

    /// Appends to `passed` what is for the container; whether the whole sequence was typed. The beginning of a
    /// sequence is held back until the next key decides.
    pub(super) fn scan(&mut self, input: &[u8], passed: &mut Vec<u8>) -> bool {
        for byte in input {
            // On a mismatch the longest suffix that begins a sequence stays, the keys before it are let go.
            while self.matched > 0 && self.keys[self.matched] != *byte {
                let kept = (0..self.matched)
                    .rev()
                    .find(|kept| self.keys[..*kept] == self.keys[self.matched - kept..self.matched]);
                let kept = kept.unwrap_or(0);
                passed.extend_from_slice(&self.keys[..self.matched - kept]);
                self.matched = kept;
            }
            match self.keys[self.matched] == *byte {
                true => self.matched += 1,
                false => passed.push(*byte),
            }
            if self.matched == self.keys.len() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(keys: &str, pieces: &[&str]) -> (String, bool) {
        let keys = keys.parse().unwrap();
        let mut scanner = KeyScanner::new(&keys);
        let mut passed = Vec::new();
        let found = pieces.iter().any(|piece| scanner.scan(piece.as_bytes(), &mut passed));
        (String::from_utf8(passed).unwrap(), found)
    }

    #[test]
    fn finds_the_keys_and_passes_everything_else() {
        assert_eq!(scan("ctrl-p,ctrl-q", &["ls\n", "\x10", "\x11"]), ("ls\n".into(), true));
        assert_eq!(scan("ctrl-p,ctrl-q", &["a\x10b\x11"]), ("a\x10b\x11".into(), false));
        assert_eq!(scan("ctrl-p,ctrl-q", &["\x10\x10\x11"]), ("\x10".into(), true));
        assert_eq!(scan("a,a,b", &["aaab"]), ("a".into(), true));
        assert_eq!(scan("a,b,a,c", &["ababac"]), ("ab".into(), true));
    }

    #[test]
    fn refuses_what_is_no_key() {
        for text in ["", "ctrl-", "ctrl-P1", "ab", "a,,b", "ctrl-ä", "\n"] {
            assert!(text.parse::<DetachKeys>().is_err(), "{text:?} was accepted");
        }
        assert_eq!("ctrl-p,ctrl-q".parse::<DetachKeys>().unwrap(), DetachKeys::default());
    }
}
