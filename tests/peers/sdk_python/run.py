#!/usr/bin/env python3
"""The official OpenTelemetry SDK for Python sends through two balancers and three samplers, over gRPC and over HTTP.

What arrives at the backend is compared, field by field, with what the SDK itself encoded and with literals.
"""
import collections
import logging
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags,
                                 TraceState)

from kit import metrics, otlp
from kit.proc import Stage
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("sdk_python")
logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # it warns of each attribute past a limit; we mean to pass it

ALWAYS = [{"name": "all", "type": "always_sample"}]
ERRORS = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]
SERVICES = ("checkout", "payment", "bücher-服务", "inventory")


class Tee(SpanExporter):
    """Keeps what the SDK's own encoder makes of each span, then exports."""

    def __init__(self, lb, protocol, expected):
        self.expected = expected
        timeout = int(20 * slowness())
        if protocol == "grpc":
            self.exporter = OTLPSpanExporter(endpoint=lb.address, insecure=True, timeout=timeout)
        else:
            self.exporter = HttpSpanExporter(endpoint=f"http://{lb.http_address}/v1/traces", timeout=timeout,
                                             compression=Compression.Gzip if protocol == "http+gzip" else Compression.NoCompression)
        self.results = []

    def export(self, spans):
        self.expected.extend(otlp.flatten(encode_spans(spans)))
        result = self.exporter.export(spans)
        self.results.append(result)
        return result

    def shutdown(self):
        self.exporter.shutdown()


class Shop:
    """Several services, each with its own SDK: resource, batch processor and balancer."""

    def __init__(self, lbs, protocol="grpc"):
        self.expected = []
        self.tees = []
        self.providers = {}
        for index, service in enumerate(SERVICES):
            resource = Resource({"service.name": service, "service.instance.id": f"{service}-{index}",
                                 "host.cpus": index + 1, "zones": ["a", "b"]},
                                schema_url="https://opentelemetry.io/schemas/1.21.0" if index % 2 else None)
            tee = Tee(lbs[index % len(lbs)], protocol, self.expected)
            provider = TracerProvider(resource=resource, shutdown_on_exit=False,
                                      span_limits=SpanLimits(max_span_attributes=16, max_events=4, max_links=4))
            # Small batches: the spans of one trace travel in many requests.
            provider.add_span_processor(BatchSpanProcessor(tee, max_export_batch_size=7, schedule_delay_millis=100))
            self.tees.append(tee)
            self.providers[service] = provider

    def tracer(self, service, scope="shop.lib"):
        return self.providers[service].get_tracer(scope, "1.4.2", "https://opentelemetry.io/schemas/1.20.0",
                                                  {"scope.key": "scope value"})

    def close(self):
        for provider in self.providers.values():
            check(provider.force_flush(int(30000 * slowness())), "the SDK did not flush")
            provider.shutdown()
        for tee in self.tees:
            check(tee.results, "an SDK exported nothing")
            for result in tee.results:
                equal(result.name, "SUCCESS", "the SDK's export result")


def remote(context, tracestate=None):
    return api.set_span_in_context(NonRecordingSpan(SpanContext(
        context.trace_id, context.span_id, True, TraceFlags(1), tracestate or context.trace_state)))


def one_trace(shop, number, error):
    """A request through all four services; what it holds differs with its number. Returns the trace ID."""
    root = shop.tracer("checkout").start_span(
        f"GET /cart/{number}", kind=SpanKind.SERVER,
        context=remote(SpanContext(int.from_bytes(otlp.trace_id(), "big"), int.from_bytes(otlp.span_id(), "big"), True,
                                   trace_state=TraceState([("vendor", f"v{number}"), ("rojo", "00f067aa0ba902b7")]))),
        attributes={"text": "naïve ✓ 漢字 🚀", "empty": "", "yes": True, "no": False, "int": -(2 ** 63), "big": 2 ** 63 - 1,
                    "zero": 0, "float": 0.1, "tiny": 5e-324, "texts": ["a", "", "ß"], "ints": [1, -1, 0],
                    "floats": [1.5, -0.0], "flags": [True, False], "number": number})
    context = remote(root.get_span_context())
    for service in SERVICES[1:]:
        for kind in (SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.INTERNAL):
            child = shop.tracer(service, f"{service}.{kind.name.lower()}").start_span(
                f"{service} {kind.name} {'x' * (number % 5) * 50}", context=context, kind=kind,
                links=[Link(root.get_span_context(), {"why": "parent", "n": number}),
                       Link(SpanContext(number + 1, number + 2, False, TraceFlags(0), TraceState([("k", "v")])))],
                start_time=time.time_ns() - 5_000_000_000 - number)
            child.add_event("cache miss", {"key": f"item-{number}", "tries": 3, "ok": False}, time.time_ns() - 123_456_789)
            for event in range(number % 7):  # past the limit of 4: dropped_events_count is set
                child.add_event(f"event {event}")
            for key in range(20 if number % 3 == 0 else 2):  # past the limit of 16: dropped_attributes_count
                child.set_attribute(f"key.{key}", "v" * key)
            if error and kind == SpanKind.CLIENT and service == "payment":
                child.record_exception(ValueError(f"no money: {number} €"))
                child.set_status(Status(StatusCode.ERROR, "karte abgelehnt – 拒否"))
            elif number % 2:
                child.set_status(StatusCode.OK)
            child.end()
    root.end()
    return root.get_span_context().trace_id.to_bytes(16, "big")


