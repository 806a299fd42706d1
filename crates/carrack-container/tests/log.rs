//! Logs: the json-file form, rotation, selection, following.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carrack_container::Error;
use carrack_container::log::{LogFormat, LogWriter, Rotation, Selection, Stream, read};
use jiff::Timestamp;
use tempfile::TempDir;

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("container.log");
    Place { _folder: folder, path }
}

impl Place {
    fn writer(&self, max_bytes: u64, max_files: u32) -> LogWriter {
        LogWriter::open(&self.path, Rotation { max_bytes, max_files }, &LogFormat::default()).unwrap()
    }

    fn texts(&self, selection: &Selection) -> Vec<String> {
        let mut texts = Vec::new();
        read(&self.path, selection, None, &mut |entry| {
            texts.push(entry.log.clone().into_owned());
            Ok(())
        })
        .unwrap();
        texts
    }

    fn all(&self) -> Vec<String> {
        self.texts(&Selection::default())
    }
}

#[test]
fn lines_have_the_form_of_docker() {
    let place = place();
    let mut writer = place.writer(1 << 20, 1);
    writer.write(Stream::Stdout, b"a \"quoted\"\ttab\nsecond ").unwrap();
    writer.write(Stream::Stderr, b"err\n").unwrap();
    writer.write(Stream::Stdout, b"line\nrest").unwrap();
    writer.finish(Stream::Stdout).unwrap();
    let text = fs::read_to_string(&place.path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let logs: Vec<_> =
        lines.iter().map(|line| (line["log"].as_str().unwrap(), line["stream"].as_str().unwrap())).collect();
    assert_eq!(
        logs,
        [
            ("a \"quoted\"\ttab\n", "stdout"),
            ("err\n", "stderr"),
            ("second line\n", "stdout"),
            ("rest", "stdout"),
        ]
    );
    assert!(lines[0]["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    assert_eq!(lines[0].as_object().unwrap().len(), 3);
}

#[test]
fn long_lines_are_cut_at_16_kib_and_never_inside_a_character() {
    let place = place();
    let mut writer = place.writer(1 << 20, 1);
    let line = format!("{}\n", "x".repeat(40_000));
    for piece in line.as_bytes().chunks(7_000) {
        writer.write(Stream::Stdout, piece).unwrap();
    }
    let lengths: Vec<_> = place.all().iter().map(String::len).collect();
    assert_eq!(lengths, [16_384, 16_384, 40_001 - 2 * 16_384]);
    let euros = format!("{}\n", "€".repeat(12_000));
    writer.write(Stream::Stderr, euros.as_bytes()).unwrap();
    assert_eq!(place.all()[3..].concat(), euros);
}

#[test]
fn bytes_that_are_no_text_do_not_break_the_log() {
    let place = place();
    let mut writer = place.writer(100 << 20, 1);
    writer.write(Stream::Stdout, b"\xff\xfe\0\x1b[0m\n").unwrap();
    writer.write(Stream::Stdout, &[0x80; 70_000]).unwrap();
    writer.write(Stream::Stdout, &[b'\n'; 100_000]).unwrap();
    let texts = place.all();
    assert_eq!(texts[0], "\u{fffd}\u{fffd}\0\u{1b}[0m\n");
    assert_eq!(texts.iter().filter(|text| *text == "\n").count(), 99_999);
}

#[test]
fn rotation_keeps_so_many_files_of_such_a_size() {
    let place = place();
    let mut writer = place.writer(2_000, 3);
    for number in 0..200 {
        writer.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
    }
    let folder = place.path.parent().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["container.log", "container.log.1", "container.log.2"]);
    for name in names {
        assert!(fs::metadata(folder.join(name)).unwrap().len() <= 2_000);
    }
    let texts = place.all();
    assert_eq!(texts.last().unwrap(), "line 199\n");
    let first: usize = texts[0].trim_start_matches("line ").trim().parse().unwrap();
    assert_eq!(texts.len(), 200 - first, "in order and without a gap");
}

#[test]
fn one_file_starts_anew_and_appending_goes_on() {
    let place = place();
    let mut writer = place.writer(500, 1);
    for number in 0..50 {
        writer.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
    }
    drop(writer);
    let before = place.all().len();
    place.writer(500_000, 1).write(Stream::Stdout, b"after\n").unwrap();
    assert_eq!(place.all().len(), before + 1);
}

#[test]
fn an_entry_that_a_crash_cut_short_is_cut_off() {
    let place = place();
    place.writer(1 << 20, 1).write(Stream::Stdout, b"whole\n").unwrap();
    let mut bytes = fs::read(&place.path).unwrap();
    bytes.extend_from_slice(b"{\"log\":\"torn");
    fs::write(&place.path, bytes).unwrap();
    assert_eq!(place.all(), ["whole\n"]);
    place.writer(1 << 20, 1).write(Stream::Stdout, b"next\n").unwrap();
    assert_eq!(place.all(), ["whole\n", "next\n"]);
}

#[test]
fn the_tail_reaches_over_files() {
    let place = place();
    let mut writer = place.writer(2_000, 4);
    for number in 0..60 {
        writer.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
    }
    let tail = |count| place.texts(&Selection { tail: Some(count), ..Selection::default() });
    assert!(tail(0).is_empty());
    assert_eq!(tail(1), ["line 59\n"]);
    for count in [20, 30, 45] {
        let expected: Vec<_> = (60 - count..60).map(|number| format!("line {number}\n")).collect();
        assert_eq!(tail(count), expected);
    }
    assert_eq!(tail(1_000), place.all());
}

#[test]
fn times_select() {
    let place = place();
    let mut writer = place.writer(1 << 20, 1);
    writer.write(Stream::Stdout, b"one\n").unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let middle = Some(Timestamp::now());
    std::thread::sleep(Duration::from_millis(5));
    writer.write(Stream::Stdout, b"two\n").unwrap();
    assert_eq!(place.texts(&Selection { since: middle, ..Selection::default() }), ["two\n"]);
    assert_eq!(place.texts(&Selection { until: middle, ..Selection::default() }), ["one\n"]);
}

#[test]
fn following_misses_nothing_over_rotations_and_ends_with_the_container() {
    let place = place();
    let running = AtomicBool::new(true);
    const LINES: usize = 20_000;
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            let still_running = || running.load(Ordering::SeqCst);
            read(&place.path, &Selection::default(), Some(&still_running), &mut |entry| {
                seen.push(entry.log.trim().parse::<usize>().unwrap());
                Ok(())
            })
            .unwrap();
            seen
        });
        let mut writer = place.writer(200_000, 8);
        for number in 0..LINES {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
            if number % 500 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        running.store(false, Ordering::SeqCst);
        reader.join().unwrap()
    });
    assert_eq!(seen, (0..LINES).collect::<Vec<_>>());
}

