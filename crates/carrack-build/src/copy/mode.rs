//! `--chmod`: octal, or symbolic as `chmod(1)` has it (`u=rwX,go=rX`, `+x`, `g=u`), with an empty umask.

use crate::{Error, Result};

/// A change of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    Octal(u32),
    Symbolic(Vec<Change>),
}

/// `who`, an operator, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    who: Who,
    operator: char,
    what: What,
}

/// Which of user, group and others; whether set-id bits and the sticky bit belong to it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who {
    user: bool,
    group: bool,
    other: bool,
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Bits {
        rwx: u32,
        conditional_x: bool,
        set_id: bool,
        sticky: bool,
    },
    /// The bits of `u`, `g` or `o`: how far they are shifted.
    Same(u32),
}

impl ModeChange {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "invalid --chmod {text:?}: expected octal as 0755, or symbolic as u=rwX,go=rX"
            ))
        };
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(wrong);
        }
        let clauses: Option<Vec<Vec<Change>>> = text.split(',').map(clause).collect();
        clauses.map(|clauses| Self::Symbolic(clauses.concat())).ok_or_else(wrong)
    }

    /// The new mode of a file or folder that has `mode`.
    pub(crate) fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => {
                changes.iter().fold(mode, |mode, change| change.apply(mode, is_folder))
            }
        }
    }
}

fn clause(text: &str) -> Option<Vec<Change>> {
    let operators = text.find(['+', '-', '='])?;
    let mut who = Who { user: false, group: false, other: false, all: operators == 0 };
    for letter in text[..operators].chars() {
        match letter {
            'u' => who.user = true,
            'g' => who.group = true,
            'o' => who.other = true,
            'a' => who.all = true,
            _ => return None,
        }
    }
    let mut changes = Vec::new();
    let mut rest = &text[operators..];
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        changes.push(Change { who, operator, what: what(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(changes)
}

fn what(text: &str) -> Option<What> {
    match text {
        "u" => return Some(What::Same(6)),
        "g" => return Some(What::Same(3)),
        "o" => return Some(What::Same(0)),
        _ => {}
    }
    let (mut rwx, mut conditional_x, mut set_id, mut sticky) = (0, false, false, false);
    for letter in text.chars() {
        match letter {
            'r' => rwx |= 4,
            'w' => rwx |= 2,
            'x' => rwx |= 1,
            'X' => conditional_x = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(What::Bits { rwx, conditional_x, set_id, sticky })
}

impl Who {
    fn mask(self) -> u32 {
        let part = |given: bool, mask| if given || self.all { mask } else { 0 };
        part(self.user, 0o4700) | part(self.group, 0o2070) | part(self.other, 0o0007) | part(false, 0o1000)
    }
}

impl Change {
    fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        let mask = self.who.mask();
        let bits = mask & self.bits(mode, is_folder);
        // `=` on a folder leaves its set-id bits, as chmod(1) does.
        let cleared = if is_folder { mask & 0o0777 } else { mask };
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !cleared | bits,
        }
    }

    fn bits(&self, mode: u32, is_folder: bool) -> u32 {
        match self.what {
            What::Same(shift) => (mode >> shift & 0o7) * 0o111,
            What::Bits { rwx, conditional_x, set_id, sticky } => {
                let execute = conditional_x && (is_folder || mode & 0o111 != 0);
                let rwx = rwx | u32::from(execute);
                (rwx * 0o111) | if set_id { 0o6000 } else { 0 } | if sticky { 0o1000 } else { 0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_modes_as_chmod_does() {
        for (change, mode, is_folder, expected) in [
            ("755", 0o600, false, 0o755),
            ("0644", 0o755, true, 0o644),
            ("4755", 0o600, false, 0o4755),
            ("+x", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o750, false, 0o770),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("go=", 0o777, false, 0o700),
            ("u+s,o+t", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("u=rw+x-r", 0o000, false, 0o300),
            ("a=r", 0o4755, false, 0o444),
            ("a=rx", 0o2755, true, 0o2555),
        ] {
            let got = ModeChange::parse(change).unwrap().apply(mode, is_folder);
            assert_eq!(got, expected, "{change} of {mode:o}: {got:o}");
        }
        for wrong in ["", "8", "10000", "x", "u", "z+x", "u+q", "u+x,,g+x", "0x1", "-1"] {
            assert!(ModeChange::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
