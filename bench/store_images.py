"""The images of bench/store.sh, made once into a folder: the same bytes as long as Debian 12 has the same packages.

    store_images.py FOLDER       BENCH_SMALL=1 for small ones

`tiny`: the machine's busybox. `debian`: one layer, about 100 MB compressed. `layers`: ten layers of one bigger system,
about 1 GB unpacked; the last one changes and deletes files of those below. `files`: 50,000 small files. `app1` to
`app10`: versions of an app on `debian`, of which each changes a fifth.
"""

import gzip
import hashlib
import io
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

import images

SMALL = bool(os.environ.get("BENCH_SMALL"))
FILES = 5_000 if SMALL else 50_000
LAYERS = 10
VERSIONS = 10
CHANGED = 1_000
PACKAGES = {
    "debian": "busybox-static" if SMALL else "perl,python3,git",
    "layers": "python3" if SMALL else "perl,python3-dev,python3-numpy,git,g++,make,cmake,nodejs,npm,manpages-dev,"
                                      "vim,linux-headers-amd64,libboost-dev",
}
DATE = 1_700_000_000


def system(name, folder):
    """A tar of Debian 12 with the packages of an image."""
    tar, memory = f"{folder}/{name}.tar", f"{folder}/memory"
    print(f"making a system with {PACKAGES[name]}", file=sys.stderr)
    # In memory, because many files take some filesystems minutes. store.sh sees to it that nobody else has this mount.
    os.makedirs(memory, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "bench", memory], check=True)
    try:
        subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=output/dev",
                        f"--include={PACKAGES[name]}", "bookworm", tar],
                       env={**os.environ, "SOURCE_DATE_EPOCH": str(DATE), "TMPDIR": memory}, check=True)
    finally:
        subprocess.run(["umount", "-l", memory], check=False)
    return tar


def pack(tar):
    """A layer of a tar file: its diff ID and its compressed bytes. The file is deleted."""
    with open(tar, "rb") as file:
        data = file.read()
    os.unlink(tar)
    return "sha256:" + hashlib.sha256(data).hexdigest(), gzip.compress(data, compresslevel=6, mtime=0)


class Writer:
    """A tar with entries that are made up."""

    def __init__(self, file):
        self.archive = tarfile.open(file, "w", format=tarfile.PAX_FORMAT)  # pylint: disable=consider-using-with

    def add(self, name, data=b"", kind=tarfile.REGTYPE, mode=0o644):
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.mode, entry.mtime = kind, len(data), mode, DATE
        self.archive.addfile(entry, io.BytesIO(data))

    def folder(self, name):
        self.add(name, kind=tarfile.DIRTYPE, mode=0o755)


