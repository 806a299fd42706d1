//! A root filesystem of busybox in a temporary folder, and commands run in containers from it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carrack_runtime::cgroup::Cgroup;
use carrack_runtime::spec::default_spec;
use oci_spec::runtime::{LinuxResources, Process, Spec};

const STAGE: &str = env!("CARGO_BIN_EXE_carrack-runtime-stage");
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One container of a test. Dropping it kills its processes and removes cgroup and files.
pub struct Container {
    folder: tempfile::TempDir,
    pub spec: Spec,
    cgroup: String,
    started: Option<Child>,
}

impl Container {
    /// A container that would run `arguments` under the default spec.
    pub fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("rootfs/bin");
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(folder.path().join("rootfs").join(name)).unwrap();
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.expect("busybox-static is installed"), bin.join("busybox")).unwrap();
        fs::copy(STAGE, bin.join("probe")).unwrap();
        for applet in
            "sh cat ls id mount mkdir touch true sleep echo grep head readlink dd hostname stty tail unshare kill wc mknod ln".split(' ')
        {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let mut spec = default_spec();
        let process = spec.process_mut().as_mut().unwrap();
        process.set_args(Some(arguments.iter().map(ToString::to_string).collect()));
        process.set_env(Some(vec!["PATH=/bin".into()]));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/carrack-runtime-test-{}-{number}", std::process::id());
        Self { folder, spec, cgroup, started: None }
    }

    /// A container that would run a shell script.
    pub fn shell(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub fn process(&mut self) -> &mut Process {
        self.spec.process_mut().as_mut().unwrap()
    }

    pub fn resources(&mut self) -> &mut LinuxResources {
        self.spec.linux_mut().as_mut().unwrap().resources_mut().as_mut().unwrap()
    }

    /// A path in the root filesystem, as the host sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("rootfs").join(path.trim_start_matches('/'))
    }

    /// A path beside the root filesystem.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn cgroup_path(&self) -> &str {
        &self.cgroup
    }

    pub fn cgroup(&self) -> Cgroup {
        Cgroup::open(Path::new(&self.cgroup)).unwrap()
    }

    /// The command that would start it, with `options` of the stage.
    pub fn command(&self, options: &[&str]) -> Command {
        let spec = self.outside("spec.json");
        fs::write(&spec, serde_json::to_vec(&self.spec).unwrap()).unwrap();
        let mut command = Command::new(STAGE);
        command.arg("run").arg(spec).arg(self.path("")).args(["--cgroup", &self.cgroup]).args(options);
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self) -> Output {
        self.run_with(&[])
    }

    pub fn run_with(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }

    /// Standard output of a run that must succeed.
    pub fn stdout(&self) -> String {
        let output = self.run();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", output.status);
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Starts it and returns its pid on the host.
    pub fn start(&mut self, options: &[&str]) -> String {
        let report = self.outside("pid");
        let mut command = self.command(options);
        command.arg("--report").arg(&report);
        self.started = Some(command.stdout(Stdio::piped()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !report.exists() {
            assert!(Instant::now() < deadline, "the container did not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::read_to_string(report).unwrap()
    }

    /// Waits for what [`Self::start`] started.
    pub fn wait(&mut self) -> Output {
        self.started.take().unwrap().wait_with_output().unwrap()
    }

    /// Runs `process` in the container whose first process is `pid`.
    pub fn exec(&self, pid: &str, process: &Process, options: &[&str]) -> Output {
        let file = self.outside("process.json");
        fs::write(&file, serde_json::to_vec(process).unwrap()).unwrap();
        let mut command = Command::new(STAGE);
        command.arg("exec").arg(self.outside("spec.json")).arg(file).arg(pid);
        command.args(["--cgroup", &self.cgroup]).args(options).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The container's process with other arguments.
    pub fn other_process(&self, arguments: &[&str]) -> Process {
        let mut process = self.spec.process().clone().unwrap();
        process.set_args(Some(arguments.iter().map(ToString::to_string).collect()));
        process
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(cgroup) = Cgroup::open(Path::new(&self.cgroup)) {
            let _ = cgroup.kill();
        }
        if let Some(child) = &mut self.started {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Ok(cgroup) = Cgroup::open(Path::new(&self.cgroup)) {
            let _ = cgroup.delete();
        }
    }
}
