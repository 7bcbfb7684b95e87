#!/usr/bin/env python3
"""The k8s resolver against a real API server: samplers are the pods of a StatefulSet, the balancer is a pod with an account of its own.

Nothing here is ours but the programs under test and the node: conditions, slices, tokens, certificates and refusals are what Kubernetes
makes of them. How an API server fails is tests/peers/k8s/run.py. Needs root, and what tests/kube/kube-build builds.
"""
import atexit
import collections
import json
import os
import sys
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from kit import metrics, otlp
from kit.kube import Cluster, in_own_namespaces
from kit.moving_members import Load, failing
from kit.suite import Suite, check, equal, until

suite = Suite("kube", timeout_s=240)

NAMESPACE = "obs"
CONFIG = "/etc/tailrace/config.yaml"
ADMIN = 13133


class Pod:
    """A program in the cluster, as kit.proc.Node is one beside it."""

    def __init__(self, thing):
        self.name = thing["metadata"]["name"]
        self.ip = thing["status"]["podIP"]
        self.address = f"{self.ip}:4317"

    def get(self, path, timeout_s=10.0):
        try:
            with urllib.request.urlopen(f"http://{self.ip}:{ADMIN}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def status(self):
        return json.loads(self.get("/status")[1])

    def metrics(self):
        return metrics.Metrics(self.get("/metrics")[1])

    def about(self):
        return self.status()["resolver"]

    def ring(self):
        return sorted(entry["name"] for entry in self.status()["members"] if entry["slots"] > 0)


def container(name, program, mounts, **more):
    return {"name": name, "image": "tailrace", "command": [f"/usr/bin/tailrace-{program}"], "args": ["--config", CONFIG],
            "volumeMounts": [{"name": "config", "mountPath": "/etc/tailrace"}, *mounts],
            "ports": [{"name": "otlp-grpc", "containerPort": 4317}, {"name": "admin", "containerPort": ADMIN}],
            "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, **more}


def config_map(name, config):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"config.yaml": json.dumps(config)}}


def sampler_objects(replicas, sink):
    config = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": ":4317"}}}},
        "processors": {"tail_sampling": {"decision_wait": "1s", "policies": [{"name": "all", "type": "always_sample"}]}},
        "exporters": {"otlp": {"endpoint": sink, "tls": {"insecure": True}}},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "processors": ["tail_sampling"], "exporters": ["otlp"]}}},
        "tailrace": {"admin": {"endpoint": f":{ADMIN}"}, "workers": 1, "cluster": {"self": "${env:POD_NAME}"}, "memory": {"limit_mib": 256}},
    }
    # A process of a busy machine may stand still for a second; only unready_pod is about one that does.
    ready = {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 1, "failureThreshold": 3, "timeoutSeconds": 2}
    pod = {"terminationGracePeriodSeconds": 20, "automountServiceAccountToken": False, "containers": [container(
        "sampler", "sampler", [], readinessProbe=ready, lifecycle={"preStop": {"sleep": {"seconds": 2}}},
        env=[{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])],
        "volumes": [{"name": "config", "configMap": {"name": "sampler"}}]}
    service = {"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", "selector": {"app": "sampler"},
               "ports": [{"name": "otlp-grpc", "port": 4317}, {"name": "admin", "port": ADMIN}]}
    return [config_map("sampler", config),
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sampler"}, "spec": service},
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "sampler"}, "spec": {
                "replicas": replicas, "serviceName": "sampler", "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "sampler"}},
                "template": {"metadata": {"labels": {"app": "sampler"}}, "spec": pod}}}]


def lb_objects(name, resolver, tailrace=None):
    config = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": ":4317"}}}},
        "exporters": {"loadbalancing": {"protocol": {"otlp": {"timeout": "5s", "tls": {"insecure": True}}}, "resolver": resolver}},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["loadbalancing"]}}},
        "tailrace": {"admin": {"endpoint": f":{ADMIN}"}, "workers": 1, **(tailrace or {})},
    }
    pod = {"serviceAccountName": "lb", "terminationGracePeriodSeconds": 15, "containers": [container("lb", "lb", [])],
           "volumes": [{"name": "config", "configMap": {"name": name}}]}
    return [config_map(name, config),
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "lb"}}, "spec": pod}]


ACCOUNT = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "lb"}},
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lb"}, "rules": [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]}]
BINDING = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "lb"},
           "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lb"},
           "subjects": [{"kind": "ServiceAccount", "name": "lb", "namespace": NAMESPACE}]}


