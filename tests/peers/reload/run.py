#!/usr/bin/env python3
"""The configuration changes while the programs run: what can change does so within two seconds, without a restart and without
losing or doubling a span; what cannot is named; an invalid file changes nothing."""
import contextlib
import copy
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc

from kit import metrics, otlp
from kit.http_sink import HttpSink
from kit.proc import Node, Stage, lb_config, sampler_config
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("reload")

ALWAYS = [{"name": "all", "type": "always_sample"}]
NEVER = [{"name": "nobody", "type": "string_attribute", "string_attribute": {"key": "no.such.key", "values": ["x"]}}]
ERRORS = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]
LIVE_S = 10.0  # from a file's change to its effect, on a machine that does much else; half a minute would be the look that needs no change


def sampler(stage, sink, policies, prepare=None, **options):
    """prepare(node): before it starts."""
    node = Node("sampler-0", "sampler/tailrace-sampler", sampler_config("sampler-0", sink.port, policies, **options), stage.directory)
    if prepare:
        prepare(node)
    return stage.add(node).wait_ready()


def path_of(node):
    return node.argv[node.argv.index("--config") + 1]


def put(node, config):
    """Takes the place of the node's file at once, as editors do."""
    beside = path_of(node) + ".new"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
    os.rename(beside, path_of(node))


def changed(node, **tail_sampling):
    """A copy of the node's configuration with other keys of tail_sampling."""
    config = copy.deepcopy(node.config)
    config["processors"]["tail_sampling"].update(tail_sampling)
    return config


def post(node):
    """(HTTP status, answer) of POST /reload."""
    request = urllib.request.Request(f"http://127.0.0.1:{node.admin_port}/reload", data=b"", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20 * slowness()) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def loaded(node):
    return node.status()["config"]


def reload(node, config):
    """By POST; the answer. The watch sees the same file, and finds it loaded."""
    put(node, config)
    status, answer = post(node)
    equal((status, answer["last"]["errors"]), (200, []), "answer to POST /reload")
    node.config = config
    return answer


def asleep(node):
    """None of its threads has anything to do: nothing lies in a mailbox."""
    threads = f"/proc/{node.process.pid}/task"
    for thread in os.listdir(threads):
        with contextlib.suppress(OSError):  # it has ended
            with open(f"{threads}/{thread}/stat", encoding="ascii") as file:
                if file.read().rsplit(")", 1)[1].split()[0] != "S":
                    return False
    return True


def adopted(node):
    """Workers take new settings with their mail: once they sleep they have. (What was sent to them sooner may be seen sooner.)"""
    time.sleep(max(1.0, 0.3 * slowness()))
    until(lambda: asleep(node), "nothing to do")


def changes(node):
    """The keys that each reload changed, by the log: the watch of the file may be faster than who asks for a reload."""
    return [re.findall(r"[\w./-]+", line.split(" changed=")[1]) for line in node.log().decode().splitlines() if " config_reloaded " in line]


def send(node, trace_ids, spans=3, **options):
    request = otlp.request_of(trace_ids, spans, **options)
    with otlp.Client(node.address) as client:
        answer = client.export(request)
    equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 0), f"answer ({answer.message})")
    return [item.span.span_id for item in otlp.flatten(request)]


def ids(sink):
    return [item.span.span_id for item in sink.spans()]


