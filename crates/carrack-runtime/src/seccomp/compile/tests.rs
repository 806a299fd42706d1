//! Runs compiled filters in a small interpreter of classic BPF.

use super::*;
use crate::capabilities::DEFAULT;
use crate::seccomp::default_profile;
use oci_spec::runtime::Capability;

/// What `code` says about system call `number` with `arguments`.
fn run(code: &[Instruction], number: u32, arguments: [u64; 6]) -> u32 {
    run_on(ARCHITECTURE, code, number, arguments)
}

fn run_on(architecture: u32, code: &[Instruction], number: u32, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        OFFSET_NUMBER => number,
        OFFSET_ARCHITECTURE => architecture,
        offset => {
            let place = (offset - OFFSET_ARGUMENTS) as usize;
            let (high, low) = halves(arguments[place / 8]);
            if place.is_multiple_of(8) { low } else { high }
        }
    };
    let (mut place, mut accumulator) = (0, 0);
    loop {
        let Instruction { code: operation, jump_true, jump_false, operand } = code[place];
        place += 1;
        let mut branch = |condition| place += usize::from(if condition { jump_true } else { jump_false });
        match operation {
            LOAD_WORD => accumulator = word(operand),
            AND => accumulator &= operand,
            RETURN => return operand,
            JUMP_ALWAYS => place += operand as usize,
            JUMP_EQUAL => branch(accumulator == operand),
            JUMP_GREATER => branch(accumulator > operand),
            JUMP_GREATER_OR_EQUAL => branch(accumulator >= operand),
            other => panic!("unknown operation {other:#x}"),
        }
    }
}

fn call(code: &[Instruction], name: &str, arguments: [u64; 6]) -> u32 {
    run(code, table::number(name).unwrap(), arguments)
}

const EPERM: u32 = SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = SECCOMP_RET_ERRNO | 38;

#[test]
fn the_default_profile_allows_and_refuses_as_documented() {
    let code = compile(&default_profile(&DEFAULT)).unwrap();
    let with = |name, first| call(&code, name, [first, 0, 0, 0, 0, 0]);
    for name in ["read", "execve", "openat2", "chroot", "mseal", "statmount"] {
        assert_eq!(with(name, 0), SECCOMP_RET_ALLOW, "{name}");
    }
    for name in
        ["mount", "unshare", "setns", "bpf", "keyctl", "io_uring_setup", "kexec_load", "open_by_handle_at"]
    {
        assert_eq!(with(name, 0), EPERM, "{name}");
    }
    assert_eq!(with("clone3", 0), ENOSYS);
    assert_eq!(with("clone", 0x0100_0000 | 17), SECCOMP_RET_ALLOW);
    assert_eq!(with("clone", 0x1000_0000), EPERM, "CLONE_NEWUSER");
    assert_eq!(with("personality", 0x2_0008), SECCOMP_RET_ALLOW);
    assert_eq!(with("personality", 0x0040_0000), EPERM, "ADDR_NO_RANDOMIZE");
    assert_eq!(with("personality", 0x1_0000_0008), EPERM, "the high half counts");
    assert_eq!(with("socket", 2), SECCOMP_RET_ALLOW);
    assert_eq!(with("socket", 40), EPERM, "AF_VSOCK");
    assert_eq!(with("socket", 0x1_0000_0028), EPERM, "AF_VSOCK with bits that the kernel ignores");
}

#[test]
fn capabilities_open_their_system_calls() {
    let code = compile(&default_profile(&[Capability::SysAdmin, Capability::SysTime])).unwrap();
    for name in ["mount", "clone3", "clone", "unshare", "settimeofday"] {
        assert_eq!(call(&code, name, [u64::MAX; 6]), SECCOMP_RET_ALLOW, "{name}");
    }
    assert_eq!(call(&code, "chroot", [0; 6]), EPERM);
}

#[test]
fn numbers_above_the_newest_known_do_not_exist() {
    let code = compile(&default_profile(&DEFAULT)).unwrap();
    for number in [table::end(), 999, 0x4000_0000, u32::MAX] {
        assert_eq!(run(&code, number, [0; 6]), ENOSYS, "{number}");
    }
}

