#!/usr/bin/env python3
"""The chart on a real control plane (tests/kube): every rendering is accepted by the API server, and one is installed, used,
changed, scaled, rolled back and taken away.

Needs root, and helm and kubectl on the path. The cases run one after the other on one cluster.
"""
import json
import os
import pathlib
import sys
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import grpc

import chart
from chart import CHART, MATRIX, NAMESPACE, ROOT
from kit import metrics, otlp
from kit.kube import Cluster
from kit.suite import Suite, check, equal, until

suite = Suite("helm_cluster", timeout_s=240)

OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
RESTRICTED = """
apiVersion: v1
kind: Namespace
metadata:
  name: NAME
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
"""
state = {}


def cluster():
    """Started by the first case that asks for it."""
    if "cluster" not in state:
        state["cluster"] = Cluster(KUBE_DNS_TTL="5").__enter__()
        sink = state["sink"] = otlp.Sink()
        sink.host = state["cluster"].gateway
        sink.start()
        for name in (NAMESPACE, "observability", "tailrace"):
            state["cluster"].kubectl("apply", "-f", "-", stdin=RESTRICTED.replace("NAME", name))
    return state["cluster"]


# -- what the API server says --------------------------------------------------------------------------


@suite.case()
def the_operators_kinds_are_known():
    """The API server learns ServiceMonitor and PrometheusRule from the operator's own definitions."""
    module = json.loads(chart.must("go", "mod", "download", "-json", OPERATOR, timeout_s=200))
    for name in ("servicemonitors", "prometheusrules"):
        cluster().kubectl("apply", "--server-side", "-f", f"{module['Dir']}/example/prometheus-operator-crd/monitoring.coreos.com_{name}.yaml")
    cluster().kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def dry_run(text):
    """Strict, on the server: unknown fields, wrong types, values out of range, pods below the restricted level."""
    return cluster().process(["kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-"], stdin=text)


@suite.case(*MATRIX)
def the_api_server_accepts(name):
    """Each entry of the matrix is accepted as it is, without a warning, in a namespace of the level restricted."""
    done = dry_run(chart.text_of(name))
    check(done.returncode == 0 and "Warning" not in done.stderr, done.stdout[-500:] + done.stderr)
    check(len(done.stdout.splitlines()) == len(chart.objects(chart.text_of(name))), done.stdout)


@suite.case()
def the_api_server_would_say():
    """The case above can fail: an unknown field and a pod that may become root are told apart from what is right."""
    text = chart.text_of("default-values.yaml")
    done = dry_run(text.replace("podManagementPolicy:", "podManagmentPolicy:"))
    check(done.returncode != 0 and 'unknown field "spec.podManagmentPolicy"' in done.stderr, done.stderr)
    done = dry_run(text.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"))
    check("Warning: would violate PodSecurity" in done.stderr, done.stderr)


@suite.case("base", "overlays/example")
def the_plain_manifests_are_accepted(part):
    """What kubectl kustomize makes of deploy/kustomize is accepted likewise."""
    done = dry_run(chart.must("kubectl", "kustomize", ROOT / "deploy/kustomize" / part))
    check(done.returncode == 0 and "Warning" not in done.stderr, done.stdout[-500:] + done.stderr)


# -- a release and its life ------------------------------------------------------------------------------


ALL = [{"name": "all", "type": "always_sample"}]
ERRORS = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]


def values(policies, **sampler):
    """A default install but for what the chart derives from: a short wait and small, hasty pods, as three nodes stand on one machine."""
    small = {"resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
             "minReadySeconds": 2, "preStopSeconds": 2}
    return json.dumps({
        "backend": {"endpoint": f"http://{cluster().gateway}:{state['sink'].port}"},
        "tailSampling": {"decision_wait": "6s", "policies": policies}, "lb": small, "sampler": {**small, **sampler}})


def helm_upgrade(text):
    path = pathlib.Path(cluster().directory, "values.json")
    path.write_text(text, encoding="utf-8")
    patiently("helm", "upgrade", "--install", chart.RELEASE, CHART, "--namespace", NAMESPACE, "--values", path, "--wait", "--timeout", "150s")


