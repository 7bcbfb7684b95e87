#!/usr/bin/env python3
"""What a balancer and a sampler answer to bad input over gRPC, and that it costs nobody else anything.

Each case runs against both tiers where it concerns both: [lb] is a balancer before a sampler, [sampler] a sampler
alone. After each case the books balance and the refusal has its counter.
"""
import contextlib
import gzip
import lzma
import os
import sys
import threading
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kit import h2, metrics, otlp, wire
from kit.front import ALWAYS, BAD_SPANS, BROKEN_FRAMING, Front, good_span, nested, rejected_counts
from kit.proc import Stage, free_port, listens
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("bad_input")

MIB = 1024 * 1024
UNIMPLEMENTED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED = "12", "3", "8"


# -- whole requests ----------------------------------------------------------------------------------

@suite.case("lb", "sampler")
def malformed_protobuf(tier):
    """Broken framing is refused whole with INVALID_ARGUMENT, not retryable, counted, and nothing of it is stored."""
    with Front(tier) as front, otlp.Client(front.node.address) as client:
        for name, body in BROKEN_FRAMING.items():
            answer = client.export(body)
            equal((answer.code, answer.retry_s), (grpc.StatusCode.INVALID_ARGUMENT, None), f"answer to: {name}")
        equal(front.refused("malformed"), len(BROKEN_FRAMING), "refusals counted as malformed")
        front.expect_stored([front.expect_alive()])


@suite.case("lb", "sampler")
def empty_request(tier):
    """A request without spans is OK, however it says so; a call without any message is refused, not waited for."""
    with Front(tier) as front, otlp.Client(front.node.address) as client:
        for name, body in {"no bytes": b"", "empty ResourceSpans": wire.field_bytes(1, b""), "empty ScopeSpans": nested(),
                           "unknown fields only": wire.field_bytes(99, b"future") + wire.field_varint(98, 1)}.items():
            answer = client.export(body)
            equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 0), f"answer to: {name}")
        answer = h2.call(front.node.address, otlp.EXPORT, b"", framed=False, timeout_s=10 * slowness())
        check(answer.get("grpc-status", "none") not in ("0", "none") or "reset" in answer, f"call without a message: {answer}")
        front.expect_stored([front.expect_alive()])


@suite.case("lb", "sampler", timeout_s=240)
def too_large(tier):
    """A message over max_recv_msg_size_mib is refused with RESOURCE_EXHAUSTED without RetryInfo; one just under it is taken."""
    # A sampler takes at least 64 MiB whatever is configured: balancers coalesce.
    limit = MIB if tier == "lb" else 64 * MIB
    with Front(tier, lb={"grpc": {"max_recv_msg_size_mib": 1}}) as front, otlp.Client(front.node.address) as client:
        under = otlp.request_of([otlp.trace_id() for _ in range(8)], 1, size_bytes=limit // 8 - 2048)
        size = len(under.SerializeToString())
        check(limit * 0.97 < size < limit, f"the request under the limit has {size} bytes")
        over = otlp.request_of([otlp.trace_id()], 1, size_bytes=limit + 1000)

        answer = client.export(over, timeout_s=60)
        equal((answer.code, answer.retry_s), (grpc.StatusCode.RESOURCE_EXHAUSTED, None), f"over the limit ({answer.message})")
        answer = client.export(under, timeout_s=60)
        equal(answer.code, grpc.StatusCode.OK, f"under the limit ({answer.message})")
        equal(front.refused("too_large"), 1, "refusals counted as too_large")
        front.expect_stored([under, front.expect_alive()])


@suite.case("lb", "sampler")
def unknown_method(tier):
    """A method that is not served is answered UNIMPLEMENTED at once and counted."""
    with Front(tier) as front, otlp.Client(front.node.address) as client:
        methods = ["/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "/no.such.Service/Method",
                   otlp.EXPORT + "s", "/", otlp.EXPORT.lower()]
        for method in methods:
            answer = client.export(otlp.request_of([otlp.trace_id()], 3), method=method)
            equal((answer.code, answer.retry_s), (grpc.StatusCode.UNIMPLEMENTED, None), f"answer to {method}")
        equal(front.node.metrics().value("tailrace_unknown_method_calls_total"), len(methods), "unknown methods counted")
        front.expect_stored([front.expect_alive()])


# -- encodings ---------------------------------------------------------------------------------------


@suite.case("lb", "sampler")
def compressed(tier):
    """A gzip or deflate request is inflated and taken like any other."""
    with Front(tier) as front, otlp.Client(front.node.address) as client:
        sent = []
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            sent.append(otlp.request_of([otlp.trace_id() for _ in range(5)], 10))
            answer = client.export(sent[-1], compression=compression)
            equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 0), f"answer to {compression} ({answer.message})")
        front.expect_stored(sent)


