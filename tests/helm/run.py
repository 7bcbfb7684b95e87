#!/usr/bin/env python3
"""The chart and deploy/, as far as no cluster is needed: what renders, what is refused, and whether the programs take it.

Needs helm and kubectl on the path (tests/kube/kube-build), promtool and prometheus (TAILRACE_PROMETHEUS, a folder with both).
"""
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import chart
from chart import CHART, MATRIX, ROOT, command, config_of, must, of_kind, one, render, template, yaml
from kit import certs, otlp, proc
from kit.proc import Stage, free_port
from kit.suite import Suite, check, equal, until

suite = Suite("helm")


# -- rendering ------------------------------------------------------------------------------------------


@suite.case(*MATRIX)
def lint(name):
    """helm lint finds nothing, not even a hint, in any entry of the matrix."""
    done = command("helm", "lint", "--strict", "--quiet", CHART, "--values", CHART / "ci" / name)
    check(done.returncode == 0 and not re.search(r"\[(WARNING|ERROR)\]", done.stdout), done.stdout + done.stderr)


def secrets():
    """What pods of the matrix mount."""
    authority = certs.Authority("test")
    server = authority.sign("samplers", ["samplers"])
    pair = {"tls.crt": server.cert_pem, "tls.key": server.key_pem, "ca.crt": authority.cert_pem}
    return {"tiers": pair, "clients": pair, "admin": {"token": b"secret"}}


@suite.case(*MATRIX)
def programs_take_it(name):
    """What the chart makes is accepted by --check of the program that will read it, without a warning."""
    items = chart.objects(chart.text_of(name))
    for workload in of_kind(items, "Deployment") + of_kind(items, "StatefulSet"):
        with tempfile.TemporaryDirectory() as directory:
            pod = chart.Pod(items, workload, directory, secrets())
            done = command(*pod.argv(proc.BUILD), "--check", env=pod.env())
            text = done.stdout + done.stderr
            check(done.returncode == 0, f"{workload['kind']}: {text}")
            check("warning: " not in text, f"{workload['kind']}: {text}")


@suite.case("10.1.2.3", "fd00::5")
def pods_have_an_address_of_either_family(ip):
    """What the chart makes of a pod's address is one that other samplers can call, in a cluster of IPv4 and of IPv6."""
    items = render("--set", "bindAddress=[::]")
    for kind in ("Deployment", "StatefulSet"):
        with tempfile.TemporaryDirectory() as directory:
            pod = chart.Pod(items, one(items, kind), directory, {})
            done = command(*pod.argv(proc.BUILD), "--check", env=pod.env(ip))
        check(done.returncode == 0, f"{kind}: {done.stderr}")


@suite.case()
def a_key_the_programs_refuse_is_seen():
    """The case above can fail: a wrong key in `config` passes the chart and is refused by the program, by its path."""
    items = render("--set", "lb.config.tailrace.workerz=2")
    with tempfile.TemporaryDirectory() as directory:
        pod = chart.Pod(items, one(items, "Deployment"), directory, {})
        done = command(*pod.argv(proc.BUILD), "--check", env=pod.env())
    check(done.returncode == 1 and "tailrace.workerz" in done.stderr, f"{done.returncode} {done.stderr}")


@suite.case(*MATRIX)
def objects_are_well_formed(name):
    """Labels, selectors and references of each rendering fit together."""
    items = chart.objects(chart.text_of(name))
    names = {(item["kind"], item["metadata"]["name"]) for item in items}
    for item in items:
        what = f"{item['kind']} {item['metadata']['name']}"
        check(len(item["metadata"]["name"]) <= 63, what)
        equal(item["metadata"]["namespace"], chart.NAMESPACE, f"namespace of {what}")
        if not item["metadata"]["name"].endswith("-extra"):  # as values have it
            equal(item["metadata"]["labels"]["app.kubernetes.io/instance"], chart.RELEASE, what)
    for workload in of_kind(items, "Deployment") + of_kind(items, "StatefulSet"):
        template_labels = workload["spec"]["template"]["metadata"]["labels"]
        selector = workload["spec"]["selector"]["matchLabels"]
        check(selector.items() <= template_labels.items(), f"{workload['metadata']['name']} does not select its own pods")
        check(not any(key in selector for key in ("app.kubernetes.io/version", "helm.sh/chart")), "a version in an immutable selector")
        check("helm.sh/chart" not in template_labels, "a new version of the chart alone rolls the pods")
        spec = workload["spec"]["template"]["spec"]
        for volume in spec["volumes"]:
            if "configMap" in volume:
                check(("ConfigMap", volume["configMap"]["name"]) in names, f"no ConfigMap {volume['configMap']['name']}")
        check(spec["securityContext"]["runAsNonRoot"] is True, "pods run as root")
    for account in (workload["spec"]["template"]["spec"]["serviceAccountName"]
                    for workload in of_kind(items, "Deployment") + of_kind(items, "StatefulSet")):
        check(account == "default" or ("ServiceAccount", account) in names, f"no service account {account}")


@suite.case()
def services_select_one_tier():
    """The service of a tier selects its pods and no others; the one for metrics both; none the pod of helm test."""
    items = render()
    labels = {item["kind"]: item["spec"]["template"]["metadata"]["labels"]
              for item in of_kind(items, "Deployment") + of_kind(items, "StatefulSet")}
    labels["Pod"] = one(items, "Pod")["metadata"]["labels"]
    got = {item["metadata"]["name"]: sorted(kind for kind, given in labels.items() if item["spec"]["selector"].items() <= given.items())
           for item in of_kind(items, "Service")}
    equal(got, {"tr-tailrace-lb": ["Deployment"], "tr-tailrace-sampler": ["StatefulSet"],
                "tr-tailrace-metrics": ["Deployment", "StatefulSet"]}, "who is selected")
    check(one(items, "Service", "-sampler")["spec"]["clusterIP"] == "None", "the samplers' service is not headless")
    equal(one(items, "StatefulSet")["spec"]["serviceName"], "tr-tailrace-sampler", "serviceName")


