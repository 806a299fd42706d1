"""Private stores of the tools, and the start of their command lines."""

import os
import subprocess

from measure import CARRACK


class Store:
    """A folder with a private store of one tool, and the start of its command lines."""

    def __init__(self, tool, folder):
        self.folder = folder
        # As in real life, the state of what runs is in memory: /run is a private tmpfs here.
        root, runroot = f"{folder}/root", f"/run/{os.path.basename(folder)}"
        os.makedirs(root)
        os.makedirs(runroot)
        places = ["--root", root, "--runroot", runroot]
        self.command = {
            "carrack": [CARRACK, *places],
            "podman": ["podman", *places, "--tmpdir", f"{runroot}/tmp", "--storage-driver=overlay",
                       "--cgroup-manager=cgroupfs", "--events-backend=file"],
            "buildah": ["buildah", *places, "--storage-driver=overlay"],
        }[tool]

    def unmount(self):
        """Unmounts what the tool left mounted; the end of the run deletes the rest."""
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            points = [line.split()[1] for line in mounts]
        for point in reversed([p for p in points if p.startswith(self.folder + "/")]):
            subprocess.run(["umount", "-l", point], check=False)
