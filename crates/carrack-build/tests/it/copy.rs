//! What COPY and ADD put where.

use std::fs;
use std::os::unix::fs::MetadataExt;

use carrack_layer::compression::Method;
use carrack_sys::rooted::Root;
use expect_test::{Expect, expect};

use crate::kit::{Build, Store, TIMESTAMP};

fn check(build: Build, expected: Expect) {
    expected.assert_eq(&build.tree());
}

fn context(dockerfile: &str) -> Build {
    Build::new(dockerfile)
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("run.sh", "#!/bin/sh")
        .mode("run.sh", 0o755)
        .file("dir/one", "1")
        .file("dir/sub/two", "2")
        .mode("dir/sub", 0o750)
        .link("dir/link", "../a.txt")
}

#[test]
fn a_file_to_a_file_and_to_a_folder() {
    check(
        context("FROM scratch\nCOPY a.txt /new\nCOPY a.txt /folder/\nCOPY run.sh folder"),
        expect![[r##"
        folder/ 755 0:0
        folder/a.txt 644 0:0 "a"
        folder/run.sh 755 0:0 "#!/bin/sh"
        new 644 0:0 "a"
    "##]],
    );
}

#[test]
fn a_folder_gives_its_content() {
    check(
        context("FROM scratch\nCOPY dir /app\nCOPY dir/ /x/y/"),
        expect![[r#"
            app/ 755 0:0
            app/link -> ../a.txt 0:0
            app/one 644 0:0 "1"
            app/sub/ 750 0:0
            app/sub/two 644 0:0 "2"
            x/ 755 0:0
            x/y/ 755 0:0
            x/y/link -> ../a.txt 0:0
            x/y/one 644 0:0 "1"
            x/y/sub/ 750 0:0
            x/y/sub/two 644 0:0 "2"
        "#]],
    );
}

#[test]
fn the_whole_context_into_the_working_folder() {
    check(
        context("FROM scratch\nWORKDIR /srv\nCOPY . ."),
        expect![[r##"
        srv/ 755 0:0
        srv/a.txt 644 0:0 "a"
        srv/b.txt 644 0:0 "b"
        srv/dir/ 755 0:0
        srv/dir/link -> ../a.txt 0:0
        srv/dir/one 644 0:0 "1"
        srv/dir/sub/ 750 0:0
        srv/dir/sub/two 644 0:0 "2"
        srv/run.sh 755 0:0 "#!/bin/sh"
    "##]],
    );
}

#[test]
fn patterns_and_several_sources() {
    check(
        context("FROM scratch\nCOPY *.txt /t/\nCOPY d?r/[o]* nomatch* /u/\nCOPY a.txt b.txt /v/"),
        expect![[r#"
            t/ 755 0:0
            t/a.txt 644 0:0 "a"
            t/b.txt 644 0:0 "b"
            u/ 755 0:0
            u/one 644 0:0 "1"
            v/ 755 0:0
            v/a.txt 644 0:0 "a"
            v/b.txt 644 0:0 "b"
        "#]],
    );
    check(
        context("FROM scratch\nCOPY a.txt b.txt /v"),
        expect![[r#"
        error: line 2: COPY a.txt b.txt /v
          caused by: COPY of several sources to /v: a folder is expected, ending with /
    "#]],
    );
    check(
        context("FROM scratch\nCOPY [\"a.txt\", \"/with blank/\"]"),
        expect![[r#"
            with blank/ 755 0:0
            with blank/a.txt 644 0:0 "a"
        "#]],
    );
}

#[test]
fn sources_do_not_leave_the_context() {
    check(
        context("FROM scratch\nCOPY ../../a.txt /\nCOPY /b.txt /"),
        expect![[r#"
        a.txt 644 0:0 "a"
        b.txt 644 0:0 "b"
    "#]],
    );
    check(
        context("FROM scratch\nCOPY missing /"),
        expect![[r#"
        error: line 2: COPY missing /
          caused by: missing is not in the build context
    "#]],
    );
    check(
        context("FROM scratch\nCOPY link /").link("link", "/etc/hostname"),
        expect![[r#"
        error: line 2: COPY link /
          caused by: link is not in the build context
    "#]],
    );
    check(
        context("FROM scratch\nCOPY link /").link("link", "dir"),
        expect![[r#"
        link -> ../a.txt 0:0
        one 644 0:0 "1"
        sub/ 750 0:0
        sub/two 644 0:0 "2"
    "#]],
    );
}

#[test]
fn owner_and_mode() {
    check(
        context(
            "FROM scratch\nCOPY <<EOF /etc/passwd\napp:x:1001:2002::/:/bin/sh\nEOF\nCOPY <<EOF /etc/group\nstaff:x:50:\nEOF\n\
             COPY --chown=app dir /1\nCOPY --chown=app:staff a.txt /2/\nCOPY --chown=5 --chmod=640 a.txt /3\n\
             COPY --chmod=u=rwX,go=rX --chown=:7 dir /4\n",
        ),
        expect![[r#"
            1/ 755 1001:2002
            1/link -> ../a.txt 1001:2002
            1/one 644 1001:2002 "1"
            1/sub/ 750 1001:2002
            1/sub/two 644 1001:2002 "2"
            2/ 755 1001:50
            2/a.txt 644 1001:50 "a"
            3 640 5:5 "a"
            4/ 755 0:7
            4/link -> ../a.txt 0:7
            4/one 644 0:7 "1"
            4/sub/ 755 0:7
            4/sub/two 644 0:7 "2"
            etc/ 755 0:0
            etc/group 644 0:0 "staff:x:50:\n"
            etc/passwd 644 0:0 "app:x:1001:2002::/:/bin/sh\n"
        "#]],
    );
    check(
        context("FROM scratch\nCOPY --chown=nobody a.txt /"),
        expect![[r#"
        error: line 2: COPY --chown=nobody a.txt /
          caused by: cannot find "nobody" in /etc/passwd of the image
    "#]],
    );
    check(
        context("FROM scratch\nCOPY --chmod=999 a.txt /"),
        expect![[r#"
        error: line 2: COPY --chmod=999 a.txt /
          caused by: invalid --chmod "999": expected octal as 0755, or symbolic as u=rwX,go=rX
    "#]],
    );
}

#[test]
fn folders_merge_and_files_replace() {
    check(
        context("FROM scratch\nCOPY dir /app\nCOPY other /app")
            .file("other/one", "new")
            .file("other/sub/three", "3"),
        expect![[r#"
            app/ 755 0:0
            app/link -> ../a.txt 0:0
            app/one 644 0:0 "new"
            app/sub/ 755 0:0
            app/sub/three 644 0:0 "3"
            app/sub/two 644 0:0 "2"
        "#]],
    );
    check(
        context("FROM scratch\nCOPY dir /app\nCOPY a.txt /app/sub"),
        expect![[r#"
        app/ 755 0:0
        app/link -> ../a.txt 0:0
        app/one 644 0:0 "1"
        app/sub/ 750 0:0
        app/sub/a.txt 644 0:0 "a"
        app/sub/two 644 0:0 "2"
    "#]],
    );
    check(
        context("FROM scratch\nCOPY a.txt /app/sub\nCOPY dir /app"),
        expect![[r#"
        error: line 3: COPY dir /app
          caused by: cannot put the folder sub over a file
    "#]],
    );
}

#[test]
fn links_in_the_image_are_followed_at_the_destination_only() {
    check(
        Build::new("FROM scratch\nCOPY image /\nCOPY data /current\nCOPY a /dangling/x\nCOPY a /file\nCOPY a /inside/")
            .file("image/releases/1/keep", "keep")
            .link("image/current", "/releases/1")
            .link("image/dangling", "/made")
            .file("image/real", "old")
            .link("image/file", "real")
            .file("image/inside/target", "old")
            .link("image/inside/a", "target")
            .file("data/new", "new")
            .file("a", "a"),
        expect![[r#"
            current -> /releases/1 0:0
            dangling -> /made 0:0
            file -> real 0:0
            inside/ 755 0:0
            inside/a 644 0:0 "a"
            inside/target 644 0:0 "old"
            made/ 755 0:0
            made/x 644 0:0 "a"
            real 644 0:0 "a"
            releases/ 755 0:0
            releases/1/ 755 0:0
            releases/1/keep 644 0:0 "keep"
            releases/1/new 644 0:0 "new"
        "#]],
    );
}

#[test]
fn parents_and_excludes() {
    check(
        context(
            "FROM scratch\nCOPY --parents dir/sub/two a.txt /p/\nCOPY --parents ./dir/./**/two /q/\nCOPY --exclude=sub --exclude=*.txt . /r/",
        ),
        expect![[r##"
            p/ 755 0:0
            p/a.txt 644 0:0 "a"
            p/dir/ 755 0:0
            p/dir/sub/ 750 0:0
            p/dir/sub/two 644 0:0 "2"
            q/ 755 0:0
            q/sub/ 750 0:0
            q/sub/two 644 0:0 "2"
            r/ 755 0:0
            r/dir/ 755 0:0
            r/dir/link -> ../a.txt 0:0
            r/dir/one 644 0:0 "1"
            r/dir/sub/ 750 0:0
            r/dir/sub/two 644 0:0 "2"
            r/run.sh 755 0:0 "#!/bin/sh"
        "##]],
    );
}

#[test]
fn here_documents_become_files() {
    check(
        Build::new(
            "FROM scratch\nARG NAME=world\nCOPY <<one <<\"two\" /d/\nhello $NAME\none\nhello $NAME\ntwo\nCOPY <<-x /tabs\n\t\tindented\n\tx\n",
        ),
        expect![[r#"
            d/ 755 0:0
            d/one 644 0:0 "hello world\n"
            d/two 644 0:0 "hello $NAME\n"
            tabs 644 0:0 "indented\n"
        "#]],
    );
}

#[test]
fn a_link_copy_is_a_layer_of_its_own() {
    let mut store = Store::default();
    let build = context("FROM scratch\nCOPY a.txt /x/\nCOPY --link b.txt /y/");
    build.run(&mut store).unwrap();
    let other = context("FROM scratch\nCOPY run.sh /z/\nCOPY --link b.txt /y/").run(&mut store).unwrap();
    assert!(other.steps[2].ends_with("CACHED"), "{:?}", other.steps);
    expect![[r##"
        y/ 755 0:0
        y/b.txt 644 0:0 "b"
        z/ 755 0:0
        z/run.sh 755 0:0 "#!/bin/sh"
    "##]]
    .assert_eq(&store.tree(&other.built));
}

#[test]
fn hardlinks_stay_and_times_are_those_of_the_build() {
    let build = Build::new("FROM scratch\nCOPY d /d").file("d/one", "1");
    fs::hard_link(build.path("d/one"), build.path("d/two")).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    fs::File::options().write(true).open(build.path("d/one")).unwrap().set_modified(old).unwrap();
    let mut store = Store::default();
    let report = build.run(&mut store).unwrap();
    let folder = store.path_in(&report.built);
    let metadata = |path: &str| fs::metadata(folder.dir.path().join(path)).unwrap();
    assert_eq!(metadata("d/one").ino(), metadata("d/two").ino());
    assert_eq!(metadata("d/one").mtime(), TIMESTAMP, "the time of a checkout is no input");
    assert_eq!(metadata("d").mtime(), TIMESTAMP);
}

#[test]
fn files_of_a_stage_keep_their_owner() {
    check(
        context(
            "FROM scratch AS one\nCOPY --chown=5:6 dir /d\nFROM scratch\nCOPY --from=one /d/sub /out\nCOPY --from=0 /d/o* /out/",
        ),
        expect![[r#"
            out/ 755 0:0
            out/one 644 5:6 "1"
            out/two 644 5:6 "2"
        "#]],
    );
    check(
        context("FROM scratch AS one\nFROM scratch\nCOPY --from=one /d /out"),
        expect![[r#"
        error: line 3: COPY --from=one /d /out
          caused by: /d is not in one
    "#]],
    );
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let source = context("").file("tree/x/y", "y");
    let mut tar = Vec::new();
    let root = Root::open(&source.path("tree")).unwrap();
    carrack_layer::diff(&root, &carrack_layer::DiffOptions::default(), &mut tar).unwrap();
    let mut gzip = Vec::new();
    Method::DEFAULT_GZIP.compress(&mut &tar[..], &mut gzip, 1).unwrap();
    let build = Build::new(
        "FROM scratch\nADD --chown=3 a.tgz /add\nCOPY a.tgz /copy/\nADD --unpack=false a.tgz /raw/\nADD half.tgz /half/\nADD empty.tar /e/",
    );
    fs::write(build.path("a.tgz"), &gzip).unwrap();
    fs::write(build.path("half.tgz"), b"\x1f\x8b\x08 but no gzip").unwrap();
    fs::write(build.path("empty.tar"), b"").unwrap();
    let mut store = Store::default();
    let report = build.run(&mut store).unwrap();
    let folder = store.path_in(&report.built);
    let at = |path: &str| folder.dir.path().join(path);
    assert_eq!(fs::read(at("add/x/y")).unwrap(), b"y");
    assert_eq!(fs::metadata(at("add/x/y")).unwrap().uid(), 3);
    assert_eq!(fs::read(at("copy/a.tgz")).unwrap(), gzip);
    assert_eq!(fs::read(at("raw/a.tgz")).unwrap(), gzip);
    assert!(at("half/half.tgz").is_file(), "what only looks like an archive is copied");
    assert!(at("e/empty.tar").is_file());
}

#[test]
fn urls_are_fetched_by_add() {
    let mut store = Store::default();
    store.urls.insert("https://host.example/dir/tool?x=1".to_owned(), b"tool".to_vec());
    let build = |text: &str| Build::new(&format!("FROM scratch\n{text}"));
    let report = build("ADD https://host.example/dir/tool?x=1 /bin/").run(&mut store).unwrap();
    expect![[r#"
        bin/ 755 0:0
        bin/tool 600 0:0 "tool"
    "#]]
    .assert_eq(&store.tree(&report.built));
    let checksum = carrack_oci::Digest::of(b"tool");
    build(&format!("ADD --checksum={checksum} https://host.example/dir/tool?x=1 /t"))
        .run(&mut store)
        .unwrap();
    for (text, message) in [
        ("COPY https://host.example/x /", "use ADD"),
        ("ADD git@host.example:a/b.git /", "git repository is not supported"),
        ("ADD https://host.example/a.git#main /", "git repository is not supported"),
        ("ADD --checksum=sha256:00 https://host.example/dir/tool?x=1 /t", "checksum of"),
        ("ADD https://host.example/other /t", "cannot fetch https://host.example/other"),
    ] {
        let error = crate::kit::causes(&build(text).run(&mut store).err().unwrap());
        assert!(error.contains(message), "{text}: {error}");
    }
}
