//! Secrets: made and removed by users, shown in containers.
//!
//! Invariant: the data of a secret is in its store, and from a container's start to its end in the container's run
//! folder, announced as an effect, and in its program; no record, image or listing has it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use carrack_container::secrets::{SecretData, SecretRecord};
use carrack_container::{Bind, Effect, SecretPlace, SecretUse};
use carrack_sys::atomic::{self, Durability};
use carrack_sys::{IoContext, tree};
use oci_spec::runtime::{LinuxIdMapping, Spec};

use crate::error::OperationContext;
use crate::namespaces::Shared;
use crate::sandbox::Announce;
use crate::spec::SPEC_FILE;
use crate::{Engine, Error, Result};

/// Where the files of secrets are in a container's run folder.
const FOLDER: &str = "secrets";

impl Engine {
    /// Makes a secret; with `replace` in the place of one that has the name. Returns its ID.
    pub fn create_secret(
        &self,
        name: &str,
        data: &[u8],
        labels: BTreeMap<String, String>,
        replace: bool,
    ) -> Result<String> {
        let made = self.secrets.create(name, data, labels, replace).operation("create the secret", name)?;
        Ok(made.id)
    }

    /// All secrets by name.
    pub fn list_secrets(&self) -> Result<Vec<SecretRecord>> {
        Ok(self.secrets.list()?)
    }

    /// The secret that a user names.
    pub fn find_secret(&self, text: &str) -> Result<SecretRecord> {
        Ok(self.secrets.find(text)?)
    }

    /// Removes a secret. Containers that run keep what they have; they start again only once there is one of its name.
    pub fn remove_secret(&self, text: &str) -> Result<SecretRecord> {
        let found = self.secrets.find(text).operation("remove the secret", text)?;
        self.secrets.remove(&found.name).operation("remove the secret", text)?;
        Ok(found)
    }

    /// Refuses secrets that are not there; those that users named by ID get their names.
    pub(crate) fn settle_secrets(&self, secrets: &mut [SecretUse]) -> Result<()> {
        for secret in secrets {
            let found = self.secrets.find(&secret.name)?;
            let SecretUse { name, place } = secret;
            if let SecretPlace::File { target, .. } = place
                && target.as_os_str().is_empty()
            {
                *target = Path::new("/run/secrets").join(&found.name);
            }
            if let SecretPlace::Variable { name } = place
                && name.is_empty()
            {
                name.clone_from(&found.name);
            }
            *name = found.name;
        }
        Ok(())
    }

    /// Writes the files of secrets below a container's run `folder`; returns how they are to be bound.
    pub(crate) fn write_secrets(
        &self,
        secrets: &[SecretUse],
        folder: &Path,
        shared: &Shared,
        announce: Announce<'_>,
    ) -> Result<Vec<Bind>> {
        if !secrets.is_empty() {
            announce(&Effect::Secrets { folder: folder.to_owned() })?;
        }
        let folder = folder.join(FOLDER);
        tree::remove_tree(&folder)?;
        let mut binds = Vec::new();
        for (number, secret) in secrets.iter().enumerate() {
            let SecretPlace::File { target, uid, gid, mode } = &secret.place else { continue };
            let data = self.data_of(secret)?;
            atomic::create_private_dir(&folder)?;
            let source = folder.join(number.to_string());
            atomic::write(&source, data.expose(), 0o600, Durability::Volatile)?;
            let mappings = shared.mappings.as_ref();
            let uid = outside(*uid, mappings.map(|mappings| mappings.uids.as_slice()));
            let gid = outside(*gid, mappings.map(|mappings| mappings.gids.as_slice()));
            chown(&source, Some(uid?), Some(gid?)).during("change the owner of", &source)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(*mode);
            fs::set_permissions(&source, mode).during("change the mode of", &source)?;
            binds.push(Bind { source, destination: target.clone(), read_only: true });
        }
        Ok(binds)
    }

    /// Gives the program the variables that are secrets.
    pub(crate) fn add_secret_variables(&self, secrets: &[SecretUse], spec: &mut Spec) -> Result<()> {
        for secret in secrets {
            let SecretPlace::Variable { name } = &secret.place else { continue };
            let data = self.data_of(secret)?;
            let text = std::str::from_utf8(data.expose()).ok().filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| {
                let message = format!("the secret {} is no text, as a variable must be", secret.name);
                Error::refused(message, "mount it: --secret NAME,type=mount")
            })?;
            if let Some(process) = spec.process_mut() {
                let mut env = process.env().clone().unwrap_or_default();
                env.retain(|entry| entry.split('=').next() != Some(name));
                env.push(format!("{name}={text}"));
                process.set_env(Some(env));
            }
        }
        Ok(())
    }

    fn data_of(&self, secret: &SecretUse) -> Result<SecretData> {
        match self.secrets.read(&secret.name) {
            Err(carrack_container::Error::SecretNotFound { name }) => Err(Error::refused(
                format!("the secret {name} is not there any more"),
                format!("make it: carrack secret create {name} FILE"),
            )),
            data => Ok(data?),
        }
    }
}

/// Removes what the run `folder` of a container that has ended has of its secrets.
pub(crate) fn forget(folder: &Path) -> Result<()> {
    tree::remove_tree(&folder.join(FOLDER))?;
    Ok(atomic::remove_file(&folder.join(SPEC_FILE))?)
}

/// Who `id` of a container is on the host.
fn outside(id: u32, mappings: Option<&[LinuxIdMapping]>) -> Result<u32> {
    let Some(mappings) = mappings else { return Ok(id) };
    let fits = |mapping: &&LinuxIdMapping| {
        id.checked_sub(mapping.container_id()).is_some_and(|offset| offset < mapping.size())
    };
    match mappings.iter().find(fits) {
        Some(mapping) => Ok(mapping.host_id() + (id - mapping.container_id())),
        None => Err(Error::refused(
            format!("the owner {id} of a secret is nobody in the container's user namespace"),
            "give another with --secret NAME,uid=,gid=",
        )),
    }
}
