#!/usr/bin/env python3
"""What backends get from a sampler over OTLP/HTTP and OTLP/gRPC, whatever they answer: every survivor once to each
exporter, in the form that was asked for, and what one backend does costs the others nothing.

The HTTP backend is Python's own server, read with the official protobuf classes.
"""
import email.utils
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc
from google.rpc import status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from kit import metrics, otlp
from kit.http_sink import HttpSink, accept, close, say
from kit.proc import Node, Stage, free_port, sampler_config
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("export")

MIB = 1024 * 1024
ALWAYS = [{"name": "all", "type": "always_sample"}]
FAST_RETRY = {"initial_interval": "50ms", "max_interval": "200ms", "max_elapsed_time": 0}


# -- the sampler ------------------------------------------------------------------------------------------

def to_http(sink, **options):
    return {"endpoint": sink.url, "compression": "none", "retry_on_failure": FAST_RETRY, **options}


def to_grpc(port, **options):
    # The timeout: a try that was answered too late would be made again.
    return {"endpoint": f"127.0.0.1:{port}", "tls": {"insecure": True}, "compression": "none", "timeout": "30s", "retry_on_failure": FAST_RETRY,
            **options}


def start(stage, exporters, workers=1, **options):
    """A sampler that keeps everything and exports by these."""
    config = sampler_config("sampler-0", 1, ALWAYS, wait="50ms", tailrace={"workers": workers, **options.pop("tailrace", {})}, **options)
    config["exporters"] = exporters
    config["service"]["pipelines"]["traces"]["exporters"] = list(exporters)
    return stage.add(Node("sampler-0", "sampler/tailrace-sampler", config, stage.directory)).wait_ready()


def send(sampler, traces=20, spans=3, **options):
    """Returns the IDs of the spans that were sent and acknowledged."""
    request = otlp.request_of([otlp.trace_id() for _ in range(traces)], spans, **options)
    with otlp.Client(sampler.address) as client:
        answer = client.export(request, timeout_s=30)
    equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 0), f"answer ({answer.message})")
    return [item.span.span_id for item in otlp.flatten(request)]


def exporter_value(sampler, name, exporter):
    return sampler.metrics().value(name, exporter=exporter)


def expect_all(sampler, sink_ids, want, what="spans at the backend"):
    until(lambda: len(set(sink_ids())) >= len(set(want)), what)
    same_once(sink_ids(), want, what)


def log_lines(sampler, event):
    return [line for line in sampler.log().decode(errors="replace").splitlines() if f" {event} " in line]


# -- OTLP/HTTP: what goes out -------------------------------------------------------------------------------

@suite.case("none", "gzip", "zstd")
def http_bodies(compression):
    """Every survivor arrives once, byte for byte, on kept connections, in the encoding that was asked for."""
    with Stage() as stage:
        sink = stage.serve(HttpSink())
        sampler = start(stage, {"otlphttp": to_http(sink, compression=compression)})
        request = otlp.request_of([otlp.trace_id() for _ in range(50)], 4, size_bytes=300)
        with otlp.Client(sampler.address) as client:
            equal(client.export(request).code, grpc.StatusCode.OK, "answer")
        want = [item.span.SerializeToString(deterministic=True) for item in otlp.flatten(request)]
        expect_all(sampler, lambda: [item.span.SerializeToString(deterministic=True) for item in sink.spans()], want)
        for call in sink.seen():
            equal(call.path, "/v1/traces", "path")
            equal(call.headers["Content-Type"], "application/x-protobuf", "Content-Type")
            equal(call.headers.get("Content-Encoding"), None if compression == "none" else compression, "Content-Encoding")
            equal(call.headers.get("Expect"), None, "Expect")
            check(call.headers["User-Agent"].startswith("tailrace-sampler/"), f"User-Agent {call.headers['User-Agent']}")
            check(compression == "none" or len(call.raw) < len(call.body), "compressed bodies are smaller")
        for number in range(5):  # one call after the other: those at the same time have a connection each
            metrics.check_sampler_books(sampler, exported=200 + 6 * number, held=0)
            send(sampler, 2)
        until(lambda: len(sink.ids()) == 200 + 30, "further spans")
        peers = {call.peer for call in sink.seen()}
        check(len(peers) < len(sink.seen()), f"{len(sink.seen())} calls on {len(peers)} connections: none was kept")
        page = metrics.check_sampler_books(sampler, received=230, exported=230, held=0, dropped=0)
        equal(page.value("otelcol_exporter_sent_spans_total", exporter="otlphttp"), 230, "spans counted as sent")