class Load(threading.Thread):
    """Sends small requests until it is told to stop; what was acknowledged is in `spans`."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.address = node.address
        self.spans = []
        self.failures = []
        self.ends = threading.Event()

    def run(self):
        with otlp.Client(self.address) as client:
            while not self.ends.is_set():
                request = otlp.request_of([otlp.trace_id() for _ in range(4)], 3)
                answer = client.export(request)
                if answer.code == grpc.StatusCode.OK:
                    self.spans += [item.span.span_id for item in otlp.flatten(request)]
                else:
                    self.failures.append(answer.message)
                time.sleep(0.01)

    def __enter__(self):
        self.start()
        until(lambda: len(self.spans) > 100, "load")
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.join()


class Mount:
    """A ConfigMap's volume as a kubelet writes it."""

    def __init__(self, directory, name, config):
        self.root, self.name, self.number = os.path.join(directory, "mount"), name, 0
        os.mkdir(self.root)
        self.write(config)
        os.symlink(os.path.join("..data", name), os.path.join(self.root, name))
        self.path = os.path.join(self.root, name)

    def write(self, config):
        self.number += 1
        folder = f"..2026_11_21_08_12_{self.number:02}.123456"
        os.mkdir(os.path.join(self.root, folder))
        with open(os.path.join(self.root, folder, self.name), "w", encoding="utf-8") as file:
            json.dump(config, file)
        data = os.path.join(self.root, "..data")
        before = os.readlink(data) if os.path.islink(data) else None
        os.symlink(folder, data + "_tmp")
        os.rename(data + "_tmp", data)
        if before:
            os.unlink(os.path.join(self.root, before, self.name))
            os.rmdir(os.path.join(self.root, before))


# -- what asks for it ----------------------------------------------------------------------------------------------------------

@suite.case("configmap", "rename", "write")
def policies_under_load(how):
    """Edited policies are in force soon after the file's change, in the same process, and no span is lost or doubled."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        mounts = []

        def mount(node):
            mounts.append(Mount(stage.directory, "sampler.yaml", node.config))
            if how == "configmap":
                node.argv[node.argv.index("--config") + 1] = mounts[0].path

        node = sampler(stage, sink, NEVER, mount, wait="300ms")
        pid = node.process.pid
        with Load(node) as load:
            equal(ids(sink), [], "spans at the backend before")
            config = changed(node, policies=ALWAYS)
            begun = time.monotonic()
            if how == "configmap":
                mounts[0].write(config)
            elif how == "rename":
                put(node, config)
            else:
                with open(path_of(node), "w", encoding="utf-8") as file:
                    json.dump(config, file)
            until(lambda: loaded(node)["generation"] == 2, "the new configuration", every_s=0.02)
            took = time.monotonic() - begun
            check(took < LIVE_S * slowness(), f"the change took {took:.2f} s")
            until(lambda: len(sink.spans()) > 100, "spans kept by the new policies")
        equal((node.process.pid, load.failures), (pid, []), "process, and requests that failed")
        kept = send(node, [otlp.trace_id()])
        until(lambda: set(kept) <= set(ids(sink)), "a trace that is sent now")
        page = metrics.check_sampler_books(node, held=0, received=len(load.spans) + len(kept))
        arrived = ids(sink)
        equal((len(arrived), set(arrived) - set(load.spans) - set(kept)), (len(set(arrived)), set()), "spans at the backend, each once")
        equal(page.value("tailrace_spans_exported_total"), len(arrived), "spans exported")
        equal(loaded(node)["last"]["changed"], ["processors.tail_sampling.policies"], "keys that changed")


@suite.case("SIGHUP", "POST")
def asked_for(how):
    """SIGHUP and POST /reload read the files again; generation, hash and metrics say what is in force."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms")
        before = loaded(node)
        equal((before["generation"], before["last"]["cause"]), (1, "start"), "at the start")
        put(node, changed(node, decision_wait="60ms"))
        if how == "POST":
            status, answer = post(node)
            equal((status, answer["generation"]), (200, 2), "answer")
        else:
            os.kill(node.process.pid, signal.SIGHUP)
        until(lambda: loaded(node)["generation"] == 2, "the new configuration")
        after = loaded(node)
        check(after["hash"] != before["hash"] and re.fullmatch("[0-9a-f]{16}", after["hash"]), f"hash {before['hash']}, then {after['hash']}")
        page = node.metrics()
        equal((page.value("tailrace_config_generation"), page.value("tailrace_config_last_reload_successful"),
               page.value("tailrace_config_hash")), (2, 1, int(after["hash"], 16) & 0xffffffffffff), "metrics")
        check(abs(page.value("tailrace_config_last_reload_success_timestamp_seconds") - time.time()) < 60 * slowness(), "timestamp")
        status, answer = post(node)
        equal((status, answer["generation"], answer["last"]["outcome"]), (200, 2, "unchanged"), "asked again")


