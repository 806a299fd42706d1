//! From a profile to classic BPF: a binary search over ranges of system-call numbers with the same verdict.
//!
//! Code is built from the leaves up and only ever jumps forward inside itself, so every piece can be put anywhere.
//! Every path ends in a return.

use std::collections::BTreeMap;

use carrack_sys::seccomp::Instruction;
use linux_raw_sys::ptrace::{
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG,
    SECCOMP_RET_TRACE, SECCOMP_RET_TRAP,
};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use super::table;

/// A profile that has no filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The action needs a second process that answers.
    #[error("the action {action} is not supported")]
    UnsupportedAction {
        /// As the spec names it.
        action: String,
    },
    /// System calls have arguments 0 to 5.
    #[error("expected an argument index below 6, got {index}")]
    ArgumentIndex {
        /// The index.
        index: usize,
    },
    /// The kernel takes 4096 instructions, and one system call may have conditions for a jump of 255.
    #[error("the profile is too large: {instructions} instructions")]
    TooLarge {
        /// How many it would need.
        instructions: usize,
    },
}

/// Compiles `profile` for the architecture of this program. Names that it does not have are skipped, as runc does.
///
/// A system call newer than all that this version knows fails with ENOSYS where the default action is an error, so
/// that programs fall back to older calls instead of giving up on EPERM. Calls of another architecture kill.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<Instruction>, CompileError> {
    let default = verdict(profile.default_action(), profile.default_errno_ret())?;
    let mut code = vec![
        load(OFFSET_ARCHITECTURE),
        jump(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        ret(SECCOMP_RET_KILL_PROCESS),
        load(OFFSET_NUMBER),
    ];
    code.extend(tree(&ranges(rules(profile)?, profile.default_action(), default), default)?);
    if code.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLarge { instructions: code.len() });
    }
    Ok(code)
}

const MAX_INSTRUCTIONS: usize = 4096;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

// Places in `struct seccomp_data`; both architectures are little-endian.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// What happens to one system call.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// Always this verdict.
    Always(u32),
    /// The verdict of the first rule that holds, else the default.
    Rules(Vec<Rule>),
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    conditions: Vec<LinuxSeccompArg>,
    verdict: u32,
}

/// The rules of each system call that the profile names; one without conditions makes the others moot.
fn rules(profile: &LinuxSeccomp) -> Result<BTreeMap<u32, Outcome>, CompileError> {
    let mut outcomes = BTreeMap::new();
    for entry in profile.syscalls().iter().flatten() {
        let errno = entry.errno_ret().or(profile.default_errno_ret());
        let verdict = verdict(entry.action(), errno)?;
        let conditions = entry.args().clone().unwrap_or_default();
        for number in entry.names().iter().filter_map(|name| table::number(name)) {
            let outcome = outcomes.entry(number).or_insert_with(|| Outcome::Rules(Vec::new()));
            match outcome {
                Outcome::Always(_) => {}
                _ if conditions.is_empty() => *outcome = Outcome::Always(verdict),
                Outcome::Rules(rules) => rules.push(Rule { conditions: conditions.clone(), verdict }),
            }
        }
    }
    Ok(outcomes)
}

/// All numbers from 0 on, as (first number, outcome) where the outcome changes.
fn ranges(
    outcomes: BTreeMap<u32, Outcome>,
    default_action: LinuxSeccompAction,
    default: u32,
) -> Vec<(u32, Outcome)> {
    let beyond = match default_action {
        LinuxSeccompAction::ScmpActErrno => errno(rustix::io::Errno::NOSYS.raw_os_error().cast_unsigned()),
        _ => default,
    };
    let mut ranges: Vec<(u32, Outcome)> = Vec::new();
    let mut push = |first: u32, outcome: Outcome| {
        if ranges.last().is_none_or(|(_, last)| *last != outcome) {
            ranges.push((first, outcome));
        }
    };
    let mut next = 0;
    for (number, outcome) in outcomes {
        if number > next {
            push(next, Outcome::Always(default));
        }
        push(number, outcome);
        next = number + 1;
    }
    if next < table::end() {
        push(next, Outcome::Always(default));
    }
    push(table::end(), Outcome::Always(beyond));
    ranges
}

