"""A registry on a loopback port, for the pulls of all tools."""

import http.client
import json
import os
import re
import socket
import subprocess
import time

from measure import CARRACK, ENVIRONMENT, WORK, tool_exists


class Registry:
    """Debian's registry, or carrack's where that is not installed, on a loopback port."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        folder = f"{WORK}/registry"
        os.makedirs(folder)
        if tool_exists("docker-registry"):
            config = {"version": "0.1", "log": {"level": "error", "accesslog": {"disabled": True}},
                      "storage": {"filesystem": {"rootdirectory": folder}}, "http": {"addr": self.address}}
            with open(f"{WORK}/registry.json", "w", encoding="utf-8") as file:
                json.dump(config, file)
            command = ["docker-registry", "serve", f"{WORK}/registry.json"]
        else:
            command = [CARRACK, "--root", folder, "--runroot", f"{WORK}/registry-run",
                       "registry", "serve", "--listen", self.address]
        self.name = os.path.basename(command[0])
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self.daemons = frozenset([self.process.pid])
        for _ in range(200):
            try:
                if self.request("GET", "/v2/").status == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not answer")

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.address, timeout=120)
        connection.request(method, re.sub(r"^https?://[^/]*", "", path), body, headers or {})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def push(self, layout, name, tag="1"):
        """Sends the one image of an OCI layout; its reference."""
        def blob(digest):
            with open(f"{layout}/blobs/{digest.replace(':', '/')}", "rb") as file:
                return file.read()

        with open(f"{layout}/index.json", encoding="utf-8") as file:
            entry = json.load(file)["manifests"][0]
        manifest = json.loads(blob(entry["digest"]))
        for part in [manifest["config"], *manifest["layers"]]:
            if self.request("HEAD", f"/v2/{name}/blobs/{part['digest']}").status == 200:
                continue
            place = self.request("POST", f"/v2/{name}/blobs/uploads/").getheader("Location")
            place += ("&" if "?" in place else "?") + "digest=" + part["digest"]
            answer = self.request("PUT", place, blob(part["digest"]), {"Content-Type": "application/octet-stream"})
            if answer.status != 201:
                raise RuntimeError(f"{self.name} refuses a blob of {name}: {answer.status}")
        kind = {"Content-Type": entry["mediaType"]}
        answer = self.request("PUT", f"/v2/{name}/manifests/{tag}", blob(entry["digest"]), kind)
        if answer.status != 201:
            raise RuntimeError(f"{self.name} refuses the manifest of {name}: {answer.status}")
        return f"{self.address}/{name}:{tag}"