@suite.case("http", "grpc")
def headers(transport):
    """Static headers, the user agent and the authority are those of the configuration."""
    with Stage() as stage:
        options = {"headers": {"X-Scope-OrgID": "tenant-1", "Authorization": "Bearer secret"}}
        if transport == "http":
            sink = stage.serve(HttpSink())
            sampler = start(stage, {"otlphttp": to_http(sink, **options)})
        else:
            sink = stage.serve(otlp.Sink())
            sampler = start(stage, {"otlp": to_grpc(sink.port, **options)})
        want = send(sampler)
        until(lambda: len(sink.spans()) == len(want), "spans")
        if transport == "http":
            got = {name.lower(): value for name, value in sink.seen()[0].headers.items()}
        else:
            got = sink.calls()[0].metadata
        equal((got["x-scope-orgid"], got["authorization"]), ("tenant-1", "Bearer secret"), "headers")
        check("tailrace-sampler/" in got["user-agent"], f"user agent {got['user-agent']}")


@suite.case()
def grpc_gzip():
    """gRPC messages are compressed by us: the backend, by C-core's own decompression, gets each span once."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sampler = start(stage, {"otlp": to_grpc(sink.port, compression="gzip")})
        want = send(sampler, 100, 5, size_bytes=200)
        expect_all(sampler, lambda: [item.span.span_id for item in sink.spans()], want)
        page = metrics.check_sampler_books(sampler, exported=len(want), held=0)
        plain = page.value("tailrace_exporter_uncompressed_bytes_total", exporter="otlp")
        packed = page.value("tailrace_exporter_compressed_bytes_total", exporter="otlp")
        equal(plain, sum(len(call.data) for call in sink.calls()), "bytes before compression")
        check(0 < packed < plain, f"{plain} bytes became {packed}")
        equal(sink.calls()[0].metadata.get("grpc-internal-encoding-request"), None, "no word of the library's own goes out")


# -- OTLP/HTTP: what comes back --------------------------------------------------------------------------------

@suite.case("429", "502", "503", "504", "closed")
def tried_again(what):
    """What says `later` is tried again with the same bytes until it is taken: nothing is lost or doubled."""
    refusals = 3
    refuse = close if what == "closed" else say(int(what), b"later", "text/plain")

    with Stage() as stage:
        sink = stage.serve(HttpSink(lambda call: refuse(call) if call.number < refusals else accept(call)))
        sampler = start(stage, {"otlphttp": to_http(sink, sending_queue={"num_consumers": 1})})
        want = send(sampler)
        expect_all(sampler, sink.ids, want)
        first = sink.seen()[:refusals + 1]
        equal(len({call.raw for call in first}), 1, "different bodies among the tries of one request")
        page = metrics.check_sampler_books(sampler, received=len(want), exported=len(want), held=0, dropped=0)
        equal(page.value("tailrace_exporter_retries_total", exporter="otlphttp"), refusals, "retries")
        trouble = log_lines(sampler, "export_trouble")
        check(len(trouble) == 1 and (what == "closed" or f"HTTP {what}" in trouble[0]), f"said once a period: {trouble}")


@suite.case("seconds", "date")
def retry_after(form):
    """Retry-After is obeyed, in seconds and as a date, by 429 as by 503."""
    wait_s = 3
    times = []

    def answer(call):
        times.append(time.monotonic())
        if call.number == 0:
            given = str(wait_s) if form == "seconds" else email.utils.formatdate(time.time() + wait_s + 1, usegmt=True)
            return say(429 if form == "seconds" else 503, Retry_After=given)(call)
        return accept(call)

    with Stage() as stage:
        sink = stage.serve(HttpSink(answer))
        sampler = start(stage, {"otlphttp": to_http(sink)})
        expect_all(sampler, sink.ids, send(sampler, 1))
        # A date has whole seconds: it may be up to one earlier than what was asked for.
        check(times[1] - times[0] >= wait_s - 0.05, f"tried again after {times[1] - times[0]:.3f} s, named were {wait_s}")


STATUS = status_pb2.Status(code=3, message="attribute limit passed")
FINAL = {
    "protobuf Status": (400, "application/x-protobuf", STATUS.SerializeToString(), "attribute limit passed"),
    "JSON Status": (400, "application/json", json.dumps({"code": 3, "message": "attribute limit passed"}).encode(), "attribute limit passed"),
    "text": (401, "text/plain", b"who are you\r\nanyway", "who are you"),
    "nothing": (404, "text/plain", b"", "HTTP 404"),
    "500": (500, "text/html", b"<h1>oops</h1>", "<h1>oops</h1>"),
    "redirect": (302, "text/plain", b"elsewhere", "HTTP 302"),
    "endless body": (403, "text/plain", b"no" * MIB, "HTTP 403"),
    "broken protobuf": (400, "application/x-protobuf", b"\xff\xff\xff", "HTTP 400"),
    "deep JSON": (400, "application/json", b"[" * 100000, "HTTP 400"),
}


@suite.case(*FINAL)
def final_refusal(name):
    """What is refused for good is dropped, counted and logged with the backend's words; what comes next is not harmed."""
    status, content_type, body, words = FINAL[name]
    with Stage() as stage:
        sink = stage.serve(HttpSink(lambda call: say(status, body, content_type)(call) if call.number == 0 else accept(call)))
        sampler = start(stage, {"otlphttp": to_http(sink)})
        lost = send(sampler, 1)
        until(lambda: exporter_value(sampler, "tailrace_exporter_refused_spans_total", "otlphttp") == len(lost), "spans counted as refused")
        want = send(sampler, 1)
        expect_all(sampler, sink.ids, want)
        equal(len(sink.seen()), 2, "calls")
        page = metrics.check_sampler_books(sampler, exported=len(want), dropped=len(lost), held=0)
        equal(page.value("tailrace_spans_dropped_total", reason="export_failed"), len(lost), "spans dropped by the books")
        trouble = log_lines(sampler, "export_trouble")
        check(len(trouble) == 1 and words in trouble[0], f"the backend's words are logged: {trouble}")