@suite.case("lb", "sampler")
def bad_encoding(tier):
    """An encoding that is not known, and broken compressed bytes, are refused for good and counted."""
    request = otlp.request_of([otlp.trace_id()], 3).SerializeToString()
    packed = gzip.compress(request)
    with Front(tier) as front:
        def answer_to(body, **options):
            return h2.call(front.node.address, otlp.EXPORT, body, timeout_s=10 * slowness(), **options).get("grpc-status")

        # gRPC core hides an encoding's name that it does not know, so its bytes may also be judged as protobuf.
        equal(front.refused("encoding") + front.refused("malformed"), 0, "refusals so far")
        code = answer_to(lzma.compress(request), encoding="zork", flag=1)
        check(code in (UNIMPLEMENTED, INVALID_ARGUMENT), f"unknown encoding: {code}")
        equal(front.refused("encoding") + front.refused("malformed"), 1, "the unknown encoding was counted")
        broken = {"rubbish": os.urandom(500), "cut short": packed[:-9], "checksum wrong": packed[:-8] + b"\0\0\0\0" + packed[-4:],
                  "nothing": b"", "rubbish after": packed + b"rubbish"}
        before = front.refused("encoding")
        for name, body in broken.items():
            equal(answer_to(body, encoding="gzip", flag=1), INVALID_ARGUMENT, f"gzip: {name}")
        equal(front.refused("encoding") - before, len(broken), "refusals counted as encoding")
        check(answer_to(packed, flag=1) not in (None, "0"), "compressed flag without an encoding")
        front.expect_stored([front.expect_alive()])


