"""A Kubernetes cluster for one suite: the control plane of tests/kube, up and down, with our programs as its images."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from kit import proc
from kit.suite import slowness, until

KUBE = pathlib.Path(__file__).resolve().parent.parent / "kube"
INSIDE = "TAILRACE_TEST_NAMESPACES"


def in_own_namespaces():
    """Starts the suite again in network, mount and process namespaces of its own, and returns there: clusters of two suites do not meet, and
    all that one has started ends with it, however it ends. Needs root."""
    if os.environ.get(INSIDE) == "yes":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ[INSIDE] = "yes"
    os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", sys.executable, *sys.argv])


def free_id():
    """A cluster number whose bridge nobody has."""
    for number in range(os.getpid() % 50, 64):
        if not os.path.exists(f"/sys/class/net/kb{number}"):
            return number
    raise AssertionError("no cluster number is free")


class Cluster:
    """with Cluster() as cluster: kube-up and, on leaving, kube-down. Needs root."""

    def __init__(self, **settings):
        """settings: further environment of kube-up, such as KUBE_DNS_TTL."""
        self.id = free_id()
        self.directory = tempfile.mkdtemp(prefix="tailrace-kube-")
        self.gateway = f"10.{128 + self.id}.0.1"  # this machine, as pods see it
        # HOME: kubectl and helm keep what they learned of a server there.
        self.env = {**os.environ, "KUBE_ID": str(self.id), "KUBE_STATE": f"{self.directory}/state", "HOME": self.directory,
                    "KUBE_IMAGES": f"{self.directory}/images.yaml", **settings}

    def write_images(self):
        """The image of deploy/Dockerfile: both programs, and nothing to start by itself. JSON is YAML."""
        files = {f"/usr/bin/{program}": f"{proc.BUILD}/{program[len('tailrace-'):]}/{program}" for program in ("tailrace-lb", "tailrace-sampler")}
        with open(self.env["KUBE_IMAGES"], "w", encoding="utf-8") as file:
            json.dump({"images": [{"match": "tailrace", "entrypoint": ["/usr/bin/tailrace-sampler"], "user": "65532:65532", "files": files}]}, file)

    def __enter__(self):
        self.write_images()
        try:
            up = self.run([KUBE / "kube-up"], timeout_s=180)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        for line in up.splitlines():
            if line.startswith("export KUBECONFIG="):
                self.env["KUBECONFIG"] = line.partition("=")[2]
        return self

    def __exit__(self, *_):
        subprocess.run([KUBE / "kube-down"], env=self.env, stdin=subprocess.DEVNULL, check=False, timeout=120)
        subprocess.run(["rm", "-rf", self.directory], check=False)

    def process(self, argv, stdin=None, timeout_s=60):
        return subprocess.run([str(word) for word in argv], env=self.env, input=stdin if stdin is not None else "", capture_output=True,
                              text=True, check=False, timeout=timeout_s * slowness())

    def run(self, argv, **options):
        done = self.process(argv, **options)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, argv))}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def kubectl(self, *words, **options):
        return self.run(["kubectl", *words], **options)

    def helm(self, *words, **options):
        return self.run(["helm", *words], timeout_s=options.pop("timeout_s", 240), **options)

    def get(self, *words):
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def chaos(self, action, target, *words):
        return self.run([KUBE / "kube-chaos", action, target, *words])

    def api_server_returns(self):
        """After chaos("api-down"): returns when it answers, and with controllers that begin anew. Those of before take notice of each kind of
        object in its own time, within a minute; whichever finds that what it has written is older in its cache tries again after a second,
        and doubles that with each change of a pod meanwhile, up to a quarter of an hour."""
        self.chaos("api-up", "-")
        until(lambda: self.process(["kubectl", "get", "--raw", "/readyz"]).returncode == 0, "the API server is back", 90, every_s=0.5)
        self.chaos("controllers-anew", "-")

    def pods(self, namespace, component):
        return self.get("--namespace", namespace, "pods", "--selector", f"app.kubernetes.io/component={component}")["items"]

    def ready(self, namespace, component):
        """Names of pods that are ready and not on their way out."""
        return sorted(pod["metadata"]["name"] for pod in self.pods(namespace, component)
                      if "deletionTimestamp" not in pod["metadata"] and
                      any(part["type"] == "Ready" and part["status"] == "True" for part in pod["status"].get("conditions", ())))

    def wait_ready(self, namespace, component, count, timeout_s=90):
        return until(lambda: self.ready(namespace, component) if len(self.ready(namespace, component)) == count else None,
                     f"{count} pods of {component} ready", timeout_s, every_s=0.3)

    def explain(self, namespace):
        """What to read when something did not come up."""
        parts = [self.process(["kubectl", "-n", namespace, "get", "pods", "-o", "wide"]).stdout,
                 self.process(["kubectl", "-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]).stdout[-3000:]]
        for pod in self.get("--namespace", namespace, "pods")["items"]:
            name = pod["metadata"]["name"]
            parts.append(f"-- {name}\n" + self.process(["kubectl", "-n", namespace, "logs", name, "--tail=15"]).stdout)
        return "\n".join(parts)
