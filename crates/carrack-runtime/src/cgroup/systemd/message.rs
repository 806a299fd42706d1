//! Messages of D-Bus as bytes: the few types that systemd's manager needs, little-endian, one message at a time
//! (D-Bus specification, "Marshaling" and "Message Format").
//!
//! Invariant: what is read is bounded by the length that was received; nothing of it is believed beyond that.

/// A value in a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Bool(bool),
    /// `t`
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Bool(_) => "b",
            Self::Number(_) => "t",
            Self::Numbers(_) => "au",
            Self::Bytes(_) => "ay",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// `s`
    Text(String),
    /// `b`
    Bool(bool),
    /// `a(sv)`
    Properties(Vec<(&'static str, Value)>),
    /// `a(sa(sv))` without entries
    NoUnits,
}

/// A message that was received, as far as it is of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// 2 an answer, 3 an error, 4 a signal.
    pub kind: u8,
    /// The call that is answered.
    pub answers: Option<u32>,
    /// The name of a signal.
    pub member: Option<String>,
    /// The name of an error.
    pub error: Option<String>,
    /// The texts of the body: its strings and object paths.
    pub texts: Vec<String>,
}

pub const ANSWER: u8 = 2;
pub const ERROR: u8 = 3;
pub const SIGNAL: u8 = 4;

