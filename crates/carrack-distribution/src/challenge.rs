//! `WWW-Authenticate` (RFC 9110, 11.6.1): which kind of authorization a registry asks for. Pure.
//!
//! Invariant: any header gives a list of challenges, possibly empty; none panics or takes more than linear time.

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; the first where a hostile header repeats it.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All challenges of one header value, in order. What cannot be read ends the list.
    pub(crate) fn parse(header: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut cursor = Cursor { rest: header };
        loop {
            cursor.skip(|byte| matches!(byte, b' ' | b'\t' | b','));
            let Some(word) = cursor.token() else { return challenges };
            if cursor.skip_to_equals() {
                let Some(challenge) = challenges.last_mut() else { return challenges };
                let Some(value) = cursor.value() else { return challenges };
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            } else {
                challenges.push(Self { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            }
        }
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        let length = self.rest.bytes().take_while(|byte| wanted(*byte)).count();
        self.rest = &self.rest[length..];
    }

    /// RFC 9110, 5.6.2.
    fn token(&mut self) -> Option<&'a str> {
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let length = self.rest.bytes().take_while(is_token).count();
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        (length > 0).then_some(token)
    }

    /// A parameter's `=` may have white space around it ("BWS"); a scheme is followed by none.
    fn skip_to_equals(&mut self) -> bool {
        let after = self.rest.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else { return false };
        self.rest = value.trim_start_matches([' ', '\t']);
        true
    }

    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.rest.strip_prefix('"') else { return self.token().map(str::to_owned) };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &quoted[index + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bearer_and_basic_together() {
        let header =
            r#"Bearer realm="https://auth.example/token",service="a, \"b\"" , scope=x, BASIC realm="r""#;
        let challenges = Challenge::parse(header);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0].parameter("realm"), Some("https://auth.example/token"));
        assert_eq!(challenges[0].parameter("service"), Some(r#"a, "b""#));
        assert_eq!(challenges[0].parameter("scope"), Some("x"));
        assert_eq!((challenges[1].scheme.as_str(), challenges[1].parameter("realm")), ("basic", Some("r")));
    }

    #[test]
    fn a_broken_header_ends_the_list() {
        assert_eq!(Challenge::parse(""), []);
        assert_eq!(Challenge::parse("="), []);
        assert_eq!(Challenge::parse(r#"Bearer realm="open"#)[0].parameter("realm"), None);
        assert_eq!(Challenge::parse(r#"Bearer realm="a",realm="b""#)[0].parameter("realm"), Some("a"));
        assert_eq!(Challenge::parse("realm=\"a\""), []);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(header in "[ -~\\t\u{e9}\"\\\\,=]{0,80}") {
            Challenge::parse(&header);
        }
    }
}