@suite.case()
def same_file_same_hash():
    """Two nodes that read equal files show the same hash, so that replicas can be compared; another file has another."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        path = os.path.join(stage.directory, "shared.yaml")
        nodes = []
        for name in ("sampler-0", "sampler-1"):
            config = sampler_config(name, sink.port, ALWAYS)
            node = Node(name, "sampler/tailrace-sampler", config, stage.directory)
            node.argv = [node.argv[0], "--config", path]
            for key, value in (("receivers.otlp.protocols.grpc.endpoint", node.address), ("tailrace.cluster.self", name),
                               ("tailrace.admin.endpoint", f"127.0.0.1:{node.admin_port}")):
                node.argv += ["--set", f"{key}={value}"]
            nodes.append(node)
        put(nodes[0], nodes[0].config)
        for node in nodes:
            stage.add(node)
        first, second = (loaded(node.wait_ready())["hash"] for node in nodes)
        equal(first, second, "hashes of equal files")
        put(nodes[0], changed(nodes[0], policies=NEVER))
        until(lambda: all(loaded(node)["generation"] == 2 for node in nodes), "both loaded")
        check(loaded(nodes[0])["hash"] == loaded(nodes[1])["hash"] != first, "hashes after the change")


# -- policies ---------------------------------------------------------------------------------------------------------------------

@suite.case()
def held_traces_keep_their_policies():
    """A trace is decided by the policies of its first span, also by what its later spans say to them; new traces by the new ones."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ERRORS, wait=f"{5 + 3 * slowness()}s")  # all of it is sent before the first trace is decided
        erring, quiet, new, new_quiet = (otlp.trace_id() for _ in range(4))
        want = send(node, [erring])
        lost = send(node, [quiet])
        # Other questions at the same places: an old trace must not be judged by what the new ones ask.
        reload(node, changed(node, decision_wait="50ms", policies=[
            {"name": "named", "type": "string_attribute", "string_attribute": {"key": "http.method", "values": ["GET", "POST"]}},
            {"name": "ok", "type": "status_code", "status_code": {"status_codes": ["OK"]}},
            {"name": "slow", "type": "latency", "latency": {"threshold_ms": 60000}}]))
        adopted(node)
        want += send(node, [erring], error=True)
        lost += send(node, [quiet])
        send(node, [new], error=True)
        want += send(node, [new_quiet], duration_ms=90000)
        lost += send(node, [quiet], duration_ms=90000)
        until(lambda: set(want) <= set(ids(sink)), "what old policies keep of an old trace, and new ones of a new one")
        until(lambda: node.metrics().value("tailrace_spans_held") == 0, "all decided")
        page = metrics.check_sampler_books(node, held=0, received=len(want) + len(lost) + 3)
        same_once(ids(sink), want, "spans at the backend")
        equal(page.value("otelcol_processor_tail_sampling_count_traces_sampled_total", policy="errors", decision="sampled"), 1,
              "votes of the old policy, counted after it was replaced")


@suite.case()
def counters_go_on():
    """A policy that a reload leaves counts on under its name, and so does one that it takes away and another brings back."""
    name = "otelcol_processor_tail_sampling_count_traces_sampled_total"
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms")
        votes = lambda: node.metrics().value(name, policy="all", decision="sampled")
        for round_number, policies in enumerate((ALWAYS, ERRORS + ALWAYS, ERRORS, ALWAYS + ERRORS), 1):
            if round_number > 1:
                reload(node, changed(node, policies=policies))
                adopted(node)
            send(node, [otlp.trace_id() for _ in range(5)])
            metrics.check_sampler_books(node, held=0)
            want = 5 * (round_number - (round_number >= 3))
            until(lambda: votes() == want, f"{want} votes after round {round_number}")


