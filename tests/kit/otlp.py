"""OTLP in and out over gRPC: a client that shows every part of an answer, and servers that stand in for backends and
members.

The servers take raw bytes, so that what arrived is judged as it was on the wire.
"""
import collections
import os
import threading
import time
from concurrent import futures

import grpc
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (ExportTraceServiceRequest,
                                                                     ExportTraceServiceResponse)

from kit import wire
from kit.proc import free_port
from kit.suite import check, equal, slowness

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HELLO = "/tailrace.v1.Peer/Hello"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
STATE_READY = 2
RING_HASH_VERSION = 1

Answer = collections.namedtuple("Answer", "code message retry_s rejected rejected_message trailers")
NO_LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


class Client:
    """One connection to a node. Nothing is sent twice unless the caller does."""

    def __init__(self, address, credentials=None, options=()):
        """credentials: grpc.ssl_channel_credentials(...); None: plain text."""
        options = list({**dict(NO_LIMIT), **dict(options)}.items())  # of two the library would take the first
        self.channel = (grpc.secure_channel(address, credentials, options=options) if credentials
                        else grpc.insecure_channel(address, options=options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def begin(self, request, timeout_s=20.0, method=EXPORT, compression=None, metadata=None):
        """Starts a call; the future goes to answer_of."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        return self.channel.unary_unary(method).future(data, timeout=timeout_s * slowness(), compression=compression,
                                                       metadata=metadata)

    def export(self, request, **options):
        return answer_of(self.begin(request, **options))


def answer_of(call):
    """Waits for a call's end and takes it apart."""
    try:
        response = call.result()
        code, message = grpc.StatusCode.OK, ""
    except grpc.FutureCancelledError:
        return Answer(grpc.StatusCode.CANCELLED, "", None, 0, "", {})
    except grpc.RpcError as error:
        response = b""
        code, message = error.code(), error.details() or ""
    trailers = {key: value for key, value in call.trailing_metadata() or ()}
    retry_s = None
    if "grpc-status-details-bin" in trailers:
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        if status.code != code.value[0]:
            raise AssertionError(f"status details say {status.code}, the status itself {code}")
        for detail in status.details:
            info = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                retry_s = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    partial = ExportTraceServiceResponse.FromString(response).partial_success
    return Answer(code, message, retry_s, partial.rejected_spans, partial.error_message, trailers)


class Server:
    """A gRPC server that takes Export as raw bytes and answers as told.

    answer(call) may return an ExportTraceServiceResponse or bytes, or call call.abort(...). It runs on a thread of
    its own, so it may wait. Requests are noted before it runs (`received`), and after it returned (`accepted`).
    """

    Call = collections.namedtuple("Call", "number request data metadata context at_s")

    host = "127.0.0.1"  # as in an address: [::1]

    def __init__(self, port=0, credentials=None):
        """credentials: grpc.ssl_server_credentials(...); None: plain text."""
        self.wanted_port = port
        self.port = port
        self.credentials = credentials
        self.received = []
        self.accepted = []
        self.lock = threading.Lock()
        self.answer = lambda call: b""
        self.trailers = ()  # with every answer
        self.server = None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def methods(self):
        return {EXPORT: self.on_export}

    def start(self):
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=NO_LIMIT + [("grpc.so_reuseport", 0)])
        methods = self.methods()

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                function = methods.get(details.method)
                return grpc.unary_unary_rpc_method_handler(function) if function else None

        self.server.add_generic_rpc_handlers((Handler(),))
        # One of ours even where any will do: while this server is stopped, no outgoing connection may take its port.
        self.wanted_port = self.wanted_port or free_port()
        endpoint = f"{self.host}:{self.wanted_port}"
        self.port = (self.server.add_secure_port(endpoint, self.credentials) if self.credentials
                     else self.server.add_insecure_port(endpoint))
        if not self.port:
            raise AssertionError(f"cannot listen on {self.wanted_port}")
        self.wanted_port = self.port
        self.server.start()
        return self

    def stop(self, grace_s=0):
        """Tells clients to go elsewhere (GOAWAY); calls under way have grace_s to end."""
        if self.server:
            self.server.stop(grace_s * slowness()).wait()
            self.server = None

    def on_export(self, data, context):
        context.set_trailing_metadata(self.trailers)
        metadata = dict(context.invocation_metadata())
        with self.lock:
            call = Server.Call(len(self.received), ExportTraceServiceRequest.FromString(data), data, metadata, context,
                               time.monotonic())
            self.received.append(call)
        response = self.answer(call)
        with self.lock:
            self.accepted.append(call)
        return response if isinstance(response, bytes) else response.SerializeToString()

    def calls(self):
        with self.lock:
            return list(self.received)

    def spans(self, calls=None):
        """All spans of the calls that were answered OK, each with its header and the node that sent it."""
        with self.lock:
            chosen = list(self.accepted if calls is None else calls)
        return [item for call in chosen for item in flatten(call.request, call.metadata.get("tailrace-node", ""))]

    def traces(self):
        """Spans by trace ID."""
        traces = collections.defaultdict(list)
        for item in self.spans():
            traces[item.span.trace_id].append(item)
        return dict(traces)


class Sink(Server):
    """A backend."""


class Member(Server):
    """A sampler as the balancer sees it: Export and Hello."""

    def __init__(self, name, port=0, hello=True, host="127.0.0.1", hands_over=False):
        super().__init__(port)
        self.name = name
        self.hands_over = hands_over
        self.host = host
        self.hello = hello
        self.hellos = 0

    def methods(self):
        return {EXPORT: self.on_export, **({HELLO: self.on_hello} if self.hello else {})}

    def on_hello(self, _data, context):
        context.set_trailing_metadata(self.trailers)
        self.hellos += 1
        return (wire.field_varint(2, RING_HASH_VERSION) + wire.field_bytes(3, self.name) +
                wire.field_fixed64(4, 1) + wire.field_varint(5, 1) + wire.field_varint(6, STATE_READY) +
                (wire.field_varint(16, 1) if self.hands_over else b"") + wire.field_bytes(17, "test member"))

    def on_export(self, data, context):
        if not data:  # an empty export is a probe, not traffic
            return b""
        return super().on_export(data, context)


Item = collections.namedtuple("Item", "span resource resource_schema scope scope_schema node")


def flatten(request, node=""):
    return [Item(span, resource_spans.resource, resource_spans.schema_url, scope_spans.scope, scope_spans.schema_url, node)
            for resource_spans in request.resource_spans for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans]


def span_key(item):
    """Everything a span carries, as bytes that compare."""
    return (item.resource.SerializeToString(deterministic=True), item.resource_schema,
            item.scope.SerializeToString(deterministic=True), item.scope_schema,
            item.span.SerializeToString(deterministic=True))


def expect_same_spans(expected, arrived):
    """Each expected span is there once, all its fields and its headers' equal, and nothing else is."""
    got = {(item.span.trace_id, item.span.span_id): item for item in arrived}
    equal(len(got), len(arrived), "distinct spans of those that arrived (more arrived: doubled)")
    want = {(item.span.trace_id, item.span.span_id): item for item in expected}
    missing, extra = want.keys() - got.keys(), got.keys() - want.keys()
    check(not missing and not extra, f"{len(missing)} spans missing, {len(extra)} unexpected, of {len(want)}")
    for key, item in want.items():
        if span_key(item) == span_key(got[key]):
            continue
        for field in Item._fields[:-1]:
            equal(str(getattr(got[key], field)), str(getattr(item, field)), f"{field} of span {key[1].hex()}")
        raise AssertionError(f"span {key[1].hex()} differs on the wire only: {span_key(got[key])!r} {span_key(item)!r}")


def refuse(code, message="refused", retry_s=None):
    """An answer that aborts the call, with RetryInfo when retry_s is given."""
    def answer(call):
        if retry_s is not None:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromMilliseconds(int(retry_s * 1000))
            status = status_pb2.Status(code=code.value[0], message=message)
            status.details.add().Pack(info)
            call.context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        call.context.abort(code, message)
    return answer


def trace_id():
    return os.urandom(16)


def span_id():
    return os.urandom(8)


def fill_span(span, trace, error=False, name="work", size_bytes=0, duration_ms=5):
    now_ns = time.time_ns()
    span.trace_id = trace
    span.span_id = span_id()
    span.name = name
    span.kind = 2
    span.start_time_unix_nano = now_ns - duration_ms * 1_000_000
    span.end_time_unix_nano = now_ns
    if error:
        span.status.code = 2
    if size_bytes:
        attribute = span.attributes.add()
        attribute.key = "padding"
        attribute.value.string_value = os.urandom(size_bytes // 2).hex()
    return span


def request_of(traces, spans_each=1, service="shop", **options):
    """A request with spans_each spans for each trace ID, under one resource and scope."""
    request = ExportTraceServiceRequest()
    scope_spans = scope_of(request, service)
    for trace in traces:
        for _ in range(spans_each):
            fill_span(scope_spans.spans.add(), trace, **options)
    return request


def scope_of(request, service):
    resource_spans = request.resource_spans.add()
    attribute = resource_spans.resource.attributes.add()
    attribute.key = "service.name"
    attribute.value.string_value = service
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "test"
    return scope_spans


def span_count(request):
    return len(flatten(request))


def health(address, service="", timeout_s=5.0):
    """Status number of the gRPC health service: 1 serving, 2 not serving."""
    with grpc.insecure_channel(address, options=NO_LIMIT) as channel:
        data = channel.unary_unary(HEALTH_CHECK)(wire.field_bytes(1, service) if service else b"", timeout=timeout_s * slowness())
    return dict(wire.read_fields(data)).get(1, 0)