@suite.case("lb", "sampler", timeout_s=240)
def gzip_bomb(tier):
    """A small message that inflates past the limit is refused without being inflated whole."""
    limit = 4 * MIB if tier == "lb" else 64 * MIB
    inflated = 600 * MIB
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = bytes(4 * MIB)
    bomb = b"".join(packer.compress(chunk) for _ in range(inflated // len(chunk))) + packer.flush()
    with Front(tier) as front:
        before = front.node.peak_rss_bytes()
        for _ in range(3):
            answer = h2.call(front.node.address, otlp.EXPORT, bomb, encoding="gzip", flag=1, timeout_s=60 * slowness())
            equal(answer.get("grpc-status"), RESOURCE_EXHAUSTED, f"answer to {len(bomb)} bytes that inflate to {inflated}")
            check("RetryInfo" not in answer.get("grpc-status-details-bin", ""), f"not to be retried: {answer}")
            check("huffman" not in str(answer), f"a part of the answer was not read: {answer}")
        grown = front.node.peak_rss_bytes() - before
        # Room for the limit itself, once for the input and once for allocators; far from the 600 MiB.
        check(grown < (2 * limit + 64 * MIB) * slowness(), f"peak RSS grew by {grown / MIB:.0f} MiB")
        equal(front.refused("too_large"), 3, "refusals counted as too_large")
        front.expect_stored([front.expect_alive()])


# -- single spans ------------------------------------------------------------------------------------

@suite.case("lb", "sampler")
def bad_spans(tier):
    """A bad span among good ones is rejected in partial_success and counted by reason; the good ones are taken and delivered."""
    with Front(tier) as front, otlp.Client(front.node.address) as client:
        sent, want = [], {"no_trace_id": 0, "no_span_id": 0, "malformed": 0, "member": 0}
        for name, (bad, at_sampler, at_lb) in BAD_SPANS.items():
            good = [good_span(name="first"), good_span(name="last")]
            answer = client.export(nested(good[0].SerializeToString(), bad, good[1].SerializeToString()))
            equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 1), f"answer to: {name} ({answer.message})")
            check(answer.rejected_message, f"{name}: partial_success says why")
            sent.extend(good)
            want[at_lb if tier == "lb" else at_sampler] += 1
        # All at once, twice each, between good ones.
        good = [good_span() for _ in range(len(BAD_SPANS) + 1)]
        spans = [good[0].SerializeToString()]
        for index, (bad, at_sampler, at_lb) in enumerate(BAD_SPANS.values()):
            spans += [bad, bad, good[index + 1].SerializeToString()]
            want[at_lb if tier == "lb" else at_sampler] += 2
        answer = client.export(nested(*spans))
        equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 2 * len(BAD_SPANS)), "answer to all bad spans together")
        # Nothing but bad ones.
        answer = client.export(nested(*(bad for bad, _, _ in BAD_SPANS.values())))
        equal((answer.code, answer.rejected), (grpc.StatusCode.OK, len(BAD_SPANS)), "answer to bad spans alone")
        for _, at_sampler, at_lb in BAD_SPANS.values():
            want[at_lb if tier == "lb" else at_sampler] += 1

        page = front.node.metrics()
        got = rejected_counts(page)
        got["member"] = page.value("tailrace_spans_rejected_total", reason="member") if tier == "lb" else 0
        equal(got, want, "rejected spans by reason")
        sent.extend(good)
        request = ExportTraceServiceRequest()
        request.resource_spans.add().scope_spans.add().spans.extend(sent)
        front.expect_stored([request])


@suite.case("lb", "sampler")
def bad_header(tier):
    """Rubbish inside one resource or scope costs the spans under it, not those beside it."""
    with Front(tier) as front, otlp.Client(front.node.address) as client:
        good = otlp.request_of([otlp.trace_id() for _ in range(3)], 2)
        rubbish = wire.field_bytes(1, b"\xff\xff\xff")  # as Resource.attributes or InstrumentationScope.name's message
        under_resource = wire.field_bytes(1, rubbish + wire.field_bytes(2, b"".join(
            wire.field_bytes(2, good_span().SerializeToString()) for _ in range(4))))
        under_scope = wire.field_bytes(1, wire.field_bytes(2, wire.field_bytes(1, b"\x1a\xff") + b"".join(
            wire.field_bytes(2, good_span().SerializeToString()) for _ in range(3))))
        answer = client.export(under_resource + good.SerializeToString() + under_scope)
        equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 7), f"answer ({answer.message})")
        front.expect_stored([good])


# -- no room, nobody there, going away -----------------------------------------------------------------