def need_release(policies=tuple(ALL)):
    """The release that the cases share, made or changed by the first that asks for these policies."""
    if state.get("installed") != list(policies):
        helm_upgrade(values(list(policies)))
        state["installed"] = list(policies)
    wait_settled()


def wait_settled():
    """Three samplers are ready and in step, and every balancer knows them."""
    cluster().wait_ready(NAMESPACE, "sampler", 3)
    wait_ring(3)


def patiently(*argv):
    """A command that waits for pods; when they do not come, what they say is shown."""
    try:
        return cluster().run(argv, timeout_s=180)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{cluster().explain(NAMESPACE)}") from None


def rollout(kind):
    patiently("kubectl", "-n", NAMESPACE, "rollout", "status", kind, "--timeout=150s")


def lb_address():
    return cluster().get("--namespace", NAMESPACE, "service", "tr-tailrace-lb")["spec"]["clusterIP"] + ":4317"


def ring_sizes(pods=None):
    """Members in the ring of each balancer that answers."""
    sizes = []
    for pod in pods or cluster().pods(NAMESPACE, "lb"):
        try:
            with urllib.request.urlopen(f"http://{pod['status']['podIP']}:13133/metrics", timeout=10) as answer:
                sizes.append(metrics.Metrics(answer.read().decode()).value("otelcol_loadbalancer_num_backends"))
        except (KeyError, OSError):  # not there yet, or gone already
            continue
    return sizes


def wait_ring(count):
    until(lambda: set(ring_sizes()) == {count}, f"{count} samplers in every balancer's ring", 60, every_s=0.5)


class Load:
    """Clients that send traces of three spans in three requests, and send again what was not acknowledged, as SDKs do."""

    def __init__(self, pause_s=0.05, error=False, between_s=0.0, threads=1):
        """between_s: from one span of a trace to the next."""
        self.pause_s = pause_s
        self.error = error
        self.between_s = between_s
        self.acknowledged = set()  # (trace ID, span ID)
        self.refusals = 0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def __enter__(self):
        self.address = lb_address()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)

    def run(self):
        while not self.stopped.is_set():
            self.send(1)
            self.stopped.wait(self.pause_s)

    def send(self, traces):
        ids = [otlp.trace_id() for _ in range(traces)]
        for number in range(3):
            time.sleep(self.between_s if number else 0)
            request = otlp.request_of(ids, error=self.error)
            while not self.deliver(request):
                self.refusals += 1
                time.sleep(0.2)
            self.acknowledged.update((item.span.trace_id, item.span.span_id) for item in otlp.flatten(request))
        return self

    def deliver(self, request):
        # A connection each: the service's listener spreads connections over balancers, not calls.
        with otlp.Client(self.address) as client:
            return client.export(request, timeout_s=10).code is grpc.StatusCode.OK


def arrived():
    return [(item.span.trace_id, item.span.span_id) for item in state["sink"].spans()]


def expect_arrived(wanted, what, doubled=0):
    """Every span arrives; none more often than once, unless doubled is None."""
    wanted = set(wanted)
    until(lambda: wanted <= set(arrived()), f"{what}: every acknowledged span at the backend", 60, every_s=0.3)
    if doubled is not None:
        equal(len([key for key in arrived() if key in wanted]) - len(wanted), doubled, f"{what}: doubled spans")


@suite.case()
def a_default_install_works():
    """With the backend's endpoint, helm install gives ready pods, helm test passes, and spans pass whole."""
    need_release()
    equal((len(cluster().ready(NAMESPACE, "lb")), len(cluster().ready(NAMESPACE, "sampler"))), (2, 3), "pods that are ready")
    done = cluster().process(["helm", "test", chart.RELEASE, "--namespace", NAMESPACE, "--timeout", "90s"], timeout_s=120)
    check(done.returncode == 0 and "Succeeded" in done.stdout, done.stdout + done.stderr + cluster().explain(NAMESPACE))
    with Load() as load:
        load.send(200)
    expect_arrived(load.acknowledged, "a default install")
    equal(load.refusals, 0, "refusals")


