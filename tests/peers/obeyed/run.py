#!/usr/bin/env python3
"""Keys of users' files that a running program must obey, seen from outside: retries, calls at one time, a proxy, files that
add up, the log, a health check, what is logged once a period, what a balancer says of its backends."""
import contextlib
import http.client
import http.server
import json
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from kit import metrics, otlp
from kit.proc import Node, Stage, free_port, lb_config, sampler_config
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("obeyed")

ALWAYS = [{"name": "all", "type": "always_sample"}]
PERIOD_S = 10  # of what is logged once a period


def start(stage, exporter, **options):
    """A sampler with one exporter, {id: keys}, that keeps everything and decides at once."""
    config = sampler_config("sampler-0", 1, ALWAYS, wait="50ms", **options)
    config["exporters"] = exporter
    config["service"]["pipelines"]["traces"]["exporters"] = list(exporter)
    sampler = stage.add(Node("sampler-0", "sampler/tailrace-sampler", config, stage.directory)).wait_ready()
    if "otlp" in exporter:  # a connection that takes long to be made costs the first request a try
        workers = sampler.status()["workers"]
        until(lambda: sampler.metrics().value("tailrace_exporter_links_up", exporter="otlp") == workers, "connections to the backend")
    return sampler


def to(sink, **keys):
    return {"otlp": {"endpoint": sink.address, "tls": {"insecure": True}, "compression": "none", "timeout": "30s", **keys}}


def send(node, traces=1, spans=3):
    request = otlp.request_of([otlp.trace_id() for _ in range(traces)], spans)
    with otlp.Client(node.address) as client:
        answer = client.export(request)
    equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 0), f"answer ({answer.message})")
    return [item.span.span_id for item in otlp.flatten(request)]


# -- retry_on_failure and sending_queue ---------------------------------------------------------------------

@suite.case()
def retries_off():
    """retry_on_failure.enabled: false gives a request one try; what it held is dropped and counted as failed."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sink.answer = lambda call: otlp.refuse(grpc.StatusCode.UNAVAILABLE, "later")(call) if call.number == 0 else b""
        sampler = start(stage, to(sink, retry_on_failure={"enabled": False}))
        lost = send(sampler)
        page = metrics.check_sampler_books(sampler, dropped=len(lost), exported=0, held=0)
        equal(page.value("otelcol_exporter_send_failed_spans_total", exporter="otlp"), len(lost), "spans counted as failed")
        equal(page.value("tailrace_exporter_retries_total", exporter="otlp"), 0, "retries")
        want = send(sampler)
        metrics.check_sampler_books(sampler, dropped=len(lost), exported=len(want), held=0)
        equal(len(sink.calls()), 2, "calls")


@suite.case()
def retries_wait_and_end():
    """Tries of a request are initial_interval apart, then that times multiplier up to max_interval; once max_elapsed_time is over it is
    given up."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sink.answer = otlp.refuse(grpc.StatusCode.UNAVAILABLE, "never")
        sampler = start(stage, to(sink, retry_on_failure={"initial_interval": "200ms", "multiplier": 2, "randomization_factor": 0,
                                                          "max_interval": "1s", "max_elapsed_time": "4s"}))
        lost = send(sampler)
        page = metrics.check_sampler_books(sampler, dropped=len(lost), exported=0, held=0)
        equal(page.value("otelcol_exporter_send_failed_spans_total", exporter="otlp"), len(lost), "spans counted as failed")
        at = [call.at_s for call in sink.calls()]
        gaps = [later - earlier for earlier, later in zip(at, at[1:])]
        # 0.2, 0.4, 0.8, 1 and 1 fit into four seconds, another does not; a slow machine may lose the last of them.
        check(1 <= len(gaps) <= 5, f"tries after {gaps} s")
        for gap, least in zip(gaps, (0.2, 0.4, 0.8, 1, 1)):
            check(gap > least - 0.05, f"tries after {gaps} s")


@suite.case("1", "3")
def consumers_bound_calls(number):
    """sending_queue.num_consumers calls are under way at one time, and no more, however much waits."""
    number = int(number)
    release = threading.Event()
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sink.answer = lambda call: release.wait(60 * slowness()) and b"" or b""
        sampler = start(stage, to(sink, timeout="60s", sending_queue={"num_consumers": number, "batch": {"max_size": 3, "sizer": "items"}}),
                        tailrace={"workers": 1})
        try:
            want = send(sampler, 20)
            until(lambda: len(sink.calls()) == number, "calls under way")
            time.sleep(0.5)
            equal(len(sink.calls()), number, "calls under way while more waits")
            equal(sampler.metrics().value("otelcol_exporter_in_flight_requests", exporter="otlp"), number, "what the metric says")
        finally:
            release.set()
        until(lambda: len(sink.spans()) == len(want), "all spans")
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend")