@suite.case()
def names_fit_labels():
    """With the longest release name, the StatefulSet's name leaves room for the controller's hash in a label of 63 characters."""
    done = template(*chart.BACKEND, release="r" * 53)
    equal(done.returncode, 0, done.stderr)
    items = chart.objects(done.stdout)
    check(len(one(items, "StatefulSet")["metadata"]["name"]) <= 52, "the StatefulSet's name is too long")
    check(all(len(item["metadata"]["name"]) <= 63 for item in items), "a name is too long")


def notes(*options):
    """What helm install says at its end, on one line. Helm renders it for a cluster only: a copy of the chart has it in an object."""
    with tempfile.TemporaryDirectory() as directory:
        copy = shutil.copytree(CHART, pathlib.Path(directory, "tailrace"))
        shutil.move(copy / "templates/NOTES.txt", copy / "notes")
        (copy / "templates/notes.yaml").write_text('kind: Notes\ntext: {{ tpl (.Files.Get "notes") . | quote }}\n', encoding="utf-8")
        made = must("helm", "template", chart.RELEASE, copy, "--namespace", chart.NAMESPACE, "--show-only", "templates/notes.yaml", *chart.BACKEND, *options)
    return " ".join(chart.objects(made)[0]["text"].split())


@suite.case()
def notes_say_what_is_given_up():
    """NOTES.txt warns of what values take away, and only then."""
    for value, words in (("sampler.handoff.enabled=false", "samplers do not hand traces over"),
                         ("sampler.journal.enabled=false", "spans are held in memory only"),
                         ("sampler.rolloutOnPolicyChange=true", "restarts the samplers too")):
        check(words not in notes(), f"a default install: {words}")
        check(words in notes("--set", value), f"{value}: {notes('--set', value)}")
    check("tr-tailrace-lb.obs:4317" in notes(), notes())


# -- what follows from other values ---------------------------------------------------------------------


@suite.case()
def grace_covers_the_drain():
    """A pod's grace period is its hook, its drain and a margin, and the program drains exactly as long."""
    for options, kind, grace in (
            ([], "Deployment", 40), ([], "StatefulSet", 70),
            (["--set", "sampler.drainSeconds=120"], "StatefulSet", 130),
            (["--set", "sampler.preStopSeconds=15"], "StatefulSet", 80),
            (["--set", "lb.terminationGracePeriodSeconds=90"], "Deployment", 90)):
        items = render(*options)
        workload = one(items, kind)
        spec = workload["spec"]["template"]["spec"]
        equal(spec["terminationGracePeriodSeconds"], grace, f"{kind} {options}")
        drain = int(config_of(items, workload)["tailrace"]["drain_timeout"].rstrip("s"))
        hook = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        check(hook + drain + 5 <= grace, f"{kind} {options}: {hook} + {drain} + 5 > {grace}")


@suite.case()
def workers_follow_the_cpus():
    """Without a CPU limit the workers are the CPUs requested, not those of the node; with one, the program counts."""
    for options, workers in (
            ([], 1), (["--set", "lb.resources.requests.cpu=2"], 2), (["--set", "lb.resources.requests.cpu=2500m"], 3),
            (["--set", "lb.resources.limits.cpu=4"], None), (["--set", "lb.resources.limits.cpu=4", "--set", "lb.workers=2"], 2)):
        items = render(*options)
        equal(config_of(items, one(items, "Deployment"))["tailrace"].get("workers"), workers, f"{options}")


@suite.case()
def outboxes_fit_the_memory():
    """What may be on its way to all samplers together is at most two fifths of a balancer's memory limit."""
    for limit, samplers, mib in (("512Mi", 3, 64), ("512Mi", 10, 20), ("1Gi", 40, 10), ("256Mi", 100, 4), ("1G", 20, 19)):
        items = render("--set", f"lb.resources.limits.memory={limit}", "--set", f"sampler.replicas={samplers}")
        equal(config_of(items, one(items, "Deployment"))["tailrace"]["outbox"]["limit_mib"], mib, f"{limit} for {samplers}")


@suite.case()
def an_autoscaler_owns_the_replicas():
    """With autoscaling a workload says no number; scaling down waits for a sampler's drain and the decisions of what it held."""
    items = chart.objects(chart.text_of("autoscaling-values.yaml"))
    for workload in of_kind(items, "Deployment") + of_kind(items, "StatefulSet"):
        check("replicas" not in workload["spec"], f"{workload['kind']} says replicas")
    sampler = one(items, "HorizontalPodAutoscaler", "-sampler")["spec"]
    grace = one(items, "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    equal(sampler["behavior"]["scaleDown"]["policies"], [{"type": "Pods", "value": 1, "periodSeconds": grace + 90 + 60}], "one at a time")
    equal(sampler["metrics"][0]["pods"]["metric"]["name"], "tailrace_store_used_bytes", "metric")
    equal(one(items, "HorizontalPodAutoscaler", "-lb")["spec"]["metrics"][0]["resource"],
          {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}, "what balancers are scaled on")
    by_memory = render("--set", "sampler.autoscaling.enabled=true")
    equal(one(by_memory, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["resource"],
          {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 45}}, "what samplers are scaled on by default")
    for workload in of_kind(render(), "Deployment") + of_kind(render(), "StatefulSet"):
        check(workload["spec"]["replicas"] > 1, "default replicas")


@suite.case()
def a_single_pod_has_no_budget():
    """A disruption budget stands only where more than one pod runs: otherwise it would block the draining of a node."""
    equal(len(of_kind(render(), "PodDisruptionBudget")), 2, "default")
    equal(of_kind(chart.objects(chart.text_of("single-values.yaml")), "PodDisruptionBudget"), [], "single pods")


@suite.case()
def rights_follow_the_resolver():
    """k8s gets a role over EndpointSlices of one namespace, and a token where it is used; dns needs no right and mounts no token."""
    def tokens(items):
        return {item["kind"]: item["spec"]["template"]["spec"]["automountServiceAccountToken"]
                for item in of_kind(items, "Deployment") + of_kind(items, "StatefulSet")}

    def subjects(items):
        return [(subject["name"], subject["namespace"]) for subject in one(items, "RoleBinding")["subjects"]]

    lb, sampler = ("tr-tailrace-lb", chart.NAMESPACE), ("tr-tailrace-sampler", chart.NAMESPACE)
    items = render("--set", "sampler.handoff.enabled=false")
    equal(one(items, "Role")["rules"], [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                                         "verbs": ["get", "list", "watch"]}], "rules")
    equal(subjects(items), [lb], "who has them")
    equal(tokens(items), {"Deployment": True, "StatefulSet": False}, "tokens")
    equal(of_kind(items, "ClusterRole"), [], "cluster-wide rights")
    items = render()
    equal(subjects(items), [lb, sampler], "who has them, with samplers that look for each other")
    equal(tokens(items), {"Deployment": True, "StatefulSet": True}, "tokens, likewise")
    for more in ([], ["--set", "sampler.handoff.enabled=false"]):
        items = render("--set", "resolver.type=dns", *more)
        equal(of_kind(items, "Role") + of_kind(items, "RoleBinding"), [], "rights for dns")
        equal(tokens(items), {"Deployment": False, "StatefulSet": False}, "tokens for dns")