@suite.case()
def limits_go_on():
    """A rate limit that has not changed keeps its bucket over a reload; one that has begins with a full one."""
    limit = lambda rate: [{"name": "limit", "type": "rate_limiting", "rate_limiting": {"spans_per_second": rate, "burst_capacity": 30}}]
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        # A rate of 0 fills nothing: what the bucket holds at first is all there ever is.
        node = sampler(stage, sink, limit(0), wait="50ms")
        send(node, [otlp.trace_id() for _ in range(20)])
        metrics.check_sampler_books(node, held=0, exported=30)
        reload(node, changed(node, policies=ERRORS + limit(0)))
        adopted(node)
        send(node, [otlp.trace_id() for _ in range(20)])
        metrics.check_sampler_books(node, held=0, exported=30)
        reload(node, changed(node, policies=[{**limit(0)[0], "rate_limiting": {"spans_per_second": 0, "burst_capacity": 45}}]))
        adopted(node)
        send(node, [otlp.trace_id() for _ in range(20)])
        metrics.check_sampler_books(node, held=0, exported=75)


# -- an invalid file ------------------------------------------------------------------------------------------------------------------

@suite.case("POST", "watched")
def invalid_changes_nothing(how):
    """An invalid file leaves all of the old configuration in force, and is answered, shown and logged with file, line, key and remedy."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms")
        before = loaded(node)
        bad = changed(node, decision_wait="1h", policies=[{"name": "all", "type": "always_sampel"}])
        put(node, bad)
        status = post(node)[0] if how == "POST" else 400
        until(lambda: loaded(node)["last"]["cause"] != "start", "the file to be read")
        adopted(node)
        want = send(node, [otlp.trace_id()])  # with an hour's decision_wait it would not come
        until(lambda: len(sink.spans()) == len(want), "spans at the backend")
        same_once(ids(sink), want, "spans at the backend")
        equal((status, loaded(node)["last"]["outcome"]), (400, "refused"), "answer")
        answer = loaded(node)
        equal((answer["generation"], answer["hash"]), (1, before["hash"]), "what is in force")
        text = " ".join(answer["last"]["errors"])
        check(re.search(r"sampler-0\.yaml:\d+: processors\.tail_sampling\.policies\[0\].*always_sample", text), f"errors: {text}")
        page = node.metrics()
        equal((page.value("tailrace_config_last_reload_successful"), page.value("tailrace_config_generation")), (0, 1), "metrics")
        check(page.value("tailrace_config_reloads_total", outcome="refused") >= 1, "refusals counted")
        check("config_refused" in node.tail() and "always_sampel" in node.tail(), f"log:\n{node.tail()}")
        put(node, node.config)
        until(lambda: loaded(node)["last"]["outcome"] == "unchanged", "the good file again")
        equal(node.metrics().value("tailrace_config_last_reload_successful"), 1, "metric")


@suite.case()
def tls_that_cannot_be_read():
    """Certificates of an exporter that are not there refuse the new configuration whole, policies included."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms")
        config = changed(node, policies=NEVER)
        config["exporters"]["otlp"]["tls"] = {"ca_file": os.path.join(stage.directory, "no-such-file")}
        put(node, config)
        status, answer = post(node)
        equal(status, 400, f"status ({answer})")
        check("no-such-file" in " ".join(answer["last"]["errors"]), f"errors: {answer['last']['errors']}")
        want = send(node, [otlp.trace_id()])
        until(lambda: len(sink.spans()) == len(want), "spans at the backend")
        metrics.check_sampler_books(node, held=0, exported=len(want))


# -- exporters --------------------------------------------------------------------------------------------------------------------------

