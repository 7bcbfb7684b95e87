#!/usr/bin/env python3
"""The chart on a real control plane (tests/kube): every rendering is accepted by the API server, and one is installed, used,
changed, scaled, killed, rolled back and taken away, while a judge at the two ends of the wire looks at every trace (tests/kit/judged.py).

Needs root, and helm and kubectl on the path. The cases run one after the other on one cluster.
"""
import contextlib
import http.client
import json
import os
import pathlib
import sys
import threading
import time
import types
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import grpc

import chart
from chart import CHART, MATRIX, NAMESPACE, ROOT
from kit import judged, metrics, otlp
from kit.judged import POLICIES, faultless
from kit.kube import Cluster
from kit.proc import Stage
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


@suite.case()
def the_pages_pod_is_accepted():
    """The pod of docs/drain-journal.md is accepted likewise."""
    done = dry_run(json.dumps(chart.drain_pod()))
    check(done.returncode == 0 and "Warning" not in done.stderr, done.stdout + done.stderr)


# -- a release and its life ------------------------------------------------------------------------------


ALL = [{"name": "all", "type": "always_sample"}]
ERRORS = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]
WAIT_S, HANDOFF_S = 9, 20  # decision_wait and sampler.handoff.timeout
# On a busy machine samplers may take seconds to agree on a ring, not the second that they are given by default: a span that is taken before
# that may miss the decision of its trace. Less than the 5 s after which a balancer asks again.
PATIENCE = {"tailrace": {"cluster": {"ack_wait": "4s", "forward_timeout": "4s"}}}


def values(policies, **sampler):
    """A default install but for what the chart derives from: short waits and small, hasty pods, as three nodes stand on one machine.
    The judge knows samplers by a header. It calls a trace split when two samplers sent its spans; so nothing is kept early, which leaves
    spans that come after a verdict to whoever owns the trace by then."""
    small = {"resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
             "minReadySeconds": 2, "preStopSeconds": 2}
    handoff = {"timeout": f"{HANDOFF_S}s", **sampler.pop("handoff", {})}
    return json.dumps({
        "backend": {"endpoint": f"http://{cluster().gateway}:{state['sink'].port}", "headers": {"tailrace-node": "${env:POD_NAME}"}},
        "tailSampling": {"decision_wait": f"{WAIT_S}s", "policies": policies}, "lb": small,
        "sampler": {**small, "earlyKeep": False, "handoff": handoff, "config": PATIENCE, **sampler}})


def helm_upgrade(text):
    path = pathlib.Path(cluster().directory, "values.json")
    path.write_text(text, encoding="utf-8")
    patiently("helm", "upgrade", "--install", chart.RELEASE, CHART, "--namespace", NAMESPACE, "--values", path, "--wait", "--timeout", "150s")


def need_release(policies=tuple(ALL)):
    """The release that the cases share, made or changed by the first that asks for these policies."""
    if state.get("installed") != list(policies):
        change_policies(list(policies))
    wait_settled()


def change_policies(policies):
    """By helm; waits until every sampler has them."""
    before = {page["hash"] for page in config_pages().values()} if "installed" in state else set()
    helm_upgrade(values(policies))
    state["installed"] = policies
    until(lambda: one_hash() and one_hash() not in before, "the new policies on every sampler", 30, every_s=0.3)


def wait_settled():
    """Three samplers are ready, have one ring and have settled, and every balancer knows them."""
    cluster().wait_ready(NAMESPACE, "sampler", 3)

    def agreed():
        pages = [page["cluster"] for page in sampler_pages("status").values()]
        return (len(pages) == 3 and all(page["in_step"] and page["settled"] for page in pages) and
                len({page["ring"]["fingerprint"] for page in pages}) == 1 and
                all(sum(peer["in_ring"] for peer in page["peers"]) == 2 for page in pages))
    until(agreed, "three samplers that agree", 60, every_s=0.5)
    wait_ring(3)


def ask(pod, path):
    """A page of a pod's admin endpoint; None when the pod does not answer."""
    try:
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:13133/{path}", timeout=10) as answer:
            return answer.read().decode()
    except (KeyError, OSError, http.client.HTTPException):  # not there yet, or gone already
        return None