/// Code that finds the range of the number in the accumulator. `ranges` is not empty.
fn tree(ranges: &[(u32, Outcome)], default: u32) -> Result<Vec<Instruction>, CompileError> {
    if let [(_, outcome)] = ranges {
        return leaf(outcome, default);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (first_high, _) = high[0];
    let (low, high) = (tree(low, default)?, tree(high, default)?);
    let mut code = match u8::try_from(low.len()) {
        Ok(skip) => vec![jump(JUMP_GREATER_OR_EQUAL, first_high, skip, 0)],
        // A condition can skip 255 instructions, a plain jump any number.
        Err(_) => {
            let skip =
                u32::try_from(low.len()).map_err(|_| CompileError::TooLarge { instructions: low.len() })?;
            vec![jump(JUMP_GREATER_OR_EQUAL, first_high, 0, 1), jump(JUMP_ALWAYS, skip, 0, 0)]
        }
    };
    code.extend(low);
    code.extend(high);
    Ok(code)
}

fn leaf(outcome: &Outcome, default: u32) -> Result<Vec<Instruction>, CompileError> {
    let rules = match outcome {
        Outcome::Always(verdict) => return Ok(vec![ret(*verdict)]),
        Outcome::Rules(rules) => rules,
    };
    let mut code = Vec::new();
    for rule in rules {
        let mut body = vec![ret(rule.verdict)];
        for argument in rule.conditions.iter().rev() {
            let mut with_condition = condition(argument, body.len())?;
            with_condition.append(&mut body);
            body = with_condition;
        }
        code.append(&mut body);
    }
    code.push(ret(default));
    Ok(code)
}

/// Code that goes on behind itself when `argument` holds, and otherwise skips the `rest` instructions there too.
/// Arguments have 64 bits and the machine 32: the high half decides unless it is equal.
fn condition(argument: &LinuxSeccompArg, rest: usize) -> Result<Vec<Instruction>, CompileError> {
    use LinuxSeccompOperator as Operator;
    let index = u32::try_from(argument.index()).ok().filter(|index| *index < 6);
    let index = index.ok_or(CompileError::ArgumentIndex { index: argument.index() })?;
    let low_half = OFFSET_ARGUMENTS + 8 * index;
    let high_half = low_half + 4;
    let skip = |more: usize| {
        u8::try_from(rest + more).map_err(|_| CompileError::TooLarge { instructions: rest + more })
    };
    let (value, second) = (argument.value(), argument.value_two().unwrap_or(0));
    let (high, low) = halves(value);
    // Strictly greater in the high half decides; the low half decides when the high halves are equal.
    // `when_greater`: whether a greater high half fulfils the condition.
    let ordered = |low_code, low_must_hold: bool, greater_holds: bool| -> Result<_, CompileError> {
        let (greater, less) = if greater_holds { (3, skip(2)?) } else { (skip(3)?, 2) };
        let (hold, fail) = if low_must_hold { (0, skip(0)?) } else { (skip(0)?, 0) };
        Ok(vec![
            load(high_half),
            jump(JUMP_GREATER, high, greater, 0),
            jump(JUMP_EQUAL, high, 0, less),
            load(low_half),
            jump(low_code, low, hold, fail),
        ])
    };
    match argument.op() {
        Operator::ScmpCmpGt => ordered(JUMP_GREATER, true, true),
        Operator::ScmpCmpGe => ordered(JUMP_GREATER_OR_EQUAL, true, true),
        Operator::ScmpCmpLe => ordered(JUMP_GREATER, false, false),
        Operator::ScmpCmpLt => ordered(JUMP_GREATER_OR_EQUAL, false, false),
        Operator::ScmpCmpEq => Ok(vec![
            load(high_half),
            jump(JUMP_EQUAL, high, 0, skip(2)?),
            load(low_half),
            jump(JUMP_EQUAL, low, 0, skip(0)?),
        ]),
        Operator::ScmpCmpNe => Ok(vec![
            load(high_half),
            jump(JUMP_EQUAL, high, 0, 2),
            load(low_half),
            jump(JUMP_EQUAL, low, skip(0)?, 0),
        ]),
        Operator::ScmpCmpMaskedEq => {
            let ((mask_high, mask_low), (high, low)) = (halves(value), halves(second));
            Ok(vec![
                load(high_half),
                and(mask_high),
                jump(JUMP_EQUAL, high, 0, skip(3)?),
                load(low_half),
                and(mask_low),
                jump(JUMP_EQUAL, low, 0, skip(0)?),
            ])
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

fn verdict(action: LinuxSeccompAction, errno_number: Option<u32>) -> Result<u32, CompileError> {
    let number = errno_number.unwrap_or(rustix::io::Errno::PERM.raw_os_error().cast_unsigned());
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SECCOMP_RET_KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => errno(number),
        LinuxSeccompAction::ScmpActTrace => SECCOMP_RET_TRACE | (number & DATA_MASK),
        LinuxSeccompAction::ScmpActLog => SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(CompileError::UnsupportedAction { action: action.to_string() });
        }
    })
}

const DATA_MASK: u32 = 0xffff;

fn errno(number: u32) -> u32 {
    SECCOMP_RET_ERRNO | (number & DATA_MASK)
}

// Operations of classic BPF (linux/bpf_common.h): class, size or condition, operand from the instruction.
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP_ALWAYS: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;

fn load(offset: u32) -> Instruction {
    jump(LOAD_WORD, offset, 0, 0)
}

fn and(mask: u32) -> Instruction {
    jump(AND, mask, 0, 0)
}

fn ret(verdict: u32) -> Instruction {
    jump(RETURN, verdict, 0, 0)
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests;