#[test]
fn another_architecture_is_killed() {
    let code = compile(&default_profile(&DEFAULT)).unwrap();
    for architecture in [0x4000_0003, ARCHITECTURE ^ 1, 0] {
        assert_eq!(run_on(architecture, &code, 0, [0; 6]), SECCOMP_RET_KILL_PROCESS);
    }
}

#[test]
fn every_system_call_gets_the_verdict_of_its_rule() {
    let names = table::tests::names();
    for step in [1, 2, 3, 7] {
        let allowed: Vec<String> = names.iter().step_by(step).map(ToString::to_string).collect();
        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
        let mut rule = oci_spec::runtime::LinuxSyscall::default();
        rule.set_names(allowed.clone()).set_action(LinuxSeccompAction::ScmpActAllow);
        profile.set_syscalls(Some(vec![rule]));
        let code = compile(&profile).unwrap();
        for name in &names {
            let expected = if allowed.iter().any(|one| one == name) { SECCOMP_RET_ALLOW } else { EPERM };
            assert_eq!(call(&code, name, [0; 6]), expected, "{name}, one in {step}");
        }
    }
}

#[test]
fn conditions_compare_all_64_bits() {
    use LinuxSeccompOperator as Operator;
    type Compare = fn(u64, u64) -> bool;
    let operators: [(Operator, Compare); 6] = [
        (Operator::ScmpCmpEq, |a, b| a == b),
        (Operator::ScmpCmpNe, |a, b| a != b),
        (Operator::ScmpCmpLt, |a, b| a < b),
        (Operator::ScmpCmpLe, |a, b| a <= b),
        (Operator::ScmpCmpGt, |a, b| a > b),
        (Operator::ScmpCmpGe, |a, b| a >= b),
    ];
    let values = [0, 1, 5, 0xffff_ffff, 1 << 32, (1 << 32) | 5, (5 << 32) | 1, u64::MAX];
    for (operator, holds) in operators {
        for value in values {
            for argument in values {
                let builder = LinuxSeccompArgBuilder::default().index(2usize).op(operator);
                let condition = builder.value(value).build().unwrap();
                let rules = vec![Rule { conditions: vec![condition], verdict: SECCOMP_RET_ALLOW }];
                let mut code = leaf(&Outcome::Rules(rules), EPERM).unwrap();
                code.insert(0, load(OFFSET_NUMBER));
                let expected = if holds(argument, value) { SECCOMP_RET_ALLOW } else { EPERM };
                let got = run(&code, 0, [9, 9, argument, 9, 9, 9]);
                assert_eq!(got, expected, "{argument:#x} {operator:?} {value:#x}");
            }
        }
    }
}

#[test]
fn a_profile_that_cannot_be_a_filter_is_refused() {
    let mut profile = default_profile(&DEFAULT);
    profile.set_default_action(LinuxSeccompAction::ScmpActNotify);
    assert_eq!(compile(&profile), Err(CompileError::DefaultNotify));

    let one = |name: &str, action, errno: Option<u32>| {
        let mut rule = oci_spec::runtime::LinuxSyscall::default();
        rule.set_names(vec![name.to_owned()]).set_action(action).set_errno_ret(errno);
        let mut profile = default_profile(&DEFAULT);
        profile.set_syscalls(Some(vec![rule]));
        compile(&profile)
    };
    let notify = LinuxSeccompAction::ScmpActNotify;
    assert!(matches!(one("write", notify, None), Err(CompileError::NotifiesHandover { .. })));
    assert_eq!(call(&one("mkdir", notify, None).unwrap(), "mkdir", [0; 6]), SECCOMP_RET_USER_NOTIF);
    let errno = LinuxSeccompAction::ScmpActErrno;
    assert_eq!(one("mkdir", errno, Some(5000)), Err(CompileError::Errno { errno: 5000 }));
    assert_eq!(call(&one("mkdir", errno, Some(0)).unwrap(), "mkdir", [0; 6]), SECCOMP_RET_ERRNO);
    let wrong = one("mkdir", LinuxSeccompAction::ScmpActKill, Some(1));
    assert!(matches!(wrong, Err(CompileError::ErrnoWithout { .. })));
    let trace = one("mkdir", LinuxSeccompAction::ScmpActTrace, Some(9)).unwrap();
    assert_eq!(call(&trace, "mkdir", [0; 6]), SECCOMP_RET_TRACE | 9);

    let mut profile = default_profile(&DEFAULT);
    let mut rules = profile.syscalls().clone().unwrap();
    let argument = LinuxSeccompArgBuilder::default().index(6usize).op(LinuxSeccompOperator::ScmpCmpEq);
    let argument = argument.value(0u64).build().unwrap();
    rules.last_mut().unwrap().set_args(Some(vec![argument]));
    profile.set_syscalls(Some(rules));
    assert_eq!(compile(&profile), Err(CompileError::ArgumentIndex { index: 6 }));
}