# -- what is logged once a period -------------------------------------------------------------------------------

@suite.case("refused", "partial")
def trouble_is_said_once_a_period(what):
    """A backend that refuses each request for good, or some spans of each, is counted each time and logged once a period."""
    requests = 30
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 1
    partial.partial_success.error_message = "one was odd"
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sink.answer = otlp.refuse(grpc.StatusCode.INVALID_ARGUMENT, "no such tenant") if what == "refused" else lambda call: partial
        begun = time.monotonic()
        sampler = start(stage, to(sink))
        for number in range(requests):
            send(sampler)
            until(lambda number=number: len(sink.calls()) == number + 1, "a call each")
        name, each = ("refused", 3) if what == "refused" else ("rejected", 1)
        until(lambda: sampler.metrics().value(f"tailrace_exporter_{name}_spans_total", exporter="otlp") == requests * each, "spans counted")
        lines = [line for line in sampler.log().decode().splitlines() if " export_trouble " in line]
        periods = (time.monotonic() - begun) / PERIOD_S
        check(1 <= len(lines) <= periods + 1, f"{len(lines)} lines in {periods:.1f} periods: {lines}")
        check(("no such tenant" if what == "refused" else "one was odd") in lines[0], f"the backend's words: {lines[0]}")


# -- a proxy ----------------------------------------------------------------------------------------------------

