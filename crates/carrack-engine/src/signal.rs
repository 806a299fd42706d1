//! Signals as users name them: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.

use crate::{Error, Result};

/// Names by number, for what Linux has on every architecture that carrack runs on (signal(7)).
#[rustfmt::skip]
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
pub(crate) const KILL: i32 = 9;
/// The first real-time signal as C libraries count (the kernel's 32 and 33 are theirs), and the last.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal.
pub fn parse(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let number = match name {
        name if name.starts_with("RTMIN") => offset(&name[5..]).and_then(|offset| RTMIN.checked_add(offset)),
        name if name.starts_with("RTMAX") => offset(&name[5..]).and_then(|offset| RTMAX.checked_add(offset)),
        name => match NAMES.iter().position(|known| *known == name) {
            Some(position) => i32::try_from(position + 1).ok(),
            None => name.parse().ok(),
        },
    };
    number.filter(|number| (1..=RTMAX).contains(number)).ok_or_else(|| {
        Error::refused(
            format!("{text:?} is no signal"),
            "give a name or number of signal(7), as in TERM or 15",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let numbers = ["TERM", "SIGTERM", "sigkill", "15", "SIGRTMIN+3", "RTMAX-1", "SYS"]
            .map(|text| parse(text).unwrap());
        assert_eq!(numbers, [15, 15, 9, 15, 37, 63, 31]);
        for text in ["", "0", "65", "-1", "NOPE", "RTMIN-40", "RTMIN+999999999999"] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
