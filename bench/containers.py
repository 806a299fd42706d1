"""The cases of bench/run.sh that are about containers: starts, exec, networks, many at once, memory, lists.

CPU time is that of all processes that an operation starts and that end: the command, what it leaves (monitors, shims:
this is process 1, so they are waited for here), and what the daemons of docker worked meanwhile, by /proc/PID/stat.
"""

import json
import os
import re
import time

import contenders
import images
from measure import GROUP, WORK, execute, tool_exists

MANY, AT_ONCE, LISTED = 100, 8, 500
PORT = 18080


def children():
    """Processes that this one has taken over: the monitors of what runs."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return {int(pid) for pid in file.read().split()}


def memory_of(pids):
    """Resident and proportional kilobytes of processes."""
    resident = proportional = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            text = file.read()
        resident += int(re.search(r"^Rss: +(\d+)", text, re.M).group(1))
        proportional += int(re.search(r"^Pss: +(\d+)", text, re.M).group(1))
    return resident, proportional


class Engine:
    """carrack, podman or docker, with an image in a store of its own."""

    def __init__(self, name, reference):
        kind = contenders.Docker if name == "docker" else contenders.ALL[name]
        folder = f"{WORK}/containers-{name}"
        self.name = name
        self.tool = kind(folder, network=True) if name == "docker" else kind(folder)
        self.image = reference
        execute(self.tool.pull(reference)[0])

    def counted(self):
        return self.tool.pids()

    def line(self, verb, *arguments):
        return [*self.tool.command, verb, *arguments]

    def run(self, *arguments, network="none", verb="run"):
        flags = [f"--network={network}"] if network else []
        return self.line(verb, *flags, *self.tool.run_flags, *arguments)

    def true(self):
        return self.run("--rm", self.image, "true")

    def bridged(self):
        return self.run("--rm", "-p", f"127.0.0.1:{PORT}:80", self.image, "true", network=None)

    def idle(self, name, verb="run"):
        detach = ["-d"] if verb == "run" else []
        return self.run(*detach, "--name", name, "--stop-signal=KILL", self.image, "sleep", "100000", verb=verb)

    def life(self):
        """Create, start, stop and remove, as one shell line."""
        steps = [self.idle("life", verb="create"), self.line("start", "life"), self.line("stop", "life"),
                 self.line("rm", "life")]
        return ["sh", "-c", " && ".join(map(shell, steps))]

    def many(self, at_once):
        return many(self.true(), at_once)


class Runtime:
    """crun or runc on a bundle of the same tree."""

    def __init__(self, name, bundle):
        self.name, self.image, self.bundle = name, "", bundle
        self.start = [name, "--root", f"/run/{name}-state"]

    def counted(self):
        return []

    def true(self):
        return [*self.start, "run", "--bundle", self.bundle, f"{GROUP}-{self.name}"]

    def many(self, at_once):
        return many([*self.true()[:-1], f"{GROUP}-{self.name}-{{}}"], at_once)


class Floor:
    """The program of bench/floor: what no start can leave out."""

    name = "floor"

    def __init__(self, tree):
        self.command = [contenders.FLOOR, "start", tree, WORK, "/bin/true"]

    def counted(self):
        return []

    def true(self):
        return self.command

    def many(self, at_once):
        return many(self.command, at_once)


def shell(command):
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in command) + " >/dev/null"


def many(command, at_once):
    """The command MANY times, `at_once` of them together."""
    return ["sh", "-c", f"seq {MANY} | xargs -P {at_once} -I{{}} {shell(command)}"]


class Containers:
    """The cases; `rounds` measures contenders in turn (see bench.py)."""

    def __init__(self, bench, rounds, note):
        self.bench, self.rounds, self.note = bench, rounds, note
        self.made, self.standing = {}, set()

    def engines(self):
        if "engines" not in self.made:
            reference = self.bench.small()
            self.standing |= self.bench.registry().daemons
            chosen = [name for name in ("carrack", "podman", "docker") if tool_exists(name)]
            self.made["engines"] = []
            for name in chosen:
                try:
                    self.made["engines"].append(Engine(name, reference))
                except (OSError, RuntimeError) as error:
                    self.note(f"{name} is left out: {error}")
            self.standing |= children()
        return self.made["engines"]

    def starters(self):
        """The engines, and what starts a container without an image."""
        engines = self.engines()
        if "starters" not in self.made:
            starters = [Floor(f"{WORK}/tree")] if contenders.Floor.exists() else []
            for name in ("crun", "runc"):
                if tool_exists(name):
                    starters.append(Runtime(name, bundle_for(name)))
            self.made["starters"] = starters
        return [*engines, *self.made["starters"]]

    def measure(self, case, tools, command, count, is_long=False):
        """A case of one command of each tool, which is done once before, unless it takes long."""
        usable = {}
        for tool in tools:
            try:
                if not is_long:
                    execute(command(tool))
                usable[tool.name] = (None, lambda _, t=tool: command(t), None, tool.counted())
            except (OSError, RuntimeError) as error:
                self.note(f"{case}, {tool.name} is left out: {error}")
        self.rounds(case, usable, count, self.standing)

    def run(self):
        self.measure("run", self.starters(), lambda tool: tool.true(), 40)

    def run_bridge(self):
        self.measure("run-bridge", self.engines(), Engine.bridged, 20)

    def exec(self):
        for engine in self.engines():
            execute(engine.idle("target"))
        self.standing |= children()
        self.measure("exec", self.engines(), lambda engine: engine.line("exec", "target", "true"), 40)
        for engine in self.engines():
            execute(engine.line("rm", "-f", "target"))

    def life(self):
        self.measure("life", self.engines(), Engine.life, 10)

    def sequence(self):
        self.measure("100-sequence", self.starters(), lambda tool: tool.many(1), 2, is_long=True)

    def at_once(self):
        self.measure("100-at-once", self.starters(), lambda tool: tool.many(AT_ONCE), 2, is_long=True)

    def idle(self):
        """Memory of what stays with MANY idle containers, then lists of them, and of LISTED ones."""
        for engine in self.engines():
            before = children() | shims()
            for number in range(MANY):
                execute(engine.idle(f"idle{number}"))
            time.sleep(1)
            monitors = (children() | shims()) - before
            monitors = {pid for pid in monitors if b"sleep" not in command_line(pid)}
            resident, proportional = (size / MANY for size in memory_of(monitors))
            self.note(f"memory of an idle container, {engine.name}: {resident:.0f} kB resident, "
                      f"{proportional:.0f} kB proportional ({len(monitors) / MANY:.0f} process each)")
        self.standing |= children()
        self.measure("ps-100", self.engines(), lambda engine: engine.line("ps"), 20)
        for engine in self.engines():
            if engine.name == "carrack":
                for number in range(MANY, LISTED):
                    execute(engine.idle(f"idle{number}", verb="create"))
        self.measure("ps-500", [engine for engine in self.engines() if engine.name == "carrack"],
                     lambda engine: engine.line("ps", "-a"), 20)
        for engine in self.engines():
            names = [f"idle{number}" for number in range(LISTED if engine.name == "carrack" else MANY)]
            execute(engine.line("rm", "-f", *names))

    def images(self):
        """A list of MANY images, each of a layer of its own."""
        for engine in self.engines():
            for number in range(MANY):
                tar = f"{WORK}/image.tar"
                images.small_tar(tar, number)
                execute(engine.line("import", tar, f"localhost/list{number}:1"))
        self.measure("images-100", self.engines(), lambda engine: engine.line("images"), 20)


def bundle_for(runtime):
    """A bundle of the small image's tree, from the runtime's own template."""
    folder = f"{WORK}/template-{runtime}"
    os.makedirs(folder)
    execute([runtime, "spec"], cwd=folder)
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        bundle = f"{WORK}/bundle-{runtime}"
        images.bundle(bundle, f"{WORK}/tree", file.read(), f"/{GROUP}/{runtime}")
    # Many at once: each gets a cgroup by its own name.
    with open(f"{bundle}/config.json", encoding="utf-8") as file:
        spec = json.load(file)
    del spec["linux"]["cgroupsPath"]
    with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
        json.dump(spec, file)
    return bundle


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def shims():
    """The shims of containerd, which are nobody's orphans."""
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid for pid in pids if b"containerd-shim" in command_line(pid).split(b"\0")[0]}
