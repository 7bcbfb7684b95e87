#!/usr/bin/env python3
"""OTLP over HTTP: what a balancer and a sampler answer to good, bad and hostile clients, byte for byte, and that nobody costs them
more memory or time than their bounds say.

Each case runs against both tiers where it concerns both: [lb] is a balancer before a sampler, [sampler] a sampler alone.
"""
import base64
import contextlib
import gzip
import json
import os
import re
import socket
import sys
import threading
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import zstandard
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kit import http1, metrics, otlp
from kit.front import BAD_SPANS, BROKEN_FRAMING, Front, good_span, nested, rejected_counts
from kit.http1 import JSON, PROTOBUF, Connection, post
from kit.proc import Stage, listens
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("http")

MIB = 1024 * 1024
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE = 3, 8, 14


def front(tier, http=None, **options):
    """A node whose receiver speaks HTTP with these keys."""
    return Front(tier, lb={"http": http or {}, **options.pop("lb", {})}, http=http or {}, **options)


def to_json(request):
    """As OTLP writes it: IDs in hex, not in base64."""
    tree = json_format.MessageToDict(request)
    for resource in tree.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(tree).encode()


def zstd(data, **options):
    return zstandard.ZstdCompressor(**options).compress(data)


def bodies(request):
    """(content type, body) of the same request in both formats."""
    return [(PROTOBUF, request.SerializeToString()), (JSON, to_json(request))]


def expect_success(answer, content_type, what):
    equal((answer.status, answer.headers.get("content-type")), (200, content_type), f"{what}: {answer}")
    equal(answer.body, b"" if content_type == PROTOBUF else b"{}", f"{what}: partial_success is unset")


def expect_refusal(answer, status, code, content_type, what):
    equal((answer.status, answer.headers.get("content-type")), (status, content_type), f"{what}: {answer}")
    got, message, retry_s = http1.refusal(answer)
    equal(got, code, f"{what}: code in the body")
    check(message, f"{what}: the body says why")
    return retry_s


# -- what is taken -------------------------------------------------------------------------------------


@suite.case("lb", "sampler")
def every_form(tier):
    """Protobuf and JSON, in every coding, in one piece or in chunks, with and without keep-alive: the same spans arrive."""
    with front(tier) as stage:
        sent = []
        codings = {None: lambda data: data, "identity": lambda data: data, "gzip": gzip.compress, "zstd": zstd, "deflate": zlib.compress,
                   "zlib": zlib.compress}
        with Connection(stage.node.http_address) as kept:
            for name, pack in codings.items():
                for kind in (PROTOBUF, JSON):
                    for chunked in (None, [1, 2, 3, 1000]):
                        request = otlp.request_of([otlp.trace_id() for _ in range(3)], 2)
                        body = dict(bodies(request))[kind]
                        headers = {"Content-Encoding": name} if name else {}
                        answer = kept.post(pack(body), kind + "; charset=utf-8", headers=headers, chunked=chunked)
                        expect_success(answer, kind, f"{kind} {name} chunked={chunked}")
                        check(not answer.closed, "the connection stays")
                        sent.append(request)
        request = otlp.request_of([otlp.trace_id()], 1)
        answer = post(stage.node.http_address, gzip.compress(request.SerializeToString()[:20]) + gzip.compress(request.SerializeToString()[20:]),
                      headers={"Content-Encoding": "gzip"})
        expect_success(answer, PROTOBUF, "two gzip members")
        sent.append(request)
        request = otlp.request_of([otlp.trace_id()], 1)
        answer = post(stage.node.http_address, request.SerializeToString(), version="HTTP/1.0")
        expect_success(answer, PROTOBUF, "HTTP/1.0")
        check(answer.closed, "HTTP/1.0 closes unless asked")
        sent.append(request)
        expect_success(post(stage.node.http_address, b""), PROTOBUF, "an empty request")
        expect_success(post(stage.node.http_address, b"{}", JSON), JSON, "an empty request")
        page = stage.node.metrics()
        spans = sum(otlp.span_count(request) for request in sent)
        equal(page.value("otelcol_receiver_accepted_spans_total", transport="http"), spans, "accepted over HTTP")
        equal(page.value("otelcol_receiver_accepted_spans_total", transport="grpc"), 0, "accepted over gRPC")
        equal(page.value("tailrace_requests_total"), len(sent) + 2, "requests")
        stage.expect_stored(sent)