@suite.case("grpc", "http")
def endpoint_moves_under_load(protocol):
    """An exporter's new endpoint gets what comes from then on; nothing is lost or doubled on the way over."""
    with Stage() as stage:
        first, second = (stage.serve(HttpSink() if protocol == "http" else otlp.Sink()) for _ in range(2))

        def use_http(node):
            node.config["exporters"] = {"otlphttp": {"endpoint": f"http://127.0.0.1:{first.port}"}}
            node.config["service"]["pipelines"]["traces"]["exporters"] = ["otlphttp"]
            put(node, node.config)

        node = sampler(stage, first, ALWAYS, use_http if protocol == "http" else None, wait="200ms")
        got = lambda sink: list(sink.ids()) if protocol == "http" else ids(sink)
        with Load(node) as load:
            until(lambda: len(got(first)) > 100, "spans at the first")
            config = copy.deepcopy(node.config)
            if protocol == "http":
                config["exporters"]["otlphttp"]["endpoint"] = f"http://127.0.0.1:{second.port}"
            else:
                config["exporters"]["otlp"]["endpoint"] = f"127.0.0.1:{second.port}"
            reload(node, config)
            equal(changes(node), [[f"exporters.{list(config['exporters'])[0]}.endpoint"]], "keys that changed")
            until(lambda: len(got(second)) > 100, "spans at the second")

            def left_alone():  # what was on its way to it arrives
                before, more = len(got(first)), len(got(second)) + 100
                until(lambda: len(got(second)) > more, "more spans at the second")
                return len(got(first)) == before

            until(left_alone, "no more spans at the first")
        until(lambda: len(got(first)) + len(got(second)) == len(load.spans), "all spans")
        same_once(got(first) + got(second), load.spans, "spans at both backends together")
        metrics.check_sampler_books(node, held=0, exported=len(load.spans), dropped=0)


@suite.case("refusing", "silent", "gone")
def endpoint_mended(how):
    """What waits for a backend that does not take it goes to the new endpoint; a wrong address is mended without losing a span."""
    release = threading.Event()
    with Stage() as stage:
        first, second = (stage.serve(otlp.Sink()) for _ in range(2))
        if how == "refusing":
            first.answer = otlp.refuse(grpc.StatusCode.UNAVAILABLE, "later")
        elif how == "silent":
            first.answer = lambda call: release.wait(60 * slowness()) and call.context.abort(grpc.StatusCode.UNAVAILABLE, "late")
        else:
            first.stop()
        node = sampler(stage, first, ALWAYS, wait="50ms", exporter={"timeout": f"{int(2 + slowness())}s"})
        try:
            want = send(node, [otlp.trace_id() for _ in range(50)])
            if how != "gone":
                until(lambda: len(first.calls()) > 0, "calls at the first")
            metrics.check_sampler_books(node, held=len(want), exported=0)
            config = copy.deepcopy(node.config)
            config["exporters"]["otlp"]["endpoint"] = second.address
            config["exporters"]["otlp"]["compression"] = "none"
            config["exporters"]["otlp"]["sending_queue"] = {"num_consumers": 2}
            reload(node, config)
            until(lambda: len(second.spans()) == len(want), "all spans at the second")
            same_once(ids(second), want, "spans at the second")
            metrics.check_sampler_books(node, held=0, exported=len(want), dropped=0)
        finally:
            release.set()