/// The part of a message that says how long it is.
pub const FIXED: usize = 16;
/// The longest message that is read; the specification allows 128 MiB.
const MAX: usize = 1 << 20;

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// The length counts the elements without what aligns the first.
    fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let place = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let bytes = length(self.0.len() - start).to_le_bytes();
        self.0[place..place + 4].copy_from_slice(&bytes);
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Bool(bool) => self.number(u32::from(*bool)),
            Value::Number(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Numbers(numbers) => {
                self.array(4, |writer| numbers.iter().for_each(|one| writer.number(*one)))
            }
            Value::Bytes(bytes) => self.array(1, |writer| writer.0.extend(bytes)),
            Value::Pairs(pairs) => self.array(8, |writer| {
                for (one, two) in pairs {
                    writer.align(8);
                    writer.text(one);
                    writer.text(two);
                }
            }),
        }
    }

    fn argument(&mut self, argument: &Argument) {
        match argument {
            Argument::Text(text) => self.text(text),
            Argument::Bool(bool) => self.number(u32::from(*bool)),
            Argument::Properties(properties) => self.array(8, |writer| {
                for (name, value) in properties {
                    writer.align(8);
                    writer.text(name);
                    writer.variant(value);
                }
            }),
            Argument::NoUnits => self.array(8, |_| {}),
        }
    }

    /// An entry of the header: its number, and a text of the type `signature`.
    fn field(&mut self, number: u8, signature: &str, text: &str) {
        self.align(8);
        self.0.push(number);
        self.signature(signature);
        match signature {
            "g" => self.signature(text),
            _ => self.text(text),
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The bytes of a call of systemd's manager.
pub fn call(serial: u32, member: &str, arguments: &[Argument]) -> Vec<u8> {
    let mut body = Writer::default();
    arguments.iter().for_each(|argument| body.argument(argument));
    let signature: String = arguments
        .iter()
        .map(|argument| match argument {
            Argument::Text(_) => "s",
            Argument::Bool(_) => "b",
            Argument::Properties(_) => "a(sv)",
            Argument::NoUnits => "a(sa(sv))",
        })
        .collect();
    // Little-endian, a call, without flags, version 1 of the protocol.
    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.number(length(body.0.len()));
    message.number(serial);
    message.array(8, |header| {
        header.field(1, "o", "/org/freedesktop/systemd1");
        header.field(2, "s", "org.freedesktop.systemd1.Manager");
        header.field(3, "s", member);
        header.field(6, "s", "org.freedesktop.systemd1");
        if !signature.is_empty() {
            header.field(8, "g", &signature);
        }
    });
    message.align(8);
    message.0.extend(body.0);
    message.0
}

/// The bytes of a message as a manager sends them: fields of the header, and a body of texts and numbers.
#[cfg(test)]
pub fn sent(kind: u8, fields: &[(u8, &str, &str)], signature: &str, body: &[&str]) -> Vec<u8> {
    let mut values = Writer::default();
    for (kind, text) in signature.chars().zip(body) {
        match kind {
            'u' => values.number(text.parse().unwrap()),
            _ => values.text(text),
        }
    }
    let mut message = Writer(vec![b'l', kind, 0, 1]);
    message.number(length(values.0.len()));
    message.number(1);
    message.array(8, |header| {
        for (number, kind, text) in fields.iter().chain(&[(8, "g", signature)]) {
            match *kind {
                "u" => {
                    header.align(8);
                    header.0.push(*number);
                    header.signature("u");
                    header.number(text.parse().unwrap());
                }
                _ => header.field(*number, kind, text),
            }
        }
    });
    message.align(8);
    message.0.extend(values.0);
    message.0
}

/// How many bytes follow the fixed part of a message; `None` for what is none, or too long.
pub fn rest(fixed: &[u8; FIXED]) -> Option<usize> {
    let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let (body, header) = (number(4) as usize, number(12) as usize);
    let is_message = fixed[0] == b'l' && fixed[3] == 1;
    let rest = header.checked_next_multiple_of(8)?.checked_add(body)?;
    Some(rest).filter(|rest| is_message && *rest <= MAX)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.text_of(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.take(1)?[0]);
        self.text_of(length)
    }

    fn text_of(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }
}

/// Reads a whole message, the fixed part included.
pub fn read(bytes: &[u8]) -> Option<Received> {
    let mut received = Received { kind: *bytes.get(1)?, ..Received::default() };
    let mut reader = Reader { bytes, at: 12 };
    let end = reader.number()? as usize + FIXED;
    let mut signature = String::new();
    while reader.at < end {
        reader.align(8);
        let field = reader.take(1)?[0];
        match &*reader.signature()? {
            "o" | "s" => {
                let text = reader.text()?;
                match field {
                    3 => received.member = Some(text),
                    4 => received.error = Some(text),
                    _ => {}
                }
            }
            "g" => signature = reader.signature()?,
            "u" => {
                let number = reader.number()?;
                received.answers = Some(number).filter(|_| field == 5).or(received.answers);
            }
            _ => return None,
        }
    }
    reader.align(8);
    // A body of other types is of no use here.
    for kind in signature.chars() {
        match kind {
            's' | 'o' => received.texts.push(reader.text()?),
            'u' | 'b' | 'i' => drop(reader.number()?),
            _ => break,
        }
    }
    Some(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand from the specification: alignment, lengths and nested types.
    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let properties = vec![("Delegate", Value::Bool(true)), ("PIDs", Value::Numbers(vec![7]))];
        let bytes = call(3, "M", &[Argument::Text("ab".into()), Argument::Properties(properties)]);
        let body_length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let body = &bytes[bytes.len() - body_length..];
        let expected = [
            &b"\x02\0\0\0ab\0"[..],
            b"\0", // to the array's length, which is that of what begins below
            b"\x30\0\0\0",
            b"\0\0\0\0", // to the first struct
            b"\x08\0\0\0Delegate\0",
            b"\x01b\0",
            b"\x01\0\0\0",
            b"\0\0\0\0", // to the second
            b"\x04\0\0\0PIDs\0",
            b"\x02au\0",
            b"\0\0\0", // to the array's length
            b"\x04\0\0\0\x07\0\0\0",
        ]
        .concat();
        assert_eq!(body, expected);
        assert_eq!(&bytes[..4], b"l\x01\0\x01");
        assert_eq!(rest(bytes[..16].try_into().unwrap()), Some(bytes.len() - 16));
        assert_eq!(read(&bytes).unwrap().member.as_deref(), Some("M"));
        assert_eq!(read(&bytes).unwrap().texts, ["ab"]);
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_no_message() {
        let bytes =
            call(1, "StopUnit", &[Argument::Text("a.scope".into()), Argument::Text("replace".into())]);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), None, "{cut}");
        }
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        let with = |at: usize, value: u8| {
            let mut fixed = fixed;
            fixed[at] = value;
            rest(&fixed)
        };
        assert!(rest(&fixed).is_some());
        assert_eq!((with(0, b'B'), with(3, 2), with(7, 1), with(15, 255)), (None, None, None, None));
    }
}
