//! Folders of Dockerfiles, each with the tree or the error that it must give.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use carrack_dockerfile::{Dockerfile, Instruction, parse};
use expect_test::expect_file;

fn show(file: &Dockerfile) -> String {
    let mut text = format!("escape {:?} syntax {:?} check {:?}\n", file.escape, file.syntax, file.check);
    let instruction = |text: &mut String, instruction: &Instruction| {
        writeln!(text, "{:?} {:?}", instruction.lines, instruction.kind).unwrap();
    };
    for arg in &file.global_args {
        instruction(&mut text, arg);
    }
    for stage in &file.stages {
        let (name, platform) = (&stage.name, &stage.platform);
        writeln!(text, "\n{:?} FROM {:?} as {name:?} on {platform:?}", stage.lines, stage.base).unwrap();
        for each in &stage.instructions {
            instruction(&mut text, each);
        }
    }
    for warning in &file.warnings {
        write!(text, "\nwarning: line {}: {}", warning.line, warning.message).unwrap();
    }
    text
}

#[test]
fn golden_folders() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders: Vec<_> = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 30, "the folders are missing");
    for folder in folders {
        let text = fs::read_to_string(folder.join("Dockerfile")).unwrap();
        let shown = match parse(&text) {
            Ok(file) => show(&file),
            Err(error) => error.render("Dockerfile", &text),
        };
        let is_error = folder.file_name().unwrap().to_string_lossy().starts_with("error_");
        assert_eq!(parse(&text).is_err(), is_error, "{}: {shown}", folder.display());
        expect_file![folder.join("expected")].assert_eq(&shown);
    }
}