def sampler_pages(path):
    """Of each sampler that answers: pod name -> page."""
    pages = {pod["metadata"]["name"]: ask(pod, path) for pod in cluster().pods(NAMESPACE, "sampler")}
    read = metrics.Metrics if path == "metrics" else json.loads
    return {name: read(page) for name, page in pages.items() if page}


def config_pages():
    return {name: page["config"] for name, page in sampler_pages("status").items()}


def one_hash():
    """That of the configuration of all samplers, if it is one."""
    pages = config_pages()
    hashes = {page["hash"] for page in pages.values()}
    return hashes.pop() if len(pages) == len(cluster().pods(NAMESPACE, "sampler")) and len(hashes) == 1 else None


def total(name, **labels):
    return sum(page.value(name, **labels) for page in sampler_pages("metrics").values())


def restarts():
    """What a restart would change: each sampler's UID and how often its container was started again."""
    return {pod["metadata"]["name"]: (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
            for pod in cluster().pods(NAMESPACE, "sampler")}


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
    pages = [ask(pod, "metrics") for pod in pods or cluster().pods(NAMESPACE, "lb")]
    return [metrics.Metrics(page).value("otelcol_loadbalancer_num_backends") for page in pages if page]


def wait_ring(count):
    until(lambda: set(ring_sizes()) == {count}, f"{count} samplers in every balancer's ring", 60, every_s=0.5)


RATE, TRACE_SPANS = 2000, 15  # spans a second that tailrace-load sends, and of one trace


@contextlib.contextmanager
def judging(rule=judged.RULE, spread_ms=1000):
    """tailrace-load sends through the service while the block runs. Then the load ends, what is held finds its end, and tailrace-sink, which
    took the place of the backend, judges: `verdict` of what is yielded. Nobody may have been told that a span was not taken for good."""
    state["sink"].stop()
    state["seed"] = state.get("seed", judged.SEED) + 1  # traces that no sampler remembers
    try:
        with Stage() as stage:
            sink = judged.Sink(stage, host=cluster().gateway, port=state["sink"].port)
            load = judged.Load(stage, [types.SimpleNamespace(address=lb_address())], "--rate", str(RATE), "--spans-per-trace", str(TRACE_SPANS),
                               "--spread-ms", str(spread_ms), "--seconds", "1000", "--retry-seconds", "120", "--drain-seconds", "120", "--deadline-ms", "6000",
                               "--resend-percent", "2", "--resend-delay-ms", "700", seed=state["seed"])
            until(lambda: total("tailrace_spans_held") > RATE, "load", 30, every_s=0.3)
            yield load
            check(load.running(), "the load lasted as long as the case")
            done = load.end()
            equal(done["spans_failed"] + done["spans_rejected"], 0, "spans not acknowledged")
            until(lambda: total("tailrace_spans_held") == 0, "nothing held", 90, every_s=0.5)
            sink.end()
            load.verdict = judged.judge(stage, load.ledger, sink.arrivals, rule)
            check(load.verdict["whole"] > 0 and load.verdict["rightly_dropped"] > 0 or rule == "all", load.verdict["text"])
    finally:
        state["sink"].start()


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
        until(lambda: len(load.acknowledged) > 100, "100 spans were acknowledged", 60)
    expect_arrived(load.acknowledged, "a rollout of balancers")


def at_most(verdict, word, most, why):
    check(verdict[word] <= most, f"{word}: {verdict[word]}, at most {most} may be: {why} ({verdict['text']})")


def crashed(verdict, crashes):
    """No fault but that spans whose export was under way at a crash may go out again: its answer was not known."""
    faultless(verdict, but=("doubled",))
    at_most(verdict, "doubled", crashes * RATE, f"{crashes} crashes")


def scale_under_load(**options):
    """Samplers 3, 5, 2, 3; returns the judgement."""
    with judging(**options) as load:
        for count in (5, 2, 3):
            cluster().kubectl("-n", NAMESPACE, "scale", "statefulset/tr-tailrace-sampler", f"--replicas={count}")
            cluster().wait_ready(NAMESPACE, "sampler", count)
            wait_ring(count)
            until(lambda count=count: len(cluster().pods(NAMESPACE, "sampler")) == count, "samplers that went have ended", 90, every_s=0.5)
            time.sleep(1)
    return load.verdict


@suite.case()
def scaling_splits_and_loses_nothing():
    """Samplers 3, 5, 2, 3 under load: rings and traces follow, and every trace has the one fate that a single node would have given it."""
    need_release(POLICIES)
    faultless(scale_under_load())
    check(total("tailrace_spans_taken_over_total") > 0, "no trace moved")


@suite.case()
def deleted_and_killed_samplers_return_with_their_traces():
    """A sampler killed, a pod deleted without grace and one with: each returns with its volume, and nothing is split or lost."""
    need_release(POLICIES)
    with judging() as load:
        cluster().chaos("kill", f"{NAMESPACE}/tr-tailrace-sampler-1")
        time.sleep(3)
        wait_settled()
        cluster().kubectl("-n", NAMESPACE, "delete", "pod", "tr-tailrace-sampler-0", "--grace-period=0", "--force")
        time.sleep(3)
        wait_settled()
        cluster().kubectl("-n", NAMESPACE, "delete", "pod", "tr-tailrace-sampler-2", timeout_s=90)
        wait_settled()
    crashed(load.verdict, 2)


@suite.case()
def samplers_roll_without_a_split():
    """While samplers are replaced one after the other under load, nothing is split, lost or doubled."""
    need_release(POLICIES)
    with judging() as load:
        cluster().kubectl("-n", NAMESPACE, "rollout", "restart", "statefulset/tr-tailrace-sampler")
        rollout("statefulset/tr-tailrace-sampler")
        wait_settled()
    faultless(load.verdict)


def node_of(number):
    """Where that sampler is."""
    return next(pod["spec"]["nodeName"] for pod in cluster().pods(NAMESPACE, "sampler") if pod["metadata"]["name"].endswith(f"-{number}"))


@contextlib.contextmanager
def ready_again(node):
    """The node is up after the block, however that ends, and its samplers are back."""
    try:
        yield
    finally:
        cluster().chaos("node-up", node)
    time.sleep(3)
    wait_settled()


@suite.case()
def a_node_may_go_and_come_back():
    """A node dies with its pods and returns within handoff_timeout: nothing is split or lost."""
    need_release(POLICIES)
    node = node_of(2)
    with judging() as load:
        with ready_again(node):
            cluster().chaos("node-down", node)
            time.sleep(5)
    crashed(load.verdict, 1)


@suite.case()
def a_node_that_is_away_for_longer_loses_nothing():
    """A node away for longer than handoff_timeout: others take its place; when it returns with its volumes no acknowledged span is lost, and
    only traces that it held when it went may have been decided apart."""
    need_release(ALL)
    node = node_of(2)
    with judging("all") as load, ready_again(node):
        time.sleep(3)
        cluster().chaos("node-down", node)
        stay = [pod for pod in cluster().pods(NAMESPACE, "sampler") if pod["spec"]["nodeName"] != node]

        def went_on():
            pages = [ask(pod, "status") for pod in stay]
            return all(page and json.loads(page)["cluster"]["ring"]["members"] == len(stay) for page in pages)
        check(stay, "no sampler is left")
        check(not went_on(), "the ring changes with a crash")
        until(went_on, "the others go on without it", HANDOFF_S + 40, every_s=0.5)
        time.sleep(3)
    # Promised whatever happens, with journals on volumes that come back: lost nothing, decided everything. The rest holds for traces
    # that nobody held who was away for longer than handoff_timeout, which are those that began after it went.
    faultless(load.verdict, but=("split", "doubled"))
    open_then = RATE // TRACE_SPANS * (WAIT_S + 2)
    at_most(load.verdict, "split", open_then, "traces that were open when the node went")
    at_most(load.verdict, "doubled", RATE, "under way when the node went, or sent twice around that time")


# -- policies ---------------------------------------------------------------------------------------------


def edit_policies(policies):
    """As kubectl edit does it: only the ConfigMap changes."""
    data = cluster().get("--namespace", NAMESPACE, "configmap", "tr-tailrace-policies")["data"]
    config = chart.yaml.safe_load(data["policies.yaml"])
    config["processors"]["tail_sampling"]["policies"] = policies
    cluster().kubectl("-n", NAMESPACE, "patch", "configmap", "tr-tailrace-policies", "--type=merge", "--patch-file=/dev/stdin",
                      stdin=json.dumps({"data": {"policies.yaml": json.dumps(config)}}))


def credited(policy):
    """What each sampler counts as kept by this policy; 0 where none is called so."""
    return {name: sum(value for cell, labels, value in page.cells if cell == "tailrace_traces_credited_total" and labels["policy"] == policy)
            for name, page in sampler_pages("metrics").items()}


def wait_config(condition, what):
    """Its pages, once every sampler's is so. A kubelet renews a volume in its own time (here 1 s), a sampler reads it within seconds of that."""
    def so():
        pages = config_pages()
        return pages if len(pages) == 3 and all(condition(page) for page in pages.values()) else None
    return until(so, what, 30, every_s=0.2)


RENAMED = [{**policy, "name": policy["name"] + "-renamed"} for policy in reversed(POLICIES)]
UNREADABLE = [*POLICIES, {"name": "cart", "type": "ottl_condition", "ottl_condition": {"span": ["attributes[ > 5"]}}]


@suite.case()
def edited_policies_are_live():
    """Under load, policies edited in the ConfigMap decide on every sampler within seconds, without a restart and without a fault of any
    trace; an edit that cannot be read changes nothing and says why; helm puts back what values say."""
    need_release(POLICIES)
    pods, before, hash_before = restarts(), config_pages(), one_hash()
    with judging() as load:
        edit_policies(RENAMED)
        live = wait_config(lambda page: page["hash"] != hash_before, "edited policies are in force")
        equal([page["last"]["changed"] for page in live.values()], [["processors.tail_sampling.policies"]] * 3, "what changed")
        equal({name: page["generation"] - before[name]["generation"] for name, page in live.items()}, {name: 1 for name in before}, "generations")
        equal(len({page["hash"] for page in live.values()}), 1, "hashes")
        until(lambda: all(count > 0 for count in credited("errors-renamed").values()), "the edited policies decide, on every sampler", 30, every_s=0.5)

        edit_policies(UNREADABLE)
        refused = wait_config(lambda page: page["last"]["outcome"] == "refused", "the broken edit is refused")
        check(all("attributes[ > 5" in json.dumps(page["last"]["errors"]) for page in refused.values()), f"{refused}")
        equal({name: (page["generation"], page["hash"]) for name, page in refused.items()},
              {name: (page["generation"], page["hash"]) for name, page in live.items()}, "what is in force")
        equal(total("tailrace_config_last_reload_successful"), 0, "samplers whose files are well")
        count = credited("errors-renamed")
        until(lambda: all(now > count[name] for name, now in credited("errors-renamed").items()), "the policies before go on", 40, every_s=0.5)

        # Helm sees no difference between old and new values, and yet mends the ConfigMap.
        helm_upgrade(values(POLICIES))
        wait_config(lambda page: page["last"]["outcome"] == "applied" and not page["last"]["errors"], "the values' policies are back")
        equal(total("tailrace_config_last_reload_successful"), 3, "samplers whose files are well")
        equal(one_hash(), hash_before, "hash of the same files")
    faultless(load.verdict)
    equal(restarts(), pods, "pods, and restarts of their containers")


@suite.case()
def a_change_of_policies_takes_effect():
    """helm upgrade with other policies: samplers decide by the new ones without a restart, and helm rollback brings the old back."""
    need_release(ALL)
    pods = restarts()
    before = int(cluster().run(["helm", "history", chart.RELEASE, "-n", NAMESPACE, "-o", "json"]).count('"revision"'))
    old = one_hash()
    change_policies(ERRORS)
    with Load() as good, Load(error=True) as bad:
        good.send(20)
        bad.send(20)
    expect_arrived(bad.acknowledged, "traces with errors")
    time.sleep(4)  # those with errors are there: WAIT_S is over
    equal([key for key in arrived() if key in good.acknowledged], [], "traces without errors at the backend")
    patiently("helm", "rollback", chart.RELEASE, str(before), "--namespace", NAMESPACE, "--wait", "--timeout", "150s")
    state["installed"] = ALL
    until(lambda: one_hash() == old, "the policies before", 30, every_s=0.3)
    with Load() as load:
        load.send(20)
    expect_arrived(load.acknowledged, "after the rollback")
    equal(restarts(), pods, "pods, and restarts of their containers")


@suite.case()
def a_broken_policy_stops_at_one_pod():
    """Where policies roll the samplers, those that no program can read get no further than one, which says why; the others keep what they
    have, spans pass, and rollback mends it."""
    need_release(ALL)
    path = pathlib.Path(cluster().directory, "broken.json")
    path.write_text(values(UNREADABLE, rolloutOnPolicyChange=True), encoding="utf-8")
    cluster().helm("upgrade", chart.RELEASE, CHART, "--namespace", NAMESPACE, "--values", path)
    last = "tr-tailrace-sampler-2"  # the highest number goes first
    until(lambda: "attributes[ > 5" in cluster().process(["kubectl", "-n", NAMESPACE, "logs", last]).stdout, "its reason in the log", 60, every_s=0.5)
    equal(cluster().ready(NAMESPACE, "sampler"), ["tr-tailrace-sampler-0", "tr-tailrace-sampler-1"], "samplers that go on")
    with Load() as load:
        load.send(20)
    expect_arrived(load.acknowledged, "beside a sampler that does not start")
    patiently("helm", "rollback", chart.RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "150s")
    wait_settled()
    equal(total("tailrace_config_last_reload_successful"), 3, "samplers whose files are well")


@suite.case()
def the_api_server_may_be_away():
    """While the API server is stopped and after, spans pass and rings stay."""
    need_release()
    with Load() as load:
        pods = cluster().pods(NAMESPACE, "lb")
        cluster().chaos("api-down", "-")
        time.sleep(5)
        sizes = ring_sizes(pods)
        cluster().api_server_returns()
    equal(sizes, [3, 3], "rings while the API server is away")
    expect_arrived(load.acknowledged, "without an API server")
    equal(load.refusals, 0, "refusals")
    wait_ring(3)


@suite.case()
def uninstall_leaves_nothing():
    """helm uninstall ends every pod in order and leaves nothing behind but the journals' volumes."""
    need_release(state.get("installed", ALL))
    cluster().run(["helm", "uninstall", chart.RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"], timeout_s=150)
    until(lambda: not cluster().get("--namespace", NAMESPACE, "pods")["items"], "every pod has ended", 90, every_s=0.5)
    kinds = "deployments,statefulsets,services,configmaps,serviceaccounts,poddisruptionbudgets,roles,rolebindings"
    left = cluster().kubectl("-n", NAMESPACE, "get", kinds, "-l", f"app.kubernetes.io/instance={chart.RELEASE}", "-o", "name")
    equal(left.strip(), "", "left behind")
    claims = cluster().get("--namespace", NAMESPACE, "persistentvolumeclaims")["items"]
    check({claim["metadata"]["name"] for claim in claims} >= {f"journal-tr-tailrace-sampler-{number}" for number in range(3)}, f"{claims}")
    del state["installed"]


@suite.case()
def without_handoff_scaling_splits_traces():
    """The case of scaling can fail: with sampler.handoff.enabled=false the same changes split traces, and the judge finds them."""
    helm_upgrade(values(POLICIES, handoff={"enabled": False}))
    wait_ring(3)
    verdict = scale_under_load(spread_ms=4000)  # of a second's there are ten, and in a rare run none
    print(f"{verdict['split']} split ", end="", flush=True)
    check(verdict["split"] > 0 and not verdict["good"], f"no split was found: {verdict['text']}")


if __name__ == "__main__":
    try:
        sys.exit(suite.main())
    finally:
        if "cluster" in state:
            state["sink"].stop()
            state["cluster"].__exit__(None, None, None)
