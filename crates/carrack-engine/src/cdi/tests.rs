//! CDI files, right and wrong, and what they make of a spec.

use std::fs;
use std::path::PathBuf;

use carrack_container::DeviceRequest;
use oci_spec::runtime::Spec;

use super::*;

const YAML: &str = "cdiVersion: \"0.8.0\"
kind: vendor.com/device
annotations: {note: \"all of them\"}
devices:
  - name: \"0\"
    containerEdits:
      deviceNodes:
        - path: /dev/vendor0
          hostPath: /dev/null
          permissions: rw
  - name: all
    containerEdits:
      env: [ALL=1]
containerEdits:
  env:
    - VENDOR=yes
  mounts:
    - hostPath: /etc/hostname
      containerPath: /vendor/file
  additionalGids: [44]
";

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let folders = ["low", "high", "absent"].map(|name| folder.path().join(name));
    let registry = Registry::read(&folders).unwrap();
    (folder, registry)
}

fn cdi(name: &str) -> Vec<DeviceRequest> {
    vec![DeviceRequest::Cdi(vec![name.to_owned()])]
}

#[test]
fn a_device_is_edited_in_with_what_its_file_says_for_all() {
    let (_folder, registry) = folder(&[("low/vendor.yaml", YAML)]);
    let mut spec = carrack_runtime::spec::default_spec();
    for edits in registry.resolve(&cdi("vendor.com/device=0")).unwrap() {
        apply(&mut spec, edits).unwrap();
    }
    let process = spec.process().as_ref().unwrap();
    assert!(process.env().as_ref().unwrap().contains(&"VENDOR=yes".to_owned()));
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[44][..]));
    let linux = spec.linux().as_ref().unwrap();
    let device = &linux.devices().as_ref().unwrap()[0];
    assert_eq!((device.path(), device.major(), device.minor()), (&PathBuf::from("/dev/vendor0"), 1, 3));
    let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
    assert_eq!(rules.last().unwrap().to_string(), "c 1:3 rw");
    let mount = spec.mounts().as_ref().unwrap().last().unwrap().clone();
    assert_eq!(mount.destination(), &PathBuf::from("/vendor/file"));
}

#[test]
fn the_later_folder_wins_and_files_of_one_folder_are_equals() {
    let json = r#"{"cdiVersion": "0.5.0", "kind": "vendor.com/device", "devices":
        [{"name": "0", "containerEdits": {"env": ["HIGH=1"]}}]}"#;
    let (_folder, registry) = folder(&[("low/vendor.yaml", YAML), ("high/vendor.json", json)]);
    let edits = registry.resolve(&cdi("vendor.com/device=0")).unwrap();
    assert!(edits.iter().any(|edits| edits.env == ["HIGH=1"]));
    assert!(edits.iter().all(|edits| edits.device_nodes.is_empty()));
    assert_eq!(registry.resolve(&cdi("vendor.com/device=all")).unwrap().len(), 2, "of the other file");
    let (_folder, registry) = folder(&[("low/one.yaml", YAML), ("low/two.yaml", YAML)]);
    assert!(registry.resolve(&cdi("vendor.com/device=0")).is_err());
}

#[test]
fn gpus_are_those_of_the_one_vendor_or_the_usual_one() {
    let file = |kind: &str| {
        format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "{kind}", "devices": [
            {{"name": "0", "containerEdits": {{"env": ["ONE=1"]}}}},
            {{"name": "all", "containerEdits": {{"env": ["EACH=1"]}}}}]}}"#
        )
    };
    let (amd, nvidia, other) = (file("amd.com/gpu"), file(USUAL_GPU), file("other.com/gpu"));
    let resolve = |files: &[(&str, &str)], request| {
        let (_folder, registry) = folder(files);
        registry.resolve(&[request]).map(|edits| edits.last().unwrap().env.clone()).ok()
    };
    let (all, one) = (DeviceRequest::AllGpus, DeviceRequest::GpuCount(1));
    assert_eq!(resolve(&[("low/a.json", &amd)], all.clone()), Some(vec!["EACH=1".to_owned()]));
    assert_eq!(resolve(&[("low/a.json", &amd)], one), Some(vec!["ONE=1".to_owned()]));
    assert_eq!(resolve(&[("low/a.json", &amd)], DeviceRequest::GpuCount(2)), None, "there is one");
    let both = [("low/a.json", amd.as_str()), ("low/b.json", other.as_str())];
    assert_eq!(resolve(&both, all.clone()), None);
    let usual = [("low/a.json", amd.as_str()), ("low/b.json", nvidia.as_str())];
    assert!(resolve(&usual, all.clone()).is_some());
    assert_eq!(resolve(&[], all), None);
}

#[test]
fn a_file_that_is_wrong_is_told_of_when_a_device_is_missing() {
    for (text, reason) in [
        ("{}", "cdiVersion"),
        (r#"{"cdiVersion": "9.0.0", "kind": "a.b/c", "devices": []}"#, "9.0.0"),
        (r#"{"cdiVersion": "0.8.0", "kind": "no-class", "devices": []}"#, "no-class"),
        (
            r#"{"cdiVersion": "0.8.0", "kind": "a.b/c", "devices": [{"name": "a b", "containerEdits": {}}]}"#,
            "a b",
        ),
        (r#"{"cdiVersion": "0.8.0", "kind": "a.b/c", "devices": [], "unknown": 1}"#, "unknown"),
    ] {
        let (_folder, registry) = folder(&[("low/one.json", text)]);
        let error = registry.resolve(&cdi("a.b/c=x")).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("one.json"), "{error}");
    }
}

#[test]
fn what_carrack_does_not_do_is_refused() {
    for edits in [
        r#"{"intelRdt": {"closID": "x"}}"#,
        r#"{"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}"#,
        r#"{"hooks": [{"hookName": "nope", "path": "/x"}]}"#,
        r#"{"deviceNodes": [{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}]}"#,
        r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/hostname"}]}"#,
    ] {
        let edits: ContainerEdits = serde_json::from_str(edits).unwrap();
        assert!(apply(&mut Spec::default(), &edits).is_err(), "{edits:?}");
    }
}