class Proxy:
    """A forward proxy that answers as the backend itself; `asked` holds the targets it was asked for."""

    def start(self):
        proxy = self
        self.asked, self.spans = [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                proxy.asked.append((self.path, self.headers["Host"]))
                proxy.spans += otlp.flatten(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@suite.case()
def proxy():
    """Requests of an OTLP/HTTP exporter with proxy_url go to the proxy, for a backend that only the proxy knows."""
    with Stage() as stage:
        between = stage.serve(Proxy())
        sampler = start(stage, {"otlphttp": {"endpoint": "http://backend.invalid:4318", "compression": "none", "proxy_url": between.url}})
        want = send(sampler)
        until(lambda: len(between.spans) == len(want), "spans at the proxy")
        same_once((item.span.span_id for item in between.spans), want, "spans at the proxy")
        equal(set(between.asked), {("http://backend.invalid:4318/v1/traces", "backend.invalid:4318")}, "what the proxy was asked for")
        metrics.check_sampler_books(sampler, exported=len(want), held=0, dropped=0)


@suite.case()
def environment_names_no_proxy():
    """HTTP_PROXY and its like change nothing: a proxy is what proxy_url says."""
    with Stage() as stage:
        between, sink = stage.serve(Proxy()), stage.serve(Proxy())
        names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy")
        before = {name: os.environ.get(name) for name in names}
        try:
            os.environ.update({name: between.url for name in names})
            config = sampler_config("sampler-0", 1, ALWAYS, wait="50ms")
            config["exporters"] = {"otlphttp": {"endpoint": sink.url, "compression": "none"}}
            config["service"]["pipelines"]["traces"]["exporters"] = ["otlphttp"]
            sampler = stage.add(Node("sampler-0", "sampler/tailrace-sampler", config, stage.directory))
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        sampler.wait_ready()
        want = send(sampler)
        until(lambda: len(sink.spans) == len(want), "spans at the backend")
        equal(between.asked, [], "what the proxy was asked for")


# -- several files ---------------------------------------------------------------------------------------------------

@suite.case()
def files_add_up():
    """Several --config files and --set make one configuration: maps are merged, later values win, and the program runs by them."""
    with Stage() as stage:
        sink, other = stage.serve(otlp.Sink()), stage.serve(otlp.Sink())
        base = sampler_config("sampler-0", other.port, [{"name": "none", "type": "latency", "latency": {"threshold_ms": 3600000}}], wait="60s")
        later = {"processors": {"tail_sampling": {"decision_wait": "50ms", "policies": ALWAYS}}}
        last = {"exporters": {"otlp": {"endpoint": "127.0.0.1:1", "headers": {"x-scope-orgid": "shop"}}}}
        words = []
        for name, part in (("later", later), ("last", last)):
            path = os.path.join(stage.directory, name + ".yaml")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(part, file)
            words += ["--config", path]
        base["@words"] = [*words, "--set", f"exporters.otlp.endpoint={sink.address}"]
        sampler = stage.add(Node("sampler-0", "sampler/tailrace-sampler", base, stage.directory)).wait_ready()
        want = send(sampler)
        until(lambda: len(sink.spans()) == len(want), "spans at the backend that --set names")
        metadata = sink.calls()[0].metadata
        equal((metadata.get("x-scope-orgid"), metadata.get("tailrace-node")), ("shop", "sampler-0"), "headers of both files")
        equal(other.calls(), [], "calls to the backend of the first file")


# -- the program's own log ----------------------------------------------------------------------------------------------

@suite.case("lb", "sampler")
def own_log(tier):
    """service.telemetry.logs: with encoding json each line is an object; with level error a node that is well says nothing."""
    with Stage() as stage:
        sink = stage.serve(otlp.Member("sampler-0"))
        for name, logs in (("json", {"encoding": "json"}), ("quiet", {"level": "error"})):
            config = lb_config([sink.address]) if tier == "lb" else sampler_config("sampler-0", sink.port, ALWAYS, wait="50ms")
            config["service"]["telemetry"] = {"logs": logs}
            node = stage.add(Node(name, f"{tier}/tailrace-{tier}", config, stage.directory)).wait_ready()
            send(node)
            node.stop()
            lines = node.log().decode().splitlines()
            if name == "quiet":
                equal(lines, [], "lines at level error")
                continue
            events = [json.loads(line) for line in lines]
            check(len(events) >= 3 and all(isinstance(event, dict) for event in events), f"lines: {lines}")


# -- health check -------------------------------------------------------------------------------------------------------

def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10 * slowness())
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


@suite.case("lb", "sampler")
def health_while_draining(tier):
    """The health check says 200 while a node serves and 503 while it drains, so that nothing new is sent to it."""
    release, port = threading.Event(), free_port()
    with Stage() as stage:
        if tier == "lb":
            behind = stage.serve(otlp.Member("sampler-0"))
            config = lb_config([behind.address], timeout="60s")
        else:
            behind = stage.serve(otlp.Sink())
            config = sampler_config("sampler-0", behind.port, ALWAYS, wait="50ms", exporter={"timeout": "60s"})
        behind.answer = lambda call: release.wait(60 * slowness()) and b"" or b""
        config["extensions"] = {"health_check": {"endpoint": f"127.0.0.1:{port}", "path": "/up"}}
        config["service"]["extensions"] = ["health_check"]
        node = stage.add(Node(f"{tier}-0", f"{tier}/tailrace-{tier}", config, stage.directory)).wait_ready()
        try:
            equal(get(port, "/up"), 200, "while it serves")
            with otlp.Client(node.address) as client:
                call = client.begin(otlp.request_of([otlp.trace_id()], 2), timeout_s=60)
                until(behind.calls, "a call behind it is under way")
                node.process.send_signal(signal.SIGTERM)
                until(lambda: get(port, "/up") == 503, "it says that it goes")
                check(node.running(), "it waits for what is under way")
                release.set()
                equal(otlp.answer_of(call).code, grpc.StatusCode.OK, "the request under way")
            equal(node.wait(), 0, "exit code")
        finally:
            release.set()


# -- what a balancer says of its backends ----------------------------------------------------------------------------------

@suite.case()
def backend_metrics():
    """A balancer shows the Collector's outcome and latency of each member: calls that failed and calls that were acknowledged, timed."""
    slow_s, calls = 0.3, 5
    with Stage() as stage:
        good, bad = stage.serve(otlp.Member("sampler-0")), stage.serve(otlp.Member("sampler-1"))
        good.answer = lambda call: time.sleep(slow_s) or b""
        bad.answer = otlp.refuse(grpc.StatusCode.INVALID_ARGUMENT, "no")
        node = stage.lb("lb-0", [good.address, bad.address], timeout="30s").wait_ready()
        until(lambda: node.metrics().value("otelcol_loadbalancer_num_backends") == 2, "both in the ring")
        with otlp.Client(node.address) as client:
            while len(good.calls()) < calls or len(bad.calls()) < calls:
                client.export(otlp.request_of([otlp.trace_id()], 1))

        def at_rest():
            page = node.metrics()
            ended = sum(page.value("otelcol_loadbalancer_backend_outcome_total", endpoint=member.address) for member in (good, bad))
            return page if ended == len(good.calls()) + len(bad.calls()) else None

        page = until(at_rest, "all calls ended")
        name = "otelcol_loadbalancer_backend_latency"
        for member, outcome, failed, timed in ((good, len(good.calls()), 0, len(good.calls())), (bad, 0, len(bad.calls()), 0)):
            labels = {"endpoint": member.address}
            equal(page.value("otelcol_loadbalancer_backend_outcome_total", success="true", **labels), outcome, "acknowledged")
            equal(page.value("otelcol_loadbalancer_backend_outcome_total", success="false", **labels), failed, "failed")
            equal(page.value(name + "_count", **labels), timed, "calls timed")
            equal(page.value(name + "_bucket", le="+Inf", **labels), timed, "calls of any length")
            equal(page.value(name + "_bucket", le="200", **labels), 0, "calls of up to 200 ms")
            check(page.value(name + "_sum", **labels) >= timed * slow_s * 1000 * 0.95, f"ms: {page.value(name + '_sum', **labels)}")


if __name__ == "__main__":
    sys.exit(suite.main())
