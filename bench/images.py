"""Images for the benchmark, the same bytes in every run: OCI layouts, a runtime bundle and a build context."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile

COMMANDS = "sh true echo cat cp md5sum mkdir rm ls sleep".split()
WORDS = [bytes(random.Random(n).choices(b"abcdefghijklmnopqrstuvwxyz", k=2 + n % 9)) for n in range(4000)]


def tree_of_busybox(folder):
    """A root filesystem of the machine's busybox and the libraries that it needs, if any."""
    program = shutil.which("busybox")
    if program is None:
        raise RuntimeError("busybox is not installed")
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        os.makedirs(f"{folder}/{name}")
    shutil.copy(program, f"{folder}/bin/busybox")
    libraries = subprocess.run(["ldd", program], capture_output=True, check=False).stdout.decode().split()
    for path in [word for word in libraries if word.startswith("/")]:
        os.makedirs(os.path.dirname(folder + path), exist_ok=True)
        shutil.copy(path, folder + path)
    for command in COMMANDS:
        os.symlink("busybox", f"{folder}/bin/{command}")
    with open(f"{folder}/etc/passwd", "w", encoding="ascii") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")


class Layout:
    """An OCI layout with one image."""

    def __init__(self, folder):
        self.folder, self.layers, self.diff_ids = folder, [], []
        os.makedirs(f"{folder}/blobs/sha256")

    def blob(self, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{self.folder}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def layer(self, tar):
        self.add("sha256:" + hashlib.sha256(tar).hexdigest(), gzip.compress(tar, compresslevel=4, mtime=0))

    def add(self, diff_id, packed):
        """Adds a layer that is compressed already."""
        self.diff_ids.append(diff_id)
        self.layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **self.blob(packed)})

    def finish(self):
        config = {"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
                  "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
                  "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
                  # buildah builds only on an image whose history names every layer.
                  "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "bench"} for _ in self.diff_ids]}
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", **self.blob(json.dumps(config).encode())}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": config,
                    "layers": self.layers}
        entry = {"mediaType": manifest["mediaType"], **self.blob(json.dumps(manifest).encode())}
        with open(f"{self.folder}/index.json", "w", encoding="ascii") as file:
            json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
        with open(f"{self.folder}/oci-layout", "w", encoding="ascii") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')


def root_owned(entry):
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def layout_of_tree(tree, folder):
    layout, tar = Layout(folder), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tree, arcname=".", filter=root_owned)
    layout.layer(tar.getvalue())
    layout.finish()


def layout_of_files(folder, count):
    """An image of `count` files in six layers, with the spread of sizes of a system with its packages.

    Its compressed size, its number of layers and its unpacked size.
    """
    dice, layout, unpacked = random.Random(20240101), Layout(folder), 0
    for number, share in enumerate((0.35, 0.25, 0.2, 0.1, 0.07, 0.03)):
        files, tar = int(count * share), io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
            def add(name, kind, data=b"", link="", mode=0o644):
                entry = tarfile.TarInfo(name)
                entry.type, entry.size, entry.linkname, entry.mode = kind, len(data), link, mode
                entry.mtime = 1_700_000_000
                archive.addfile(entry, io.BytesIO(data))

            add("usr", tarfile.DIRTYPE, mode=0o755)
            add(f"usr/part{number}", tarfile.DIRTYPE, mode=0o755)
            for index in range(files):
                parent = f"usr/part{number}/package{index // 400}"
                if index % 400 == 0:
                    add(parent, tarfile.DIRTYPE, mode=0o755)
                if index % 20 == 0:
                    add(f"{parent}/group{index // 20 % 20}", tarfile.DIRTYPE, mode=0o755)
                name = f"{parent}/group{index // 20 % 20}/file{index}.txt"
                if index % 50 == 49:
                    add(name, tarfile.SYMTYPE, link=f"file{index - 1}.txt")
                    continue
                size = min(int(dice.lognormvariate(7.3, 1.3)), 1 << 20)
                # A third of the files does not compress, as pictures and archives; the rest is text.
                if index % 3 == 0:
                    data = dice.randbytes(size)
                else:
                    data = b" ".join(dice.choices(WORDS, k=size // 7 + 1))[:size]
                add(name, tarfile.REGTYPE, data)
        unpacked += len(tar.getbuffer())
        layout.layer(tar.getvalue())
    layout.finish()
    return sum(layer["size"] for layer in layout.layers), len(layout.layers), unpacked


def small_tar(path, number):
    """A tar of one small file, which differs from that of another number."""
    with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry, data = tarfile.TarInfo("file"), f"{number}\n".encode()
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))


def bundle(folder, tree, template, cgroup):
    """A bundle for a runtime of the tree, from the runtime's own template."""
    spec = json.loads(template)
    spec["process"].update({"terminal": False, "args": ["/bin/true"]})
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    spec["root"] = {"path": tree, "readonly": False}
    spec["linux"]["cgroupsPath"] = cgroup
    spec["linux"]["resources"] = {"pids": {"limit": 2048}}
    os.makedirs(folder)
    with open(f"{folder}/config.json", "w", encoding="ascii") as file:
        json.dump(spec, file)


def build_context(folder, base):
    """A context of 5,000 files with a Dockerfile of ten steps and two stages."""
    dice = random.Random(3)
    for index in range(5000):
        parent = f"{folder}/src/d{index // 100:02}"
        os.makedirs(parent, exist_ok=True)
        with open(f"{parent}/f{index:04}.txt", "w", encoding="ascii") as file:
            file.write(f"{dice.random()} file {index}\n" * dice.randint(1, 60))
    with open(f"{folder}/app.conf", "w", encoding="ascii") as file:
        file.write("x=1\n")
    with open(f"{folder}/Dockerfile", "w", encoding="ascii") as file:
        file.write(f"""FROM {base} AS build
WORKDIR /srv
COPY src /srv/src
RUN cat /srv/src/d00/* | md5sum > /srv/sum
RUN mkdir /srv/out && cp /srv/src/d01/* /srv/out/
FROM {base}
ENV A=1 B=2
COPY --from=build /srv/out /opt/out
COPY --from=build /srv/sum /opt/sum
COPY app.conf /etc/app.conf
RUN echo two > /two
CMD ["true"]
""")