def let_through(policy, direction):
    """(who, port) of a NetworkPolicy's rules, who being a component, `test`, or whom else it names."""
    def who(peer):
        labels = peer.get("podSelector", {}).get("matchLabels", {})
        return labels.get("app.kubernetes.io/component") or ("test" if labels else json.dumps(peer))
    return {(name, port["port"]) for rule in policy["spec"][direction] for port in rule["ports"]
            for name in [who(peer) for peer in rule.get("from", rule.get("to", ()))] or ["anybody"]}


@suite.case()
def network_policies_follow_the_traffic():
    """What the tiers say to each other, to DNS, the API server and the backend is let through, and nothing else."""
    def policies(*options):
        items = render("--set", "networkPolicy.enabled=true", *options)
        made = {name: one(items, "NetworkPolicy", "-" + name) for name in ("lb", "sampler")}
        for name, kind in (("lb", "Deployment"), ("sampler", "StatefulSet")):
            labels = one(items, kind)["spec"]["template"]["metadata"]["labels"]
            check(made[name]["spec"]["podSelector"]["matchLabels"].items() <= labels.items(), f"{name}: it is nobody's policy")
        return {name: (let_through(policy, "ingress"), let_through(policy, "egress")) for name, policy in made.items()}

    cluster, names = '{"namespaceSelector": {}}', {("anybody", 53)}
    admin, server = {(cluster, 13133), ("test", 13133)}, {("anybody", 443), ("anybody", 6443)}
    made = policies()
    equal(made["lb"], ({("anybody", 4317), ("anybody", 4318), *admin}, {("sampler", 4317), *names, *server}), "balancers")
    equal(made["sampler"], ({("lb", 4317), ("sampler", 4317), *admin}, {("sampler", 4317), ("anybody", 4317), *names, *server}), "samplers")
    made = policies("--set", "resolver.type=dns,sampler.handoff.enabled=false,backend.endpoint=https://traces.example:8443")
    equal(made["lb"][1], {("sampler", 4317), *names}, "balancers that ask DNS")
    equal(made["sampler"][1], {("anybody", 8443), *names}, "samplers that stand alone")
    made = policies("--set-json", 'networkPolicy.clients=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]',
                    "--set-json", 'networkPolicy.backends=[{"to":[{"ipBlock":{"cidr":"10.9.0.0/16"}}],"ports":[{"port":4317}]}]')
    equal({who for who, port in made["lb"][0] if port != 13133}, {'{"ipBlock": {"cidr": "10.0.0.0/8"}}', "test"}, "clients")
    check(("anybody", 4317) not in made["sampler"][1] and ('{"ipBlock": {"cidr": "10.9.0.0/16"}}', 4317) in made["sampler"][1], "backends")


@suite.case()
def monitors_find_each_pod_once():
    """The ServiceMonitor selects one service, the one with all pods, by a port that it has."""
    items = chart.objects(chart.text_of("monitoring-values.yaml"))
    monitor = one(items, "ServiceMonitor")["spec"]
    found = [item for item in of_kind(items, "Service") if monitor["selector"]["matchLabels"].items() <= item["metadata"]["labels"].items()]
    equal([item["metadata"]["name"] for item in found], ["tr-tailrace-metrics"], "services")
    equal([port["name"] for port in found[0]["spec"]["ports"]], [endpoint["port"] for endpoint in monitor["endpoints"]], "ports")
    equal(monitor["namespaceSelector"], {"matchNames": [chart.NAMESPACE]}, "where")


@suite.case()
def services_say_what_they_speak():
    """What meshes and gateways read of a port is plain HTTP/2 and HTTP without TLS, and TLS with it, for each tier by itself."""
    def spoken(*options):
        return {f"{item['metadata']['name'].rsplit('-', 1)[1]} {port['name']}": port["appProtocol"]
                for item in of_kind(render(*options), "Service") for port in item["spec"]["ports"]}

    plain_text = {"lb otlp-grpc": "kubernetes.io/h2c", "lb otlp-http": "http", "sampler otlp-grpc": "kubernetes.io/h2c", "metrics admin": "http"}
    equal(spoken(), plain_text, "without TLS")
    equal(spoken("--set", "lb.tls.existingSecret=clients"), {**plain_text, "lb otlp-grpc": "https", "lb otlp-http": "https"}, "clients by TLS")
    equal(spoken("--set", "tls.enabled=true,tls.existingSecret=tiers"), {**plain_text, "sampler otlp-grpc": "https"}, "tiers by TLS")