class World:
    """The one cluster of the suite, with its sink."""

    def __init__(self):
        # With less grace the controllers take nodes for dead after an outage of the API server, of which they have only not heard yet.
        self.cluster = Cluster(KUBE_DUAL_STACK="1", KUBE_DNS_TTL="5", KUBE_NODE_FLAGS="-token-refresh 5s",
                               KUBE_CM_FLAGS="--node-monitor-grace-period=600s").__enter__()
        atexit.register(self.cluster.__exit__, None, None, None)
        self.sink = otlp.Sink()
        self.sink.host = self.cluster.gateway
        self.sink.start()
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        self.cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=baseline")
        self.apply(*ACCOUNT, *sampler_objects(3, self.sink.address))

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def kubectl(self, *words, **options):
        return self.cluster.kubectl("--namespace", NAMESPACE, *words, **options)

    def get(self, kind, selector):
        return self.cluster.get("--namespace", NAMESPACE, kind, "--selector", selector)["items"]

    def pods(self, app):
        return {thing["metadata"]["name"]: thing for thing in self.get("pods", f"app={app}")}

    def lb(self, name, resolver, tailrace=None):
        """A balancer as a pod; returns when its admin endpoint answers."""
        def up():
            thing = self.pods("lb").get(name)
            if not thing or not thing["status"].get("podIP"):
                return None
            pod = Pod(thing)
            try:
                pod.status()
            except OSError:
                return None
            return pod

        self.apply(*lb_objects(name, resolver, tailrace))
        return until(up, f"balancer {name}", 60)

    def main_lb(self, replicas=3):
        """The balancer that cases share, with a ring of so many; the first one makes it."""
        there = self.pods("lb").get("lb")
        if not there:
            self.apply(BINDING)
        lb = Pod(there) if there else self.lb("lb", K8S)
        self.scale(replicas)
        wait_ring(lb, replicas)
        return lb

    def scale(self, replicas):
        self.kubectl("scale", "statefulset", "sampler", f"--replicas={replicas}")


worlds = []


def world():
    if not worlds:
        worlds.append(World())
    return worlds[0]


def sampler_names(count):
    return [f"sampler-{i}" for i in range(count)]


def wait_ring(lb, count, timeout_s=60):
    until(lambda: lb.ring() == sampler_names(count), f"a ring of {count} on {lb.name}", timeout_s, every_s=0.2)


def expect_delivered(load, since):
    """All that was acknowledged reaches the backend, once."""
    want = set(load.acknowledged)

    def got():
        return [span for span in (item.span.span_id for item in world().sink.spans(world().sink.calls()[since:])) if span in want]

    until(lambda: want <= set(got()), f"{len(want)} spans at the backend", 60, every_s=1)
    counted = collections.Counter(got())
    equal([span.hex() for span, count in counted.items() if count > 1][:5], [], "spans that came twice")


K8S = {"k8s": {"service": f"sampler.{NAMESPACE}.svc.cluster.local", "ports": ["otlp-grpc"]}}


@suite.case()
def rbac():
    """Without RBAC the API server's words are on /status; with list and watch alone, in one namespace, the ring forms by itself."""
    here = world()
    lb = here.lb("lb", K8S)
    words = f'User "system:serviceaccount:{NAMESPACE}:lb" cannot list resource "endpointslices"'
    until(lambda: failing(lb, words), f"a failure on /status that says {words}", 60)
    equal(lb.get("/readyz")[0], 503, "/readyz")
    here.apply(BINDING)
    wait_ring(lb, 3)
    until(lambda: not lb.about()["failing"], "no failure any more")
    equal(lb.get("/readyz")[0], 200, "/readyz")


@suite.case()
def one_member_a_pod():
    """In a dual-stack cluster, where each pod has two addresses in two slices, each is one member, named as the pod is."""
    here = world()
    lb = here.main_lb()
    slices = here.get("endpointslices", "kubernetes.io/service-name=sampler")
    equal(sorted({thing["addressType"] for thing in slices}), ["IPv4", "IPv6"], "families of slices")
    want = sorted(f"{thing['status']['podIP']}:4317" for thing in here.pods("sampler").values())
    # Of the two slices either may come first; both are there in no time.
    until(lambda: sorted(entry["address"] for entry in lb.status()["members"] if entry["listed"]) == want, f"{want}, each listed once", 60)
    equal(len(want), 3, "pods")


@suite.case()
def scaled_under_load():
    """3 pods, 5, 2, 4 while spans flow: the ring follows, nothing acknowledged is lost, doubled or refused."""
    here = world()
    lb = here.main_lb()
    since = len(here.sink.calls())
    lists = lb.metrics().value("otelcol_loadbalancer_num_resolutions_total", resolver="k8s", success="true")
    with Load(lb) as load:
        for replicas in (5, 2, 4, 3):
            load.more(500)
            here.scale(replicas)
            wait_ring(lb, replicas)
        load.more(500)
    equal(load.refused, [], "refusals")
    expect_delivered(load, since)
    until(lambda: len(here.pods("sampler")) == 3, "the pods are gone", 60)
    page = lb.metrics()
    equal(page.value("otelcol_loadbalancer_num_backends", resolver="k8s"), 3, "num_backends")
    check(page.value("otelcol_loadbalancer_num_resolutions_total", resolver="k8s", success="true") > lists, "events were counted")


