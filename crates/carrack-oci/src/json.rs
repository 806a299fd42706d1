//! Strict JSON: a document in which a key stands twice, or in other letters than it should, means different things to
//! different readers, so it is refused before it is read.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Parses `bytes`, refusing duplicate keys at any depth; `serde_json` itself bounds the depth (128).
pub fn parse_strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    parse_strict_with(bytes, &[])
}

/// As [`parse_strict`], refusing also keys that are one of `known` but for small and capital letters, at any depth: readers
/// in Go take the one for the other. Below [`FREE_MAP`] keys are the user's.
pub fn parse_strict_with<T: DeserializeOwned>(
    bytes: &[u8],
    known: &'static [&'static str],
) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    UniqueKeys { known }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    serde_json::from_slice(bytes)
}

const FREE_MAP: &str = "annotations";

/// Any JSON value whose objects have no duplicate keys, nor any that looks like a known one.
#[derive(Clone, Copy)]
struct UniqueKeys {
    known: &'static [&'static str],
}

impl UniqueKeys {
    /// The known key that this one is not, but which Go's `encoding/json` takes it for: two letters beyond ASCII are
    /// small and capital forms of others.
    fn imitated(self, key: &str) -> Option<&'static str> {
        let folded = key.replace('\u{17f}', "s").replace('\u{212a}', "k");
        self.known.iter().copied().find(|known| known.eq_ignore_ascii_case(&folded) && *known != key)
    }
}

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(known) = self.imitated(&key) {
                return Err(de::Error::custom(format_args!(
                    "key {key:?} is not {known:?}, but looks like it"
                )));
            }
            let below = if key == FREE_MAP { Self { known: &[] } } else { self };
            map.next_value_seed(below)?;
            if let Some(key) = seen.replace(key) {
                return Err(de::Error::custom(format_args!("duplicate key {key:?}")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_duplicate_keys_at_any_depth() {
        let error = parse_strict::<serde_json::Value>(br#"{"a":[{"b":1,"c":2,"b":3}]}"#).unwrap_err();
        assert!(error.to_string().contains("duplicate key \"b\""), "{error}");
        assert!(parse_strict::<serde_json::Value>(br#"{"a":{"a":[1,"x",null,true,-2,1.5]}}"#).is_ok());
    }

    #[test]
    fn refuses_keys_that_look_like_known_ones() {
        let parse =
            |text: &str| parse_strict_with::<serde_json::Value>(text.as_bytes(), &["layers", "mediaType"]);
        for text in [r#"{"Layers":[]}"#, r#"{"layers":[{"mediatype":""}]}"#, "{\"layer\u{17f}\":[]}"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("looks like it"), "{text}: {error}");
        }
        for text in [r#"{"layers":[{"mediaType":""}],"layer":1}"#, r#"{"annotations":{"Layers":""}}"#] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }
}
