//! `carrack build` as users call it: Dockerfiles of the shape they write, the cache, and the same digests from the same
//! inputs. No step has a network, so that tests of several stores do not meet on one bridge.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use carrack_testkit::{Run, Store};

#[path = "it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;

use kit::{IMAGE, busybox, empty_store, files_below, host, id};

/// A store with the base image, which has every name that the Dockerfiles here use, and a build context.
fn project(files: &[(&str, &str)]) -> (Store, PathBuf) {
    let store = empty_store();
    store.load(&busybox().layer("/bin/chgrp -> busybox"), IMAGE);
    let context = folder(&store, "context", files);
    (store, context)
}

/// A folder of `files`, path and content, beside the store.
fn folder(store: &Store, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = store.path().join(name);
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it is below the folder")).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// `carrack build --tag app`, with further flags.
fn build(store: &Store, context: &Path, flags: &[&str]) -> Run {
    let mut command = vec!["build", "--network", "none", "--tag", "app"];
    command.extend(flags);
    command.push(context.to_str().expect("the folder has a name of ASCII"));
    store.carrack(command)
}

/// Runs a script in the image that [`build`] made.
#[track_caller]
fn script(store: &Store, script: &str) -> String {
    store.carrack(["run", "--rm", "--network", "none", "app", "sh", "-c", script]).line()
}

#[track_caller]
fn inspect(store: &Store, format: &str) -> String {
    store.carrack(["inspect", "--type", "image", "--format", format, "app"]).line()
}

fn cached_steps(run: &Run) -> usize {
    run.stderr.matches("--> cached").count()
}

#[track_caller]
fn date_back(file: &Path, age: Duration) {
    File::open(file).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

/// The tar names of the image's topmost layer, as GNU tar reads them from what `push` writes.
#[track_caller]
fn top_layer(store: &Store) -> Vec<String> {
    let layout = store.path().join("pushed");
    store.carrack(["push", "--quiet", "app", &format!("oci:{}:app", layout.display())]).success();
    let document =
        |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |descriptor: &serde_json::Value| {
        layout.join("blobs/sha256").join(&descriptor["digest"].as_str().unwrap()["sha256:".len()..])
    };
    let index = document(layout.join("index.json"));
    let manifest = document(blob(&index["manifests"][0]));
    let layer = blob(manifest["layers"].as_array().unwrap().last().unwrap());
    let listed = host("tar", ["-tzf", layer.to_str().unwrap()]).success().stdout;
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// What a build that failed must not leave: images, snapshots in work, files of steps, mounts.
#[track_caller]
fn assert_failure_left_nothing(store: &Store) {
    let images = store.carrack(["images", "--format", "{{.Repository}}"]).line();
    assert!(!images.contains("app") && !images.contains("<none>"), "{images}");
    let mut places = ["root/content/ingest", "run/steps"].map(|place| store.path().join(place)).to_vec();
    places.extend(["active", "staging"].iter().flat_map(|name| kit::snapshot_folders(store, name)));
    for place in places {
        let left: Vec<_> = fs::read_dir(place).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(store.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn stages_share_files_and_the_last_is_the_image() {
    let dockerfile = "
FROM localhost/busybox:1 AS tools
RUN echo 42 > /answer && echo 1 > /left-behind
FROM localhost/busybox:1
COPY --from=tools /answer /by-name
COPY --from=0 /answer /by-number
COPY --from=localhost/busybox:1 /etc/passwd /of-an-image
";
    let (store, context) = project(&[("Dockerfile", dockerfile)]);
    build(&store, &context, &[]).success();
    let output = script(
        &store,
        "cat /by-name /by-number; head -c 4 /of-an-image; ls /left-behind /answer 2>&1 | wc -l",
    );
    assert_eq!(output, "42\n42\nroot2");
}

#[test]
fn a_second_build_is_cached_until_content_changes() {
    let dockerfile = "FROM localhost/busybox:1\nCOPY a.txt /a\nRUN cat /a > /b\nENV B=1\n";
    let (store, context) = project(&[("Dockerfile", dockerfile), ("a.txt", "one")]);
    let first = build(&store, &context, &[]).success();
    assert_eq!(cached_steps(&first), 0, "{}", first.stderr);
    let second = build(&store, &context, &[]).success();
    assert_eq!(cached_steps(&second), 2, "{}", second.stderr);
    assert_eq!(second.stdout, first.stdout);

    date_back(&context.join("a.txt"), Duration::from_secs(1000));
    let touched = build(&store, &context, &[]).success();
    assert_eq!(cached_steps(&touched), 2, "{}", touched.stderr);
    assert_eq!(touched.stdout, first.stdout);

    // The same size: content counts, not what the file system says of it.
    fs::write(context.join("a.txt"), "two").unwrap();
    let changed = build(&store, &context, &[]).success();
    assert_eq!(cached_steps(&changed), 0, "{}", changed.stderr);
    assert_ne!(changed.stdout, first.stdout);
    assert_eq!(script(&store, "cat /b"), "two");

    fs::write(context.join("a.txt"), "one").unwrap();
    let back = build(&store, &context, &[]).success();
    assert_eq!((cached_steps(&back), &back.stdout), (2, &first.stdout), "{}", back.stderr);
}

#[test]
fn no_cache_runs_every_step_and_a_changed_step_those_after_it() {
    let (store, context) = project(&[(
        "Dockerfile",
        "FROM localhost/busybox:1\nRUN echo 1 > /a\nRUN echo 2 > /b\nRUN echo 3 > /c\n",
    )]);
    build(&store, &context, &[]).success();
    let run = build(&store, &context, &["--no-cache"]).success();
    assert_eq!(cached_steps(&run), 0, "{}", run.stderr);
    fs::write(
        context.join("Dockerfile"),
        "FROM localhost/busybox:1\nRUN echo 1 > /a\nRUN echo two > /b\nRUN echo 3 > /c\n",
    )
    .unwrap();
    let run = build(&store, &context, &[]).success();
    assert_eq!(cached_steps(&run), 1, "{}", run.stderr);
}

#[test]
fn two_stores_build_the_same_digests() {
    let dockerfile = "
FROM localhost/busybox:1
COPY --chmod=755 . /src
RUN mkdir -p /out/d && for n in $(seq 40); do echo $n > /out/d/$n; done && ln /out/d/1 /out/hard && \\
    ln -s d/2 /out/soft && rm /bin/vi && touch /out
WORKDIR /made/by/workdir
";
    let files = [("Dockerfile", dockerfile), ("z/a.txt", "a"), ("b.txt", "b"), ("z/c/d.txt", "d")];
    let mut results = Vec::new();
    for age in [10, 100_000] {
        let (store, context) = project(&files);
        for file in files_below(&context) {
            date_back(&file, Duration::from_secs(age));
        }
        build(&store, &context, &["--no-cache"]).success();
        let layers = inspect(&store, "{{json .RootFS.Layers}}");
        results.push((id(&store, "app"), layers, kit::digest(&store, "app")));
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn the_dockerfile_that_users_write_builds_and_runs() {
    let dockerfile = r#"
FROM localhost/busybox:1
ARG PORT=8080
ENV APP_HOME=/opt/app \
    PORT=$PORT
LABEL org.example.title="An app" org.example.version=1
WORKDIR $APP_HOME
# A comment between instructions.
COPY server.conf start.sh ./
RUN sed -i "s/@PORT@/${PORT}/" server.conf && \
    # A comment inside of one.
    mkdir -p logs cache && \
    echo 'app:x:1001:0:app:/opt/app:/bin/sh' >> /etc/passwd && \
    chgrp -R 0 ${APP_HOME} && \

    chmod -R g=u ${APP_HOME}
EXPOSE 8080 9090/udp
USER 1001
CMD sh start.sh & wait $!; cat logs/started server.conf
"#;
    let start = "echo \"$(id -u):$(id -g)\" > logs/started\n";
    let (store, context) =
        project(&[("Dockerfile", dockerfile), ("server.conf", "port=@PORT@\n"), ("start.sh", start)]);
    build(&store, &context, &[]).success();
    let output = store.carrack(["run", "--rm", "--network", "none", "app"]).line();
    assert_eq!(output, "1001:0\nport=8080");
    assert_eq!(script(&store, "stat -c '%g %a' /opt/app/server.conf /opt/app"), "0 664\n0 775");
    assert_eq!(inspect(&store, "{{.Config.User}} {{.Config.WorkingDir}}"), "1001 /opt/app");
    assert_eq!(inspect(&store, "{{json .Config.ExposedPorts}}"), r#"{"8080/tcp":{},"9090/udp":{}}"#);
    assert_eq!(inspect(&store, r#"{{index .Config.Labels "org.example.title"}}"#), "An app");
    let command = inspect(&store, "{{json .Config.Cmd}}");
    assert!(command.starts_with(r#"["/bin/sh","-c","#), "{command}");
}

#[test]
fn heredocs_are_scripts_and_files() {
    let dockerfile = "
FROM localhost/busybox:1
ARG NAME=ahoy
RUN <<EOF
set -e
echo one > /one
cd /tmp
echo \"two $NAME\" >> /one
EOF
COPY <<first <<\"second\" /made/
hello $NAME
first
raw $NAME
second
";
    let (store, context) = project(&[("Dockerfile", dockerfile)]);
    build(&store, &context, &[]).success();
    let output = script(&store, "cat /one /made/first /made/second; ls /made");
    assert_eq!(output, "one\ntwo ahoy\nhello ahoy\nraw $NAME\nfirst\nsecond");
}

#[test]
fn dockerignore_keeps_files_out() {
    let (store, context) = project(&[
        ("Dockerfile", "FROM localhost/busybox:1\nCOPY . /context\n"),
        (".dockerignore", "# what stays here\n*.log\n!keep.log\nsecret/\n**/*.tmp\n"),
        ("a.txt", "a"),
        ("noise.log", "1"),
        ("keep.log", "1"),
        ("secret/key", "1"),
        ("deep/er/x.tmp", "1"),
        ("deep/er/y", "1"),
    ]);
    build(&store, &context, &[]).success();
    let listed = script(&store, "cd /context && find . -type f | sort");
    assert_eq!(listed, "./.dockerignore\n./Dockerfile\n./a.txt\n./deep/er/y\n./keep.log");
    // What is left out does not take part in the cache either.
    fs::write(context.join("noise.log"), "2").unwrap();
    assert_eq!(cached_steps(&build(&store, &context, &[]).success()), 1);
    fs::write(context.join("Dockerfile"), "FROM localhost/busybox:1\nCOPY secret/key /key\n").unwrap();
    let run = build(&store, &context, &[]).code(1);
    assert!(run.stderr.contains("secret/key"), "{}", run.stderr);
}

#[test]
fn onbuild_runs_in_the_next_build_and_only_there() {
    let (store, context) = project(&[
        ("Dockerfile", "FROM localhost/base:1\nRUN cat /app.txt > /seen\n"),
        ("app.txt", "content"),
    ]);
    let base = folder(
        &store,
        "base",
        &[(
            "Dockerfile",
            "FROM localhost/busybox:1\nONBUILD COPY app.txt /app.txt\nONBUILD RUN echo on > /on\n",
        )],
    );
    let base = base.to_str().unwrap();
    store.carrack(["build", "--network", "none", "--tag", "localhost/base:1", base]).success();
    build(&store, &context, &[]).success();
    assert_eq!(script(&store, "cat /seen; echo; cat /on"), "content\non");
    let on_build = inspect(&store, "{{json .Config.OnBuild}}");
    assert!(!on_build.contains("COPY"), "{on_build}");
}

#[test]
fn add_unpacks_archives_and_copy_does_not() {
    let dockerfile = "FROM localhost/busybox:1\nADD app.tar.gz /added/\nCOPY app.tar.gz /copied/\n";
    let (store, context) =
        project(&[("Dockerfile", dockerfile), ("app/bin/tool", "tool\n"), ("app/readme", "r")]);
    let (archive, source) = (context.join("app.tar.gz"), context.to_str().unwrap().to_owned());
    host("tar", ["-C", &source, "-czf", archive.to_str().unwrap(), "app"]).success();
    build(&store, &context, &[]).success();
    let listed = script(&store, "find /added /copied -type f | sort; cat /added/app/bin/tool");
    assert_eq!(listed, "/added/app/bin/tool\n/added/app/readme\n/copied/app.tar.gz\ntool");
}

#[test]
fn copy_sets_owner_and_mode() {
    let dockerfile = "
FROM localhost/busybox:1
COPY --chown=1001:0 --chmod=0750 run.sh /numbers
COPY --chown=nobody:nogroup run.sh /names
COPY run.sh /plain
";
    let (store, context) = project(&[("Dockerfile", dockerfile), ("run.sh", "echo run")]);
    fs::set_permissions(context.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    build(&store, &context, &[]).success();
    let output = script(&store, "stat -c '%u:%g %a' /numbers /names /plain");
    assert_eq!(output, "1001:0 750\n65534:65534 640\n0:0 640");
}

#[test]
fn target_ends_the_build_at_its_stage() {
    let dockerfile = "
FROM localhost/busybox:1 AS first
RUN echo first > /stage
FROM localhost/busybox:1 AS aside
RUN exit 9
FROM first AS second
RUN exit 8
";
    let (store, context) = project(&[("Dockerfile", dockerfile)]);
    build(&store, &context, &["--target", "first"]).success();
    assert_eq!(script(&store, "cat /stage"), "first");
    let run = build(&store, &context, &["--target", "second"]).code(1);
    assert!(run.stderr.contains("exit code 8") && !run.stderr.contains("exit 9"), "{}", run.stderr);
    let run = build(&store, &context, &["--target", "third"]).code(1);
    assert!(run.stderr.contains("third"), "{}", run.stderr);
}

#[test]
fn build_arguments_reach_from_and_run() {
    let dockerfile = "
ARG BASE=localhost/absent:1
FROM ${BASE}
ARG VERSION=1
RUN echo version $VERSION > /version
";
    let (store, context) = project(&[("Dockerfile", dockerfile)]);
    let base = format!("BASE={IMAGE}");
    build(&store, &context, &["--build-arg", &base]).success();
    assert_eq!(script(&store, "cat /version; echo left: $VERSION"), "version 1\nleft:");
    let run = build(&store, &context, &["--build-arg", &base, "--build-arg", "VERSION=2"]).success();
    assert_eq!((cached_steps(&run), script(&store, "cat /version").as_str()), (0, "version 2"));
}

#[test]
fn a_layer_of_run_holds_only_the_difference() {
    let dockerfile = "FROM localhost/busybox:1\nRUN mkdir /d && echo 1 > /d/file && rm /bin/vi && echo 1 > /tmp/x && rm /tmp/x\n";
    let (store, context) = project(&[("Dockerfile", dockerfile)]);
    build(&store, &context, &[]).success();
    let names = top_layer(&store);
    let files: Vec<_> = names.iter().filter(|name| !name.ends_with('/')).map(String::as_str).collect();
    assert_eq!(files, ["bin/.wh.vi", "d/file"], "{names:?}");
    for mount_point in ["proc/", "sys/", "dev/"] {
        assert!(!names.iter().any(|name| name.starts_with(mount_point)), "{names:?}");
    }
}

#[test]
fn a_syntax_error_shows_its_line_and_place() {
    let (store, context) = project(&[("Dockerfile", "FROM localhost/busybox:1\n\nCOPY --wrong a b\n")]);
    let run = build(&store, &context, &[]).code(1);
    let file = context.join("Dockerfile");
    assert!(run.stderr.contains(&format!("{}:3:6: ", file.display())), "{}", run.stderr);
    let mut lines = run.stderr.lines().skip_while(|line| !line.contains("3 | COPY --wrong a b"));
    let (source, caret) = (lines.next().expect("the line is shown"), lines.next().expect("a caret is shown"));
    assert_eq!(caret.find('^'), source.find("--wrong"), "{}", run.stderr);
    for (text, said) in [
        ("FROM localhost/busybox:1\nRUNN true\n", "RUNN"),
        ("RUN true\n", "FROM"),
        ("FROM localhost/busybox:1\nRUN <<EOF\ntrue\n", "EOF"),
        ("", "Dockerfile"),
    ] {
        fs::write(&file, text).unwrap();
        let run = build(&store, &context, &[]).code(1);
        assert!(run.stderr.contains(said), "{text:?}: {}", run.stderr);
    }
    assert_failure_left_nothing(&store);
}

#[test]
fn a_failing_run_names_its_exit_code_and_leaves_nothing() {
    let dockerfile = "FROM localhost/busybox:1\nRUN echo before > /before\nRUN echo said >&2 && exit 7\n";
    let (store, context) = project(&[("Dockerfile", dockerfile)]);
    let run = build(&store, &context, &[]).code(1);
    assert!(run.stderr.contains("line 3") && run.stderr.contains("exit code 7"), "{}", run.stderr);
    assert!(run.stderr.contains("\nsaid\n"), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    assert_failure_left_nothing(&store);
    // What came before it is kept.
    let run = build(&store, &context, &[]).code(1);
    assert_eq!(cached_steps(&run), 1, "{}", run.stderr);
}

#[test]
fn run_has_no_network_when_asked() {
    let dockerfile = "FROM localhost/busybox:1\nRUN cut -d: -f1 /proc/net/dev | tail -n +3 > /interfaces\n";
    let (store, context) = project(&[("Dockerfile", dockerfile)]);
    build(&store, &context, &[]).success();
    assert_eq!(script(&store, "tr -d ' ' < /interfaces"), "lo");
    // The instruction's word counts more than the command line's.
    let dockerfile = dockerfile.replace("RUN cut", "RUN --network=none cut");
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let context = context.to_str().unwrap();
    store.carrack(["build", "--network", "host", "--no-cache", "--tag", "app", context]).success();
    assert_eq!(script(&store, "tr -d ' ' < /interfaces"), "lo");
}

#[test]
fn a_stage_begins_from_what_a_name_meant_before() {
    let (store, context) =
        project(&[("Dockerfile", "FROM localhost/base:1@{1}\nCOPY file /\n"), ("file", "f")]);
    store.load(&busybox().layer("/which \"old\""), "localhost/base:1");
    store.load(&busybox().layer("/which \"new\""), "localhost/base:1");
    build(&store, &context, &[]).success();
    assert_eq!(script(&store, "cat /which"), "old");
    fs::write(context.join("Dockerfile"), "FROM localhost/base:1@{7}\n").unwrap();
    let refused = build(&store, &context, &[]).code(1);
    assert!(refused.stderr.contains("the log of localhost/base:1"), "{}", refused.stderr);
}