@suite.case("lb", "sampler", timeout_s=240)
def memory_full(tier):
    """At the ladder's last rung a request is refused with RESOURCE_EXHAUSTED and RetryInfo; what was accepted stays."""
    with Front(tier, wait="300s", tailrace={"memory": {"limit_mib": 64, "at_limit": "refuse"}}) as front:
        accepted, refused = [], 0
        with otlp.Client(front.node.address) as client:
            for _ in range(400):
                request = otlp.request_of([otlp.trace_id() for _ in range(8)], 2, size_bytes=32 * 1024)
                answer = client.export(request)
                if answer.code == grpc.StatusCode.OK:
                    accepted.append(request)
                    continue
                equal(answer.code, grpc.StatusCode.RESOURCE_EXHAUSTED, f"refusal ({answer.message})")
                check(answer.retry_s and answer.retry_s > 0, f"RetryInfo of the refusal: {answer}")
                refused += 1
                if refused == 5:
                    break
        equal(refused, 5, f"refusals after {len(accepted)} requests of half a MiB")
        check(len(accepted) > 20, f"only {len(accepted)} requests of half a MiB fitted into 64 MiB")
        sampler = front.samplers[0]
        page = metrics.check_sampler_books(sampler, received=16 * len(accepted), held=16 * len(accepted), exported=0, dropped=0)
        check(page.value("tailrace_store_committed_bytes") <= page.value("tailrace_store_limit_bytes"), "the budget was passed")
        check(page.value("tailrace_requests_refused_total", reason="memory") >= 5, "refusals counted as memory")
        if tier == "lb":
            check(front.refused("delivery") >= 5, "the balancer counted what a member refused")
            equal(front.node.metrics().value("tailrace_lb_fallback_spans_total"), 0, "spans sent elsewhere on overload")
        if tier == "lb":
            front.node.stop()
        sampler.stop(60)  # alone and without a journal, it decides what it holds
        equal(len(front.sink.spans()), 16 * len(accepted), "accepted spans that reached the backend")


@suite.case()
def no_sampler():
    """With no sampler reachable a balancer answers UNAVAILABLE with RetryInfo, and serves as soon as one is there."""
    with Stage() as stage:
        port = free_port()
        lb = stage.lb("lb-0", [f"127.0.0.1:{port}"])
        until(lb.alive, "lb is alive")
        request = otlp.request_of([otlp.trace_id()], 3)
        with otlp.Client(lb.address) as client:
            for _ in range(3):
                answer = client.export(request, timeout_s=15)
                equal(answer.code, grpc.StatusCode.UNAVAILABLE, f"answer ({answer.message})")
                check(answer.retry_s and answer.retry_s > 0, f"RetryInfo: {answer}")
            page = lb.metrics()
            equal(page.value("tailrace_requests_refused_total", reason="no_member") +
                  page.value("tailrace_requests_refused_total", reason="delivery"), 3, "refusals counted")
            equal(page.value("otelcol_receiver_accepted_spans_total"), 0, "spans acknowledged")
            member = stage.serve(otlp.Member("sampler-0", port))
            until(lambda: client.export(request, timeout_s=15).code == grpc.StatusCode.OK, "served once a member is there")
        check(len(member.spans()) >= 3, "the member has the spans")
        metrics.check_lb_books(lb)


@suite.case("lb", "sampler")
def health(tier):
    """The gRPC health service says SERVING for the server and the trace service, NOT_FOUND for others, and NOT_SERVING on the way out."""
    with Front(tier) as front:
        address = front.node.address
        equal(otlp.health(address), 1, "health of the server")
        equal(otlp.health(address, "opentelemetry.proto.collector.trace.v1.TraceService"), 1, "health of the trace service")
        with otlp.Client(address) as client:
            answer = client.export(wire.field_bytes(1, "no.such.Service"), method=otlp.HEALTH_CHECK)
            equal(answer.code, grpc.StatusCode.NOT_FOUND, "health of a service that is not there")
            seen = []
            watch = client.channel.unary_stream(otlp.HEALTH_WATCH)(b"", timeout=60 * slowness())
            thread = threading.Thread(target=follow, args=(watch, seen))
            thread.start()
            until(lambda: seen, "first message of Watch")
            equal(seen, [1], "Watch while serving")
            front.node.terminate()
            thread.join(30 * slowness())
            check(not thread.is_alive(), "Watch ends when the server goes")
            equal(seen, [1, 2], "Watch over the node's life")
        equal(front.node.wait(), 0, "exit status")


def follow(watch, seen):
    try:
        for message in watch:
            seen.append(dict(wire.read_fields(message)).get(1, 0))
    except grpc.RpcError:
        pass