class Slice:
    """One layer of a system: entries of its tar, and the folders that lead to them, as each layer repeats them."""

    def __init__(self, file, folders):
        self.archive = tarfile.open(file, "w", format=tarfile.PAX_FORMAT)  # pylint: disable=consider-using-with
        self.folders, self.there, self.size = folders, set(), 0

    def add(self, entry, data=None):
        parts = entry.name.split("/")
        for parent in ("/".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if parent in self.folders and parent not in self.there:
                self.there.add(parent)
                self.archive.addfile(self.folders[parent])
        if not entry.isdir():
            self.archive.addfile(entry, data)
        self.size += entry.size + 512


def slices(tar, folder):
    """Cuts a tar of a system into layers of about the same size, and adds one that changes files of the others."""
    files = [f"{folder}/layer{number}.tar" for number in range(LAYERS)]
    number, layer_of = 0, {}
    with tarfile.open(tar) as source:
        entries = source.getmembers()
        folders = {entry.name: entry for entry in entries if entry.isdir()}
        target = Slice(files[0], folders)
        for entry in entries:
            if target.size > os.path.getsize(tar) / (LAYERS - 1):
                target.archive.close()
                number += 1
                target = Slice(files[number], folders)
            if entry.islnk() and layer_of[entry.linkname] != number:
                # A hardlink only reaches files of its own layer.
                original = source.getmember(entry.linkname)
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", original.size
                target.add(entry, source.extractfile(original))
            else:
                target.add(entry, source.extractfile(entry) if entry.isreg() else None)
            layer_of[entry.name] = number
        target.archive.close()
        target = Slice(files[-1], folders)
        documents = [entry for entry in entries if entry.isreg() and entry.name.startswith("./usr/share/")]
        for index, entry in enumerate(random.Random(5).sample(documents, min(CHANGED, len(documents)))):
            if index % 5 == 0:
                folder_of, name = os.path.split(entry.name)
                target.add(tarfile.TarInfo(f"{folder_of}/.wh.{name}"))
                continue
            data = source.extractfile(entry).read() + b"changed\n"
            entry.size = len(data)
            target.add(entry, io.BytesIO(data))
        target.archive.close()
    os.unlink(tar)
    return files[:number + 1] + files[-1:]


def small_files(tar, tree):
    """Many small files of text, and the tree of the small image, so that something can run."""
    dice, writer = random.Random(7), Writer(tar)
    writer.archive.add(tree, arcname=".", filter=images.root_owned)
    writer.folder("data")
    for number in range(FILES):
        group, parent = number // 2500, number // 100
        if number % 2500 == 0:
            writer.folder(f"data/d{group:02}")
        if number % 100 == 0:
            writer.folder(f"data/d{group:02}/s{parent:03}")
        size = dice.choice((0, 120, 500, 900, 2000, 4000))
        data = b" ".join(dice.choices(images.WORDS, k=size // 6 + 1))[:size]
        writer.add(f"data/d{group:02}/s{parent:03}/f{number:05}.txt", data)
    writer.archive.close()


def app(tar, version):
    """The files of one version: four fifths are those of the version before."""
    writer = Writer(tar)
    writer.folder("srv")
    writer.folder("srv/app")
    for number in range(100 if SMALL else 1_000):
        age = version if number % 5 == version % 5 else version - (version - number) % 5
        dice = random.Random(f"{number} {age}")
        size = min(int(dice.lognormvariate(9.5, 1.2)), 1 << 20)
        data = dice.randbytes(size) if number % 3 == 0 else b" ".join(dice.choices(images.WORDS, k=size // 6))[:size]
        writer.add(f"srv/app/module{number}.bin", data)
    writer.archive.close()


def layout(folder, layers):
    made = images.Layout(folder)
    for diff_id, packed in layers:
        made.add(diff_id, packed)
    made.finish()
    for name in os.listdir(f"{folder}/blobs/sha256"):
        shared = f"{os.path.dirname(folder)}/debian/blobs/sha256/{name}"
        if os.path.exists(shared) and not os.path.samefile(shared, f"{folder}/blobs/sha256/{name}"):
            os.unlink(f"{folder}/blobs/sha256/{name}")
            os.link(shared, f"{folder}/blobs/sha256/{name}")
    size = sum(layer["size"] for layer in made.layers)
    print(f"{os.path.basename(folder)}: {len(layers)} layers, {size / 1e6:.1f} MB compressed", file=sys.stderr)


def make(folder):
    with tempfile.TemporaryDirectory(dir=folder) as scratch, multiprocessing.Pool() as pool:
        images.tree_of_busybox(f"{scratch}/tree")
        images.layout_of_tree(f"{scratch}/tree", f"{folder}/tiny")
        small_files(f"{scratch}/files.tar", f"{scratch}/tree")
        layout(f"{folder}/files", [pack(f"{scratch}/files.tar")])
        base = pack(system("debian", scratch))
        layout(f"{folder}/debian", [base])
        versions = [f"{scratch}/app{version}.tar" for version in range(1, VERSIONS + 1)]
        pool.starmap(app, [(tar, version) for version, tar in enumerate(versions, 1)])
        for version, packed in enumerate(pool.imap(pack, versions), 1):
            layout(f"{folder}/app{version}", [base, packed])
        parts = slices(system("layers", scratch), scratch)
        layout(f"{folder}/layers", pool.map(pack, parts, chunksize=1))


def main():
    folder = sys.argv[1]
    done = f"{folder}/complete"
    if os.path.exists(done):
        return
    for name in os.listdir(folder):
        shutil.rmtree(f"{folder}/{name}")
    make(folder)
    with open(done, "w", encoding="ascii"):
        pass


if __name__ == "__main__":
    main()