def cluster(stage, sink, policies, wait="2s"):
    samplers = [stage.sampler(f"sampler-{index}", sink.port, policies, wait=wait) for index in range(3)]
    for sampler in samplers:
        sampler.wait_ready()
    lbs = [stage.lb(f"lb-{index}", [sampler.address for sampler in samplers], http={}) for index in range(2)]
    for lb in lbs:
        lb.wait_ready()
        until(lambda lb=lb: lb.metrics().value("otelcol_loadbalancer_num_backends") == len(samplers), "all samplers in the ring")
    return lbs, samplers


def in_books(samplers, word):
    return sum(sampler.metrics().value(f"tailrace_spans_{word}_total") for sampler in samplers)


@suite.case("grpc", "http", "http+gzip")
def whole_and_equal(protocol):
    """Every trace of the SDK arrives once, from one node, with every field as the SDK encoded it."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        lbs, samplers = cluster(stage, sink, ALWAYS)
        shop = Shop(lbs, protocol)
        traces = [one_trace(shop, number, number % 4 == 0) for number in range(60)]
        shop.close()
        spans = len(shop.expected)
        equal(spans, 60 * 13, "spans the SDK made")
        until(lambda: in_books(samplers, "exported") >= spans, "all spans exported", 30)

        otlp.expect_same_spans(shop.expected, sink.spans())
        nodes = collections.Counter()
        for trace, items in sink.traces().items():
            equal(len({item.node for item in items}), 1, f"nodes that exported trace {trace.hex()}")
            nodes[items[0].node] += 1
        equal(set(nodes), {sampler.name for sampler in samplers}, "samplers that exported")
        check_literals(sink.traces()[traces[4]], 4)
        for node in samplers:
            metrics.check_sampler_books(node, held=0, duplicate=0, dropped=0)
        for node in lbs:
            metrics.check_lb_books(node)
        equal(sum(lb.metrics().value("otelcol_receiver_accepted_spans_total") for lb in lbs), spans, "spans acknowledged")


def check_literals(items, number):
    """Values written down here, so that a fault common to both sides of the comparison would show."""
    root = next(item for item in items if item.span.name == f"GET /cart/{number}")
    values = {attribute.key: attribute.value for attribute in root.span.attributes}
    equal(values["text"].string_value, "naïve ✓ 漢字 🚀", "unicode attribute")
    equal(values["int"].int_value, -(2 ** 63), "smallest int")
    equal(values["big"].int_value, 2 ** 63 - 1, "largest int")
    equal(values["empty"].WhichOneof("value"), "string_value", "an empty text is still a text")
    equal(values["no"].WhichOneof("value"), "bool_value", "a false flag is still a flag")
    equal(values["tiny"].double_value, 5e-324, "smallest double")
    equal([value.string_value for value in values["texts"].array_value.values], ["a", "", "ß"], "array of texts")
    equal(root.span.trace_state, f"vendor=v{number},rojo=00f067aa0ba902b7", "tracestate")
    equal(root.span.kind, 2, "server kind")
    equal(root.span.flags & 0x300, 0x300, "flags: parent is known to be remote")
    equal(root.scope_schema, "https://opentelemetry.io/schemas/1.20.0", "scope schema URL")
    payment = next(item for item in items if item.span.name.startswith("payment CLIENT"))
    equal((payment.span.status.code, payment.span.status.message), (2, "karte abgelehnt – 拒否"), "status")
    equal(payment.span.events[-1].name, "exception", "recorded exception")
    equal(payment.span.dropped_events_count, 2, "dropped events")
    equal(len(payment.span.links), 2, "links")
    equal(payment.resource_schema, "https://opentelemetry.io/schemas/1.21.0", "resource schema URL")
    services = {attribute.value.string_value for item in items for attribute in item.resource.attributes
                if attribute.key == "service.name"}
    equal(services, set(SERVICES), "services of the trace")


@suite.case()
def errors_only():
    """With a status_code policy exactly the traces with an ERROR span come out, each whole."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        # The span that failed must be there when its trace is decided, though four SDKs send by two balancers.
        lbs, samplers = cluster(stage, sink, ERRORS, wait=f"{int(4 + 2 * slowness())}s")
        shop = Shop(lbs)
        bad = {number: one_trace(shop, number, number % 4 == 0) for number in range(60)}
        shop.close()
        wanted = {trace for number, trace in bad.items() if number % 4 == 0}
        until(lambda: in_books(samplers, "exported") + in_books(samplers, "dropped") >= len(shop.expected),
              "all traces decided and exported", 30)

        equal(set(sink.traces()), wanted, "traces that came out")
        otlp.expect_same_spans([item for item in shop.expected if item.span.trace_id in wanted], sink.spans())
        for node in samplers:
            metrics.check_sampler_books(node, held=0, duplicate=0)
        dropped = sum(node.metrics().value("tailrace_spans_dropped_total", reason="not_sampled") for node in samplers)
        equal(dropped, len(shop.expected) - 13 * len(wanted), "spans dropped as not sampled")


if __name__ == "__main__":
    sys.exit(suite.main())