@suite.case()
def drain_answers_in_flight():
    """A balancer told to stop answers what is in flight, takes no new connection, and exits 0."""
    with Stage() as stage:
        member = stage.serve(otlp.Member("sampler-0"))
        let_go = threading.Event()
        member.answer = lambda call: let_go.wait(60 * slowness()) and b"" or b""
        lb = stage.lb("lb-0", [member.address], timeout="60s", tailrace={"drain_timeout": "60s"}).wait_ready()
        with contextlib.ExitStack() as clients:
            # A connection each: C-core closes one with its last answer, and a client that still writes (a ping for the
            # answers before) may then find it reset and drop what it has not read. It sends again, and loses nothing.
            calls = [clients.enter_context(otlp.Client(lb.address))
                     .begin(otlp.request_of([otlp.trace_id()], 2), timeout_s=30) for _ in range(20)]
            until(lambda: lb.metrics().value("tailrace_requests_in_flight") == 20, "requests in flight")
            until(member.calls, "the member has some of it")
            lb.terminate()
            until(lambda: not lb.running() or lb.get("/readyz")[0] == 503, "not ready while draining")
            until(lambda: not listens(lb.address), "no new connections")
            with otlp.Client(lb.address) as late:
                answer = late.export(otlp.request_of([otlp.trace_id()], 1), timeout_s=5)
                check(answer.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), f"a new connection: {answer}")
            waits = lb.running()
            let_go.set()
            for call in calls:
                answer = otlp.answer_of(call)
                equal(answer.code, grpc.StatusCode.OK, f"a request that was in flight: {answer}")
        check(waits, "the balancer waits for what is in flight")
        equal(lb.wait(), 0, "exit status")
        equal(len(member.spans()), 40, "spans delivered")


@suite.case("lb", "sampler")
def drain_under_load(tier):
    """A node stopped under load exits 0, and every span that was acknowledged reaches the backend once."""
    with Front(tier, wait="60s") as front:
        acknowledged, codes, stop = [], set(), threading.Event()

        def send():
            with otlp.Client(front.node.address) as client:
                while not stop.is_set():
                    request = otlp.request_of([otlp.trace_id() for _ in range(5)], 4)
                    answer = client.export(request, timeout_s=10)
                    if answer.code == grpc.StatusCode.OK:
                        acknowledged.append(request)
                    else:
                        codes.add(answer.code)
                        time.sleep(0.05)

        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) > 100, "load")
        front.node.terminate()
        code = front.node.wait()
        stop.set()
        for thread in threads:
            thread.join(30 * slowness())
        equal(code, 0, "exit status")
        check(codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, f"refusals while going away: {codes}")
        if tier == "lb":
            front.samplers[0].stop()  # decides what it holds
        arrived = [item.span.span_id for item in front.sink.spans()]
        wanted = {item.span.span_id for request in acknowledged for item in otlp.flatten(request)}
        missing = wanted - set(arrived)
        check(not missing, f"{len(missing)} of {len(wanted)} acknowledged spans are lost")
        equal(len(arrived), len(set(arrived)), "spans at the backend, each once")


@suite.case("lb", "sampler")
def port_taken(tier):
    """A port that somebody has ends the start with code 2, the key and the reason."""
    with Stage() as stage:
        holder = stage.serve(otlp.Sink())
        grpc_keys = {"endpoint": holder.address}
        node = (stage.lb("lb-0", ["127.0.0.1:1"], grpc=grpc_keys) if tier == "lb" else
                stage.sampler("sampler-0", holder.port, ALWAYS, grpc=grpc_keys))
        equal(node.wait(), 2, f"exit code\n{node.tail()}")
        want = f"receivers.otlp.protocols.grpc.endpoint: cannot listen on {holder.address}: Address already in use"
        check(want in node.tail(), f"{want!r} is not in the log\n{node.tail()}")
        stage.programs.remove(node)  # its end was no failure


if __name__ == "__main__":
    sys.exit(suite.main())
