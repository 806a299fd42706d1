"""The cases of bench/run.sh, which starts this file as process 1 of private namespaces (see there)."""

import ctypes
import os
import shutil
import signal
import statistics
import subprocess
import sys

import images
from containers import Containers
from measure import CARRACK, ULIMITS, WORK, execute, keep, show, timed, tool_exists, versions
from registry import Registry
from stores import Store

FILES = int(os.environ.get("BENCH_FILES", "80000"))
# What the issues ask for: carrack's time over the peer's.
TARGETS = {
    **{(case, tool): (ratio, None) for case, tool, ratio in (
        ("pull", "podman", 1 / 2), ("pull-ext4", "podman", 1 / 2), ("build", "buildah", 1 / 10))},
    # Wall time, and CPU time.
    ("run", "crun"): (1, 1),
    ("run", "podman"): (1 / 20, 1 / 20),
    ("exec", "podman"): (1 / 20, 1 / 20),
    ("100-at-once", "podman"): (1 / 20, 1 / 20),
}
# What carrack may take at all, in seconds.
LIMITS = {"ps-100": 0.010, "ps-500": 0.020, "images-100": 0.010}

problems = []
notes = []
rows = []
# The least wall time of carrack in each case.
least = {}


def rounds(case, contenders, count, daemons=frozenset(), ours="carrack"):
    """Measures the contenders in turn, count times.

    Each is a name -> (what prepares a round or None, the command from the value of that, what finishes it or None, and
    where there are some the daemons whose work counts).
    """
    count = int(os.environ.get("BENCH_ROUNDS", count))
    samples = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(count):
        for name in order:
            prepare, command, finish, *counted = contenders[name]
            made = prepare() if prepare else None
            try:
                samples[name].append(timed(command(made), daemons, *counted))
            except RuntimeError as error:
                problems.append(f"{case}, {name}: {error}")
            finally:
                if finish:
                    finish(made)
        order.reverse()
        for name in [name for name in order if any(p.startswith(f"{case}, {name}:") for p in problems)]:
            order.remove(name)
    for name, values in samples.items():
        for wall, cpu in values:
            keep(case, name, wall, cpu)
    ours_min = min((wall for wall, _ in samples.get(ours, [])), default=None)
    least[case] = ours_min
    for name, values in samples.items():
        if not values:
            continue
        walls, cpus = zip(*values)
        figures = (min(walls), statistics.median(walls), min(cpus), statistics.median(cpus))
        row = [case, name, str(len(values)), *map(show, figures)]
        rows.append((row, name != ours and ours_min and (
            ours_min / min(walls),
            statistics.median(w for w, _ in samples[ours]) / statistics.median(walls),
            min(c for _, c in samples[ours]) / max(min(cpus), 1e-6),
        )))


def table():
    lines = ["| case | tool | n | wall min | wall median | CPU min | CPU median "
             "| carrack / tool: wall min | wall median | CPU min | target |",
             "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"]
    for row, ratios in rows:
        verdict = ""
        if limit := LIMITS.get(row[0]) if row[1] == "carrack" else None:
            verdict = f"wall {'met' if least[row[0]] <= limit else 'MISSED'} ({show(limit)})"
        if ratios:
            wall, cpu = TARGETS.get((row[0], row[1]), (None, None))
            asked = [(name, got, target) for name, got, target in (("wall", ratios[0], wall), ("CPU", ratios[2], cpu))
                     if target]
            verdict = ", ".join(f"{name} {'met' if got <= target else 'MISSED'} (1/{1 / target:.0f})"
                                for name, got, target in asked)
            ratios = [f"1/{1 / r:.1f}" if r < 1 else f"{r:.2f}" for r in ratios]
        lines.append("| " + " | ".join([*row, *(ratios or ["", "", ""]), verdict]) + " |")
    return "\n".join(lines)