@suite.case()
def headers_change():
    """A changed header is on each request from then on."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms", exporter={"headers": {"x-tenant": "one"}})
        first = send(node, [otlp.trace_id()])
        until(lambda: len(sink.spans()) == len(first), "the first trace")
        config = copy.deepcopy(node.config)
        config["exporters"]["otlp"]["headers"] = {"x-tenant": "two", "x-more": "yes"}
        reload(node, config)
        adopted(node)
        send(node, [otlp.trace_id()])
        until(lambda: len(sink.spans()) == 2 * len(first), "the second trace")
        equal([(call.metadata.get("x-tenant"), call.metadata.get("x-more")) for call in sink.calls()], [("one", None), ("two", "yes")],
              "headers of the calls")


@suite.case()
def exporters_stay():
    """Which exporters there are needs a restart: it is said, and the old ones go on with what they had."""
    with Stage() as stage:
        sink, other = stage.serve(otlp.Sink()), stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms")
        config = changed(node, decision_wait="60ms")
        config["exporters"] = {"otlp/other": {"endpoint": other.address, "tls": {"insecure": True}}}
        config["service"]["pipelines"]["traces"]["exporters"] = ["otlp/other"]
        answer = reload(node, config)
        equal(answer["needs_restart"], ["service.pipelines.traces.exporters"], "keys that need a restart")
        adopted(node)
        want = send(node, [otlp.trace_id()])
        until(lambda: len(sink.spans()) == len(want), "spans at the old backend")
        for wait in ("70ms", "80ms"):  # what it borrows from stays as long as it does
            config["processors"]["tail_sampling"]["decision_wait"] = wait
            reload(node, config)
        adopted(node)
        want += send(node, [otlp.trace_id()])
        until(lambda: len(sink.spans()) == len(want), "spans at the old backend")
        equal(other.spans(), [], "spans at the other")


# -- other keys ------------------------------------------------------------------------------------------------------------------------------

@suite.case()
def decision_wait_changes():
    """A new decision_wait holds for traces that begin from then on; what is held keeps its time."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="1h", tailrace={"early_keep": False})
        held = send(node, [otlp.trace_id()])
        reload(node, changed(node, decision_wait="50ms"))
        adopted(node)
        want = send(node, [otlp.trace_id()])
        until(lambda: len(sink.spans()) == len(want), "the new trace")
        same_once(ids(sink), want, "spans at the backend")
        metrics.check_sampler_books(node, held=len(held), exported=len(want))


@suite.case()
def sizes_change():
    """Cache sizes, the size a trace may have, and the memory limit change; /status shows them."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms", tailrace={"verdict_keep": "0s"})
        send(node, [otlp.trace_id() for _ in range(40)])
        metrics.check_sampler_books(node, held=0)
        until(lambda: node.status()["records"]["count"] == 40, "records of decisions")
        config = changed(node, decision_cache={"sampled_cache_size": 4, "non_sampled_cache_size": 4}, maximum_trace_size_bytes=5000)
        config["tailrace"]["memory"] = {"limit_mib": 640}
        config["tailrace"]["resend_window"] = "1m"
        reload(node, config)
        until(lambda: node.status()["records"]["count"] <= 6, "records within the new sizes")
        status = node.status()
        equal((status["memory"]["limit_bytes"], status["records"]["resend_window_ns"]), (640 << 20, 60 * 10**9), "in /status")
        send(node, [otlp.trace_id()], size_bytes=4000)
        until(lambda: node.metrics().value("tailrace_spans_dropped_total", reason="trace_too_large") > 0, "a trace that is too large now")


@suite.case()
def log_level_changes():
    """The log's level changes while the program runs."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())

        def quiet(node):
            node.config["service"]["telemetry"] = {"logs": {"level": "error"}}
            put(node, node.config)

        node = sampler(stage, sink, ALWAYS, quiet)
        reload(node, changed(node, decision_wait="2s"))
        check("config_reloaded" not in node.tail(), f"log at level error:\n{node.tail()}")
        config = changed(node)
        config["service"]["telemetry"]["logs"]["level"] = "info"
        reload(node, config)
        check("config_reloaded" in node.tail(), f"log at level info:\n{node.tail()}")


