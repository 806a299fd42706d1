"""The tools of bench/store.sh: how each does one operation on a private store below a folder of its own.

An operation is a list of commands that are run one after the other. One that a tool does not have is None.
"""

import os
import shutil
import subprocess
import time

from measure import CARRACK, ENVIRONMENT, GROUP, ULIMITS, WORK, tool_exists
from stores import Store

FLOOR = f"{WORK}/carrack-floor"
# Process ids of all daemons, which are not waited for after an operation.
RUNNING = set()


class Contender:
    """What all have: a folder, daemons whose CPU time counts, and operations that a tool may lack."""

    programs = ()

    def __init__(self, folder):
        self.folder, self.daemons, self.number = folder, [], 0
        self.run_state = f"/run/{os.path.basename(folder)}"
        os.makedirs(folder)

    @classmethod
    def exists(cls):
        return all(tool_exists(program) for program in cls.programs)

    def pids(self):
        return [daemon.pid for daemon in self.daemons]

    def unique(self):
        """A name that was not used yet."""
        self.number += 1
        return f"bench{self.number}"

    def start(self, command, socket, log):
        """Starts a daemon and waits for its socket."""
        with open(log, "wb") as output:
            daemon = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.daemons.append(daemon)
        RUNNING.add(daemon.pid)
        for _ in range(600):
            if os.path.exists(socket) or daemon.poll() is not None:
                break
            time.sleep(0.05)
        if not os.path.exists(socket):
            with open(log, encoding="utf-8", errors="replace") as output:
                raise RuntimeError(f"{command[0]} does not start: {output.read()[-600:].strip()}")

    def close(self):
        """Ends the daemons, the last one first; the store stays."""
        while self.daemons:
            daemon = self.daemons.pop()
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            RUNNING.discard(daemon.pid)

    def pull(self, reference):
        raise NotImplementedError

    def run(self, reference, *command):
        return None

    def save(self, reference, file):
        return None

    def load(self, file):
        return None

    def change(self, reference, name, script):
        """Makes a container that has ended after a shell script."""
        return None

    def commit(self, name, reference):
        return None

    def remove_container(self, name):
        return None

    def rmi(self, reference):
        return None


class Engine(Contender):
    """Tools with Docker's command line."""

    pull_flags = run_flags = ()
    command = ()

    def pull(self, reference):
        return [[*self.command, "pull", "-q", *self.pull_flags, reference]]

    def run(self, reference, *command):
        return [[*self.command, "run", "--rm", "--network=none", *self.run_flags, reference, *command]]

    def save(self, reference, file):
        return [[*self.command, "save", "-o", file, reference]]

    def load(self, file):
        return [[*self.command, "load", "-i", file]]

    def change(self, reference, name, script):
        return [[*self.command, "run", "--name", name, "--network=none", *self.run_flags, reference,
                 "sh", "-c", script]]

    def commit(self, name, reference):
        return [[*self.command, "commit", name, reference]]

    def remove_container(self, name):
        return [[*self.command, "rm", "-f", name]]

    def rmi(self, reference):
        return [[*self.command, "rmi", reference]]


class Carrack(Engine):
    programs = ("carrack",)

    def __init__(self, folder):
        super().__init__(folder)
        self.command = Store("carrack", folder).command


class Podman(Engine):
    programs = ("podman", "crun")
    pull_flags = ("--tls-verify=false",)
    run_flags = (*ULIMITS, f"--cgroup-parent=/{GROUP}")

    def __init__(self, folder):
        super().__init__(folder)
        self.command = Store("podman", folder).command


class Containerd(Contender):
    programs = ("containerd", "ctr", "runc")

    def __init__(self, folder):
        super().__init__(folder)
        os.makedirs(self.run_state)
        self.socket = f"{self.run_state}/containerd.sock"
        settings = f"{folder}/containerd.toml"
        with open(settings, "w", encoding="ascii") as file:
            file.write(f'version = 2\nroot = "{folder}/content"\nstate = "{self.run_state}/containerd"\n'
                       f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self.socket}"\n')
        self.start(["containerd", "-c", settings], self.socket, f"{folder}/containerd.log")
        self.command = ["ctr", "--address", self.socket, "--namespace", "bench"]

    def pull(self, reference):
        return [[*self.command, "images", "pull", "--plain-http", reference]]

    def run(self, reference, *command):
        name = self.unique()
        return [[*self.command, "run", "--rm", "--cgroup", f"/{GROUP}/{name}", reference, name, *command]]

    def save(self, reference, file):
        return [[*self.command, "images", "export", file, reference]]

    def load(self, file):
        return [[*self.command, "images", "import", file]]

    def rmi(self, reference):
        return [[*self.command, "images", "rm", "--sync", reference]]


class Docker(Engine):
    programs = ("dockerd", "docker", "containerd", "runc")

    def __init__(self, folder, network=False):
        super().__init__(folder)
        self.containerd = Containerd(f"{folder}/{os.path.basename(folder)}-containerd")
        self.daemons = self.containerd.daemons
        os.makedirs(self.run_state)
        socket = f"{self.run_state}/docker.sock"
        # Its bridge and its firewall rules only where a case uses a network.
        alone = [] if network else ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        self.start(["dockerd", "--containerd", self.containerd.socket, "--data-root", f"{folder}/docker",
                    "--exec-root", f"{self.run_state}/exec", "--pidfile", f"{self.run_state}/docker.pid",
                    "--host", f"unix://{socket}", "--storage-driver=overlay2", f"--cgroup-parent=/{GROUP}",
                    "--exec-opt", "native.cgroupdriver=cgroupfs", *alone], socket, f"{folder}/dockerd.log")
        self.command = ["docker", "--host", f"unix://{socket}"]
        for _ in range(100):
            if subprocess.run([*self.command, "version"], env=ENVIRONMENT, capture_output=True,
                              check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError("dockerd does not answer")


class SkopeoUmoci(Contender):
    """A layout and a bundle: pulls only."""

    programs = ("skopeo", "umoci")

    def pull(self, reference):
        image = f"{self.folder}/layout:{self.unique()}"
        return [["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}", f"oci:{image}"],
                ["umoci", "unpack", "--image", image, f"{self.folder}/bundle{self.number}"]]


class Floor(Contender):
    """The program of bench/floor: what a pull cannot do without."""

    @classmethod
    def exists(cls):
        return shutil.which(FLOOR) is not None

    def pull(self, reference):
        folder = f"{self.folder}/{self.unique()}"
        os.makedirs(folder)
        return [[FLOOR, reference, folder]]


ALL = {"carrack": Carrack, "floor": Floor, "podman": Podman, "docker": Docker, "containerd": Containerd,
       "skopeo+umoci": SkopeoUmoci}