@suite.case()
def balancers_roll_without_a_loss():
    """While balancers are replaced under load, each acknowledged span arrives, once."""
    need_release()
    with Load() as load:
        patiently("kubectl", "-n", NAMESPACE, "rollout", "restart", "deployment/tr-tailrace-lb")
        rollout("deployment/tr-tailrace-lb")
    check(len(load.acknowledged) > 100, f"{len(load.acknowledged)} spans were sent")
    expect_arrived(load.acknowledged, "a rollout of balancers")


# Kept only if one sampler sees all three spans of a trace: what is split is lost.
WHOLE = [{"name": "whole", "type": "span_count", "span_count": {"min_spans": 3}}]


@suite.case()
def scaling_splits_and_loses_nothing():
    """Samplers 3, 5, 2, 3 under load: rings follow, and each acknowledged span of a trace that is kept only whole arrives, once."""
    need_release(WHOLE)
    with Load(between_s=0.7, threads=16) as load:
        for count in (5, 2):
            cluster().kubectl("-n", NAMESPACE, "scale", "statefulset/tr-tailrace-sampler", f"--replicas={count}")
            cluster().wait_ready(NAMESPACE, "sampler", count)
            wait_ring(count)
        until(lambda: len(cluster().pods(NAMESPACE, "sampler")) == 2, "samplers that went have ended", 90, every_s=0.5)
        cluster().kubectl("-n", NAMESPACE, "scale", "statefulset/tr-tailrace-sampler", "--replicas=3")
        wait_ring(3)
    check(len(load.acknowledged) > 100, f"{len(load.acknowledged)} spans were sent")
    expect_arrived(load.acknowledged, "scaling")


@suite.case()
def a_killed_sampler_returns_with_its_traces():
    """A sampler is killed under load, and a pod deleted without grace: each comes back with its volume, and nothing is split, lost or doubled."""
    need_release(WHOLE)
    with Load(between_s=0.7, threads=16) as load:
        time.sleep(1.5)
        cluster().chaos("kill", f"{NAMESPACE}/tr-tailrace-sampler-1")
        time.sleep(3)
        wait_settled()
        cluster().kubectl("-n", NAMESPACE, "delete", "pod", "tr-tailrace-sampler-0", "--grace-period=0", "--force")
        time.sleep(3)
        wait_settled()
    check(len(load.acknowledged) > 100, f"{len(load.acknowledged)} spans were sent")
    expect_arrived(load.acknowledged, "samplers that were killed")


@suite.case()
def samplers_roll_without_a_split():
    """While samplers are replaced one after the other under load, nothing is split, lost or doubled."""
    need_release(WHOLE)
    with Load(between_s=0.7, threads=16) as load:
        cluster().kubectl("-n", NAMESPACE, "rollout", "restart", "statefulset/tr-tailrace-sampler")
        rollout("statefulset/tr-tailrace-sampler")
        wait_settled()
    expect_arrived(load.acknowledged, "a rollout of samplers")


@suite.case()
def a_node_may_go_and_come_back():
    """A node dies with its pods and returns within handoff_timeout: nothing is split, lost or doubled."""
    need_release(WHOLE)
    node = next(pod["spec"]["nodeName"] for pod in cluster().pods(NAMESPACE, "sampler") if pod["metadata"]["name"].endswith("-2"))
    with Load(between_s=0.7, threads=16) as load:
        time.sleep(1.5)
        cluster().chaos("node-down", node)
        time.sleep(5)
        cluster().chaos("node-up", node)
        time.sleep(3)
        wait_settled()
    expect_arrived(load.acknowledged, "a node that went and came back")


