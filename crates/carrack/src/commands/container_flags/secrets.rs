//! `--secret`: which secrets a program finds, and where.

use std::path::Path;

use carrack_engine::{SecretPlace, SecretUse};

use super::mounts::destination_of;
use crate::failure::{Result, invalid};

/// `NAME[,type=mount|env][,target=TARGET][,uid=ID][,gid=ID][,mode=MODE]`; without a target the engine takes the name.
pub fn secret(text: &str) -> Result<SecretUse> {
    let wrong = |expected: &str| invalid("--secret", text, expected);
    let mut name = None;
    let mut kind = "mount";
    let mut target = String::new();
    let (mut uid, mut gid, mut mode) = (None, None, None);
    for part in text.split(',') {
        let number = |value: &str| value.parse::<u32>().map_err(|_| wrong("an id that is a number"));
        match part.split_once('=') {
            None if name.is_none() => name = Some(part),
            Some(("source", value)) if name.is_none() => name = Some(value),
            Some(("type", value @ ("mount" | "env"))) => kind = value,
            Some(("target", value)) if !value.is_empty() => value.clone_into(&mut target),
            Some(("uid", value)) => uid = Some(number(value)?),
            Some(("gid", value)) => gid = Some(number(value)?),
            Some(("mode", value)) => {
                let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o777);
                mode = Some(bits.ok_or_else(|| wrong("a mode from 0 to 0777"))?);
            }
            _ => return Err(wrong("NAME, then type=mount or env, target=, uid=, gid=, mode=")),
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| wrong("the name of a secret"))?;
    let has_owner = uid.is_some() || gid.is_some() || mode.is_some();
    let place = match kind {
        "env" if has_owner => return Err(wrong("uid, gid and mode with type=mount only")),
        "env" if target.contains('=') => return Err(wrong("the name of a variable as the target")),
        "env" => SecretPlace::Variable { name: target },
        _ => SecretPlace::File {
            target: match target.as_str() {
                "" => Path::new("").to_owned(),
                target => {
                    let path = Path::new("/run/secrets").join(target);
                    destination_of(&path.to_string_lossy()).map_err(wrong)?
                }
            },
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(0),
            mode: mode.unwrap_or(0o444),
        },
    };
    Ok(SecretUse { name: name.to_owned(), place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_files_or_variables() {
        let file = |target: &str, uid, gid, mode| SecretPlace::File { target: target.into(), uid, gid, mode };
        let place = |text: &str| secret(text).unwrap().place;
        assert_eq!(
            secret("token").unwrap(),
            SecretUse { name: "token".into(), place: file("", 0, 0, 0o444) }
        );
        assert_eq!(
            place("source=a,type=mount,target=b,mode=0400,uid=7"),
            file("/run/secrets/b", 7, 0, 0o400)
        );
        assert_eq!(place("a,target=/etc/./b,gid=8"), file("/etc/b", 0, 8, 0o444));
        assert_eq!(place("a,type=env,target=TOKEN"), SecretPlace::Variable { name: "TOKEN".into() });
        for text in
            ["", "a,b", "a,type=file", "a,type=env,uid=1", "a,mode=9", "a,mode=7777", "a,target=", "type=env"]
        {
            assert!(secret(text).is_err(), "{text} was accepted");
        }
        assert!(secret("a,type=env,target=A=B").is_err());
    }
}
