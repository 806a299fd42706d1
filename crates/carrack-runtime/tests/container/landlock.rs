//! Landlock rules, as a program in the container meets them.

use crate::fixture::Container;
use crate::{stderr, stdout};

const RULES: [&str; 2] = ["--landlock", "ro:/bin,ro:/etc,ro:/proc,rw:/tmp,rw:/dev/null"];

fn container(script: &str) -> Container {
    let container = Container::shell(script);
    std::fs::write(container.path("/etc/motd"), "welcome\n").unwrap();
    std::fs::create_dir(container.path("/secret")).unwrap();
    std::fs::write(container.path("/secret/key"), "hidden\n").unwrap();
    container
}

#[test]
fn what_no_rule_names_cannot_be_reached_and_what_is_read_only_cannot_be_changed() {
    let script = "cat /etc/motd; cat /secret/key; ls /; echo x >/etc/new; echo x >>/etc/motd; mv /etc/motd /tmp/moved; \
                  mkdir /tmp/folder && mv /tmp/folder /tmp/other && echo fine >/tmp/other/file && cat /tmp/other/file";
    let output = container(script).run_with(&RULES);
    assert_eq!(stdout(&output), "welcome\nfine", "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("Permission denied").count(), 5, "{}", stderr(&output));
    let unrestricted = container("cat /secret/key").run();
    assert_eq!(stdout(&unrestricted), "hidden");
}

#[test]
fn a_file_that_is_read_only_cannot_be_cut_short() {
    let output = container("truncate -s 0 /etc/motd; cat /etc/motd");
    std::os::unix::fs::symlink("busybox", output.path("/bin/truncate")).unwrap();
    let output = output.run_with(&RULES);
    assert_eq!(stdout(&output), "welcome", "{}", stderr(&output));
    assert!(stderr(&output).contains("Permission denied"), "{}", stderr(&output));
}

#[test]
fn the_rules_hold_for_another_user_and_without_new_privileges() {
    let mut container = container("id -u; cat /etc/motd; cat /secret/key; grep NoNewPrivs /proc/self/status");
    container.process().user_mut().set_uid(1000).set_gid(1000);
    for (no_new_privileges, shown) in [(false, "NoNewPrivs:\t0"), (true, "NoNewPrivs:\t1")] {
        container.process().set_no_new_privileges(Some(no_new_privileges));
        let output = container.run_with(&RULES);
        assert_eq!(stdout(&output), format!("1000\nwelcome\n{shown}"), "{}", stderr(&output));
    }
}

#[test]
fn a_program_that_no_rule_names_is_not_executed() {
    let output = container("true").run_with(&["--landlock", "ro:/etc"]);
    assert_eq!(output.status.code(), Some(126), "{}", stderr(&output));
    // Behind a reaper, which has the same rules.
    let output = container("cat /secret/key || cat /etc/motd").run_with(&[&RULES[..], &["--init"]].concat());
    assert_eq!(stdout(&output), "welcome", "{}", stderr(&output));
}

#[test]
fn a_further_process_has_rules_of_its_own() {
    let mut container = container("sleep 30");
    let pid = container.start(&RULES);
    let read = container.other_process(&["cat", "/secret/key"]);
    let refused = container.exec(&pid, &read, &RULES);
    assert!(stderr(&refused).contains("Permission denied"), "{}", stderr(&refused));
    assert_eq!(stdout(&container.exec(&pid, &read, &[])), "hidden");
}

#[test]
fn an_image_cannot_make_a_rule_mean_another_folder() {
    let container = container("true");
    std::os::unix::fs::symlink("/", container.path("/link")).unwrap();
    for (rules, expected) in [
        ("ro:/bin,rw:/link", "leads through a link"),
        ("ro:/bin,rw:/link/secret", "leads through a link"),
        ("ro:/bin,ro:/proc/self/root", "leads through a link"),
        ("ro:/bin,ro:/absent", "no such file in the container"),
    ] {
        let output = container.run_with(&["--landlock", rules]);
        assert_eq!(output.status.code(), Some(125), "{rules}");
        assert!(stderr(&output).contains(expected), "{rules}: {}", stderr(&output));
    }
}