@suite.case("lb", "sampler")
def large_body(tier):
    """A body just under max_request_body_size is taken in any coding; more is 413, final, whatever way it comes."""
    with front(tier, http={"max_request_body_size": 2 * MIB}) as stage:
        # Protobuf's own size is what counts; the padding is hexadecimal text.
        under = otlp.request_of([otlp.trace_id() for _ in range(8)], 1, size_bytes=2 * MIB // 8 - 4096)
        over = otlp.request_of([otlp.trace_id() for _ in range(8)], 1, size_bytes=2 * MIB // 8 + 4096).SerializeToString()
        whole = under.SerializeToString()
        check(2 * MIB * 0.97 < len(whole) < 2 * MIB, f"the request under the limit has {len(whole)} bytes")
        expect_success(post(stage.node.http_address, whole), PROTOBUF, "under the limit")
        more = []
        for headers, pack, chunked in (({"Content-Encoding": "gzip"}, gzip.compress, None), ({"Content-Encoding": "zstd"}, zstd, None),
                                       ({}, bytes, [70000])):
            request = otlp.request_of([otlp.trace_id() for _ in range(8)], 1, size_bytes=2 * MIB // 8 - 4096)
            expect_success(post(stage.node.http_address, pack(request.SerializeToString()), headers=headers, chunked=chunked), PROTOBUF, f"{headers} {chunked}")
            more.append(request)
        cases = [(over, {}, None), (over, {}, [70000]), (gzip.compress(over), {"Content-Encoding": "gzip"}, None), (zstd(over), {"Content-Encoding": "zstd"}, None)]
        for body, headers, chunked in cases:
            answer = post(stage.node.http_address, body, headers=headers, chunked=chunked)
            equal(expect_refusal(answer, 413, RESOURCE_EXHAUSTED, PROTOBUF, f"{headers} {chunked}"), None, "final")
            check("retry-after" not in answer.headers, "final")
        answer = post(stage.node.http_address, b'{"x":"' + b"y" * (2 * MIB) + b'"}', JSON)
        expect_refusal(answer, 413, RESOURCE_EXHAUSTED, JSON, "JSON")
        equal(stage.refused("too_large"), 5, "refusals counted")
        stage.expect_stored([under] + more + [stage.expect_alive()])


# -- the table of bad input --------------------------------------------------------------------------------


@suite.case("lb", "sampler")
def malformed(tier):
    """Bytes that are no request give 400 with a Status in the request's format; nothing is stored and the connection goes on."""
    with front(tier) as stage, Connection(stage.node.http_address) as kept:
        for name, data in BROKEN_FRAMING.items():
            answer = kept.post(data)
            equal(expect_refusal(answer, 400, INVALID_ARGUMENT, PROTOBUF, name), None, "final")
        bad_json = ["", "x", "{", "[]", "null x", "{\"resourceSpans\":{}}", "{\"resourceSpans\":[", "{} {}", "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"00\"",
                    "{\"resourceSpans\":" + "[" * 100000, "{\"a\":" * 100000, "[" * 300 + "]" * 300, "\xff\xfe", "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"zz\"}]}]}]}"]
        for data in bad_json:
            answer = kept.post(data.encode("latin-1"), JSON)
            equal(expect_refusal(answer, 400, INVALID_ARGUMENT, JSON, data[:60]), None, "final")
        equal(stage.refused("malformed"), len(BROKEN_FRAMING) + len(bad_json), "refusals counted")
        stage.expect_stored([stage.expect_alive()])


@suite.case("lb", "sampler")
def bad_spans(tier):
    """A bad span among good ones is counted in partial_success, in the request's format; the good ones are stored."""
    with front(tier) as stage, Connection(stage.node.http_address) as kept:
        sent, want = [], {"no_trace_id": 0, "no_span_id": 0, "malformed": 0, "member": 0}
        for name, (bad, at_sampler, at_lb) in BAD_SPANS.items():
            good = [good_span(name="first"), good_span(name="last")]
            answer = kept.post(nested(good[0].SerializeToString(), bad, good[1].SerializeToString()))
            equal(answer.status, 200, name)
            partial = http1.success(answer)
            equal(partial.rejected_spans, 1, f"{name}: rejected")
            check(partial.error_message, f"{name}: says why")
            sent.extend(good)
            want[at_lb if tier == "lb" else at_sampler] += 1
        got = rejected_counts(stage.node.metrics())
        got["member"] = stage.node.metrics().value("tailrace_spans_rejected_total", reason="member") if tier == "lb" else 0
        equal(got, want, "rejected spans by reason")
        request = ExportTraceServiceRequest()
        request.resource_spans.add().scope_spans.add().spans.extend(sent)
        no_ids = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"},{"name":"b","traceId":"","spanId":""}]}]}]}'
        answer = kept.post(no_ids, JSON)
        equal((answer.status, http1.success(answer).rejected_spans), (200, 2), f"JSON without IDs: {answer}")
        equal(json.loads(answer.body)["partialSuccess"]["rejectedSpans"], "2", "64-bit integers are strings")
        stage.expect_stored([request])


@suite.case("lb", "sampler")
def wrong_requests(tier):
    """Each wrong method, path, content type, coding, version and header has its status, and its counter."""
    with front(tier) as stage:
        address = stage.node.http_address
        good = otlp.request_of([otlp.trace_id()], 1).SerializeToString()
        for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"):
            with Connection(address) as kept:
                answer = kept.post(b"", method=method)
                equal((answer.status, answer.headers["content-type"].split(";")[0], answer.headers["allow"]), (405, "text/plain", "POST"), method)
                equal(answer.body == b"", method == "HEAD", f"body for {method}")
                expect_refusal(kept.post(b"\xff"), 400, INVALID_ARGUMENT, PROTOBUF, "the connection goes on")
        for path in ("/", "/v1/metrics", "/v1/traces/", "/v1/trace", "/V1/TRACES", "*", "//v1/traces", "/v1/traces%20"):
            equal(post(address, good, path=path).status, 404, path)
        for path in ("/v1/traces?x=1", "http://other.example/v1/traces"):
            expect_refusal(post(address, b"\xff", path=path), 400, INVALID_ARGUMENT, PROTOBUF, path)
        for kind in (None, "", "text/plain", "application/protobuf", "application/x-protobuf2", "application/grpc", "json", "application/json, application/x-protobuf"):
            answer = post(address, good, kind)
            equal((answer.status, answer.headers["content-type"].split(";")[0]), (415, "text/plain"), str(kind))
        for kind in ("APPLICATION/JSON", "application/json;charset=UTF-8", "application/json ; a=b"):
            equal(post(address, b"{}", kind).status, 200, kind)
        for coding in ("br", "snappy", "lz4", "compress", "gzip, gzip", "gzip,identity", "x"):
            expect_refusal(post(address, good, headers={"Content-Encoding": coding}), 400, INVALID_ARGUMENT, PROTOBUF, coding)
        for coding in ("gzip", "zstd", "deflate"):
            for body in (b"", good, gzip.compress(good)[:-3], zstd(good)[:-3], zlib.compress(good)[:-3]):
                expect_refusal(post(address, body, headers={"Content-Encoding": coding}), 400, INVALID_ARGUMENT, PROTOBUF, f"{coding} {body[:4]!r}")
        page = stage.node.metrics()
        equal(page.value("tailrace_unknown_method_calls_total"), 7 + 8, "paths and methods counted")
        equal(stage.refused("content_type"), 8, "content types counted")
        equal(stage.refused("encoding"), 7 + 15, "codings counted")
        stage.expect_stored([stage.expect_alive()])


SMUGGLERS = {
    "two lengths": (400, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "length and chunks": (400, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "gzip as transfer coding": (501, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "no host": (400, b"POST /v1/traces HTTP/1.1\r\n\r\n"),
    "folded header": (400, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "blank before the colon": (400, b"POST /v1/traces HTTP/1.1\r\nHost : a\r\n\r\n"),
    "bare line feeds": (400, b"POST /v1/traces HTTP/1.1\nHost: a\n\n"),
    "NUL in a header": (400, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "TLS to a plain port": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "rubbish": (400, b"\x00\x01\x02\x03"),
    "length is no number": (400, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Length: ten\r\n\r\n"),
    "bad chunk size": (400, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "101 headers": (431, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n"),
    "10 MB of headers": (431, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (10 * MIB)),
    "10 MB of headers in lines": (431, b"POST /v1/traces HTTP/1.1\r\nHost: a\r\n" + b"X: yyyyyyyyyy\r\n" * 700000),
    "10 MB of path": (431, b"POST /" + b"y" * (10 * MIB)),
}


@suite.case("lb", "sampler")
def broken_http(tier):
    """What is no HTTP request, or could be read in two ways, is refused with its status, and its connection ends."""
    with front(tier) as stage:
        before = stage.node.peak_rss_bytes()
        for name, (status, data) in SMUGGLERS.items():
            if name == "bad chunk size":
                data = data.replace(b"text/x", PROTOBUF.encode())
            with Connection(stage.node.http_address) as connection:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.send(data)
                answer = connection.answer()
                equal(answer.status, status, name)
                check(answer.headers["connection"] == "close" and connection.at_end(), f"{name}: the connection ends")
        grown = stage.node.peak_rss_bytes() - before
        check(grown < 16 * MIB * slowness(), f"peak RSS grew by {grown / MIB:.0f} MiB")
        stage.expect_stored([stage.expect_alive()])


@suite.case("lb", "sampler", timeout_s=240)
def bombs(tier):
    """A body that would inflate to 600 MiB, or wants a window of 128 MiB, costs its limit at most, and is refused for good."""
    with front(tier) as stage:
        before = stage.node.peak_rss_bytes()
        chunk, count = bytes(4 * MIB), 150
        packers = {"gzip": zlib.compressobj(9, zlib.DEFLATED, 31), "deflate": zlib.compressobj(9, zlib.DEFLATED, 15)}
        for coding, packer in packers.items():
            bomb = b"".join(packer.compress(chunk) for _ in range(count)) + packer.flush()
            for _ in range(3):
                expect_refusal(post(stage.node.http_address, bomb, headers={"Content-Encoding": coding}), 413, RESOURCE_EXHAUSTED, PROTOBUF, coding)
        window = zstandard.ZstdCompressionParameters(window_log=27, hash_log=6, chain_log=6, compression_level=1)
        for options in ({"level": 3}, {"compression_params": window}):
            packer = zstandard.ZstdCompressor(**options).compressobj()
            bomb = b"".join(packer.compress(chunk) for _ in range(count)) + packer.flush()
            for _ in range(3):
                expect_refusal(post(stage.node.http_address, bomb, headers={"Content-Encoding": "zstd"}), 413, RESOURCE_EXHAUSTED, PROTOBUF, "zstd")
        lie = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(1000)))
        lie[4:5] = b"\xa0"  # the frame now says its size in four bytes: an enormous one
        equal(post(stage.node.http_address, bytes(lie), headers={"Content-Encoding": "zstd"}).status in (400, 413), True, "a lie about the size")
        grown = stage.node.peak_rss_bytes() - before
        # 20 MiB of output, as much of what it was grown from, and zstd's window.
        check(grown < (2 * 20 + 8 + 32) * MIB * slowness(), f"peak RSS grew by {grown / MIB:.0f} MiB")
        stage.expect_stored([stage.expect_alive()])


@suite.case("lb", "sampler", timeout_s=240)
def memory_full(tier):
    """At the ladder's last rung a request is refused with 429 and Retry-After, in its own format; what was accepted stays."""
    with front(tier, wait="300s", tailrace={"memory": {"limit_mib": 64, "at_limit": "refuse"}}) as stage:
        accepted, refused = 0, 0
        with Connection(stage.node.http_address) as kept:
            for number in range(400):
                request = otlp.request_of([otlp.trace_id() for _ in range(8)], 2, size_bytes=32 * 1024)
                kind, body = bodies(request)[number % 2]
                answer = kept.post(body, kind)
                if answer.status == 200:
                    accepted += 1
                    continue
                retry_s = expect_refusal(answer, 429, RESOURCE_EXHAUSTED, kind, "full")
                check(retry_s > 0 and int(answer.headers["retry-after"]) >= 1, f"retry: {retry_s} {answer.headers}")
                refused += 1
                if refused == 6:
                    break
        equal(refused, 6, f"refusals after {accepted} requests of half a MiB")
        check(accepted > 20, f"only {accepted} requests of half a MiB fitted into 64 MiB")
        metrics.check_sampler_books(stage.samplers[0], received=16 * accepted, held=16 * accepted, exported=0, dropped=0)
        if tier == "lb":
            stage.node.stop()
        stage.samplers[0].stop(60)
        equal(len(stage.sink.spans()), 16 * accepted, "accepted spans that reached the backend")


@suite.case()
def no_sampler():
    """With no sampler reachable a balancer answers 503 with Retry-After."""
    with Stage() as stage:
        lb = stage.lb("lb-0", ["127.0.0.1:1"], http={})
        until(lb.alive, "lb is alive")
        for kind, body in bodies(otlp.request_of([otlp.trace_id()], 3)):
            answer = post(lb.http_address, body, kind, timeout_s=30)
            check(expect_refusal(answer, 503, UNAVAILABLE, kind, "no sampler") > 0, "RetryInfo")
            check(re.fullmatch(r"[1-9][0-9]*", answer.headers["retry-after"]), f"whole seconds: {answer.headers}")
        equal(lb.metrics().value("otelcol_receiver_refused_spans_total", transport="http"), 6, "spans refused")


# -- connections -------------------------------------------------------------------------------------------


@suite.case("lb", "sampler")
def pipelined(tier):
    """Requests sent ahead are served one after another, in order, however they are cut."""
    with front(tier) as stage:
        requests = [otlp.request_of([otlp.trace_id()], 2) for _ in range(50)]
        wire = b""
        for number, request in enumerate(requests):
            kind, body = bodies(request)[number % 2]
            wire += b"\r\n" * (number % 3) + http1.request(body, kind, chunked=[7] if number % 5 == 0 else None)
            wire += http1.request(b"", path="/nowhere", method="GET")
        with Connection(stage.node.http_address) as connection:
            sender = threading.Thread(target=send_in_pieces, args=(connection, wire, 977))
            sender.start()
            for number in range(len(requests)):
                expect_success(connection.answer(), (PROTOBUF, JSON)[number % 2], f"request {number}")
                equal(connection.answer().status, 404, f"behind request {number}")
            sender.join()
            connection.socket.shutdown(socket.SHUT_WR)
            check(connection.at_end(), "closed when the client is done")
        stage.expect_stored(requests)


def send_in_pieces(connection, data, size):
    for at in range(0, len(data), size):
        connection.send(data[at:at + size])


@suite.case("lb", "sampler")
def half_closed(tier):
    """A client that closes its sending half still gets its answer; one that stops midway gets 400."""
    with front(tier) as stage:
        request = otlp.request_of([otlp.trace_id()], 2)
        whole = http1.request(request.SerializeToString())
        with Connection(stage.node.http_address) as connection:
            connection.send(whole)
            connection.socket.shutdown(socket.SHUT_WR)
            expect_success(connection.answer(), PROTOBUF, "half-closed")
            check(connection.at_end(), "then closed")
        for cut in (3, len(whole) - 5):
            with Connection(stage.node.http_address) as connection:
                connection.send(whole[:cut])
                connection.socket.shutdown(socket.SHUT_WR)
                equal(connection.answer().status, 400, f"cut after {cut} bytes")
                check(connection.at_end(), "then closed")
        for cut in (0, 3, len(whole) - 5, len(whole)):  # and one that just leaves, or resets
            for hard in (False, True):
                connection = Connection(stage.node.http_address)
                connection.send(http1.request(otlp.request_of([], 0).SerializeToString())[:cut])
                if hard:
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                connection.close()
        until(lambda: stage.node.metrics().value("tailrace_http_connections") == 0, "all connections are gone")
        stage.expect_stored([request])


@suite.case("lb", "sampler")
def expect_continue(tier):
    """100-continue comes before a body is asked for, and not before a refusal."""
    with front(tier, http={"max_request_body_size": MIB}) as stage:
        request = otlp.request_of([otlp.trace_id()], 2)
        body = request.SerializeToString()
        head = http1.request(body, headers={"Expect": "100-continue"})[:-len(body)]
        with Connection(stage.node.http_address) as connection:
            connection.send(head)
            equal(connection.file.readline() + connection.file.readline(), b"HTTP/1.1 100 Continue\r\n\r\n", "go on")
            connection.send(body)
            expect_success(connection.answer(), PROTOBUF, "after 100")
        with Connection(stage.node.http_address) as connection:
            connection.send(http1.request(b"", headers={"Expect": "100-continue", "Content-Length": str(2 * MIB)}))
            expect_refusal(connection.answer(), 413, RESOURCE_EXHAUSTED, PROTOBUF, "too large to go on")
            check(connection.at_end(), "closed: whether the body comes is not known")
        stage.expect_stored([request])


@suite.case("lb", "sampler", timeout_s=180)
def slow_clients(tier):
    """Heads and bodies that come a byte at a time end with 408 when their time is over; idle connections are closed; others are served
    meanwhile."""
    keys = {"read_header_timeout": "2s", "read_timeout": "4s", "idle_timeout": "3s"}
    with front(tier, http=keys) as stage:
        address = stage.node.http_address
        body = otlp.request_of([otlp.trace_id()], 2).SerializeToString()
        whole = http1.request(body)
        with contextlib.ExitStack() as stack:
            silent = stack.enter_context(Connection(address))
            idle = stack.enter_context(Connection(address))
            expect_success(idle.post(b""), PROTOBUF, "before it idles")
            slow = [(stack.enter_context(Connection(address)), data) for data in
                    (whole, whole[:-1 - len(body)] + b"X", whole[:-len(body)] + body, http1.request(body, chunked=[1]))]
            results = [[] for _ in slow]
            threads = [threading.Thread(target=trickle, args=(connection, data, len(body), result))
                       for (connection, data), result in zip(slow, results)]
            for thread in threads:
                thread.start()
            requests = []
            while any(thread.is_alive() for thread in threads):
                requests.append(otlp.request_of([otlp.trace_id()], 1))
                expect_success(post(address, requests[-1].SerializeToString()), PROTOBUF, "meanwhile")
                time.sleep(0.2)
            for thread in threads:
                thread.join()
            for result in results:
                equal(result, [408], "a slow request")
            check(silent.at_end(), "a silent connection is closed")
            check(idle.at_end(), "an idle connection is closed")
        equal(stage.refused("timeout"), len(slow), "refusals counted")
        stage.expect_stored(requests)


def trickle(connection, data, body_size, result):
    """The head whole when the data has a body to be slow with, then a byte every 50 ms until the server has enough of it."""
    connection.socket.setblocking(True)
    at = 0
    try:
        if len(result) == 0 and data.find(b"chunked") > 0:
            at = data.index(b"\r\n\r\n") + 4
            connection.send(data[:at])
        while at < len(data) - 1:  # the last byte never comes
            connection.send(data[at:at + 1])
            at += 1
            connection.socket.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                if connection.socket.recv(1, socket.MSG_PEEK):
                    break
            connection.socket.settimeout(30 * slowness())
        connection.socket.settimeout(30 * slowness())
        result.append(connection.answer().status)
    except OSError as error:
        result.append(repr(error))


@suite.case("lb", "sampler", timeout_s=180)
def many_connections(tier):
    """A thousand connections, idle, half a head or half a body each, cost little memory and nobody's service."""
    patient = {"read_header_timeout": "300s", "read_timeout": "300s", "idle_timeout": "300s"}  # those that came first are there with the last
    with front(tier, http=patient) as stage:
        address = stage.node.http_address
        good = [otlp.request_of([otlp.trace_id()], 1)]
        expect_success(post(address, good[0].SerializeToString()), PROTOBUF, "before")
        before = stage.node.rss_bytes()
        with contextlib.ExitStack() as stack:
            for number in range(1000):
                connection = stack.enter_context(Connection(address))
                if number % 4 == 1:
                    connection.send(b"POST /v1/traces HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 1000)
                elif number % 4 == 2:  # announces 20 MiB, and sends next to nothing
                    connection.send(http1.request(b"z" * 1000, headers={"Content-Length": str(20 * MIB)}))
                elif number % 4 == 3:
                    expect_success(connection.post(b""), PROTOBUF, "one of many")
            until(lambda: stage.node.metrics().value("tailrace_http_connections") == 1000, "all are there")
            grown = stage.node.rss_bytes() - before
            check(grown < 32 * MIB * slowness(), f"RSS grew by {grown / MIB:.1f} MiB")
            for _ in range(20):
                good.append(otlp.request_of([otlp.trace_id()], 1))
                expect_success(post(address, good[-1].SerializeToString()), PROTOBUF, "among a thousand")
        until(lambda: stage.node.metrics().value("tailrace_http_connections") == 0, "all are gone")
        stage.expect_stored(good)


@suite.case(timeout_s=180)
def bodies_share_a_bound():
    """Bodies in reception are bounded for the whole node: many large ones that never end are refused with 429, and small ones are served
    as soon as there is room."""
    limit, size, count = 64 * MIB, 16 * MIB, 12  # the least bound there is: that of a store of 256 MiB
    keys = {"max_request_body_size": 20 * MIB, "read_timeout": "300s"}
    with front("sampler", http=keys, tailrace={"memory": {"limit_mib": 256}}) as stage:
        address = stage.node.http_address
        before = stage.node.peak_rss_bytes()
        answers = []
        with contextlib.ExitStack() as stack:
            threads = [threading.Thread(target=send_most, args=(stack.enter_context(Connection(address, 60)), size, answers))
                       for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            check(count - limit // size - 1 <= len(answers) < count, f"{len(answers)} of {count} bodies of 16 MiB were refused")
            for answer in answers:
                check(expect_refusal(answer, 429, RESOURCE_EXHAUSTED, PROTOBUF, "no room") > 0, "to be sent again")
                check(int(answer.headers["retry-after"]) >= 1, "Retry-After")
            grown = stage.node.peak_rss_bytes() - before
            check(grown < (2 * limit + 32 * MIB) * slowness(), f"peak RSS grew by {grown / MIB:.0f} MiB")  # twice: malloc keeps what a body grew out of
        equal(stage.refused("memory"), len(answers), "refusals counted")
        request = otlp.request_of([otlp.trace_id()], 1)
        until(lambda: post(address, request.SerializeToString()).status == 200, "room again")
        stage.expect_stored([request])


def send_most(connection, size, answers):
    data = http1.request(b"", headers={"Content-Length": str(size)})
    try:
        connection.send(data)
        chunk = bytes(MIB)
        for _ in range(size // MIB - 1):
            connection.socket.sendall(chunk)
    except OSError:
        pass
    connection.socket.settimeout(5 * slowness())
    with contextlib.suppress(OSError):
        answers.append(connection.answer())


@suite.case("lb", "sampler")
def keep_alives_off(tier):
    """With keep_alives_enabled: false each answer ends its connection."""
    with front(tier, http={"keep_alives_enabled": False}) as stage, Connection(stage.node.http_address) as connection:
        answer = connection.post(b"")
        equal((answer.status, answer.headers["connection"]), (200, "close"), "answer")
        check(connection.at_end(), "closed")
        stage.node.stop()
        stage.samplers[0].stop()


# -- browsers ------------------------------------------------------------------------------------------------


@suite.case("lb", "sampler")
def cors(tier):
    """Pages of allowed origins may send, and are told what they may read; others are not; response_headers stand on every answer."""
    keys = {"cors": {"allowed_origins": ["https://*.shop.example"], "allowed_headers": ["X-Scope-OrgID"], "max_age": 600},
            "response_headers": {"X-Server": "tailrace", "Strict-Transport-Security": "max-age=1"}}
    with front(tier, http=keys) as stage, Connection(stage.node.http_address) as kept:
        def preflight(**headers):
            return kept.post(b"", None, method="OPTIONS", headers={name.replace("_", "-"): value for name, value in headers.items()})

        asks = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type,x-scope-orgid"}
        answer = preflight(Origin="https://web.shop.example", **asks)
        equal(answer.status, 204, "preflight")
        equal({name: value for name, value in answer.headers.items() if name.startswith("access-control")},
              {"access-control-allow-origin": "https://web.shop.example", "access-control-allow-methods": "POST",
               "access-control-allow-headers": "content-type,x-scope-orgid", "access-control-allow-credentials": "true",
               "access-control-max-age": "600"}, "preflight")
        for headers in ({**asks, "Origin": "https://evil.example"}, {**asks, "Origin": "https://web.shop.example", "Access_Control_Request_Headers": "x-other"},
                        {**asks, "Origin": "https://web.shop.example", "Access_Control_Request_Method": "PUT"}):
            answer = preflight(**headers)
            equal((answer.status, [name for name in answer.headers if name.startswith("access-control")]), (204, []), f"{headers}")
        for body, status in ((b"", 200), (b"\xff", 400)):
            answer = kept.post(body, headers={"Origin": "https://web.shop.example"})
            equal((answer.status, answer.headers.get("access-control-allow-origin"), answer.headers["x-server"], answer.headers["strict-transport-security"]),
                  (status, "https://web.shop.example", "tailrace", "max-age=1"), "answer")
            answer = kept.post(body, headers={"Origin": "https://evil.example"})
            equal((answer.status, answer.headers.get("access-control-allow-origin"), answer.headers["vary"]), (status, None, "Origin"), "other origin")


@suite.case("lb", "sampler")
def own_path(tier):
    """traces_url_path moves the service."""
    with front(tier, http={"traces_url_path": "/ingest/otlp"}) as stage:
        equal(post(stage.node.http_address, b"").status, 404, "the usual path")
        equal(post(stage.node.http_address, b"", path="/ingest/otlp").status, 200, "the user's path")


# -- going away ------------------------------------------------------------------------------------------------


@suite.case()
def drain_answers_in_flight():
    """A balancer told to stop answers what is in flight with Connection: close, ends idle connections, takes no new one, and exits 0."""
    with Stage() as stage:
        member = stage.serve(otlp.Member("sampler-0"))
        let_go = threading.Event()
        member.answer = lambda call: let_go.wait(60 * slowness()) and b"" or b""
        lb = stage.lb("lb-0", [member.address], timeout="60s", http={"read_header_timeout": "60s"},
                      tailrace={"drain_timeout": "60s", "http_threads": 2}).wait_ready()
        with contextlib.ExitStack() as stack:
            busy = [stack.enter_context(Connection(lb.http_address, 60)) for _ in range(20)]
            idle = [stack.enter_context(Connection(lb.http_address)) for _ in range(5)]
            half = stack.enter_context(Connection(lb.http_address))
            whole = http1.request(otlp.request_of([otlp.trace_id()], 2).SerializeToString())
            half.send(whole[:50])
            for connection in busy:
                connection.send(http1.request(otlp.request_of([otlp.trace_id()], 2).SerializeToString()))
            for connection in idle:
                expect_success(connection.post(b""), PROTOBUF, "before")
            until(lambda: lb.metrics().value("tailrace_requests_in_flight") == 20, "requests in flight")
            lb.terminate()
            until(lambda: lb.get("/readyz")[0] == 503, "not ready while draining")
            for connection in idle:
                check(connection.at_end(), "idle connections end")
            until(lambda: not listens(lb.http_address), "no new connections")
            check(lb.running(), "the balancer waits for what is in flight")
            half.send(whole[50:])
            until(lambda: lb.metrics().value("tailrace_requests_in_flight") == 21, "what had begun is taken")
            let_go.set()
            for connection in busy + [half]:
                answer = connection.answer()
                equal((answer.status, answer.headers.get("connection")), (200, "close"), "a request that was in flight")
        equal(lb.wait(), 0, "exit status")
        equal(len(member.spans()), 42, "spans delivered")


@suite.case("lb", "sampler")
def drain_under_load(tier):
    """A node stopped under load exits 0, and every span that was acknowledged over HTTP reaches the backend once."""
    with front(tier, wait="60s", tailrace={"http_threads": 2}) as stage:
        acknowledged, statuses, stop = [], set(), threading.Event()

        def send(number):
            while not stop.is_set():
                with contextlib.suppress(OSError), Connection(stage.node.http_address) as connection:
                    while not stop.is_set():
                        request = otlp.request_of([otlp.trace_id() for _ in range(5)], 4)
                        kind, body = bodies(request)[number % 2]
                        try:
                            answer = connection.post(body, kind)
                        except (OSError, ValueError, http1.http.client.HTTPException):
                            break
                        statuses.add(answer.status)
                        if answer.status == 200:
                            acknowledged.append(request)
                        if answer.closed:
                            break
                time.sleep(0.02)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) > 100, "load")
        stage.node.terminate()
        code = stage.node.wait()
        stop.set()
        for thread in threads:
            thread.join(30 * slowness())
        equal(code, 0, "exit status")
        check(statuses <= {200, 503, 429}, f"answers: {statuses}")
        if tier == "lb":
            stage.samplers[0].stop()
        arrived = [item.span.span_id for item in stage.sink.spans()]
        wanted = {item.span.span_id for request in acknowledged for item in otlp.flatten(request)}
        missing = wanted - set(arrived)
        check(not missing, f"{len(missing)} of {len(wanted)} acknowledged spans are lost")
        equal(len(arrived), len(set(arrived)), "spans at the backend, each once")


if __name__ == "__main__":
    sys.exit(suite.main())