#[test]
fn a_search_takes_few_steps() {
    let code = compile(&default_profile(&DEFAULT)).unwrap();
    assert!(code.len() < 200, "{} instructions", code.len());
}

#[test]
fn masked_values_are_compared_as_a_whole() {
    let builder = LinuxSeccompArgBuilder::default().index(0usize).op(LinuxSeccompOperator::ScmpCmpMaskedEq);
    let condition =
        builder.value(0xff00_0000_0000_00ffu64).value_two(0x1200_0000_0000_0034u64).build().unwrap();
    let rules = vec![Rule { conditions: vec![condition], verdict: SECCOMP_RET_ALLOW }];
    let mut code = leaf(&Outcome::Rules(rules), EPERM).unwrap();
    code.insert(0, load(OFFSET_NUMBER));
    for (argument, verdict) in [
        (0x1200_0000_0000_0034, SECCOMP_RET_ALLOW),
        (0x12ab_cdef_0123_4534, SECCOMP_RET_ALLOW),
        (0x1300_0000_0000_0034, EPERM),
        (0x1200_0000_0000_0035, EPERM),
    ] {
        assert_eq!(run(&code, 0, [argument, 0, 0, 0, 0, 0]), verdict, "{argument:#x}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn other_architectures_have_their_own_numbers() {
    let mut profile = default_profile(&DEFAULT);
    profile.set_architectures(Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]));
    let mut rules = profile.syscalls().clone().unwrap();
    let minus_one = LinuxSeccompArgBuilder::default().index(0usize).op(LinuxSeccompOperator::ScmpCmpEq);
    let minus_one = minus_one.value(u64::MAX).build().unwrap();
    let mut rule = oci_spec::runtime::LinuxSyscall::default();
    rule.set_names(vec!["acct".into()]).set_action(LinuxSeccompAction::ScmpActAllow);
    rule.set_args(Some(vec![minus_one]));
    rules.push(rule);
    profile.set_syscalls(Some(rules));
    let code = compile(&profile).unwrap();
    let i386 = |number, first| run_on(0x4000_0003, &code, number, [first, 0, 0, 0, 0, 0]);
    assert_eq!(i386(3, 0), SECCOMP_RET_ALLOW, "read");
    assert_eq!(i386(21, 0), EPERM, "mount");
    assert_eq!(i386(165, 0), SECCOMP_RET_ALLOW, "getresuid, the number of mount in x86-64");
    assert_eq!(i386(9999, 0), ENOSYS);
    assert_eq!((i386(51, 0xffff_ffff), i386(51, 0)), (SECCOMP_RET_ALLOW, EPERM), "acct(-1)");
    let x32 = |number: u32| run(&code, number | 0x4000_0000, [0; 6]);
    assert_eq!((x32(0), x32(520)), (SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW), "read, execve");
    assert_eq!((x32(165), x32(59), x32(600)), (EPERM, EPERM, ENOSYS), "mount, and execve of x86-64");
    assert_eq!(run(&code, 0, [0; 6]), SECCOMP_RET_ALLOW);
    assert_eq!(run(&code, 600, [0; 6]), ENOSYS);
    assert_eq!(run_on(0xc000_00b7, &code, 0, [0; 6]), SECCOMP_RET_KILL_PROCESS, "aarch64");
}
