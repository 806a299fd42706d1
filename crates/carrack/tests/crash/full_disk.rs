//! A disk that is really full: a small file system of its own, in a mount namespace of its own.

use std::fs;
use std::process::Command;

use carrack_testkit::{ImageFixture, Run};

use super::image;
use super::kit::{LIMIT, empty_store};

/// Runs with `$CARRACK` and the layouts in the working folder; the store is on the small file system.
const SCRIPT: &str = r#"
fail() { echo "FAILED: $*" >&2; exit 1; }
$CARRACK pull --quiet oci:small:app >/dev/null || fail "pull of the small image"
$CARRACK pull --quiet oci:other:app >/dev/null || fail "pull of the other image"
$CARRACK system prune --force --filter until=1000000h >/dev/null || fail "prune before"
$CARRACK pull --quiet oci:big:app 2>error && fail "the big image fits"
grep -q "No space left on device" error || fail "unclear: $(cat error)"
grep -q "^error: cannot pull " error || fail "unclear: $(cat error)"
$CARRACK system check >check || fail "not whole after the pull: $(cat check)"
grep -q Leftovers check && fail "the space was not given back: $(cat check)"
for turn in 1 2 3 4; do
    cat /dev/zero >>root/filling 2>/dev/null
    sync -f root
    # What is too little for a large write is enough for small ones.
    dd if=/dev/zero of=root/filling bs=512 oflag=append conv=notrunc 2>/dev/null
    sync -f root
done
[ "$(df --output=avail root | tail -1)" -le 4 ] || fail "the disk is not full: $(df root)"
$CARRACK inspect --type image $SMALL >/dev/null || fail "inspect on a full disk"
$CARRACK images --quiet >/dev/null || fail "images on a full disk"
$CARRACK system df >/dev/null || fail "system df on a full disk"
$CARRACK rmi $OTHER >/dev/null || fail "rmi on a full disk"
[ "$(df --output=avail root | tail -1)" -gt 500 ] || fail "rmi gave no space back"
$CARRACK system check >check || fail "not whole after rmi: $(cat check)"
grep -q Leftovers check && fail "rmi left something: $(cat check)"
rm root/filling
[ "$($CARRACK run --rm --network none $SMALL cat /one /two)" = 12 ] || fail "the old image does not run"
echo fine
"#;

#[track_caller]
fn run_on(make: &str) {
    let store = empty_store();
    let noise: String =
        (0..60_000_u64).map(|line| format!("{:x}", line.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let with_noise = |name: &str, length: usize| {
        let path = store.path().join(format!("noise-{name}"));
        fs::write(&path, noise.as_bytes().iter().copied().cycle().take(length).collect::<Vec<_>>()).unwrap();
        ImageFixture::new().layer(&format!("/{name} <({})", path.display()))
    };
    let (other, big) = (with_noise("other", 1 << 20), with_noise("big", 64 << 20));
    for (name, image) in [("small", &image()), ("other", &other), ("big", &big)] {
        image.write_layout(&store.path().join(name), "app");
    }
    let own = store.command();
    let carrack: Vec<_> =
        [own.get_program()].into_iter().chain(own.get_args()).map(|word| word.to_str().unwrap()).collect();
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &format!("set -e\nmkdir root\n{make}\nset +e\n{SCRIPT}"),
    ]);
    command
        .current_dir(store.path())
        .env("CARRACK", carrack.join(" "))
        .env("HOME", store.path().join("home"));
    command.env("SMALL", image().id().hex()).env("OTHER", other.id().hex());
    let run: Run = Run::of(&mut command, LIMIT);
    assert_eq!(run.line(), "fine");
}

#[test]
fn rmi_works_on_a_full_tmpfs() {
    run_on("mount -t tmpfs -o size=24m,mode=700 tmpfs root");
}

#[test]
fn rmi_works_on_a_full_ext4() {
    run_on("truncate -s 40M image\nmkfs.ext4 -q -m 0 image\nmount -o loop image root");
}
