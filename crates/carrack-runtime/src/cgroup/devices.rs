//! Device rules: as lines of v1's list, and as the BPF program that replaces it on v2.
//!
//! Invariant: of the rules that match a device, the last one decides, for each kind of access; what no rule matches is
//! denied.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use carrack_sys::IoContext;
use carrack_sys::bpf::{Instruction, attach_device_program, load_device_program};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{write, write_each};
use crate::{Error, Result};

// Bits of `bpf_cgroup_dev_ctx.access_type`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE_NODE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// A rule, checked.
struct Rule {
    allow: bool,
    /// `None` is both types.
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

impl Rule {
    fn new(rule: &LinuxDeviceCgroup) -> Result<Self> {
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(BLOCK),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(CHARACTER),
            LinuxDeviceType::P => return Err(Error::spec("expected a device rule of type a, b or c, got p")),
        };
        let number = |number: Option<i64>| match number {
            // -1 is "all" in runc's files.
            None | Some(-1) => Ok(None),
            Some(number) => i32::try_from(number)
                .ok()
                .filter(|number| *number >= 0)
                .map(Some)
                .ok_or_else(|| Error::spec(format!("expected a device number in a rule, got {number}"))),
        };
        Ok(Self {
            allow: rule.allow(),
            kind,
            major: number(rule.major())?,
            minor: number(rule.minor())?,
            access: access(rule.access().as_deref().unwrap_or("rwm"))?,
        })
    }

    /// As in `c 1:3 rwm`.
    fn line(&self) -> String {
        let part = |number: Option<i32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            None => "a",
            Some(BLOCK) => "b",
            Some(_) => "c",
        };
        let access = [(READ, 'r'), (WRITE, 'w'), (MAKE_NODE, 'm')];
        let access: String =
            access.into_iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, letter)| letter).collect();
        format!("{kind} {}:{} {access}", part(self.major), part(self.minor))
    }

    fn is_for_all(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none()
    }
}

fn access(text: &str) -> Result<i32> {
    text.chars().try_fold(0, |bits, letter| match letter {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MAKE_NODE),
        _ => Err(Error::spec(format!("expected device access of the letters r, w and m, got {text:?}"))),
    })
}

fn checked(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    rules.iter().map(Rule::new).collect()
}

/// Writes the rules into v1's list. A new cgroup has the list of the one above, so all is denied first.
pub(super) fn apply_v1(folder: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    let rules = checked(rules)?;
    let Some(first) = rules.first() else { return Ok(()) };
    if !first.is_for_all() {
        write(folder, "devices.deny", "a *:* rwm")?;
    }
    for alike in rules.chunk_by(|one, next| one.allow == next.allow) {
        let lines: Vec<String> = alike.iter().map(Rule::line).collect();
        let file = if alike[0].allow { "devices.allow" } else { "devices.deny" };
        write_each(folder, file, lines.iter().map(String::as_str))?;
    }
    Ok(())
}

/// Puts the rules in force for the v2 cgroup, in place of those that were.
pub(super) fn apply_v2(folder: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let cgroup = File::open(folder).during("open", folder)?;
    let program =
        load_device_program(&compile(&checked(rules)?)?).during("load", "the program of device rules")?;
    Ok(attach_device_program(program.as_fd(), cgroup.as_fd()).during("attach device rules to", folder)?)
}

// Instructions of eBPF (linux/bpf.h, linux/bpf_common.h), and the registers of the program.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
const JUMP_UNLESS_EQUAL: u8 = 0x56; // of 32 bits
const JUMP_IF_SET: u8 = 0x46; // of 32 bits
const EXIT: u8 = 0x95;
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// Accesses that no rule has decided yet.
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, target: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: target, offset: 0, immediate }
}

fn jump(code: u8, target: u8, immediate: i32, skipped: usize) -> Result<Instruction> {
    let offset = i16::try_from(skipped).map_err(|_| Error::spec("too many device rules"))?;
    Ok(Instruction { offset, ..instruction(code, target, immediate) })
}

