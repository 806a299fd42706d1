"""How the benchmarks run and time commands. Started as process 1, so that all orphans come here and are counted."""

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import time

WORK = os.environ["BENCH_WORK"]
CARRACK = os.environ["BENCH_CARRACK"]
GROUP = os.path.basename(WORK)
# Limits that a root without CAP_SYS_RESOURCE can also set: the peers refuse to start otherwise.
ULIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
ENVIRONMENT = {
    "HOME": WORK,
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TMPDIR": f"{WORK}/tmp",
    "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
}
TICKS = os.sysconf("SC_CLK_TCK")


def tool_exists(name):
    return name == "carrack" or shutil.which(name, path=ENVIRONMENT["PATH"]) is not None


def execute(command, cwd=None):
    """Runs a command that must succeed, untimed; its standard output."""
    done = subprocess.run(command, env=ENVIRONMENT, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        tail = done.stderr.decode(errors="replace")[-600:].strip()
        raise RuntimeError(f"{' '.join(command[:1] + command[-6:])}: exit code {done.returncode}: {tail}")
    return done.stdout.decode(errors="replace")


def keep(case, tool, wall, cpu):
    """Writes one sample down, for who asked for it by BENCH_KEEP."""
    with open(f"{WORK}/samples", "a", encoding="utf-8") as file:
        print(json.dumps({"case": case, "tool": tool, "wall": wall, "cpu": cpu}), file=file)


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cpu_of(pids):
    """CPU time of running daemons and of the processes that they waited for."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            ticks += sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:15])
    return ticks / TICKS


def reap(daemons, seconds):
    """Waits for the orphans of the last operation: this is process 1, so its time counts once it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
            orphans = {int(pid) for pid in children.read().split()} - daemons
        if not orphans:
            return
        for pid in orphans:
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def timed(command, daemons, counted=()):
    """Wall time until the command ends, and the CPU time of all processes that it started.

    What the `counted` of the running daemons worked meanwhile is added to that time.
    """
    reap(daemons, 0.5)
    before = cpu_of_children() + cpu_of(counted)
    with open(f"{WORK}/stderr", "w+b") as errors:
        start = time.perf_counter()
        # Without closing descriptors and without a session Python uses vfork: its own size does not count.
        process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=errors, close_fds=False)
        code = process.wait()
        wall = time.perf_counter() - start
        if code != 0:
            errors.seek(0)
            tail = errors.read()[-600:].decode(errors="replace").strip()
            raise RuntimeError(f"{' '.join(command[:1] + command[-6:])}: exit code {code}: {tail}")
    reap(daemons, 3)
    return wall, cpu_of_children() + cpu_of(counted) - before


def show(seconds):
    """A time as the tables have it."""
    if seconds >= 10:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.2f} ms"


def versions(names):
    lines = []
    for name in names:
        program = CARRACK if name == "carrack" else name
        try:
            lines.append(f"{name}: {execute([program, '--version']).splitlines()[0]}")
        except (OSError, RuntimeError):
            lines.append(f"{name}: not there")
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    processor = model.group(1) if model else platform.machine()
    load = f"load {os.getloadavg()[0]:.1f}"
    lines.append(f"machine: {os.cpu_count()} CPUs, {processor}, Linux {platform.release()}, {load}")
    return "\n".join(lines)