#[test]
fn following_is_told_at_once() {
    let place = place();
    let running = AtomicBool::new(true);
    let mut writer = place.writer(1 << 20, 1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = None;
            let still_running = || running.load(Ordering::SeqCst);
            read(&place.path, &Selection::default(), Some(&still_running), &mut |_| {
                seen.get_or_insert_with(Instant::now);
                Ok(())
            })
            .unwrap();
            seen.unwrap()
        });
        std::thread::sleep(Duration::from_millis(120));
        let written = Instant::now();
        writer.write(Stream::Stdout, b"now\n").unwrap();
        std::thread::sleep(Duration::from_millis(120));
        running.store(false, Ordering::SeqCst);
        assert!(reader.join().unwrap() - written < Duration::from_millis(100));
    });
}

#[test]
fn a_closed_reader_ends_the_reading() {
    let place = place();
    place.writer(1 << 20, 1).write(Stream::Stdout, b"one\ntwo\n").unwrap();
    let mut count = 0;
    let ended = read(&place.path, &Selection::default(), Some(&|| true), &mut |_| {
        count += 1;
        Err(io::ErrorKind::BrokenPipe.into())
    });
    assert!(matches!(ended, Err(Error::Output { source }) if source.kind() == io::ErrorKind::BrokenPipe));
    assert_eq!(count, 1);
}

#[test]
fn no_log_is_an_empty_log() {
    assert!(place().all().is_empty());
}
