#!/usr/bin/env python3
"""HTTP at its edges, both ways: backends whose answers break off or make no sense cost no span and double none, and clients that die,
stall or send ahead cost a node no more than its bounds."""
import contextlib
import os
import random
import re
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kit import http1, metrics, otlp, wire
from kit.front import ALWAYS, Front
from kit.http1 import PROTOBUF, Connection
from kit.proc import Node, Stage, sampler_config
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("http_edges")

MIB = 1024 * 1024
FAST_RETRY = {"initial_interval": "50ms", "max_interval": "200ms", "max_elapsed_time": 0}
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


# -- backends that answer oddly ---------------------------------------------------------------------------


class RawSink:
    """Reads whole requests, and answers the first `odd_count` with bytes as they are, the others well."""

    def __init__(self, odd, odd_count=1, hold=False):
        self.odd, self.odd_count, self.hold = odd, odd_count, hold
        self.lock = threading.Lock()
        self.heads, self.requests, self.open = [], [], []

    def start(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with self.lock:
                    self.open.append(connection)
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as file:
            while True:
                head = b"".join(iter(file.readline, b"\r\n"))
                if not head:
                    return
                body = file.read(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
                with self.lock:
                    number = len(self.requests)
                    self.heads.append(head)
                    self.requests.append(ExportTraceServiceRequest.FromString(body))
                if number >= self.odd_count:
                    connection.sendall(GOOD)
                    continue
                connection.sendall(self.odd)
                if self.hold:
                    file.read(1)  # until the client has had enough
                return

    def ids(self):
        with self.lock:
            return [item.span.span_id for request in self.requests for item in otlp.flatten(request)]


def start(stage, sink, **options):
    config = sampler_config("sampler-0", 1, ALWAYS, wait="50ms", tailrace={"workers": 1})
    # Long enough that no try is given up because a busy machine held one side up.
    config["exporters"] = {"otlphttp": {"endpoint": sink.url, "compression": "none", "timeout": "60s", "retry_on_failure": FAST_RETRY, **options}}
    config["service"]["pipelines"]["traces"]["exporters"] = ["otlphttp"]
    return stage.add(Node("sampler-0", "sampler/tailrace-sampler", config, stage.directory)).wait_ready()


def send(sampler, count=3):
    request = otlp.request_of([otlp.trace_id()], count)
    with otlp.Client(sampler.address) as client:
        answer = client.export(request, timeout_s=30)
    equal(answer.rejected, 0, f"answer ({answer.message})")
    return [item.span.span_id for item in otlp.flatten(request)]


HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/x-protobuf\r\n"
TAKEN = {  # answers that say yes, whatever became of them then: (bytes, whether the connection then hangs)
    "body cut short": (HEAD % b"200 OK" + b"Content-Length: 100\r\n\r\n\x0a", False),
    "no body where one is announced": (HEAD % b"200 OK" + b"Content-Length: 100\r\n\r\n", False),
    "chunks cut short": (HEAD % b"202 Accepted" + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", False),
    "chunks that are none": (HEAD % b"200 OK" + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n", False),
    "body that never comes": (HEAD % b"200 OK" + b"Content-Length: 100\r\n\r\n", True),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Type: applica", False),
    "two lengths": (HEAD % b"200 OK" + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", False),
    "a megabyte of headers": (b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 14000, False),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", False),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n", False),
    "announced": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + GOOD, False),
}


@suite.case(*TAKEN)
def taken_once(name):
    """A backend that said 2xx has the spans: they are not sent again, however its answer ends."""
    odd, hold = TAKEN[name]
    with Stage() as stage:
        sink = stage.serve(RawSink(odd, hold=hold))
        # What hangs ends by its time; what is good is answered sooner even on a loaded machine.
        sampler = start(stage, sink, **({"timeout": f"{int(5 * slowness())}s"} if hold else {}))
        want = send(sampler)
        until(lambda: sampler.metrics().value("tailrace_spans_exported_total") == len(want), "spans exported")
        want += send(sampler)
        until(lambda: len(set(sink.ids())) == len(want), "the next ones")
        same_once(sink.ids(), want, "spans at the backend")
        metrics.check_sampler_books(sampler, exported=len(want), dropped=0, held=0)


AGAIN = {  # answers that are none, or say later
    "nothing": b"",
    "rubbish": b"\x00\x01\x02\x03 what?\r\n\r\n",
    "HTTP/0.9": b"OK\n",
    "announced only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "unavailable, cut short": HEAD % b"503 Service Unavailable" + b"Content-Length: 100\r\n\r\n\x0a",
    "overloaded, cut short": HEAD % b"429 Too Many Requests" + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
}


@suite.case(*AGAIN)
def tried_again(name):
    """What is no answer, or asks to come again, is followed by another try with the same spans, and the next answer counts."""
    with Stage() as stage:
        sink = stage.serve(RawSink(AGAIN[name], odd_count=2))
        sampler = start(stage, sink)
        want = send(sampler)
        until(lambda: sampler.metrics().value("tailrace_spans_exported_total") == len(want), "spans exported")
        equal(sorted(sink.ids()), sorted(want * 3), "spans at the backend, in three tries")
        metrics.check_sampler_books(sampler, exported=len(want), dropped=0, held=0)


@suite.case("400", "401", "500")
def refused_once(status):
    """A refusal for good is one, also when its body breaks off."""
    with Stage() as stage:
        sink = stage.serve(RawSink(HEAD % status.encode() + b"Content-Length: 100\r\n\r\n\x0a"))
        sampler = start(stage, sink)
        lost = send(sampler)
        until(lambda: sampler.metrics().value("tailrace_exporter_refused_spans_total", exporter="otlphttp") == len(lost), "spans refused")
        want = send(sampler)
        until(lambda: len(sink.ids()) >= len(lost) + len(want), "the next ones")
        same_once(sink.ids(), lost + want, "spans at the backend")
        metrics.check_sampler_books(sampler, exported=len(want), dropped=len(lost), held=0)


@suite.case("301", "302", "303", "307", "308")
def redirects_are_not_followed(status):
    """Credentials and spans go to the configured address only, wherever it points."""
    with Stage() as stage:
        elsewhere = stage.serve(RawSink(b"", odd_count=0))
        there = f"HTTP/1.1 {status} There\r\nLocation: {elsewhere.url}/v1/traces\r\nContent-Length: 0\r\n\r\n"
        sink = stage.serve(RawSink(there.encode()))
        sampler = start(stage, sink, headers={"authorization": "Bearer of-news"})
        lost = send(sampler)
        until(lambda: sampler.metrics().value("tailrace_exporter_refused_spans_total", exporter="otlphttp") == len(lost), "spans refused")
        check(b"of-news" in sink.heads[0], "the backend got the credentials")
        equal(elsewhere.heads, [], "what the other address got")
        check(b"of-news" not in sampler.log(), "no credentials in the log")
        metrics.check_sampler_books(sampler, dropped=len(lost), exported=0, held=0)


# -- clients ------------------------------------------------------------------------------------------------


@suite.case(timeout_s=180)
def one_body_always_fits():
    """A body within max_request_body_size is taken by an idle node, also when it is larger than what bodies share."""
    with Front("sampler", http={"max_request_body_size": 80 * MIB}, tailrace={"memory": {"limit_mib": 256}}) as stage:
        body = wire.field_bytes(99, bytes(70 * MIB))  # of a later version of the protocol
        for chunked in (None, [MIB]):
            with Connection(stage.node.http_address, 60) as connection:
                equal(connection.post(body, chunked=chunked).status, 200, "70 MiB")
        stage.expect_stored([stage.expect_alive()])


@suite.case(timeout_s=240)
def heads_share_the_bound():
    """Half heads, and what clients send ahead, are counted as bodies are: thousands of them cost no more than the bound."""
    count, size, limit = 3000, 60 * 1024, 64 * MIB
    with Front("sampler", http={"read_header_timeout": "120s"}, tailrace={"memory": {"limit_mib": 256}}) as stage:
        before = stage.node.rss_bytes()
        half = b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nX: " + b"y" * size
        with contextlib.ExitStack() as stack:
            peak = 0
            for number in range(count):
                connection = stack.enter_context(Connection(stage.node.http_address))
                with contextlib.suppress(OSError):
                    connection.send(half)
                if number % 100 == 0:
                    peak = max(peak, stage.node.rss_bytes() - before)
            check(peak < (limit + 48 * MIB) * slowness(), f"{count} half heads of 60 KiB: RSS grew by {peak / MIB:.0f} MiB")
        until(lambda: stage.node.metrics().value("tailrace_http_connections") == 0, "all are gone")
        request = otlp.request_of([otlp.trace_id()], 1)
        until(lambda: http1.post(stage.node.http_address, request.SerializeToString()).status == 200, "room again")
        stage.expect_stored([request])


@suite.case("lb", "sampler", timeout_s=240)
def clients_die(tier):
    """Clients that vanish at any byte (by FIN or by reset), also while a worker has their request, harm nobody else."""
    rng = random.Random(7)
    # What a client sends twice is one span while its trace waits: for long enough that a machine which stands still does not part the two.
    with Front(tier, lb={"http": {}}, http={}, wait="6s", tailrace={"http_threads": 2}) as stage:
        requests = [otlp.request_of([otlp.trace_id()], 2) for _ in range(300)]
        wanted = set()
        for request in requests:
            body = request.SerializeToString()
            data = http1.request(body, chunked=rng.choice([None, [7]])) * rng.choice([1, 1, 3])
            cut = rng.choice([len(data), rng.randrange(len(data))])
            with Connection(stage.node.http_address) as connection:
                connection.send(data[:cut])
                if rng.random() < 0.5:
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if cut == len(data):
                wanted.add(request.SerializeToString())
        until(lambda: stage.node.metrics().value("tailrace_http_connections") == 0, "all are gone")
        alive = stage.expect_alive()
        last = {item.span.span_id for item in otlp.flatten(alive)}
        until(lambda: last <= {item.span.span_id for item in stage.sink.spans()}, "a good request afterwards")
        until(lambda: stage.samplers[0].metrics().value("tailrace_spans_held") == 0, "all is settled")
        metrics.check_sampler_books(stage.samplers[0], held=0, dropped=0)
        ids = [item.span.span_id for item in stage.sink.spans()]
        equal(len(ids), len(set(ids)), "spans at the backend, each once")
        equal(stage.node.metrics().value("tailrace_requests_in_flight"), 0, "requests in flight")


if __name__ == "__main__":
    sys.exit(suite.main())