@suite.case()
def a_change_of_policies_takes_effect():
    """helm upgrade with other policies: the samplers roll, decide by the new ones, and helm rollback brings the old back."""
    need_release()
    before = int(cluster().run(["helm", "history", chart.RELEASE, "-n", NAMESPACE, "-o", "json"]).count('"revision"'))
    helm_upgrade(values(ERRORS))
    wait_settled()
    with Load() as good, Load(error=True) as bad:
        good.send(20)
        bad.send(20)
    expect_arrived(bad.acknowledged, "traces with errors")
    time.sleep(10)  # well over decision_wait
    equal([key for key in arrived() if key in good.acknowledged], [], "traces without errors at the backend")
    patiently("helm", "rollback", chart.RELEASE, str(before), "--namespace", NAMESPACE, "--wait", "--timeout", "150s")
    wait_ring(3)
    with Load() as load:
        load.send(20)
    expect_arrived(load.acknowledged, "after the rollback")


@suite.case()
def a_broken_policy_stops_at_one_pod():
    """Policies that no program can read get no further than one sampler, which says why; spans pass, and rollback mends it."""
    need_release()
    broken = json.loads(values(ALL))
    broken["tailSampling"]["policies"] = [{"name": "cart", "type": "ottl_condition", "ottl_condition": {"span": ["attributes[ > 5"]}}]
    path = pathlib.Path(cluster().directory, "broken.json")
    path.write_text(json.dumps(broken), encoding="utf-8")
    cluster().helm("upgrade", chart.RELEASE, CHART, "--namespace", NAMESPACE, "--values", path)
    last = "tr-tailrace-sampler-2"  # the highest number goes first
    until(lambda: "attributes[ > 5" in cluster().process(["kubectl", "-n", NAMESPACE, "logs", last]).stdout, "its reason in the log", 60, every_s=0.5)
    equal(cluster().ready(NAMESPACE, "sampler"), ["tr-tailrace-sampler-0", "tr-tailrace-sampler-1"], "samplers that go on")
    with Load() as load:
        load.send(20)
    expect_arrived(load.acknowledged, "beside a sampler that does not start")
    patiently("helm", "rollback", chart.RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "150s")
    cluster().wait_ready(NAMESPACE, "sampler", 3)


@suite.case()
def the_api_server_may_be_away():
    """While the API server is stopped and after, spans pass and rings stay."""
    need_release()
    with Load() as load:
        pods = cluster().pods(NAMESPACE, "lb")
        cluster().chaos("api-down", "-")
        time.sleep(5)
        sizes = ring_sizes(pods)
        cluster().chaos("api-up", "-")
        until(lambda: cluster().process(["kubectl", "get", "--raw", "/readyz"]).returncode == 0, "the API server is back", 60, every_s=0.3)
    equal(sizes, [3, 3], "rings while the API server is away")
    expect_arrived(load.acknowledged, "without an API server")
    equal(load.refusals, 0, "refusals")
    wait_ring(3)


@suite.case()
def uninstall_leaves_nothing():
    """helm uninstall ends every pod in order and leaves nothing behind but the journals' volumes."""
    need_release()
    cluster().run(["helm", "uninstall", chart.RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"], timeout_s=150)
    until(lambda: not cluster().get("--namespace", NAMESPACE, "pods")["items"], "every pod has ended", 90, every_s=0.5)
    kinds = "deployments,statefulsets,services,configmaps,serviceaccounts,poddisruptionbudgets,roles,rolebindings"
    left = cluster().kubectl("-n", NAMESPACE, "get", kinds, "-l", f"app.kubernetes.io/instance={chart.RELEASE}", "-o", "name")
    equal(left.strip(), "", "left behind")
    claims = cluster().get("--namespace", NAMESPACE, "persistentvolumeclaims")["items"]
    check({claim["metadata"]["name"] for claim in claims} >= {f"journal-tr-tailrace-sampler-{number}" for number in range(3)}, f"{claims}")


if __name__ == "__main__":
    try:
        sys.exit(suite.main())
    finally:
        if "cluster" in state:
            state["sink"].stop()
            state["cluster"].__exit__(None, None, None)