/// The rules as a program that goes through them from the last to the first.
fn compile(rules: &[Rule]) -> Result<Vec<Instruction>> {
    // struct bpf_cgroup_dev_ctx { u32 access_type (access << 16 | type), major, minor }
    let load = |target: u8, offset| Instruction {
        code: LOAD_WORD,
        registers: target | CONTEXT << 4,
        offset,
        immediate: 0,
    };
    let mut program = vec![
        load(KIND, 0),
        Instruction { registers: UNDECIDED | KIND << 4, ..instruction(MOVE_REGISTER, 0, 0) },
        instruction(SHIFT_RIGHT, UNDECIDED, 16),
        instruction(AND, KIND, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let decision = decide(rule)?;
        let conditions = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
        let conditions: Vec<_> =
            conditions.into_iter().filter_map(|(register, value)| Some((register, value?))).collect();
        for (number, (register, value)) in conditions.iter().enumerate() {
            let skipped = conditions.len() - number - 1 + decision.len();
            program.push(jump(JUMP_UNLESS_EQUAL, *register, *value, skipped)?);
        }
        program.extend(decision);
    }
    program.extend([instruction(MOVE, RESULT, 0), instruction(EXIT, 0, 0)]);
    Ok(program)
}

/// What a rule does with an access that it matches.
fn decide(rule: &Rule) -> Result<Vec<Instruction>> {
    let done = |result| [instruction(MOVE, RESULT, result), instruction(EXIT, 0, 0)];
    Ok(match rule.allow {
        true => {
            let rest = [
                instruction(AND, UNDECIDED, !rule.access & 0xffff),
                jump(JUMP_UNLESS_EQUAL, UNDECIDED, 0, 2)?,
            ];
            [rest, done(1)].concat()
        }
        false => {
            let rest = [jump(JUMP_IF_SET, UNDECIDED, rule.access, 1)?, jump(JUMP, 0, 0, 2)?];
            [rest, done(0)].concat()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: LinuxDeviceType, numbers: (Option<i64>, Option<i64>), access: &str) -> Rule {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow).set_typ(Some(kind)).set_major(numbers.0).set_minor(numbers.1);
        rule.set_access(Some(access.to_owned()));
        Rule::new(&rule).unwrap()
    }

    /// What the kernel would do with the program.
    fn run(program: &[Instruction], kind: i32, (major, minor): (i32, i32), access: i32) -> bool {
        let mut registers = [0i32; 11];
        let mut at = 0;
        loop {
            let Instruction { code, registers: operands, offset, immediate } = program[at];
            let (target, source) = (usize::from(operands & 15), usize::from(operands >> 4));
            let mut taken = false;
            match code {
                LOAD_WORD => registers[target] = [access << 16 | kind, major, minor][offset as usize / 4],
                MOVE => registers[target] = immediate,
                MOVE_REGISTER => registers[target] = registers[source],
                AND => registers[target] &= immediate,
                SHIFT_RIGHT => registers[target] >>= immediate,
                JUMP => taken = true,
                JUMP_UNLESS_EQUAL => taken = registers[target] != immediate,
                JUMP_IF_SET => taken = registers[target] & immediate != 0,
                EXIT => return registers[0] == 1,
                _ => panic!("unknown code {code:#x}"),
            }
            at += 1 + if taken { offset as usize } else { 0 };
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides_for_each_access() {
        use LinuxDeviceType::{A, B, C};
        let program = compile(&[
            rule(false, A, (None, None), "rwm"),
            rule(true, C, (None, None), "m"),
            rule(true, C, (Some(1), Some(3)), "rwm"),
            rule(true, B, (Some(7), None), "r"),
            rule(false, B, (Some(7), Some(1)), "rw"),
        ])
        .unwrap();
        let allowed = |kind, numbers, access| run(&program, kind, numbers, access);
        assert!(allowed(CHARACTER, (1, 3), READ | WRITE));
        assert!(!allowed(BLOCK, (1, 3), READ), "another type");
        assert!(allowed(CHARACTER, (9, 9), MAKE_NODE));
        assert!(!allowed(CHARACTER, (9, 9), MAKE_NODE | READ));
        assert!(allowed(BLOCK, (7, 0), READ));
        assert!(!allowed(BLOCK, (7, 0), READ | WRITE));
        assert!(!allowed(BLOCK, (7, 1), READ), "taken back");
    }

    #[test]
    fn all_may_be_allowed_and_nothing_is_without_a_rule() {
        let all = compile(&[rule(true, LinuxDeviceType::A, (None, None), "rwm")]).unwrap();
        assert!(run(&all, BLOCK, (8, 0), READ | WRITE | MAKE_NODE));
        assert!(!run(&compile(&[]).unwrap(), CHARACTER, (1, 3), READ));
    }

    #[test]
    fn rules_are_lines_of_v1_and_nonsense_is_refused() {
        assert_eq!(rule(true, LinuxDeviceType::C, (Some(1), None), "mr").line(), "c 1:* rm");
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_access(Some("x".into()));
        assert!(Rule::new(&rule).is_err());
        rule.set_access(None).set_major(Some(-7));
        assert!(Rule::new(&rule).is_err());
    }
}