@suite.case()
def certificates_have_the_name_that_is_checked():
    """The certificate that docs/kubernetes.md shows has the name that balancers, and samplers among themselves, ask samplers for."""
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(re.search(r"```yaml\n(apiVersion: cert-manager.*?)```", page, re.DOTALL).group(1))
    items = chart.objects(must("helm", "template", "tailrace", CHART, "--namespace", shown["metadata"]["namespace"], *chart.BACKEND,
                               "--set", f"tls.enabled=true,tls.existingSecret={shown['spec']['secretName']}"))
    lb, sampler = config_of(items, one(items, "Deployment")), config_of(items, one(items, "StatefulSet"))
    for what, client in (("balancers", lb["exporters"]["loadbalancing"]["protocol"]["otlp"]["tls"]), ("samplers", sampler["tailrace"]["cluster"]["tls"])):
        equal([client["server_name_override"]], shown["spec"]["dnsNames"], f"the name that {what} ask for")
        check("insecure" not in client, f"{what} talk in plain text")
        check({"ca_file", "cert_file", "key_file"} <= client.keys(), f"{what}: {client}")
    equal(sorted(sampler["receivers"]["otlp"]["protocols"]["grpc"]["tls"]), ["cert_file", "client_ca_file", "key_file"], "what samplers show and ask for")


@suite.case()
def samplers_meet_before_they_are_ready():
    """Samplers that find each other by DNS have a service that shows all of them; with k8s the slices of the one service do."""
    items = render("--set", "resolver.type=dns")
    check(one(items, "Service", "-sampler-peers")["spec"]["publishNotReadyAddresses"], "the peers' service hides who is not ready")
    check("publishNotReadyAddresses" not in one(items, "Service", "-sampler")["spec"], "balancers are shown who is not ready")
    hostname = config_of(items, one(items, "StatefulSet"))["tailrace"]["cluster"]["resolver"]["dns"]["hostname"]
    equal(hostname, "_otlp-grpc._tcp.tr-tailrace-sampler-peers.${env:POD_NAMESPACE}.svc.cluster.local.", "what samplers look up")
    equal(of_kind(render(), "Service", "-peers"), [], "a service for peers with k8s")


