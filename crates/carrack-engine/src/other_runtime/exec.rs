//! `exec` in a container of another runtime: what isolates its processes is the runtime's affair, so it puts further ones
//! there too.

use carrack_runtime::cgroup::Cgroup;
use carrack_runtime::{Running, Stdio};
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use oci_spec::runtime::Process;

use super::Calls;
use super::calls::forget_folder;
use super::create::{Making, join};
use crate::Result;

impl Calls {
    /// Starts a process in the running container. The caller becomes its parent.
    pub fn exec(&self, process: &Process, stdio: Stdio, cgroup: Option<&Cgroup>) -> Result<Running> {
        let folder = self.folder.join(format!("exec-{}", std::process::id()));
        atomic::create_private_dir(&folder)?;
        let bytes = serde_json::to_vec(process).expect("a process has string keys only");
        atomic::write(&folder.join("process.json"), &bytes, 0o600, Durability::Volatile)?;
        let mut command = self.command("exec", &folder);
        command.args(["--detach", "--process", "process.json"]);
        let making = Making { verb: "exec in", folder: &folder, stdio };
        let running = self.spawn(command, making, |mut command| {
            Ok(command.arg(&self.id).status().during("run", &self.runtime.program)?.success())
        });
        forget_folder(&folder);
        let running = running?;
        join(cgroup, &running)?;
        Ok(running)
    }
}
