//! The functions: Go's built-in ones, and those that Docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Result, refuse};

/// Calls the function `name`.
pub fn call(name: &str, arguments: &[Value]) -> Result<Value> {
    match (name, arguments) {
        ("json", [value]) => Ok(value.to_string().into()),
        ("print", values) => Ok(values.iter().map(print).collect::<String>().into()),
        ("println", values) => {
            Ok(format!("{}\n", values.iter().map(print).collect::<Vec<_>>().join(" ")).into())
        }
        ("printf", [format, values @ ..]) => printf(text(format)?, values).map(Value::from),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("label", [labels, key]) => label(labels, text(key)?),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("and", values) => {
            Ok(values.iter().find(|value| !is_true(value)).or(values.last()).cloned().unwrap_or_default())
        }
        ("or", values) => {
            Ok(values.iter().find(|value| is_true(value)).or(values.last()).cloned().unwrap_or_default())
        }
        ("eq", [first, others @ ..]) => Ok(others.iter().any(|other| other == first).into()),
        ("ne", [one, two]) => Ok((one != two).into()),
        ("lt" | "le" | "gt" | "ge", [one, two]) => compare(name, one, two),
        ("join", [Value::Array(items), separator]) => {
            Ok(items.iter().map(print).collect::<Vec<_>>().join(text(separator)?).into())
        }
        ("join", [Value::Null, _]) => Ok("".into()),
        ("split", [value, separator]) => Ok(text(value)?.split(text(separator)?).collect::<Vec<_>>().into()),
        ("lower", [value]) => Ok(text(value)?.to_lowercase().into()),
        ("upper", [value]) => Ok(text(value)?.to_uppercase().into()),
        ("title", [value]) => Ok(title(text(value)?).into()),
        ("truncate", [value, length]) => {
            Ok(text(value)?.chars().take(number(length)?).collect::<String>().into())
        }
        ("pad", [value, before, after]) => {
            Ok(format!("{}{}{}", " ".repeat(number(before)?), text(value)?, " ".repeat(number(after)?))
                .into())
        }
        (
            "json" | "printf" | "len" | "index" | "slice" | "not" | "eq" | "ne" | "lt" | "le" | "gt" | "ge"
            | "join" | "split" | "lower" | "upper" | "title" | "truncate" | "pad",
            _,
        ) => refuse(format!("wrong arguments of {name}")),
        _ => refuse(format!("no function {name}")),
    }
}

/// Go's idea of an empty value.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as Go's `%v` prints it: `[a b]`, `map[k:v]`.
pub fn print(value: &Value) -> String {
    let join = |parts: Vec<String>| parts.join(" ");
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", join(items.iter().map(print).collect())),
        Value::Object(map) => {
            format!(
                "map[{}]",
                join(map.iter().map(|(key, value)| format!("{key}:{}", print(value))).collect())
            )
        }
        other => other.to_string(),
    }
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().map_or_else(|| refuse(format!("expected a text, got {value}")), Ok)
}

/// A number that is used as a length; bounded, because templates come from scripts.
fn number(value: &Value) -> Result<usize> {
    match value.as_u64() {
        Some(number) if number <= 4096 => Ok(number as usize),
        _ => refuse(format!("expected a number of at most 4096, got {value}")),
    }
}

fn length(value: &Value) -> Result<Value> {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        Value::Null => Ok(0.into()),
        other => refuse(format!("len of {other}")),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            (Value::Array(items), Value::Number(number)) => {
                match number.as_u64().and_then(|number| items.get(number as usize)) {
                    Some(item) => item,
                    None => return refuse(format!("index {number} is out of range")),
                }
            }
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(item) => item,
                // In Go, what a map of texts has not is an empty text.
                None if map.values().all(Value::is_string) => return Ok("".into()),
                None => &Value::Null,
            },
            (Value::Null, Value::String(_)) => return Ok("".into()),
            (Value::Null, _) => &Value::Null,
            _ => return refuse(format!("index of {value} by {key}")),
        };
    }
    Ok(value.clone())
}

/// The value of a label, of a map or of a list as rows have it.
fn label(labels: &Value, key: &str) -> Result<Value> {
    match labels {
        Value::Object(map) => Ok(map.get(key).cloned().unwrap_or_else(|| "".into())),
        Value::String(list) => {
            let mut pairs = list.split(',').filter_map(|pair| pair.split_once('='));
            Ok(pairs.find(|(name, _)| *name == key).map_or("", |(_, value)| value).into())
        }
        _ => Ok("".into()),
    }
}

/// The part of a text or list from one number to another.
fn slice(value: &Value, bounds: &[Value]) -> Result<Value> {
    let bound = |place: usize, otherwise: usize| match bounds.get(place) {
        None => Ok(otherwise),
        Some(bound) => {
            bound.as_u64().map_or_else(|| refuse(format!("slice to {bound}")), |bound| Ok(bound as usize))
        }
    };
    let (start, out_of_range) = (bound(0, 0)?, || refuse("slice out of range"));
    match value {
        Value::String(text) => {
            text.get(start..bound(1, text.len())?).map_or_else(out_of_range, |part| Ok(part.into()))
        }
        Value::Array(items) => items
            .get(start..bound(1, items.len())?)
            .map_or_else(out_of_range, |part| Ok(part.to_vec().into())),
        other => refuse(format!("slice of {other}")),
    }
}

fn compare(name: &str, one: &Value, two: &Value) -> Result<Value> {
    let ordering = match (one, two) {
        (Value::Number(one), Value::Number(two)) => one.as_f64().partial_cmp(&two.as_f64()),
        (Value::String(one), Value::String(two)) => Some(one.cmp(two)),
        _ => None,
    };
    let Some(ordering) = ordering else { return refuse(format!("{name} of values of different types")) };
    Ok(match name {
        "lt" => ordering == Ordering::Less,
        "le" => ordering != Ordering::Greater,
        "gt" => ordering == Ordering::Greater,
        _ => ordering != Ordering::Less,
    }
    .into())
}

fn title(text: &str) -> String {
    let mut symbols = text.chars();
    symbols.next().map_or_else(String::new, |first| first.to_uppercase().chain(symbols).collect())
}

/// `%s %v %d %q %%` with a width and `-`.
fn printf(format: &str, values: &[Value]) -> Result<String> {
    let mut result = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        result.push_str(before);
        let Some(verb_at) = after.find(|symbol: char| !symbol.is_ascii_digit() && symbol != '-') else {
            return refuse("a % without a verb in printf");
        };
        let (width, verb) = after.split_at(verb_at);
        let verb = verb.chars().next().unwrap_or_default();
        rest = &after[verb_at + verb.len_utf8()..];
        if verb == '%' {
            result.push('%');
            continue;
        }
        let Some(value) = values.next() else { return refuse("printf has too few arguments") };
        let shown = match verb {
            's' | 'v' | 'd' => print(value),
            'q' => Value::from(print(value)).to_string(),
            other => return refuse(format!("printf has no verb %{other}")),
        };
        let (is_left, digits) = width.strip_prefix('-').map_or((false, width), |digits| (true, digits));
        let width =
            if digits.is_empty() { 0 } else { number(&digits.parse::<u64>().unwrap_or(u64::MAX).into())? };
        match is_left {
            true => result.push_str(&format!("{shown:<width$}")),
            false => result.push_str(&format!("{shown:>width$}")),
        }
    }
    result.push_str(rest);
    Ok(result)
}
