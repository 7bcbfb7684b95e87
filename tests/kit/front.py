"""A node under test with what stands behind it, and the bad requests that every transport must answer alike."""
import sys

import grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kit import metrics, otlp, wire
from kit.proc import Stage
from kit.suite import check, equal, until

ALWAYS = [{"name": "all", "type": "always_sample"}]


class Front(Stage):
    """The node under test, called `node`, with a sampler (unless it is one) and a sink behind it."""

    def __init__(self, tier, lb=None, **sampler):
        super().__init__()
        self.tier = tier
        self.lb_options = lb or {}
        self.sampler_options = sampler

    def __enter__(self):
        super().__enter__()
        try:
            self.sink = self.serve(otlp.Sink())
            self.samplers = [self.sampler("sampler-0", self.sink.port, ALWAYS, **self.sampler_options)]
            self.samplers[0].wait_ready()
            self.node = self.samplers[0]
            if self.tier == "lb":
                # A sampler that a busy machine holds up is not asked twice.
                self.node = self.lb("lb-0", [self.samplers[0].address], **{"timeout": "20s", **self.lb_options}).wait_ready()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def expect_stored(self, requests):
        """Exactly the spans of these requests reach the backend, and the books say so."""
        want = sorted(item.span.SerializeToString(deterministic=True) for request in requests for item in otlp.flatten(request))
        until(lambda: self.samplers[0].metrics().value("tailrace_spans_exported_total") >= len(want), "spans exported", timeout_s=60)
        got = sorted(item.span.SerializeToString(deterministic=True) for item in self.sink.spans())
        check(got == want, f"{len(got)} spans at the backend, {len(want)} wanted, or not the same")
        metrics.check_sampler_books(self.samplers[0], received=len(want), exported=len(want), held=0, dropped=0, duplicate=0)
        if self.tier == "lb":
            metrics.check_lb_books(self.node)
        equal(self.node.metrics().value("otelcol_receiver_accepted_spans_total"), len(want), "spans counted as accepted")

    def refused(self, reason):
        return self.node.metrics().value("tailrace_requests_refused_total", reason=reason)

    def expect_alive(self):
        """A good request is served as ever. Returns it."""
        request = otlp.request_of([otlp.trace_id()], 2)
        with otlp.Client(self.node.address) as client:
            answer = client.export(request)
        equal((answer.code, answer.rejected), (grpc.StatusCode.OK, 0), f"a good request afterwards ({answer.message})")
        return request


def nested(*spans):
    """A request around raw span bytes."""
    return wire.field_bytes(1, wire.field_bytes(2, b"".join(wire.field_bytes(2, span) for span in spans)))


def good_span(**options):
    return otlp.fill_span(Span(), otlp.trace_id(), **options)


def span_with(trace=None, span=None, extra=b""):
    """Raw span bytes: IDs as given (None: the field is absent), a name, and what stands after."""
    return ((wire.field_bytes(1, trace) if trace is not None else b"") +
            (wire.field_bytes(2, span) if span is not None else b"") + wire.field_bytes(5, "odd") + extra)


BROKEN_FRAMING = {
    "length past the end": wire.varint(1 << 3 | 2) + wire.varint(1000) + b"short",
    "half a varint": b"\x80",
    "varint of eleven bytes": b"\x08" + b"\xff" * 10 + b"\x01",
    "no such wire type 7": b"\x0f\x00",
    "group": b"\x0b\x0c",
    "field number zero": b"\x02\x00",
    "nested length past its parent": wire.field_bytes(1, wire.varint(2 << 3 | 2) + wire.varint(50) + b"x"),
    "span length past its parent": wire.field_bytes(1, wire.field_bytes(2, wire.varint(2 << 3 | 2) + wire.varint(200) + b"x")),
    "good span, then rubbish": nested(good_span().SerializeToString()) + b"\x0a\xff",
    "length of 2^63": wire.varint(1 << 3 | 2) + wire.varint(1 << 63),
    "text": b"this is not protobuf",
}

TRACE, SPAN = b"T" * 16, b"S" * 8
BAD_SPANS = {  # name: (bytes, reason at a sampler, reason at a balancer; member: the sampler finds it)
    "no trace ID": (span_with(None, SPAN), "no_trace_id", "no_trace_id"),
    "zero trace ID": (span_with(bytes(16), SPAN), "no_trace_id", "no_trace_id"),
    "trace ID of 15 bytes": (span_with(TRACE[:15], SPAN), "no_trace_id", "no_trace_id"),
    "trace ID of 17 bytes": (span_with(TRACE + b"x", SPAN), "no_trace_id", "no_trace_id"),
    "no span ID": (span_with(TRACE, None), "no_span_id", "no_span_id"),
    "zero span ID": (span_with(TRACE, bytes(8)), "no_span_id", "no_span_id"),
    "span ID of 7 bytes": (span_with(TRACE, SPAN[:7]), "no_span_id", "no_span_id"),
    "name is a number": (span_with(TRACE, SPAN, wire.field_varint(5, 7)), "malformed", "malformed"),
    "start time is a varint": (span_with(TRACE, SPAN, wire.field_varint(7, 7)), "malformed", "malformed"),
    "half a field at its end": (span_with(TRACE, SPAN, b"\x4a\x7f"), "malformed", "malformed"),
    "attribute is rubbish": (span_with(TRACE, SPAN, wire.field_bytes(9, b"\xff\xff\xff")), "malformed", "member"),
    "attribute value is rubbish": (span_with(TRACE, SPAN, wire.field_bytes(9, wire.field_bytes(1, "k") + wire.field_bytes(2, b"\x0a\x7f"))),
                                   "malformed", "member"),
    "event is rubbish": (span_with(TRACE, SPAN, wire.field_bytes(11, b"\x0a\x7fx")), "malformed", "member"),
    "link is rubbish": (span_with(TRACE, SPAN, wire.field_bytes(13, b"\x0a")), "malformed", "member"),
    "status is rubbish": (span_with(TRACE, SPAN, wire.field_bytes(15, b"\x12\x05x")), "malformed", "member"),
}


def rejected_counts(page):
    return {reason: page.value("tailrace_spans_rejected_total", reason=reason) for reason in ("no_trace_id", "no_span_id", "malformed")}
