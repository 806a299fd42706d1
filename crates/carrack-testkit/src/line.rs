//! The text in which tests write a layer: one entry a line.
//!
//! | line | entry |
//! |---|---|
//! | `/etc/hosts 0644 0:0 "text\n"` | a file; mode, owner and text may be left out |
//! | `/bin/busybox 0755 <(/bin/busybox)` | a file with the content of a file of the host |
//! | `/bin/ 0755` | a folder |
//! | `/bin/sh -> busybox` | a symbolic link |
//! | `/bin/ls => /bin/busybox` | a hard link |
//! | `/dev/null 0666 c 1:3`, `/dev/sda b 8:0`, `/run/fifo p` | devices, a FIFO |
//! | `/etc/hosts whiteout`, `/etc/ opaque` | what removes a lower layer's entries |
//! | `... mtime=5`, `... user.key="value"` | a time, an extended attribute |
//!
//! The first slash is left out of the tar's name; a name written without it is taken as it is, as in `../evil`.
//! Names and targets with blanks are put in quotes. Empty lines and lines that begin with `#` say nothing.

use std::path::Path;

use crate::tar::Header;

/// Parses one line to an entry and its content; `None` for a line that says nothing.
pub(crate) fn parse(line: &str) -> Option<(Header, Vec<u8>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = words(line).into_iter();
    let path = words.next().expect("the line is not empty").into_bytes();
    let name = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
    let mut header = Header::regular(&name);
    if name.ends_with(b"/") || name.is_empty() {
        header = Header { kind: b'5', mode: 0o755, ..header };
    }
    if name.is_empty() {
        header.name = b"./".to_vec();
    }
    let mut content = Vec::new();
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_else(|| panic!("{line:?}: nothing after {word:?}"));
        match &word {
            Word::Text(text) => content.clone_from(text),
            Word::Bare(bare) => match bare.as_str() {
                "->" => (header.kind, header.link) = (b'2', next().into_bytes()),
                "=>" => (header.kind, header.link) = (b'1', relative(next().into_bytes())),
                "c" => (header.kind, header.device) = (b'3', pair(&next(), line)),
                "b" => (header.kind, header.device) = (b'4', pair(&next(), line)),
                "p" => header.kind = b'6',
                "whiteout" => header.name = marker(&name, b".wh."),
                "opaque" => (header.kind, header.name) = (b'0', [&name[..], b".wh..wh..opq"].concat()),
                other => attribute(&mut header, &mut content, other, line),
            },
            Word::Attribute(key, value) => header.xattrs.push((key.clone(), value.clone())),
        }
    }
    Some((header, content))
}

/// The words that have no name: mode, owner, time, a file of the host.
fn attribute(header: &mut Header, content: &mut Vec<u8>, word: &str, line: &str) {
    if let Some(seconds) = word.strip_prefix("mtime=") {
        header.mtime = seconds.parse().unwrap_or_else(|_| cannot_understand(word, line));
    } else if let Some(path) = word.strip_prefix("<(").and_then(|rest| rest.strip_suffix(')')) {
        *content = std::fs::read(Path::new(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    } else if let Some((uid, gid)) = word.split_once(':') {
        header.uid = uid.parse().unwrap_or_else(|_| cannot_understand(word, line));
        header.gid = gid.parse().unwrap_or_else(|_| cannot_understand(word, line));
    } else {
        header.mode = u32::from_str_radix(word, 8).unwrap_or_else(|_| cannot_understand(word, line));
    }
}

fn cannot_understand(word: &str, line: &str) -> ! {
    panic!("{line:?}: cannot understand {word:?}")
}

/// `a/b` becomes `a/.wh.b`.
fn marker(name: &[u8], prefix: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let split = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&name[..split], prefix, &name[split..]].concat()
}

fn relative(target: Vec<u8>) -> Vec<u8> {
    target.strip_prefix(b"/").map_or(target.clone(), <[u8]>::to_vec)
}

fn pair(word: &Word, line: &str) -> (u32, u32) {
    let Word::Bare(text) = word else { panic!("{line:?}: expected MAJOR:MINOR") };
    let numbers =
        text.split_once(':').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.unwrap_or_else(|| panic!("{line:?}: expected MAJOR:MINOR, got {text:?}"))
}

#[derive(Debug)]
enum Word {
    Bare(String),
    Text(Vec<u8>),
    Attribute(String, Vec<u8>),
}

impl Word {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bare(text) => text.into_bytes(),
            Self::Text(bytes) => bytes,
            Self::Attribute(key, value) => [key.as_bytes(), b"=", &value].concat(),
        }
    }
}

fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|letter: char| letter.is_whitespace() || letter == '"').unwrap_or(rest.len());
        let (bare, after) = rest.split_at(end);
        let (word, after) = match after.strip_prefix('"') {
            None => (Word::Bare(bare.to_owned()), after),
            Some(quoted) => {
                let (text, after) = unquote(quoted, line);
                let word = match bare.strip_suffix('=') {
                    Some(key) => Word::Attribute(key.to_owned(), text),
                    None => Word::Text([bare.as_bytes(), &text].concat()),
                };
                (word, after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// Reads up to the closing quote; knows `\n`, `\t`, `\0`, `\\`, `\"` and `\xNN`.
fn unquote<'a>(text: &'a str, line: &str) -> (Vec<u8>, &'a str) {
    let mut bytes = Vec::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return (bytes, &text[index + 1..]),
            '\\' => match letters.next().map(|(_, escaped)| escaped) {
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('0') => bytes.push(0),
                Some('x') => {
                    let digits: String = letters.by_ref().take(2).map(|(_, digit)| digit).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).expect("two hex digits after \\x"));
                }
                Some(other) => bytes.extend(other.to_string().bytes()),
                None => break,
            },
            other => bytes.extend(other.to_string().bytes()),
        }
    }
    panic!("{line:?}: a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> (Header, Vec<u8>) {
        parse(line).unwrap()
    }

    #[test]
    fn reads_every_kind_of_line() {
        let (file, content) = entry(r#"/etc/hosts 0600 5:6 "a\n\x41" mtime=7 user.k="v w""#);
        assert_eq!((file.name.as_slice(), file.kind, file.mode), (&b"etc/hosts"[..], b'0', 0o600));
        assert_eq!((file.uid, file.gid, file.mtime, content.as_slice()), (5, 6, 7, &b"a\nA"[..]));
        assert_eq!(file.xattrs, [("user.k".to_owned(), b"v w".to_vec())]);
        assert_eq!((entry("/bin/").0.kind, entry("/bin/").0.mode), (b'5', 0o755));
        assert_eq!((entry("/l -> x").0.kind, entry("/l -> x").0.link), (b'2', b"x".to_vec()));
        assert_eq!((entry("/l => /a/b").0.kind, entry("/l => /a/b").0.link), (b'1', b"a/b".to_vec()));
        assert_eq!(entry("/dev/null c 1:3").0.device, (1, 3));
        assert_eq!(entry("/etc/hosts whiteout").0.name, b"etc/.wh.hosts");
        assert_eq!(entry("/etc/ opaque").0.name, b"etc/.wh..wh..opq");
        assert_eq!(entry("../evil").0.name, b"../evil");
        assert_eq!(entry(r#""/a b" 0644"#).0.name, b"a b");
        assert!(parse("  # remark").is_none() && parse("").is_none());
    }

    #[test]
    #[should_panic(expected = "cannot understand")]
    fn refuses_a_word_it_does_not_know() {
        parse("/etc/hosts 0999");
    }
}