@suite.case()
def the_journal_fits_its_volume():
    """A journal may take four fifths of its volume, which stays when samplers go, unless values say otherwise."""
    for options, mib in (([], 8192), (["--set", "sampler.journal.persistence.size=100Gi"], 81920), (["--set", "sampler.journal.maxSizeMib=512"], 512)):
        items = render(*options)
        sampler = one(items, "StatefulSet")
        equal(config_of(items, sampler)["tailrace"]["journal"]["max_size_mib"], mib, f"{options}")
        equal(sampler["spec"]["persistentVolumeClaimRetentionPolicy"], {"whenScaled": "Retain", "whenDeleted": "Retain"}, f"{options}")
        check(sampler["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "journal", "claim")
    sampler = one(render("--set", "sampler.journal.enabled=false"), "StatefulSet")
    check("volumeClaimTemplates" not in sampler["spec"], "a volume without a journal")


@suite.case()
def what_rolls_the_pods():
    """A change of policies rolls nothing, unless values say so, then samplers only; a change of a tier's file rolls that tier."""
    def sums(*options):
        items = render(*options)
        return {item["kind"]: item["spec"]["template"]["metadata"]["annotations"]
                for item in of_kind(items, "Deployment") + of_kind(items, "StatefulSet")}

    def rolled(before, after):
        return sorted(kind for kind in before if before[kind] != after[kind])

    wait = ["--set", "tailSampling.decision_wait=20s"]
    roll = ["--set", "sampler.rolloutOnPolicyChange=true"]
    equal(rolled(sums(), sums(*wait)), [], "policies")
    equal(rolled(sums(*roll), sums(*roll, *wait)), ["StatefulSet"], "policies, with a rollout")
    equal(rolled(sums(), sums("--set", "lb.maxConnectionAge=9m")), ["Deployment"], "lb's file")
    equal(rolled(sums(), sums("--set", "backend.endpoint=http://other:4317")), ["StatefulSet"], "sampler's file")


@suite.case()
def config_is_laid_over():
    """`config` joins maps, replaces lists, and keeps what it does not name."""
    items = chart.objects(chart.text_of("collector-values.yaml"))
    config = config_of(items, one(items, "StatefulSet"))
    equal(sorted(config["exporters"]), ["otlp/archive", "otlp_http"], "exporters")
    equal(config["exporters"]["otlp_http"]["endpoint"], "http://tempo.monitoring:4318", "the backend's endpoint")
    equal(config["service"]["pipelines"]["traces"]["exporters"], ["otlp_http", "otlp/archive"], "list")
    equal(config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"], "0.0.0.0:4317", "kept")


# -- refusals -------------------------------------------------------------------------------------------

REFUSED = (
    # options, what the message must say
    ([], "backend.endpoint is not set: say where kept traces go"),
    (["--set", "backend.endpoint=tempo:4317"], "write http://tempo:4317 for plain text or https://tempo:4317 for TLS"),
    (["--set", "backend.endpoint=http://tempo"], "without a port: OTLP over gRPC is usually on 4317, as in http://tempo:4317"),
    ([*chart.BACKEND, "--set", "sampler.replicasCount=2"], "at '/sampler': additional properties 'replicasCount' not allowed"),
    ([*chart.BACKEND, "--set", "sampler.replicas=-1"], "at '/sampler/replicas': minimum: got -1, want 0"),
    ([*chart.BACKEND, "--set", "sampler.replicas=many"], "at '/sampler/replicas': got string, want integer"),
    ([*chart.BACKEND, "--set", "resolver.type=consul"], "at '/resolver/type': value must be one of 'dns', 'k8s'"),
    ([*chart.BACKEND, "--set", "log.level=loud"], "at '/log/level': value must be one of"),
    ([*chart.BACKEND, "--set", "sampler.journal.persistence.size=ten"], "at '/sampler/journal/persistence/size': 'ten' does not match pattern"),
    ([*chart.BACKEND, "--set", "tailSampling.decision_wait=soon"], "at '/tailSampling/decision_wait': 'soon' does not match pattern"),
    ([*chart.BACKEND, "--set", "tailSampling.decison_wait=10s"], "at '/tailSampling': additional properties 'decison_wait' not allowed"),
    ([*chart.BACKEND, "--set", "tailSampling.tail_storage=x"], "at '/tailSampling': additional properties 'tail_storage' not allowed"),
    ([*chart.BACKEND, "--set-json", 'tailSampling.policies=[{"name":"a","type":"lattency"}]'], "at '/tailSampling/policies/0/type': value must be one of"),
    ([*chart.BACKEND, "--set-json", 'tailSampling.policies=[{"type":"latency"}]'], "at '/tailSampling/policies/0': missing property 'name'"),
    ([*chart.BACKEND, "--set-json", 'tailSampling.policies=[{"name":"a","type":"latency","latency":{"treshold_ms":5}}]'],
     "at '/tailSampling/policies/0/latency': additional properties 'treshold_ms' not allowed"),
    ([*chart.BACKEND, "--set-json", 'tailSampling.policies=[{"name":"a","type":"and","and":{"and_sub_policy":[{"name":"b","type":"nor"}]}}]'],
     "at '/tailSampling/policies/0/and/and_sub_policy/0/type': value must be one of"),
    ([*chart.BACKEND, "--set", "image.digest=sha256:12"], "at '/image/digest'"),
    ([*chart.BACKEND, "--set", "tls.enabled=true"], "tls.existingSecret is empty: name a secret with tls.crt, tls.key and ca.crt"),
    ([*chart.BACKEND, "--set", "lb.tls.clientCertificates=true"], "lb.tls.existingSecret is empty"),
    ([*chart.BACKEND, "--set", "sampler.terminationGracePeriodSeconds=30"], "pods would be killed while they drain; set it to 0 or lower sampler.drainSeconds"),
    ([*chart.BACKEND, "--set", "lb.autoscaling.enabled=true,lb.autoscaling.minReplicas=20"], "lb.autoscaling.minReplicas is 20, above maxReplicas 10"),
    ([*chart.BACKEND, "--set", "sampler.config.processors.tail_sampling.decision_wait=1s"], "policies go to tailSampling"),
    ([*chart.BACKEND, "--set", "prometheusRule.enabled=true,prometheusRule.disabled={TailraceNoSampler}"], 'there is no alert "TailraceNoSampler"; there are'),
    ([*chart.BACKEND, "--set", "lb.resources.limits.memory=5x"], 'the quantity "5x" has the unit "x"'),
    ([*chart.BACKEND, "--kube-version", "1.29.0"], "requires kubeVersion: >=1.30.0-0"),
)


@suite.case()
def wrong_values_are_refused():
    """Wrong values are refused with a sentence that names the value."""
    wrong = []
    for options, words in REFUSED:
        done = template(*options)
        if done.returncode == 0 or words not in done.stderr:
            wrong.append(f"{' '.join(options)}\n  want: {words}\n  got:  {done.stderr.strip() or 'accepted'}")
    check(not wrong, "\n".join(wrong))


@suite.case()
def the_schema_knows_the_policies():
    """Each type of policy that a sampler has is in the schema, with its settings, and no other."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    names = sorted(path.stem for path in (ROOT / "sampler/decide/policy").glob("*.cases"))
    equal(sorted(schema["$defs"]["policy"]["properties"]["type"]["enum"]), names, "types")
    equal(sorted(schema["$defs"]["policy"]["properties"]), sorted([*names, "name", "type"]), "settings")


@suite.case()
def what_is_made_is_up_to_date():
    """The schema, the page of values and deploy/kustomize/base are what helm/generate makes of the chart."""
    must("/usr/bin/python3", ROOT / "helm/generate", "--check")


@suite.case()
def sizes_are_values():
    """What deploy/size prints is taken by the chart; twice the load never asks for less; what cannot be is said."""
    size = ROOT / "deploy/size"

    def sized(spans, *words):
        items = render("--values", "-", stdin=must("/usr/bin/python3", size, "--spans", spans, "--bytes", "700", *words))
        found = one(items, "StatefulSet")["spec"]
        limit = found["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        return found["replicas"] * int(limit[:-2]), one(items, "Deployment")["spec"]["replicas"]

    before = (0, 0)
    for spans in (1000, 10000, 20000, 40000, 80000, 160000, 1000000):
        now = sized(spans, "--decision-wait", "1m30s")
        check(now >= before, f"{spans} spans/s: {now} after {before}")
        # The store is 65 % of the memory limit and must hold the whole decision period with one sampler away.
        check(now[0] * 0.65 * (1 << 20) > spans * 700 * 90, f"{spans} spans/s do not fit into {now}")
        before = now
    done = command("/usr/bin/python3", size, "--spans", "1e9", "--bytes", "9000", "--decision-wait", "1h", "--memory-mib", "512")
    check(done.returncode == 1 and "no number of samplers" in done.stderr, done.stderr)
    done = command("/usr/bin/python3", size, "--spans", "10", "--bytes", "700", "--decision-wait", "10")
    check(done.returncode == 2 and "'10' is no duration" in done.stderr, done.stderr)


@suite.case()
def the_pages_values_hold():
    """Values that docs/kubernetes.md shows render, and mean what the Collector's files beside them mean."""
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    block = {name: text for name, text in re.findall(r"```yaml\n# (\w+)\.yaml.*?\n(.*?)```", page, re.DOTALL)}
    items = chart.objects(must("helm", "template", chart.RELEASE, CHART, "--namespace", chart.NAMESPACE, "--values", "-", stdin=block["values"]))
    made = {tier: config_of(items, one(items, kind)) for tier, kind in (("lb", "Deployment"), ("sampler", "StatefulSet"))}
    was = {tier: yaml.safe_load(block[tier]) for tier in made}
    # The chart's own decision_cache stays, as the Collector has none set.
    del made["sampler"]["processors"]["tail_sampling"]["decision_cache"]
    equal(made["sampler"]["processors"], was["sampler"]["processors"], "policies")
    exporter = made["sampler"]["exporters"]["otlp"]
    exporter["endpoint"] = exporter["endpoint"].replace("http://", "")
    equal(exporter, was["sampler"]["exporters"]["otlp"], "the backend")
    equal(made["lb"]["receivers"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"], 16, "what the first layer has of its own")
    equal(list(made["lb"]["exporters"]["loadbalancing"]["resolver"]), list(was["lb"]["exporters"]["loadbalancing"]["resolver"]), "the resolver")
    for kind in ("Deployment", "StatefulSet"):
        with tempfile.TemporaryDirectory() as directory:
            pod = chart.Pod(items, one(items, kind), directory, {})
            must(*pod.argv(proc.BUILD), "--check", env=pod.env())


@suite.case()
def the_pages_pod_fits_the_chart():
    """The pod that docs/drain-journal.md shows says what the program knows, of a claim, a name and a cluster that a default install has."""
    pod = chart.drain_pod()
    words = [str(word) for word in pod["spec"]["containers"][0]["args"]]
    said = dict(zip(words[::2], words[1::2]))
    done = command(f"{proc.BUILD}/sampler/tailrace-sampler", *words)
    check(done.returncode == 2 and "/journal: no such directory" in done.stderr, f"{done.returncode} {done.stderr}")
    items = chart.objects(must("helm", "template", "tailrace", CHART, "--namespace", pod["metadata"]["namespace"], *chart.BACKEND))
    sampler = one(items, "StatefulSet")
    config = config_of(items, sampler)
    claim = f"{sampler['spec']['volumeClaimTemplates'][0]['metadata']['name']}-{sampler['metadata']['name']}-"
    check(re.fullmatch(claim + r"\d+", pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]), f"no claim of {claim}N")
    equal(said["--to"], f"{sampler['metadata']['name']}-0.{sampler['spec']['serviceName']}:4317", "whom it asks")
    equal(said["--cluster"], config["tailrace"]["cluster"]["name"].replace("${env:POD_NAMESPACE}", pod["metadata"]["namespace"]), "cluster")
    equal(said["--decision-wait"], config["processors"]["tail_sampling"]["decision_wait"], "decision_wait")
    for key, value in pod["spec"]["securityContext"].items():
        equal(value, sampler["spec"]["template"]["spec"]["securityContext"][key], f"securityContext.{key}, by which it may read the volume")


# -- deploy/ --------------------------------------------------------------------------------------------


def plain(item):
    """Without what only Helm or only kustomize adds: labels of the chart, sums of the content, the namespace's place."""
    def strip(node):
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items()
                    if key not in ("helm.sh/chart", "app.kubernetes.io/managed-by") and not key.startswith("checksum/")}
        if isinstance(node, list):
            return [strip(part) for part in node]
        return node
    text = json.dumps(strip(item), sort_keys=True)
    return json.loads(re.sub(r'("tailrace-(?:lb|sampler|policies))-[a-z0-9]{10}"', r'\1"', text))


def by_name(items):
    return {f"{item['kind']} {item['metadata']['name']}": item for item in map(plain, items)}


@suite.case()
def plain_manifests_equal_the_chart():
    """kubectl kustomize deploy/kustomize/base gives the objects of a default install, field by field."""
    chart_objects = chart.objects(must("helm", "template", "tailrace", CHART, "--namespace", "tailrace", "--no-hooks", *chart.BACKEND))
    plain_objects = chart.objects(must("kubectl", "kustomize", ROOT / "deploy/kustomize/base"))
    got, want = by_name(plain_objects), by_name(chart_objects)
    equal(sorted(got), sorted(want), "objects")
    for name, item in want.items():
        equal(got[name], item, name)
    check(len(want) == len(chart_objects) >= 14, f"{len(want)} objects")


@suite.case()
def the_overlay_holds():
    """The example overlay changes what it says, its files are accepted by the programs, and a changed file rolls its tier, policies nothing."""
    items = chart.objects(must("kubectl", "kustomize", ROOT / "deploy/kustomize/overlays/example"))
    equal({item["metadata"].get("namespace") for item in items if item["kind"] != "Namespace"}, {"observability"}, "namespaces")
    equal(one(items, "StatefulSet")["spec"]["replicas"], 5, "samplers")
    equal({subject["namespace"] for subject in one(items, "RoleBinding")["subjects"]}, {"observability"}, "who may watch EndpointSlices")
    for workload in of_kind(items, "Deployment") + of_kind(items, "StatefulSet"):
        with tempfile.TemporaryDirectory() as directory:
            pod = chart.Pod(items, workload, directory, {})
            must(*pod.argv(proc.BUILD), "--check", env=pod.env())
    for name, old, new, rolls in (("policies", "20s", "25s", []), ("sampler", "info", "warn", ["StatefulSet"]), ("lb", "5m", "9m", ["Deployment"])):
        with tempfile.TemporaryDirectory() as directory:
            shutil.copytree(ROOT / "deploy/kustomize", directory, dirs_exist_ok=True)
            path = pathlib.Path(directory, f"overlays/example/{name}.yaml")
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
            changed = chart.objects(must("kubectl", "kustomize", pathlib.Path(directory, "overlays/example")))
        check(changed != items, f"{name}.yaml is not taken")
        equal([kind for kind in ("Deployment", "StatefulSet") if one(changed, kind)["spec"]["template"] != one(items, kind)["spec"]["template"]],
              rolls, f"what a change of {name}.yaml rolls")


def linked_packages():
    """The Debian packages of the libraries that the two programs name."""
    packages = set()
    libraries = set()
    for program in ("lb/tailrace-lb", "sampler/tailrace-sampler"):
        libraries.update(re.findall(r"\(NEEDED\).*\[(.+)\]", must("readelf", "-d", f"{proc.BUILD}/{program}")))
    cache = must("/sbin/ldconfig", "-p")
    for library in libraries - {"libasan.so.8", "libubsan.so.1", "libtsan.so.2"}:
        path = re.search(rf"^\s*{re.escape(library)} .*=> (.+)$", cache, re.MULTILINE)
        check(path, f"{library} is not installed")
        for known in (path.group(1), os.path.realpath(path.group(1)), path.group(1).replace("/lib/", "/usr/lib/", 1)):
            found = command("dpkg", "-S", known)
            if found.returncode == 0:
                packages.add(found.stdout.split(":")[0])
                break
        else:
            raise AssertionError(f"no package owns {library}")
    return packages


@suite.case()
def the_image_has_what_the_programs_need():
    """deploy/runtime-packages lists the packages of the libraries the programs are linked to, no more and no less."""
    lines = (ROOT / "deploy/runtime-packages").read_text(encoding="utf-8").splitlines()
    equal({line.split("#")[0].strip() for line in lines} - {""}, linked_packages(), "packages")


@suite.case()
def the_image_builds_from_its_context():
    """The files that .dockerignore lets through are all that the Dockerfile's build needs."""
    kept = [line[1:] for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")]
    dockerfile = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    setup = re.search(r"meson setup /build (.*?) \\", dockerfile)
    check(setup and "USER 65532:65532" in dockerfile, "deploy/Dockerfile has changed its manner")
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory, "src")
        for name in kept:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, target)
        for copied in re.findall(r"^COPY (deploy/\S+)", dockerfile, re.MULTILINE):
            check((source / copied).is_file(), f"{copied} is not in the context")
        must("meson", "setup", f"{directory}/build", source, *setup.group(1).split(), timeout_s=300)
        # Nothing is compiled: ninja only finds that every file it would read is there or can be made.
        must("ninja", "-C", f"{directory}/build", "-n", timeout_s=300)


@suite.case()
def units_are_well_formed():
    """systemd finds no fault with the units, neither in form nor in how little they let the programs do."""
    with tempfile.TemporaryDirectory() as directory:
        for path in (ROOT / "deploy/systemd").glob("*.service"):
            tier = path.stem[len("tailrace-"):]
            text = path.read_text(encoding="utf-8").replace(f"/usr/bin/{path.stem}", f"{proc.BUILD}/{tier}/{path.stem}")
            unit = pathlib.Path(directory, path.name)
            unit.write_text(text, encoding="utf-8")
            done = command("systemd-analyze", "verify", "--man=no", unit)
            check(done.returncode == 0 and not done.stderr.strip(), f"{path.name}: {done.stderr}")
            done = command("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)
            check(done.returncode == 0, f"{path.name}: {done.stdout[-400:]}{done.stderr}")
            stop = int(re.search(r"TimeoutStopSec=(\d+)", text).group(1))
            check(re.search(r"^ExecReload=/bin/kill -HUP \$MAINPID$", text, re.MULTILINE), f"{path.name}: systemctl reload does nothing")
            check(stop > 60, f"{path.name}: a stop is cut short after {stop} s, the programs drain for 60")


@suite.case()
def scripts_are_sound():
    """shellcheck finds nothing in the script of helm test."""
    must("shellcheck", CHART / "files/send-a-trace")


# -- rules, dashboard, the script of helm test: against nodes that run -----------------------------------


def tool(name):
    return os.path.join(os.environ["TAILRACE_PROMETHEUS"], name)


@suite.case()
def rules_are_sound():
    """promtool takes the alerts, and their unit tests pass: what fires, when, and what does not."""
    must(tool("promtool"), "check", "rules", CHART / "rules/alerts.yaml")
    must(tool("promtool"), "test", "rules", ROOT / "tests/helm/alerts_test.yaml")


@suite.case()
def rules_stay_whole_in_the_chart():
    """The PrometheusRule holds the alerts of the file, less those disabled, with labels and runbooks as values say."""
    groups = yaml.safe_load((CHART / "rules/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    want = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    del want["TailraceTracesTooLarge"]
    items = chart.objects(chart.text_of("monitoring-values.yaml"))
    rules = [rule for group in one(items, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    equal({rule["alert"]: rule["expr"] for rule in rules}, want, "alerts")
    for rule in rules:
        equal(rule["labels"]["team"], "observability", rule["alert"])
        check(rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"])
        equal(rule["annotations"]["runbook_url"], "https://runbooks.example/" + rule["alert"].lower(), rule["alert"])


def dashboard_queries():
    board = json.loads((CHART / "dashboards/tailrace.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield "variable " + variable["name"], re.fullmatch(r"label_values\((.+), \w+\)", variable["definition"]).group(1)


def queries():
    """Every query of the rules and the dashboard, with Grafana's words filled in."""
    for group in yaml.safe_load((CHART / "rules/alerts.yaml").read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for title, expr in dashboard_queries():
        yield title, expr.replace("$__rate_interval", "1m").replace("$namespace", ".*")


SELECTOR = re.compile(r"\b(?:tailrace|otelcol)_\w+(?:\{[^}]*\})?")
WORDS = set("""sum max min avg count by without on ignoring group_left group_right and or unless rate increase histogram_quantile
    namespace pod reason transport le endpoint decision policy sampled exporter m s h""".split())


class Prometheus:
    """A Prometheus that scrapes our nodes, labelled as an operator labels pods."""

    def __init__(self, stage, nodes):
        self.port = free_port()
        targets = "\n".join(
            f"      - {{targets: ['127.0.0.1:{node.admin_port}'], labels: {{namespace: obs, pod: {node.name}, service: metrics}}}}" for node in nodes)
        path = os.path.join(stage.directory, "prometheus.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - job_name: tailrace\n    static_configs:\n{targets}\n")
        self.program = stage.program("prometheus", [
            tool("prometheus"), f"--config.file={path}", f"--storage.tsdb.path={stage.directory}/prometheus",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])

    def ask(self, path, **words):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(words)}", timeout=20) as answer:
            return json.load(answer)["data"]

    def series(self, selector):
        return self.ask("series", **{"match[]": selector})

    def up(self, count):
        def scraped():
            try:
                return len(self.ask("query", query="up == 1")["result"]) == count
            except OSError:
                return False
        until(scraped, "Prometheus has scraped every node", 60)


def send_a_trace(lb, sampler, **env):
    """The script of helm test, as its pod runs it."""
    return command("bash", CHART / "files/send-a-trace", env={
        "LB": "127.0.0.1", "SAMPLERS": "127.0.0.1", "HTTP_PORT": lb.http_address.rsplit(":", 1)[1], "ADMIN_PORT": str(sampler.admin_port),
        "WAIT_SECONDS": "30", **env})


def start_pair(stage, http=None, **options):
    sink = stage.serve(otlp.Sink())
    sampler = stage.sampler("sampler-0", sink.port, [{"name": "all", "type": "always_sample"}], **options)
    lb = stage.lb("lb", [f"127.0.0.1:{sampler.port}"], http=http or {})
    return sink, sampler.wait_ready(), lb.wait_ready()


@suite.case()
def every_query_finds_its_metrics():
    """Each metric and label value that rules and dashboard ask for is shown by a node that runs, and each query is valid."""
    with Stage() as stage:
        sink, sampler, lb = start_pair(stage, tailrace={"journal": {"directory": stage.directory + "/journal", "max_size_mib": 512}})
        equal(send_a_trace(lb, sampler).returncode, 0, "a trace")
        until(lambda: sink.calls(), "the trace at the backend")
        prometheus = Prometheus(stage, [sampler, lb])
        prometheus.up(2)
        time.sleep(2.5)  # two more rounds, for rates
        wrong, selectors = [], set()
        for where, expr in queries():
            selectors.update((where, selector) for selector in SELECTOR.findall(expr))
            rest = re.sub(r'"[^"]*"|\[[^]]*\]', "", SELECTOR.sub("", expr))
            unknown = set(re.findall(r"[a-zA-Z_]\w*", rest)) - WORDS
            if unknown:
                wrong.append(f"{where}: {unknown} in {expr} is no metric of ours and no word of PromQL that is expected")
            try:
                prometheus.ask("query", query=expr)
            except OSError as error:
                wrong.append(f"{where}: {expr}: {error}")
        check(len(selectors) > 50, f"only {len(selectors)} metrics found in rules and dashboard")
        wrong += [f"{where}: no running node shows {selector}" for where, selector in sorted(selectors) if not prometheus.series(selector)]
        check(not wrong, "\n".join(wrong))
        # The way of looking can fail.
        equal(prometheus.series("tailrace_no_such_metric"), [], "series of a metric that is not there")


@suite.case()
def helm_test_sends_a_trace():
    """The script of helm test passes where traces are decided, by counting and by asking for the trace, and fails where they are not."""
    with Stage() as stage:
        token = os.path.join(stage.directory, "token")
        pathlib.Path(token).write_text("a-token\n", encoding="utf-8")
        _, sampler, lb = start_pair(stage)
        for env in ({}, {"TOKEN_FILE": token}):
            done = send_a_trace(lb, sampler, **env)
            check(done.returncode == 0 and "decided" in done.stdout, done.stdout + done.stderr)
        done = send_a_trace(lb, sampler, HTTP_PORT=str(free_port()))
        check(done.returncode != 0 and "cannot be reached" in done.stderr, done.stdout + done.stderr)
    with Stage() as stage:
        token = os.path.join(stage.directory, "token")
        pathlib.Path(token).write_text("a-token\n", encoding="utf-8")
        _, sampler, lb = start_pair(stage, wait="1h", tail={"drop_pending_traces_on_shutdown": True})
        for env in ({}, {"TOKEN_FILE": token}):
            done = send_a_trace(lb, sampler, WAIT_SECONDS="2", **env)
            check(done.returncode != 0 and "not decided within 2 s" in done.stderr, done.stdout + done.stderr)


@suite.case("server", "mutual")
def helm_test_speaks_tls(who):
    """The script of helm test reaches balancers that take spans by TLS, with the certificate they ask for."""
    with Stage() as stage:
        for key, content in secrets()["clients"].items():
            pathlib.Path(stage.directory, key).write_bytes(content)
        tls = {"cert_file": f"{stage.directory}/tls.crt", "key_file": f"{stage.directory}/tls.key"}
        if who == "mutual":
            tls["client_ca_file"] = f"{stage.directory}/ca.crt"
        _, sampler, lb = start_pair(stage, http={"tls": tls})
        done = send_a_trace(lb, sampler, TLS=who, TLS_DIR=stage.directory)
        check(done.returncode == 0 and "decided" in done.stdout, done.stdout + done.stderr)
        if who == "mutual":
            done = send_a_trace(lb, sampler, TLS="server", TLS_DIR=stage.directory)
            check(done.returncode != 0 and "FAILED" in done.stderr, "a client without certificate got in: " + done.stdout)


if __name__ == "__main__":
    sys.exit(suite.main())
