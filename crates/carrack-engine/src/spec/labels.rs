//! SELinux contexts of a container's processes and of its new filesystems.
//!
//! Where SELinux is off there are none, whatever is asked for: the same command works on every host. What is asked for
//! is checked all the same.

use carrack_container::SecuritySettings;
use carrack_runtime::labels::selinux_is_enabled;

use crate::{Error, Result};

/// The contexts, where there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub process: Option<String>,
    pub mount: Option<String>,
}

impl Labels {
    /// What `label=` options ask for; without any, the policy of the host decides as for every program of root.
    pub fn of(settings: &SecuritySettings) -> Result<Self> {
        Ok(Self::asked(&settings.options)?.filter(|_| selinux_is_enabled()).unwrap_or_default())
    }

    fn asked(options: &[String]) -> Result<Option<Self>> {
        let [mut user, mut role, mut kind] = ["system_u", "system_r", "container_t"];
        let (mut level, mut file_kind) = ("s0", "container_file_t");
        let mut is_asked = false;
        for option in options {
            let Some(label) = option.strip_prefix("label=").or_else(|| option.strip_prefix("label:")) else {
                continue;
            };
            is_asked = label != "disable";
            let (key, value) = label.split_once(':').unwrap_or((label, ""));
            let plain = |symbol: char| symbol.is_ascii_alphanumeric() || "_.,:-".contains(symbol);
            let is_value = !value.is_empty() && value.chars().all(plain);
            match key {
                "disable" | "nested" if value.is_empty() => {}
                "user" if is_value => user = value,
                "role" if is_value => role = value,
                "type" if is_value => kind = value,
                "level" if is_value => level = value,
                "filetype" if is_value => file_kind = value,
                _ => {
                    let hint =
                        "expected label=disable, nested, user:, role:, type:, level: or filetype:VALUE";
                    return Err(Error::refused(format!("unknown security option {option:?}"), hint));
                }
            }
        }
        Ok(is_asked.then(|| Self {
            process: Some(format!("{user}:{role}:{kind}:{level}")),
            mount: Some(format!("{user}:object_r:{file_kind}:{level}")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_label_replace_those_of_the_default() {
        let asked = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            Labels::asked(&options)
        };
        let labels = asked(&["label=type:svirt_apache_t", "label=level:s0:c100,c200"]).unwrap().unwrap();
        assert_eq!(labels.process.as_deref(), Some("system_u:system_r:svirt_apache_t:s0:c100,c200"));
        assert_eq!(labels.mount.as_deref(), Some("system_u:object_r:container_file_t:s0:c100,c200"));
        assert_eq!(asked(&["label=disable"]).unwrap(), None);
        assert_eq!(asked(&["no-new-privileges"]).unwrap(), None);
        for wrong in ["label=", "label=type:", "label=type:a b", "label=disable-everything"] {
            assert!(asked(&[wrong]).is_err(), "{wrong}");
        }
    }
}
