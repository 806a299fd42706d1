//! From a profile to classic BPF: a binary search over ranges of system-call numbers with the same verdict.
//!
//! Code is built from the leaves up and only ever jumps forward inside itself, so every piece can be put anywhere.
//! Every path ends in a return.

use std::collections::BTreeMap;

use carrack_sys::seccomp::Instruction;
use linux_raw_sys::ptrace::{
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG,
    SECCOMP_RET_TRACE, SECCOMP_RET_TRAP, SECCOMP_RET_USER_NOTIF,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};

use super::table;
#[cfg(target_arch = "x86_64")]
use super::table_x86;

/// A profile that has no filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Every call would wait for an answer, those among them by which the one who answers is told.
    #[error("SCMP_ACT_NOTIFY cannot be the default action")]
    DefaultNotify,
    /// The call is needed to hand over the listener.
    #[error("SCMP_ACT_NOTIFY cannot be used for the system call {name}: the listener is handed over by it")]
    NotifiesHandover {
        /// The call.
        name: String,
    },
    /// A rule about nothing.
    #[error("expected the name of a system call in each rule, got none")]
    NoNames,
    /// An error number for an action that returns none.
    #[error("expected no errnoRet with the action {action}, which returns no error")]
    ErrnoWithout {
        /// The action.
        action: String,
    },
    /// A value that the kernel would cut.
    #[error("expected an errnoRet up to 4095, got {errno}")]
    Errno {
        /// The value.
        errno: u32,
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

/// Compiles `profile` for its architectures, as far as this kernel takes calls of them; none means that of this
/// program. Names that an architecture does not have are skipped, as runc does.
///
/// A system call newer than all that this version knows fails with ENOSYS where the default action is an error, so
/// that programs fall back to older calls instead of giving up on EPERM. Calls of another architecture kill.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<Instruction>, CompileError> {
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        // Whoever is to be told could not even be reached.
        return Err(CompileError::DefaultNotify);
    }
    check_errno(profile.default_action(), profile.default_errno_ret())?;
    let default = verdict(profile.default_action(), profile.default_errno_ret())?;
    let mut code = vec![load(OFFSET_ARCHITECTURE)];
    for architecture in architectures(profile) {
        let mut body = vec![load(OFFSET_NUMBER)];
        let spaces = architecture.spaces;
        let outcomes = rules(profile, spaces, architecture.has_32_bits)?;
        body.extend(tree(&ranges(outcomes, spaces, profile.default_action(), default), default)?);
        code.extend(skip_unless_equal(architecture.token, body.len())?);
        code.append(&mut body);
    }
    code.push(ret(SECCOMP_RET_KILL_PROCESS));
    if code.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLarge { instructions: code.len() });
    }
    Ok(code)
}

/// Whether a call can have the verdict that a listener is asked for; only then there is one.
pub(crate) fn notifies(profile: &LinuxSeccomp) -> bool {
    let actions = profile.syscalls().iter().flatten().map(oci_spec::runtime::LinuxSyscall::action);
    actions.into_iter().any(|action| action == LinuxSeccompAction::ScmpActNotify)
}

/// One way in which programs call the kernel.
struct Architecture {
    /// `AUDIT_ARCH_*`
    token: u32,
    has_32_bits: bool,
    spaces: &'static [Space],
}

/// Numbers that belong together.
struct Space {
    first: u32,
    end: fn() -> u32,
    number: fn(&str) -> Option<u32>,
}

const NATIVE: Space = Space { first: 0, end: table::end, number: table::number };

/// Those of the profile that this kernel has. Of the others no call ever comes.
#[cfg(target_arch = "x86_64")]
fn architectures(profile: &LinuxSeccomp) -> Vec<Architecture> {
    const X32: Space =
        Space { first: table_x86::X32_BIT, end: table_x86::end_x32, number: table_x86::number_x32 };
    const I386: Space = Space { first: 0, end: table::end, number: table_x86::number_i386 };
    let asked = profile.architectures().as_deref().unwrap_or_default();
    let has = |wanted: Arch| asked.contains(&wanted);
    // The native one is always in: the container's programs are not started by a filter that kills all of them.
    let spaces: &'static [Space] = if has(Arch::ScmpArchX32) { &[NATIVE, X32] } else { &[NATIVE] };
    let mut architectures = vec![Architecture { token: ARCHITECTURE, has_32_bits: false, spaces }];
    if has(Arch::ScmpArchX86) {
        architectures.push(Architecture { token: 0x4000_0003, has_32_bits: true, spaces: &[I386] });
    }
    architectures
}

