//! Standard output: tables, JSON, templates. A closed pipe (`carrack images | head -1`) ends quietly.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::LazyLock;

use carrack_engine::Output;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::template::Template;

/// Prints bytes to standard output.
pub fn print(text: impl AsRef<[u8]>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::message(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// What may come from an image, a registry or a container as a terminal is to get it: with what it would act on written out.
/// Where standard output is none, it is the text itself.
pub fn shown(text: &str) -> Cow<'_, str> {
    // A table asks for each of its cells.
    static IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| io::stdout().is_terminal());
    if *IS_TERMINAL { visible(text) } else { Cow::Borrowed(text) }
}

/// Writes control characters out, but the ends of lines and tabs.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_control = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut made = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_control(character) {
            true => made.extend(character.escape_default()),
            false => made.push(character),
        }
    }
    Cow::Owned(made)
}

/// Standard output as the place of an archive; a terminal is refused, as in Docker.
pub fn standard_output(verb: &'static str) -> Result<Output> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        let message = format!("cowardly refusing to {verb} to a terminal. Use the -o flag or redirect");
        return Err(Failure::message(message));
    }
    let descriptor = stdout.as_fd().try_clone_to_owned();
    let descriptor =
        descriptor.map_err(|error| Failure::message(format!("cannot write to standard output: {error}")))?;
    Ok(Output::stream(descriptor.into(), "standard output"))
}

/// Prints one line.
pub fn print_line(text: impl std::fmt::Display) -> Result<()> {
    print(&*shown(&format!("{text}\n")))
}

/// Prints a value as Docker prints JSON: indented by four spaces.
pub fn print_json(value: &Value) -> Result<()> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("a JSON value can be written");
    bytes.push(b'\n');
    print(bytes)
}

/// Columns of a list: a heading and the row's field that stands below it.
pub type Columns = &'static [(&'static str, &'static str)];

/// Prints a list as `--format` asks: a table of `columns`, `json` (one object a line), or a Go template for each
/// row, with `table` before it for aligned columns with headings.
pub fn print_list(rows: &[Value], columns: Columns, format: Option<&str>) -> Result<()> {
    print_list_with(rows, columns, format, true)
}

/// The same with or without the headings of a table.
pub fn print_list_with(rows: &[Value], columns: Columns, format: Option<&str>, headings: bool) -> Result<()> {
    match format {
        None | Some("table") => print_table(rows, columns, headings),
        Some("json") => rows.iter().try_for_each(print_line),
        Some(text) => match text.strip_prefix("table ") {
            Some(text) => print_template_table(rows, columns, text, headings),
            None => {
                let template = Template::parse(text)?;
                rows.iter().try_for_each(|row| print(template.render(row)? + "\n"))
            }
        },
    }
}

fn print_table(rows: &[Value], columns: Columns, headings: bool) -> Result<()> {
    let heading = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let cell = |row: &Value, field: &str| {
        shown(&row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned)).into_owned()
    };
    let body = rows.iter().map(|row| columns.iter().map(|(_, field)| cell(row, field)).collect());
    print(align(headings.then_some(heading).into_iter().chain(body).collect()))
}

/// Docker separates the columns of a `table` template by `\t`.
fn print_template_table(rows: &[Value], columns: Columns, text: &str, headings: bool) -> Result<()> {
    let template = Template::parse(text)?;
    let mut lines = Vec::new();
    if headings {
        let fields = rows.first().and_then(Value::as_object).into_iter().flat_map(serde_json::Map::keys);
        // A field that is no column of the plain table has its own name as heading.
        let mut names: serde_json::Map<_, _> =
            fields.map(|field| (field.clone(), Value::from(field.to_uppercase()))).collect();
        names.extend(columns.iter().map(|(heading, field)| ((*field).to_owned(), Value::from(*heading))));
        lines.push(template.render(&Value::Object(names))?);
    }
    for row in rows {
        lines.push(template.render(row)?);
    }
    print(align(lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect()))
}

/// Prints rows of cells, the first of them the headings, in aligned columns.
pub fn print_table_of(rows: Vec<Vec<String>>) -> Result<()> {
    print(align(rows))
}

/// Pads every cell but the last to its column's width and three spaces.
fn align(lines: Vec<Vec<String>>) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < line.len() {
                text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count() + 3));
            }
        }
        text.push('\n');
    }
    text
}
