"""The chart as tests see it: rendered by Helm, and what its pods would read and run."""
import base64
import functools
import os
import pathlib
import re
import subprocess
import sys

# python3-yaml comes from Debian: the venv holds the peers of the other suites.
sys.path.append("/usr/lib/python3/dist-packages")
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm/tailrace"
MATRIX = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
BACKEND = ["--set", "backend.endpoint=http://tempo.monitoring:4317"]
RELEASE, NAMESPACE = "tr", "obs"


def command(*argv, stdin=None, env=None, timeout_s=120):
    """Runs it; returns the process with its text."""
    return subprocess.run([str(word) for word in argv], input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s,
                          env={**os.environ, **(env or {})})


def must(*argv, **options):
    done = command(*argv, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def template(*options, release=RELEASE):
    """helm template as a process, to look at its refusals."""
    return command("helm", "template", release, CHART, "--namespace", NAMESPACE, *options)


@functools.lru_cache(maxsize=None)
def text_of(name):
    """What one entry of the matrix renders to."""
    done = template("--values", CHART / "ci" / name)
    if done.returncode != 0:
        raise AssertionError(f"{name}: {done.stderr}")
    return done.stdout


def objects(text):
    return [item for item in yaml.safe_load_all(text) if item]


def render(*options, stdin=None):
    return objects(must("helm", "template", RELEASE, CHART, "--namespace", NAMESPACE, *BACKEND, *options, stdin=stdin))


def drain_pod():
    """The pod that docs/drain-journal.md shows."""
    page = (ROOT / "docs/drain-journal.md").read_text(encoding="utf-8")
    return yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL).group(1))


def of_kind(items, kind, name_end=""):
    return [item for item in items if item["kind"] == kind and item["metadata"]["name"].endswith(name_end)]


def one(items, kind, name_end=""):
    found = of_kind(items, kind, name_end)
    if len(found) != 1:
        raise AssertionError(f"{len(found)} objects {kind} *{name_end}: {[item['metadata']['name'] for item in found]}")
    return found[0]


def config_of(items, workload):
    """The merged file that a workload's program reads, as a tree."""
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(items, "ConfigMap")}
    volumes = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"]["volumes"]}
    names = {"Deployment": ["config"], "StatefulSet": ["config", "policies"]}[workload["kind"]]
    merged = {}
    for name in names:
        for text in maps[volumes[name]["configMap"]["name"]].values():
            merged.update(yaml.safe_load(text))
    return merged


class Pod:
    """A workload's main container on this machine: its files in a folder of their own, its environment, its command line."""

    def __init__(self, items, workload, directory, secrets):
        """secrets: name -> {key: bytes} for those that are mounted."""
        self.spec = workload["spec"]["template"]["spec"]
        self.container = self.spec["containers"][0]
        self.directory = pathlib.Path(directory)
        maps = {item["metadata"]["name"]: item["data"] for item in of_kind(items, "ConfigMap")}
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        self.moved = []
        for mount in self.container["volumeMounts"]:
            volume = volumes.get(mount["name"])
            path = self.directory / mount["mountPath"].strip("/")
            path.mkdir(parents=True, exist_ok=True)
            if volume is None:  # a volume claim
                self.moved.append((mount["mountPath"], str(path)))
                continue
            data = {}
            if "configMap" in volume:
                data = {key: text.encode() for key, text in maps[volume["configMap"]["name"]].items()}
            elif "secret" in volume:
                data = secrets[volume["secret"]["secretName"]]
            for key, content in data.items():
                (path / key).write_bytes(content)
            self.moved.append((mount["mountPath"], str(path)))
        for path in self.directory.rglob("*.yaml"):
            path.write_text(self.here(path.read_text(encoding="utf-8")), encoding="utf-8")

    def here(self, text):
        """Paths in the container become paths in the folder."""
        for there, path in self.moved:
            text = text.replace(there + "/", path + "/")
        return text

    def argv(self, build):
        program = self.container["command"][0]
        tier = program[len("tailrace-"):]
        return [f"{build}/{tier}/{program}", *[self.here(word) for word in self.container["args"]]]

    def env(self, ip="10.1.2.3"):
        fields = {"metadata.name": "pod-0", "metadata.namespace": NAMESPACE, "status.podIP": ip}
        made = {}
        for entry in self.container["env"]:
            source = entry.get("valueFrom", {})
            made[entry["name"]] = entry.get("value") or fields.get(source.get("fieldRef", {}).get("fieldPath"), "word")
        return made


def decoded(secret):
    return {key: base64.b64decode(text) for key, text in secret["data"].items()}
