"""The cases of bench/store.sh, which starts this file as process 1 of private namespaces (see there)."""

import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys

import contenders
from measure import WORK, execute, keep, show, timed, versions
from registry import Registry

IMAGES = f"{WORK}/images"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
STARTS = 20
# In the order of the pulls. What is light enough to be pulled in each round is marked.
PULLED = {"debian": True, "layers": False, "files": False}
LARGEST = "layers"
VERSIONS = [f"app{number}" for number in range(1, 11)]
CHANGE = ("mkdir /new && for i in $(seq 500); do echo $i > /new/f$i; done; "
          "find /usr/share -type f | sort | head -n 500 | while read -r f; do echo x >> $f; done")
# What the issue that made this benchmark asks for: case, tool, and carrack's time over the tool's, of wall and of CPU.
TARGETS = {
    ("pull debian", "podman"): 1 / 4,
    ("pull layers", "podman"): 1 / 4,
    ("pull files", "podman"): 1 / 20,
    ("pull debian", "floor"): 1.5,
    ("pull layers", "floor"): 1.5,
    ("pull files", "floor"): 1.5,
    ("pull + run debian", "podman"): 1 / 4,
    ("pull + run layers", "podman"): 1 / 4,
    ("pull + run files", "podman"): 1 / 20,
    ("save layers", "podman"): 1 / 3,
    ("load layers", "podman"): 1 / 10,
    ("rmi debian", "podman"): 1 / 10,
    ("rmi layers", "podman"): 1 / 10,
    ("rmi files", "podman"): 1 / 10,
}
TARGETED = ["carrack", "floor", "podman"]
# The start of the largest image over that of the smallest, as far as noise lets flat be measured.
FLAT = 1.2
# carrack's disk over what podman's and all compressed layers take.
DISK = 0.6

problems = []
verdicts = []


def verdict(what, met, target):
    verdicts.append((what, met))
    return f"{'met' if met else 'MISSED'} ({target})"


def fraction(ratio):
    return f"1/{1 / ratio:.1f}" if ratio < 1 else f"{ratio:.2f}"


def tools_of(label):
    """The tools that are measured on a filesystem: those that are chosen and there.

    Without a choice only those with targets on the root filesystem: deleting the files of all takes some minutes there.
    """
    default = TARGETED if label == "root" else list(contenders.ALL)
    wanted = os.environ.get("BENCH_TOOLS", "").split() or default
    return [name for name, kind in contenders.ALL.items() if name in wanted and kind.exists()]