@suite.case()
def needs_restart():
    """Keys that need a restart are named in answer, status, metric and log, keep their old values, and are forgotten when they are put back."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="50ms")
        good = node.config
        config = copy.deepcopy(good)
        config["tailrace"]["workers"] = 1
        config["tailrace"]["cluster"]["self"] = "another"
        config["receivers"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"] = 65
        answer = reload(node, config)
        keys = ["receivers.otlp.protocols.grpc.max_recv_msg_size_mib", "tailrace.cluster.self", "tailrace.workers"]
        equal((sorted(answer["needs_restart"]), answer["generation"], answer["last"]["outcome"]), (keys, 1, "unchanged"), "answer")
        equal(node.metrics().value("tailrace_config_needs_restart"), len(keys), "metric")
        equal((node.status()["workers"], node.status()["member"]), (2, "sampler-0"), "old values")
        check("config_needs_restart" in node.tail(), f"log:\n{node.tail()}")
        equal(reload(node, good)["needs_restart"], [], "after the old values are back")


@suite.case()
def reloads_in_a_row():
    """Many reloads under load: each is taken, no span is lost or doubled, and what they cost does not pile up."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        node = sampler(stage, sink, ALWAYS, wait="300ms")
        with Load(node) as load:
            for number in range(40):
                policies = [{"name": f"errors-{number % 7}", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}] + ALWAYS
                config = changed(node, policies=policies[number % 2:] + policies[:number % 2])
                config["exporters"]["otlp"]["headers"] = {"x-number": str(number)}
                reload(node, config)
                time.sleep(0.02)
            equal(loaded(node)["generation"], 41, "generation")
        until(lambda: len(sink.spans()) == len(load.spans), "all spans")
        same_once(ids(sink), load.spans, "spans at the backend")
        equal(load.failures, [], "requests that failed")
        metrics.check_sampler_books(node, held=0, exported=len(load.spans), dropped=0)


# -- the balancer --------------------------------------------------------------------------------------------------------------------------------

@suite.case()
def balancer_members():
    """A balancer takes over a changed list of samplers under load, and no request fails or is sent twice."""
    with Stage() as stage:
        members = [stage.serve(otlp.Member(f"sampler-{number}")) for number in range(3)]
        node = stage.lb("lb-0", [member.address for member in members[:1]], timeout="30s").wait_ready()
        with Load(node) as load:
            config = copy.deepcopy(node.config)
            config["exporters"]["loadbalancing"]["resolver"]["static"]["hostnames"] = [member.address for member in members]
            config["tailrace"]["outbox"] = {"limit_mib": 32}
            config["exporters"]["loadbalancing"]["protocol"]["otlp"]["timeout"] = "20s"
            answer = reload(node, config)
            equal(answer["needs_restart"], [], "keys that need a restart")
            until(lambda: node.status()["ring"]["members"] == 3, "three members in the ring")
            until(lambda: all(len(member.spans()) > 50 for member in members), "spans at each")
        equal(load.failures, [], "requests that failed")
        arrived = [span for member in members for span in ids(member)]
        same_once(arrived, load.spans, "spans at the members")


@suite.case()
def balancer_refuses_and_names():
    """A balancer keeps its configuration when the file is invalid, and names what needs a restart."""
    with Stage() as stage:
        member = stage.serve(otlp.Member("sampler-0"))
        node = stage.lb("lb-0", [member.address]).wait_ready()
        good = node.config
        config = copy.deepcopy(good)
        config["exporters"]["loadbalancing"]["resolver"] = {"static": {"hostnames": []}}
        put(node, config)
        status, answer = post(node)
        equal((status, answer["generation"]), (400, 1), f"answer ({answer})")
        check("resolver" in " ".join(answer["last"]["errors"]), f"errors: {answer}")
        want = send(node, [otlp.trace_id()])
        same_once(ids(member), want, "spans at the member")
        config = copy.deepcopy(good)
        config["tailrace"]["http_threads"] = 2
        config["exporters"]["loadbalancing"]["protocol"]["otlp"]["headers"] = {"x-new": "1"}
        config["tailrace"]["drain_timeout"] = "7s"
        put(node, config)
        os.kill(node.process.pid, signal.SIGHUP)
        until(lambda: loaded(node)["generation"] == 2, "the new configuration")
        equal(sorted(loaded(node)["needs_restart"]), ["exporters.loadbalancing.protocol.otlp.headers.x-new", "tailrace.http_threads"],
              "keys that need a restart")


if __name__ == "__main__":
    sys.exit(suite.main())