class Bench:
    def __init__(self):
        self.made = {}
        self.number = 0

    def once(self, name, make):
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def registry(self):
        return self.once("registry", Registry)

    def small(self):
        """Reference of the small image, in the registry."""
        def make():
            images.tree_of_busybox(f"{WORK}/tree")
            images.layout_of_tree(f"{WORK}/tree", f"{WORK}/layout-small")
            return self.registry().push(f"{WORK}/layout-small", "small")
        return self.once("small", make)

    def store(self, tool, folder=WORK):
        self.number += 1
        return Store(tool, f"{folder}/{tool}-{self.number}")

    def version(self):
        rounds("version", {tool: (None, lambda _, t=tool: [CARRACK if t == "carrack" else t, "--version"], None)
                           for tool in ("carrack", "podman", "buildah", "crun") if tool_exists(tool)}, 20)

    def pull_on(self, case, folder):
        def make():
            print(f"making an image of {FILES} files", file=sys.stderr)
            layout = f"{WORK}/layout-large"
            size = images.layout_of_files(layout, FILES)
            print(f"{size[0] / 1e6:.0f} MB in {size[1]} layers, {size[2] / 1e6:.0f} MB unpacked", file=sys.stderr)
            reference = self.registry().push(layout, "large")
            shutil.rmtree(layout)
            return reference
        reference = self.once("large", make)
        stores = []

        def prepare(tool):
            # Nothing is deleted before the end of the run: it would slow down the filesystem for the next tool.
            store = self.store(tool, folder)
            stores.append(store)
            os.sync()
            return store

        def command(store, tool):
            return [*store.command, *pull_arguments(tool), reference]

        contenders = {tool: (lambda t=tool: prepare(t), lambda store, t=tool: command(store, t), None)
                      for tool in ("carrack", "podman") if tool_exists(tool)}
        rounds(case, contenders, 3, self.registry().daemons)
        for store in stores:
            store.unmount()

    def pull(self):
        self.pull_on("pull", WORK)

    def pull_ext4(self):
        image, point = f"{WORK}/ext4.img", f"{WORK}/ext4"
        os.makedirs(point)
        try:
            with open(image, "wb") as file:
                file.truncate(16 << 30)
            execute(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-i", "8192", image])
            execute(["mount", "-o", "loop", image, point])
        except (OSError, RuntimeError) as error:
            print(f"pull-ext4 is left out, no loop device: {error}", file=sys.stderr)
            return
        try:
            self.pull_on("pull-ext4", point)
        finally:
            subprocess.run(["umount", "-l", point], check=False)
            os.unlink(image)

    def build(self):
        context = f"{WORK}/context"
        images.build_context(context, self.small())
        contenders = {}
        for tool in ("carrack", "buildah"):
            if not tool_exists(tool):
                continue
            store = self.store(tool)
            extra = ["--network=none"]
            if tool == "buildah":
                # Isolation by chroot has no network of its own.
                extra = ["--layers", "--isolation=chroot", "--tls-verify=false", *ULIMITS]
            command = [*store.command, "build", "-q", *extra, "--iidfile", f"{WORK}/iid-{tool}",
                       "-t", "localhost/bench:1", context]
            ids = set()
            for _ in range(2):
                execute(command)
                with open(f"{WORK}/iid-{tool}", encoding="ascii") as file:
                    ids.add(file.read().strip())
            if len(ids) != 1:
                problems.append(f"build, {tool}: the second build did not come from the cache")
            contenders[tool] = (None, lambda _, c=command: c, None)
        rounds("build", contenders, 7, self.registry().daemons)


def pull_arguments(tool):
    return ["pull", "-q"] if tool == "carrack" else ["pull", "-q", "--tls-verify=false"]


def main():
    # The kernel drops signals to process 1 that it does not handle.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))
    ctypes.CDLL(None).umask(0o022)
    os.makedirs(f"{WORK}/tmp")
    bench = Bench()
    # The pull on the root filesystem comes last: deleting its stores keeps some filesystems busy for minutes.
    containers = Containers(bench, rounds, notes.append)
    cases = {"version": bench.version, "run": containers.run, "run-bridge": containers.run_bridge,
             "exec": containers.exec, "life": containers.life, "sequence": containers.sequence,
             "at-once": containers.at_once, "idle": containers.idle, "images": containers.images,
             "build": bench.build, "pull-ext4": bench.pull_ext4, "pull": bench.pull}
    chosen = sys.argv[1:] or list(cases)
    unknown = [name for name in chosen if name not in cases]
    if unknown:
        sys.exit(f"bench/run.sh: unknown case {unknown[0]}; there are: {' '.join(cases)}")
    print(versions(("carrack", "podman", "docker", "buildah", "crun", "runc", "conmon", "docker-registry")), end="\n\n", flush=True)
    for name in chosen:
        print(f"case {name} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)
        try:
            cases[name]()
        except (OSError, RuntimeError) as error:
            problems.append(f"{name}: {error}")
    print(table())
    for note in notes:
        print(f"\n{note}")
    for problem in problems:
        print(f"\nPROBLEM {problem}")
    sys.stdout.flush()
    sys.exit(1 if problems else 0)


main()