@suite.case()
def too_large_goes_in_halves():
    """413 makes a request smaller, until the backend takes its parts."""
    limit = 300 * 1024

    with Stage() as stage:
        sink = stage.serve(HttpSink(lambda call: accept(call) if len(call.body) <= limit else say(413, b"too large", "text/plain")(call)))
        sampler = start(stage, {"otlphttp": to_http(sink)})
        want = send(sampler, 1, 40, size_bytes=50_000)
        expect_all(sampler, sink.ids, want)
        metrics.check_sampler_books(sampler, exported=len(want), dropped=0, held=0)


@suite.case("http", "grpc")
def partial_success(transport):
    """Spans that a backend took not are counted, said once, and not sent again."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 2
    response.partial_success.error_message = "two were odd"
    with Stage() as stage:
        if transport == "http":
            sink = stage.serve(HttpSink(say(200, response.SerializeToString())))
            sampler = start(stage, {"otlphttp/x": to_http(sink)})
            name = "otlphttp/x"
        else:
            sink = stage.serve(otlp.Sink())
            sink.answer = lambda call: response
            sampler = start(stage, {"otlp/x": to_grpc(sink.port)})
            name = "otlp/x"
        want = send(sampler, 1, 5)
        until(lambda: exporter_value(sampler, "tailrace_exporter_rejected_spans_total", name) == 2, "spans counted as rejected")
        same_once([item.span.span_id for item in sink.spans()], want, "spans sent")
        trouble = until(lambda: log_lines(sampler, "export_trouble"), "a line in the log")
        check("two were odd" in trouble[0], f"the backend's words are logged: {trouble}")
        metrics.check_sampler_books(sampler, exported=5, dropped=0, held=0)


@suite.case()
def hanging_backend():
    """A backend that takes calls and does not answer: each try ends by the timeout and nothing is lost once it wakes up."""
    release = threading.Event()

    def answer(call):
        if call.number < 2:
            release.wait(60 * slowness())
            return None
        return accept(call)

    with Stage() as stage:
        sink = stage.serve(HttpSink(answer))
        # Longer than a loaded machine lets the backend wait: a try that was answered too late would be made again.
        sampler = start(stage, {"otlphttp": to_http(sink, timeout=f"{int(3000 + 1000 * slowness())}ms", sending_queue={"num_consumers": 1})})
        try:
            want = send(sampler, 5)
            expect_all(sampler, sink.ids, want)
        finally:
            release.set()
        check(exporter_value(sampler, "tailrace_exporter_failed_calls_total", "otlphttp") >= 2, "calls counted as failed")
        metrics.check_sampler_books(sampler, exported=len(want), dropped=0, held=0)


@suite.case("http", "grpc")
def backend_comes_and_goes(transport):
    """A backend that is not there yet, and one that goes away, gets everything when it is there."""
    port = free_port()

    def serve():
        return stage.serve(HttpSink(port=port) if transport == "http" else otlp.Sink(port))

    with Stage() as stage:
        exporter = {"endpoint": f"http://127.0.0.1:{port}", "compression": "none", "retry_on_failure": FAST_RETRY}
        name = "otlphttp" if transport == "http" else "otlp"
        sampler = start(stage, {name: exporter if transport == "http" else to_grpc(port)})
        want = send(sampler)
        until(lambda: log_lines(sampler, "backend_down"), "the link is known to be down")
        until(lambda: exporter_value(sampler, "tailrace_exporter_links_up", name) == 0, "no link is up")
        first = serve()
        until(lambda: len(first.spans()) == len(want), "what waited arrives")
        metrics.check_sampler_books(sampler, exported=len(want), held=0)  # it has heard so: what has no answer is sent again
        first.stop()
        late = send(sampler)
        time.sleep(0.3)
        second = serve()
        until(lambda: len(second.spans()) == len(late), "what came meanwhile arrives")
        same_once([item.span.span_id for item in first.spans() + second.spans()], want + late, "spans at both lives of the backend")
        metrics.check_sampler_books(sampler, exported=len(want) + len(late), dropped=0, held=0)


# -- several exporters ----------------------------------------------------------------------------------------

@suite.case("1", "2", timeout_s=240)
def one_of_two_is_dead(workers):
    """The living one gets everything once, meanwhile; the dead one costs the survivors' bytes once; later it gets all too."""
    port = free_port()
    spans, size = 4000, 4000
    with Stage() as stage:
        alive = stage.serve(HttpSink())
        sampler = start(stage, {"otlphttp": to_http(alive), "otlp/dead": to_grpc(port), "nop": {}}, workers=int(workers),
                        tailrace={"memory": {"limit_mib": 256}})
        base = sampler.rss_bytes()
        want = []
        for _ in range(10):
            want += send(sampler, spans // 20, 2, size_bytes=size)
        expect_all(sampler, alive.ids, want)

        def at_rest():
            page = metrics.check_sampler_books(sampler, received=spans, exported=0, dropped=0, held=spans)
            equal(page.value("otelcol_exporter_sent_spans_total", exporter="otlphttp"), spans, "sent by the living one")
            equal(page.value("otelcol_exporter_sent_spans_total", exporter="nop"), spans, "sent by nop")
            equal(page.value("tailrace_exporter_queue_spans", exporter="otlphttp"), 0, "waiting at the living one")
            equal(page.value("tailrace_exporter_queue_spans", exporter="otlp/dead"), spans, "waiting at the dead one")
            return page

        page = metrics.at_rest(at_rest)
        held = page.value("tailrace_store_used_bytes")
        check(held < 1.5 * spans * size, f"{held} bytes of store for {spans * size} of spans: held more than once")
        grown = sampler.rss_bytes() - base
        # A sanitizer keeps what was freed for a while.
        check(grown < 3 * spans * size + 64 * MIB * slowness(), f"memory grew by {grown}")
        status = {entry["name"]: entry for entry in sampler.status()["exporters"]}
        equal(sorted(status), ["nop", "otlp/dead", "otlphttp"], "exporters on /status")
        equal((status["otlp/dead"]["links_up"], status["otlp/dead"]["queue_spans"]), (0, spans), "the dead one on /status")

        reborn = stage.serve(otlp.Sink(port))
        until(lambda: len(reborn.spans()) >= spans, "the dead one gets what waited", timeout_s=60)
        same_once([item.span.span_id for item in reborn.spans()], want, "spans at the reborn one")
        metrics.check_sampler_books(sampler, received=spans, exported=spans, dropped=0, held=0)


@suite.case()
def one_of_two_refuses():
    """A final refusal by one does not stop the other; the books call such spans dropped, and say that one delivered them."""
    with Stage() as stage:
        good, bad = stage.serve(HttpSink()), stage.serve(HttpSink(say(400, b"no", "text/plain")))
        sampler = start(stage, {"otlphttp/good": to_http(good), "otlphttp/bad": to_http(bad)})
        want = send(sampler)
        expect_all(sampler, good.ids, want)
        page = metrics.check_sampler_books(sampler, exported=0, dropped=len(want), held=0)
        equal(page.value("tailrace_spans_dropped_total", reason="export_failed"), len(want), "dropped by the books")
        equal(page.value("tailrace_spans_exported_partly_total"), len(want), "delivered by one of them")
        equal(page.value("otelcol_exporter_sent_spans_total", exporter="otlphttp/good"), len(want), "sent by the good one")
        equal(page.value("tailrace_exporter_refused_spans_total", exporter="otlphttp/bad"), len(want), "refused by the bad one")


@suite.case()
def full_queue_of_one():
    """A queue that the user bounded and that is full costs its own exporter's spans only."""
    with Stage() as stage:
        good, port = stage.serve(HttpSink()), free_port()
        sampler = start(stage, {"otlphttp": to_http(good), "otlp/dead": to_grpc(port, sending_queue={"queue_size": 10})})
        until(lambda: log_lines(sampler, "backend_down"), "the dead one is known to be dead")
        want = send(sampler, 50, 2)
        expect_all(sampler, good.ids, want)
        page = metrics.check_sampler_books(sampler, received=100, dropped=80, held=20)
        equal(page.value("otelcol_exporter_enqueue_failed_spans_total", exporter="otlp/dead"), 80, "found the queue full")
        stage.serve(otlp.Sink(port))  # what waits is delivered


# -- batches -----------------------------------------------------------------------------------------------------

@suite.case("items", "bytes")
def batch_limits(sizer):
    """No request holds more than max_size, even of one large trace; min_size makes requests wait for each other."""
    most = 50 if sizer == "items" else 100_000
    batch = {"flush_timeout": "300ms", "min_size": most // 2, "max_size": most, "sizer": sizer}
    with Stage() as stage:
        sink = stage.serve(HttpSink())
        sampler = start(stage, {"otlphttp": to_http(sink, sending_queue={"batch": batch})})
        want = send(sampler, 1, 333, size_bytes=1000) + send(sampler, 30, 2, size_bytes=1000)
        expect_all(sampler, sink.ids, want)
        sizes = [len(otlp.flatten(call.request)) if sizer == "items" else len(call.body) for call in sink.seen()]
        check(max(sizes) <= most, f"a request of {max(sizes)} {sizer}, at most {most} were allowed")
        check(len(sizes) <= (len(want) / most if sizer == "items" else 450_000 / most) * 3 + 3, f"{len(sizes)} requests: {sizes}")
        metrics.check_sampler_books(sampler, exported=len(want), held=0, dropped=0)


# -- debug and nop -------------------------------------------------------------------------------------------------

@suite.case("basic", "normal", "detailed")
def debug_exporter(verbosity):
    """The debug exporter writes what it says, and counts as any other."""
    with Stage() as stage:
        sampler = start(stage, {"debug": {"verbosity": verbosity}})
        request = otlp.request_of([otlp.trace_id()], 3, service="till \"7\"", name="pay = now")
        span = otlp.flatten(request)[0].span
        attribute = span.attributes.add(key="card")
        attribute.value.string_value = "visa\nelectron"
        event = span.events.add(name="swiped", time_unix_nano=5)
        event.attributes.add(key="n").value.int_value = 7
        span.links.add(trace_id=b"\1" * 16, span_id=b"\2" * 8)
        with otlp.Client(sampler.address) as client:
            equal(client.export(request).code, grpc.StatusCode.OK, "answer")
        page = metrics.check_sampler_books(sampler, exported=3, held=0, dropped=0)
        equal(page.value("otelcol_exporter_sent_spans_total", exporter="debug"), 3, "spans counted as sent")
        traces = log_lines(sampler, "debug_traces")
        check(len(traces) == 1 and "resource_spans=1 spans=3" in traces[0], f"one line a request: {traces}")
        spans = log_lines(sampler, "debug_span")
        equal(len(spans), 0 if verbosity == "basic" else 3, "lines of spans")
        if verbosity == "basic":
            return
        line = next(line for line in spans if span.span_id.hex() in line)
        for word in (span.trace_id.hex(), 'name="pay = now"', "kind=server", "card", "electron"):
            check(word in line, f"{word} in {line}")
        for event_name, words in {"debug_resource": ("till",), "debug_scope": ('name="test"',), "debug_event": ("swiped", "7"),
                                  "debug_link": ("01" * 16, "02" * 8)}.items():
            lines = log_lines(sampler, event_name)
            equal(len(lines), 1 if verbosity == "detailed" else 0, f"lines {event_name}")
            if verbosity == "detailed":
                check(all(word in lines[0] for word in words), f"{words} in {lines[0]}")


@suite.case()
def nop_exporter():
    """nop takes everything and sends nothing."""
    with Stage() as stage:
        sampler = start(stage, {"nop": {}})
        want = send(sampler)
        page = metrics.check_sampler_books(sampler, exported=len(want), held=0, dropped=0)
        equal(page.value("otelcol_exporter_sent_spans_total", exporter="nop"), len(want), "spans counted as sent")


# -- the end ----------------------------------------------------------------------------------------------------------

@suite.case()
def stop_delivers():
    """SIGTERM: what is held is decided and delivered before the sampler ends."""
    with Stage() as stage:
        sink, slow = stage.serve(HttpSink()), stage.serve(HttpSink(lambda call: time.sleep(0.3) or accept(call)))
        sampler = start(stage, {"otlphttp/a": to_http(sink), "otlphttp/b": to_http(slow, compression="gzip")}, tail={"decision_wait": "60s"})
        want = send(sampler, 200)
        sampler.stop()
        same_once(sink.ids(), want, "spans at the first backend")
        same_once(slow.ids(), want, "spans at the slow backend")


@suite.case()
def stop_with_a_dead_backend():
    """A second signal ends a sampler whose backend hangs, and what was under way is given up cleanly."""
    release = threading.Event()
    with Stage() as stage:
        sink = stage.serve(HttpSink(lambda call: release.wait(60 * slowness()) and None))
        sampler = start(stage, {"otlphttp": to_http(sink), "otlphttp/none": {"endpoint": f"http://127.0.0.1:{free_port()}"}})
        try:
            send(sampler, 5)
            until(lambda: sink.seen(), "a call is under way")
            sampler.terminate()
            until(lambda: log_lines(sampler, "draining"), "it drains")
            sampler.terminate()
            equal(sampler.wait(), 3, "exit status of a drain that was cut short")
            sampler.check_log()
        finally:
            release.set()
            stage.programs.remove(sampler)


if __name__ == "__main__":
    sys.exit(suite.main())