#[cfg(not(target_arch = "x86_64"))]
fn architectures(_profile: &LinuxSeccomp) -> Vec<Architecture> {
    vec![Architecture { token: ARCHITECTURE, has_32_bits: false, spaces: &[NATIVE] }]
}

/// Code that goes on behind itself when the accumulator is `value`, and otherwise skips `rest` instructions there.
fn skip_unless_equal(value: u32, rest: usize) -> Result<Vec<Instruction>, CompileError> {
    let skip = u32::try_from(rest).map_err(|_| CompileError::TooLarge { instructions: rest })?;
    Ok(vec![jump(JUMP_EQUAL, value, 1, 0), jump(JUMP_ALWAYS, skip, 0, 0)])
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

/// How the child tells its parent of the listener (`channel.rs`), when the filter is in force already.
const HANDOVER: &str = "write";

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
fn rules(
    profile: &LinuxSeccomp,
    spaces: &[Space],
    has_32_bits: bool,
) -> Result<BTreeMap<u32, Outcome>, CompileError> {
    let mut outcomes = BTreeMap::new();
    for entry in profile.syscalls().iter().flatten() {
        let errno = entry.errno_ret().or(profile.default_errno_ret());
        if entry.names().is_empty() {
            return Err(CompileError::NoNames);
        }
        check_errno(entry.action(), entry.errno_ret())?;
        let verdict = verdict(entry.action(), errno)?;
        if verdict == SECCOMP_RET_USER_NOTIF && entry.names().iter().any(|name| name == HANDOVER) {
            return Err(CompileError::NotifiesHandover { name: HANDOVER.to_owned() });
        }
        let mut conditions = entry.args().clone().unwrap_or_default();
        if has_32_bits {
            conditions = conditions.iter().map(narrow).collect();
        }
        let numbers =
            |name: &String| spaces.iter().filter_map(|space| (space.number)(name)).collect::<Vec<_>>();
        for number in entry.names().iter().flat_map(numbers) {
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

/// Arguments of 32-bit programs have a high half of zero; a value that was meant as negative has not.
fn narrow(condition: &LinuxSeccompArg) -> LinuxSeccompArg {
    let low = |value: u64| value & u64::from(u32::MAX);
    let builder = LinuxSeccompArgBuilder::default().index(condition.index()).op(condition.op());
    let builder = builder.value(low(condition.value()));
    let builder = match condition.value_two() {
        Some(second) => builder.value_two(low(second)),
        None => builder,
    };
    builder.build().expect("every required field is set")
}

/// All numbers from 0 on, as (first number, outcome) where the outcome changes.
fn ranges(
    outcomes: BTreeMap<u32, Outcome>,
    spaces: &[Space],
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
    for space in spaces {
        let end = (space.end)();
        let mut next = space.first;
        for (number, outcome) in outcomes.range(space.first..end) {
            if *number > next {
                push(next, Outcome::Always(default));
            }
            push(*number, outcome.clone());
            next = number + 1;
        }
        if next < end {
            push(next, Outcome::Always(default));
        }
        push(end, Outcome::Always(beyond));
    }
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

/// The number would mean nothing.
fn check_errno(action: LinuxSeccompAction, errno: Option<u32>) -> Result<(), CompileError> {
    let takes_one = matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace);
    match errno {
        Some(_) if !takes_one => Err(CompileError::ErrnoWithout { action: action.to_string() }),
        _ => Ok(()),
    }
}

fn verdict(action: LinuxSeccompAction, errno_number: Option<u32>) -> Result<u32, CompileError> {
    let number = errno_number.unwrap_or(rustix::io::Errno::PERM.raw_os_error().cast_unsigned());
    if matches!(action, LinuxSeccompAction::ScmpActErrno) && number > MAX_ERRNO {
        return Err(CompileError::Errno { errno: number });
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SECCOMP_RET_KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => errno(number),
        LinuxSeccompAction::ScmpActTrace => SECCOMP_RET_TRACE | (number & DATA_MASK),
        LinuxSeccompAction::ScmpActLog => SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => SECCOMP_RET_USER_NOTIF,
    })
}

const DATA_MASK: u32 = 0xffff;
/// The kernel returns this for anything above (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;

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