class Place:
    """The cases on one filesystem, and their samples."""

    def __init__(self, label, folder, registry, chosen):
        self.label, self.folder, self.registry, self.chosen = label, folder, registry, chosen
        os.makedirs(folder, exist_ok=True)
        self.samples, self.bytes, self.failed, self.number = {}, {}, {}, 0

    def tools(self, names=None):
        """The tools to measure: those that are chosen, of these names, and there."""
        return [name for name in tools_of(self.label) if names is None or name in names]

    def store(self, tool):
        self.number += 1
        # Unique beyond its folder: the state of what runs is in /run by this name.
        return contenders.ALL[tool](f"{self.folder}/{self.label}-{tool}-{self.number}")

    def stores(self, names=None):
        """A fresh store for each tool; one that cannot be made is a problem of that tool."""
        made = {}
        for tool in self.tools(names):
            try:
                made[tool] = self.store(tool)
            except (OSError, RuntimeError) as error:
                self.fail("store", tool, error)
        return made

    def fail(self, case, tool, error):
        problems.append(f"{self.label}, {case}, {tool}: {error}")
        self.failed[case, tool] = str(error)

    def untimed(self, case, tool, commands):
        """Prepares or checks what is measured; says whether it went well."""
        try:
            if commands is None:
                return False
            for command in commands:
                execute(command)
            return True
        except (OSError, RuntimeError) as error:
            self.fail(case, tool, error)
            return False

    def measure(self, case, tool, store, commands):
        """One sample, or a row with an error. None when there is no sample."""
        if commands is None or (case, tool) in self.failed:
            return None
        try:
            daemons = self.registry.daemons | contenders.RUNNING
            parts = [timed(command, daemons, store.pids()) for command in commands]
        except (OSError, RuntimeError) as error:
            self.fail(case, tool, error)
            return None
        sample = tuple(map(sum, zip(*parts)))
        self.add(case, tool, sample)
        return sample

    def add(self, case, tool, sample):
        self.samples.setdefault(case, {}).setdefault(tool, []).append(sample)
        keep(f"{case}, {self.label}", tool, *sample)

    def reference(self, image):
        return self.registry.references[image]

    def cases(self):
        """Deletions come last: some filesystems are slow for minutes after many of them."""
        for _ in range(ROUNDS - 1):
            stores = self.stores()
            self.pull(stores, [image for image, light in PULLED.items() if light])
            self.close(stores)
        stores = self.stores()
        try:
            self.pull(stores, list(PULLED))
            for name, case in (("start", self.start), ("save", self.save), ("commit", self.commit)):
                self.run_case(name, case, stores)
            for name, case in (("load", self.load), ("disk", self.disk)):
                self.run_case(name, case)
            self.run_case("rmi", self.rmi, stores)
        finally:
            self.close(stores)

    def run_case(self, name, case, *arguments):
        if name in self.chosen:
            print(f"{self.label}: {name} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)
            case(*arguments)

    def close(self, stores):
        for store in stores.values():
            store.close()

    def pull(self, stores, images):
        """Into stores that hold nothing of the image, and the first run from them."""
        for index, image in enumerate(images):
            print(f"{self.label}: pull {image} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)
            for tool in list(stores)[::-1 if index % 2 else 1]:
                store, reference = stores[tool], self.reference(image)
                os.sync()
                pulled = self.measure(f"pull {image}", tool, store, store.pull(reference))
                if not pulled:
                    continue
                started = self.measure(f"first run {image}", tool, store, store.run(reference, "true"))
                if started:
                    self.add(f"pull + run {image}", tool, tuple(map(sum, zip(pulled, started))))

    def start(self, stores):
        """A start of the smallest and of the largest image, in turn."""
        ready = {}
        for tool in self.tools(("carrack", "podman", "docker")):
            store = stores.get(tool)
            if store and self.untimed("start tiny", tool, store.pull(self.reference("tiny"))):
                ready[tool] = store
        for _ in range(STARTS):
            for image in ("tiny", LARGEST):
                for tool, store in ready.items():
                    self.measure(f"start {image}", tool, store, store.run(self.reference(image), "true"))

    def save(self, stores):
        for tool, store in stores.items():
            file = f"{self.folder}/{tool}.save"
            os.sync()
            self.measure(f"save {LARGEST}", tool, store, store.save(self.reference(LARGEST), file))
            if os.path.exists(file):
                os.unlink(file)

    def commit(self, stores):
        """Of a container in which 500 files are new and 500 of the image's have changed."""
        case, made = "commit 1,000 files", {}
        for tool, store in stores.items():
            name = store.unique()
            if self.untimed(case, tool, store.change(self.reference(LARGEST), name, CHANGE)):
                made[tool] = name
        for number in range(ROUNDS):
            for tool, name in made.items():
                store, committed = stores[tool], f"localhost/committed:{number}"
                self.measure(case, tool, store, store.commit(name, committed))
                if number == 0 and (case, tool) not in self.failed:
                    self.untimed(f"{case} (check)", tool, store.run(committed, "test", "-f", "/new/f500"))
        for tool, name in made.items():
            store = stores[tool]
            self.untimed(f"{case} (removal)", tool, store.remove_container(name))
            for number in range(ROUNDS):
                if (case, tool) not in self.failed:
                    self.untimed(f"{case} (removal)", tool, store.rmi(f"localhost/committed:{number}"))

    def load(self):
        """The same archive, made by skopeo, into fresh stores."""
        archive, case = f"{WORK}/archive.tar", f"load {LARGEST}"
        if not os.path.exists(archive):
            execute(["skopeo", "copy", "-q", f"oci:{IMAGES}/{LARGEST}",
                     f"docker-archive:{archive}:{self.reference(LARGEST)}"])
        stores = self.stores(("carrack", "podman", "docker", "containerd"))
        for tool, store in stores.items():
            os.sync()
            if self.measure(case, tool, store, store.load(archive)):
                self.untimed(f"{case} (check)", tool, store.run(self.reference(LARGEST), "true"))
        self.close(stores)

    def disk(self):
        """What is allocated for a store with ten versions of an app on one base."""
        stores = self.stores(("carrack", "podman", "docker", "containerd"))
        for tool, store in stores.items():
            case = "disk of 10 versions"
            if all(self.untimed(case, tool, store.pull(self.reference(image))) for image in VERSIONS):
                store.close()
                os.sync()
                used = subprocess.run(["du", "-sx", "--block-size=1", store.folder], capture_output=True, check=False)
                self.bytes[tool] = int(used.stdout.split()[0])
        self.close(stores)

    def rmi(self, stores):
        for image in PULLED:
            for tool, store in stores.items():
                if f"pull {image}" in self.samples and tool in self.samples[f"pull {image}"]:
                    os.sync()
                    self.measure(f"rmi {image}", tool, store, store.rmi(self.reference(image)))

    def rows(self):
        cases = list(self.samples) + [case for case, _ in self.failed if case not in self.samples]
        for case in dict.fromkeys(cases):
            samples = self.samples.get(case, {})
            for tool in [tool for tool in contenders.ALL if tool in samples]:
                values = samples[tool]
                walls, cpus = zip(*values)
                figures = [show(min(walls)), show(statistics.median(walls)), show(min(cpus))]
                yield [self.label, case, tool, str(len(values)), *figures, *self.compare(case, tool, samples)]
            for tool in [tool for failed, tool in self.failed if failed == case]:
                yield [self.label, case, tool, "0", "error", "", "", "", "", ""]
        yield from self.disk_rows()

    def compare(self, case, tool, samples):
        """carrack's times over the tool's, and what is said of the target."""
        ours, theirs = samples.get("carrack"), samples[tool]
        if not ours:
            return ["", "", ""]
        if tool == "carrack":
            return ["", "", self.flat(case, ours)]
        wall, cpu = (min(sample[part] for sample in ours) / max(min(sample[part] for sample in theirs), 1e-6)
                     for part in (0, 1))
        target, said = TARGETS.get((case, tool)), ""
        if target:
            what = f"{self.label}, {case}, {tool}: wall {fraction(wall)}, CPU {fraction(cpu)}"
            said = verdict(what, wall <= target and cpu <= target, fraction(target))
        return [fraction(wall), fraction(cpu), said]

    def flat(self, case, ours):
        smallest = self.samples.get("start tiny", {}).get("carrack")
        if case != f"start {LARGEST}" or not smallest:
            return ""
        ratio = min(wall for wall, _ in ours) / min(wall for wall, _ in smallest)
        return verdict(f"{self.label}, start of the largest over the smallest image: {ratio:.2f}", ratio <= FLAT,
                       f"{ratio:.2f} of tiny, at most {FLAT}")

    def disk_rows(self):
        ours, blobs = self.bytes.get("carrack"), self.registry.unique_bytes(VERSIONS)
        for tool, used in self.bytes.items():
            said = ["", "", ""]
            if ours and tool != "carrack":
                said[0] = fraction(ours / used)
            if ours and tool == "podman":
                ratio = ours / (used + blobs)
                theirs = f"podman's {used / 1e6:.0f} MB and {blobs / 1e6:.0f} MB of blobs"
                what = f"{self.label}, disk over {theirs}: {ratio:.2f}"
                said[2] = verdict(what, ratio <= DISK, f"{ratio:.2f} of podman's + blobs, at most {DISK}")
            yield [self.label, "disk of 10 versions", tool, "1", f"{used / 1e6:.0f} MB", "", "", *said]


class Images(Registry):
    """A registry with the images, and their references."""

    def __init__(self):
        super().__init__()
        self.references, self.layers = {}, {}
        for image in ["tiny", *PULLED]:
            self.references[image] = self.push(f"{IMAGES}/{image}", image)
        for image in VERSIONS:
            self.references[image] = self.push(f"{IMAGES}/{image}", "app", image)

    def unique_bytes(self, images):
        """The compressed layers of images, each once."""
        layers = {}
        for image in images:
            with open(f"{IMAGES}/{image}/index.json", encoding="utf-8") as file:
                digest = json.load(file)["manifests"][0]["digest"]
            with open(f"{IMAGES}/{image}/blobs/{digest.replace(':', '/')}", encoding="utf-8") as file:
                layers.update((layer["digest"], layer["size"]) for layer in json.load(file)["layers"])
        return sum(layers.values())


def table(places):
    lines = ["| filesystem | case | tool | n | wall min | wall median | CPU min "
             "| carrack / tool: wall min | CPU min | target |",
             "|---|---|---|--:|--:|--:|--:|--:|--:|---|"]
    lines += ["| " + " | ".join(row) + " |" for place in places for row in place.rows()]
    return "\n".join(lines)


def on_ext4(registry, chosen):
    """A fresh filesystem with a journal, in a file, for the cases."""
    image, point = f"{WORK}/ext4.img", f"{WORK}/ext4"
    os.makedirs(point)
    try:
        with open(image, "wb") as file:
            file.truncate(40 << 30)
        execute(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-i", "16384", image])
        execute(["mount", "-o", "loop", image, point])
    except (OSError, RuntimeError) as error:
        print(f"ext4 is left out, no loop device: {error}", file=sys.stderr)
        return None
    place = Place("ext4", f"{point}/stores", registry, chosen)
    try:
        place.cases()
    finally:
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            points = [line.split()[1] for line in mounts]
        for mounted in reversed([path for path in points if f"{path}/".startswith(f"{point}/")]):
            subprocess.run(["umount", "-l", mounted], check=False)
        os.unlink(image)
    return place


def main():
    # The kernel drops signals to process 1 that it does not handle.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))
    ctypes.CDLL(None).umask(0o022)
    os.makedirs(f"{WORK}/tmp")
    cases = ["pull", "start", "save", "commit", "load", "disk", "rmi"]
    unknown = [name for name in sys.argv[1:] if name not in cases]
    if unknown:
        sys.exit(f"bench/store.sh: unknown case {unknown[0]}; there are: {' '.join(cases)}")
    chosen = sys.argv[1:] or cases
    labels = os.environ.get("BENCH_PLACES", "ext4 root").split()
    programs = [program for label in labels for tool in tools_of(label) for program in contenders.ALL[tool].programs]
    print(versions(dict.fromkeys([*programs, "docker-registry"])), end="\n\n", flush=True)
    registry, places = Images(), []
    for label in labels:
        if label == "ext4":
            places += filter(None, [on_ext4(registry, chosen)])
        else:
            place = Place(label, f"{WORK}/stores", registry, chosen)
            place.cases()
            places.append(place)
        # What a store takes is the same everywhere.
        if places:
            chosen = [case for case in chosen if case != "disk"]
    print(table(places))
    met = sum(1 for _, met in verdicts if met)
    print(f"\n{met} of {len(verdicts)} targets met; load {os.getloadavg()[0]:.1f}. Missed:")
    for what, met in verdicts:
        if not met:
            print(f"- {what}")
    for problem in problems:
        print(f"\nPROBLEM {problem}")
    sys.stdout.flush()
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