@suite.case()
def replaced_pod():
    """A pod that is deleted comes back with another address and is the member it was: same name, same share."""
    here = world()
    lb = here.main_lb()
    before, old = lb.status()["ring"]["fingerprint"], here.pods("sampler")["sampler-1"]
    here.kubectl("delete", "pod", "sampler-1", "--wait=false")
    # It is away for few seconds only: who looks too late sees the new one.
    until(lambda: "sampler-1" not in lb.ring() or here.pods("sampler").get("sampler-1", old)["metadata"]["uid"] != old["metadata"]["uid"],
          "a ring without sampler-1", 60, every_s=0.2)
    wait_ring(lb, 3)
    new = here.pods("sampler")["sampler-1"]
    check(new["metadata"]["uid"] != old["metadata"]["uid"], "it is the same pod")
    equal(lb.status()["ring"]["fingerprint"], before, "fingerprint of the ring")
    until(lambda: f"{new['status']['podIP']}:4317" in [entry["address"] for entry in lb.status()["members"] if entry["slots"] > 0],
          "its new address")


@suite.case()
def unready_pod():
    """A sampler that stops answering its probe leaves the ring, and comes back with it."""
    here = world()
    lb = here.main_lb()
    here.cluster.chaos("pause", f"{NAMESPACE}/sampler-2")
    try:
        wait_ring(lb, 2)
    finally:
        here.cluster.chaos("resume", f"{NAMESPACE}/sampler-2")
    wait_ring(lb, 3)


@suite.case()
def hostnames():
    """return_hostnames: pods are called by the names that the cluster's DNS knows."""
    here = world()
    lb = here.lb("lb-names", {"k8s": {"service": "sampler", "return_hostnames": True}})
    wait_ring(lb, 3)
    equal(sorted(entry["address"] for entry in lb.status()["members"]), [f"sampler-{i}.sampler.{NAMESPACE}:4317" for i in range(3)], "addresses")
    with Load(lb) as load:
        load.more(500)
    expect_delivered(load, 0)


@suite.case(timeout_s=480)
def server_away():
    """While the API server is stopped the ring stays and serves, and DNS stands in where it is told to; the server comes back without
    memory of any version, and the ring follows again."""
    here = world()
    lb = here.main_lb()
    second = here.lb("lb-dns", K8S, {"resolver_fallback": {"dns": {
        "hostname": f"_otlp-grpc._tcp.sampler.{NAMESPACE}.svc.cluster.local.", "interval": "1s"}}})
    wait_ring(lb, 3)
    wait_ring(second, 3)
    since = len(here.sink.calls())
    here.cluster.chaos("api-down", "-")
    try:
        until(lambda: lb.about()["failing"], "a failure on /status", 60)
        equal(lb.metrics().value("tailrace_lb_resolver_failing"), 1, "tailrace_lb_resolver_failing")
        until(lambda: second.about()["source"] == "dns", "DNS in place of the API server", 90, every_s=0.5)
        for balancer in (lb, second):
            with Load(balancer) as load:
                load.more(500)
            # DNS lists both addresses of each pod.
            equal(sorted(set(balancer.ring())), sampler_names(3), f"the ring of {balancer.name}")
            equal(load.refused, [], "refusals")
            expect_delivered(load, since)
    finally:
        here.cluster.api_server_returns()
    until(lambda: not lb.about()["failing"] and not second.about()["failing"], "the API server answers again", 90, every_s=0.5)
    equal(second.about()["source"], "k8s", "source")
    here.scale(2)
    wait_ring(lb, 2, 150)
    wait_ring(second, 2, 150)


@suite.case(timeout_s=480)
def service_gone():
    """Scaled to nothing, and then without the Service: the last ring stays, and both are said; what comes back is taken."""
    here = world()
    lb = here.main_lb(2)
    here.scale(0)
    try:  # the node may still pause for up to a minute after the outage of the case before
        until(lambda: failing(lb, "has no endpoint"), "a failure on /status", 150)
    except AssertionError as error:
        slices = here.get("endpointslices", "kubernetes.io/service-name=sampler")
        raise AssertionError(f"{error}\nresolver: {lb.about()}\npods: {sorted(here.pods('sampler'))}\n"
                             f"endpoints: {[one['endpoints'] for one in slices]}") from None
    last = lb.status()["ring"]
    check(1 <= last["members"] <= 2, f"the ring: {last}")  # with two steps it keeps who went last
    here.kubectl("delete", "service", "sampler")
    until(lambda: "has no EndpointSlice" in lb.about()["last_failure"], "that there is no slice", 150)
    equal(lb.status()["ring"], last, "the ring")
    here.apply(*sampler_objects(3, here.sink.address))
    wait_ring(lb, 3, 150)
    until(lambda: not lb.about()["failing"], "no failure any more")
    page = metrics.check_lb_books(lb)
    check(page.value("tailrace_lb_resolver_failing") == 0, "tailrace_lb_resolver_failing")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("kube: needs root, for namespaces and links\nkube: 0 passed, 1 failed, 0 skipped")
        sys.exit(1)
    in_own_namespaces()
    sys.exit(suite.main())
