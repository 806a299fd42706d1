//! Text into pieces: literal text, and actions as lists of tokens.

use super::{Result, refuse};

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// `.a.b`; empty is the dot itself.
    Field(Vec<String>),
    /// `$name.a.b`; the name may be empty.
    Variable(String, Vec<String>),
    /// A keyword or function.
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Pipe,
    Open,
    /// `)`, with the fields that follow it, as in `(index .A 0).B`.
    Close(Vec<String>),
    Comma,
    Assign,
}

/// Splits a template into pieces, trimming and dropping comments.
pub fn split(template: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    while let Some(start) = rest.find("{{") {
        let mut text = &rest[..start];
        let mut action = &rest[start + 2..];
        if trim_next {
            text = text.trim_start();
        }
        if action.starts_with("- ") || action.starts_with("-\n") {
            text = text.trim_end();
            action = &action[1..];
        }
        pieces.push(Piece::Text(unescape(text)));
        let (tokens, after) = scan(action)?;
        trim_next = action[..action.len() - after.len()].ends_with("-}}");
        pieces.extend(tokens.map(Piece::Action));
        rest = after;
    }
    let text = if trim_next { rest.trim_start() } else { rest };
    pieces.push(Piece::Text(unescape(text)));
    Ok(pieces)
}

/// Shells hand `\t` and `\n` on as they are written; Docker and Podman make of them what they mean.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Reads one action up to its `}}`; a comment has no tokens.
fn scan(action: &str) -> Result<(Option<Vec<Token>>, &str)> {
    if let Some(comment) = action.trim_start().strip_prefix("/*") {
        let Some((_, after)) = comment.split_once("*/") else { return refuse("unclosed comment") };
        let Some((_, after)) = after.split_once("}}") else { return refuse("unclosed action") };
        return Ok((None, after));
    }
    let mut tokens = Vec::new();
    let mut rest = action;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("}}").or_else(|| rest.strip_prefix("-}}")) {
            return if tokens.is_empty() { refuse("empty action") } else { Ok((Some(tokens), after)) };
        }
        let (token, after) = token(rest)?;
        tokens.push(token);
        rest = after;
    }
}

fn token(text: &str) -> Result<(Token, &str)> {
    let Some(first) = text.chars().next() else { return refuse("unclosed action") };
    let rest = &text[first.len_utf8()..];
    match first {
        '|' => Ok((Token::Pipe, rest)),
        '(' => Ok((Token::Open, rest)),
        ',' => Ok((Token::Comma, rest)),
        ')' => {
            let (fields, rest) = fields(rest);
            Ok((Token::Close(fields), rest))
        }
        ':' if rest.starts_with('=') => Ok((Token::Assign, &rest[1..])),
        '"' => string(text),
        '`' => match rest.split_once('`') {
            Some((raw, after)) => Ok((Token::Text(raw.to_owned()), after)),
            None => refuse("unclosed string"),
        },
        '.' => {
            let (fields, rest) = fields(text);
            // A dot that no name follows is the value itself.
            Ok((Token::Field(fields), if std::ptr::eq(rest, text) { &text[1..] } else { rest }))
        }
        '$' => {
            let (name, rest) = name(rest);
            let (fields, rest) = fields(rest);
            Ok((Token::Variable(name.to_owned(), fields), rest))
        }
        '-' | '0'..='9' => number(text),
        first if first.is_alphabetic() || first == '_' => {
            let (name, rest) = name(text);
            Ok((Token::Word(name.to_owned()), rest))
        }
        other => refuse(format!("unexpected {other:?}")),
    }
}

fn name(text: &str) -> (&str, &str) {
    let end = text.find(|symbol: char| !symbol.is_alphanumeric() && symbol != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// Reads `.a.b` as far as it goes.
fn fields(mut text: &str) -> (Vec<String>, &str) {
    let mut fields = Vec::new();
    while let Some(rest) = text.strip_prefix('.') {
        let (field, rest) = name(rest);
        if field.is_empty() {
            break;
        }
        fields.push(field.to_owned());
        text = rest;
    }
    (fields, text)
}

/// Go's interpreted strings have the escapes of JSON, save for a few that nobody uses here.
fn string(text: &str) -> Result<(Token, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match values.next() {
        Some(Ok(value)) => {
            let end = values.byte_offset();
            Ok((Token::Text(value), &text[end..]))
        }
        _ => refuse("unclosed string, or an unknown escape in it"),
    }
}

fn number(text: &str) -> Result<(Token, &str)> {
    let end = text[1..]
        .find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.')
        .map_or(text.len(), |end| end + 1);
    match text[..end].parse() {
        Ok(number) => Ok((Token::Number(number), &text[end..])),
        Err(_) => refuse(format!("{:?} is no number", &text[..end])),
    }
}
