//! CDI (Container Device Interface): files in which a vendor says what a container needs to use its devices.
//!
//! Invariant: a device is either edited in as its file says, whole, or the container is refused; what a file asks for
//! and carrack does not do is never left out in silence.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_container::DeviceRequest;
use carrack_sys::IoContext;

use crate::{Error, Result};

mod edits;
mod file;

pub(crate) use edits::{add_device, apply, device_of_host};
pub(crate) use file::ContainerEdits;
use file::{Device, SpecFile};

/// The largest file that is read; that of a host with many devices has some 100 kB.
const MAX_BYTES: u64 = 4 << 20;
/// The most files that are read.
const MAX_FILES: usize = 1000;
/// The vendor whose devices `--gpus` means where there are several.
const USUAL_GPU: &str = "nvidia.com/gpu";

/// What CDI files of this host say.
pub(crate) struct Registry {
    files: Vec<(PathBuf, SpecFile)>,
    /// Files that cannot be read, and why. They only matter when a device is not found.
    broken: Vec<String>,
}

impl Registry {
    /// Reads the files of `folders`; those of later folders come first, as they win.
    pub(crate) fn read(folders: &[PathBuf]) -> Result<Self> {
        let mut registry = Self { files: Vec::new(), broken: Vec::new() };
        for folder in folders.iter().rev() {
            for path in files_in(folder)? {
                match read_file(&path) {
                    Ok(file) => registry.files.push((path, file)),
                    Err(reason) => registry.broken.push(format!("{}: {reason}", path.display())),
                }
            }
        }
        Ok(registry)
    }

    /// What is to be edited in for `requests`: each device once, and what its file says for all its devices once.
    pub(crate) fn resolve(&self, requests: &[DeviceRequest]) -> Result<Vec<&ContainerEdits>> {
        let mut names = Vec::new();
        for request in requests {
            let gpus = |ids: Vec<String>| -> Result<Vec<String>> {
                let kind = self.gpu_kind()?;
                Ok(ids.into_iter().map(|id| format!("{kind}={id}")).collect())
            };
            names.extend(match request {
                DeviceRequest::Cdi(names) => names.clone(),
                DeviceRequest::AllGpus => gpus(vec!["all".to_owned()])?,
                DeviceRequest::GpuCount(count) => {
                    gpus((0..*count).map(|number| number.to_string()).collect())?
                }
                DeviceRequest::Gpus(ids) => gpus(ids.clone())?,
            });
        }
        let (mut edits, mut devices, mut files) = (Vec::new(), Vec::new(), BTreeSet::new());
        for name in BTreeSet::from_iter(&names) {
            let (number, device) = self.find(name)?;
            devices.push(&device.container_edits);
            files.insert(number);
        }
        edits.extend(files.into_iter().map(|number| &self.files[number].1.container_edits));
        edits.extend(devices);
        Ok(edits)
    }

    /// `vendor.com/class=name`: the number of its file, and the device.
    fn find(&self, name: &str) -> Result<(usize, &Device)> {
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        let of_kind = self.files.iter().enumerate().filter(|(_, (_, file))| file.kind == kind);
        let mut found = of_kind.filter_map(|(number, (path, file))| {
            let device = file.devices.iter().find(|one| one.name == device)?;
            Some((number, path, device))
        });
        let Some((number, path, device)) = found.next() else { return Err(self.not_found(name)) };
        // Files of one folder are equals; the later folder wins.
        match found.find(|(_, other, _)| other.parent() == path.parent()) {
            Some((_, other, _)) => Err(Error::refused(
                format!("the device {name} is in both {} and {}", path.display(), other.display()),
                "remove one of the files",
            )),
            None => Ok((number, device)),
        }
    }

    fn gpu_kind(&self) -> Result<&str> {
        let kinds: BTreeSet<&str> = self.files.iter().map(|(_, file)| file.kind.as_str()).collect();
        let mut gpus = kinds.iter().filter(|kind| kind.ends_with("/gpu"));
        match (kinds.get(USUAL_GPU), gpus.next(), gpus.next()) {
            (Some(usual), ..) => Ok(usual),
            (None, Some(only), None) => Ok(only),
            (None, Some(_), Some(_)) => Err(Error::refused(
                "several vendors have graphics processors here",
                "name them in full: --device vendor.com/gpu=NAME",
            )),
            (None, None, _) => Err(self.not_found("vendor.com/gpu")),
        }
    }

    fn not_found(&self, name: &str) -> Error {
        let broken = match self.broken.as_slice() {
            [] => String::new(),
            broken => format!("; files that cannot be read: {}", broken.join(", ")),
        };
        Error::refused(
            format!("no CDI file of this host has the device {name}{broken}"),
            "CDI files are made by the vendor's tools (nvidia-ctk cdi generate), in /etc/cdi or /var/run/cdi",
        )
    }
}

/// The files of a folder that may be CDI files, by name; a folder that is not there has none.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.during("list", folder)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.during("list", folder)?.path();
        let is_cdi =
            |extension: &std::ffi::OsStr| ["json", "yaml", "yml"].iter().any(|one| extension == *one);
        if path.extension().is_some_and(is_cdi) {
            files.push(path);
        }
    }
    if files.len() > MAX_FILES {
        let message = format!("{} has {} CDI files, more than {MAX_FILES}", folder.display(), files.len());
        return Err(Error::refused(message, "remove those of devices that are gone"));
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<SpecFile, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if length as u64 > MAX_BYTES {
        return Err(format!("expected at most {MAX_BYTES} bytes"));
    }
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let file: SpecFile = match is_json {
        true => serde_json::from_str(&text).map_err(|error| error.to_string())?,
        false => serde_saphyr::from_str(&text).map_err(|error| error.to_string())?,
    };
    file.check()?;
    Ok(file)
}

#[cfg(test)]
mod tests;
