#!/usr/bin/env python3
"""A user's two Collector files run unchanged (layer1.yaml, layer2.yaml), and what tells tenants apart travels with their spans.

The files hold TLS, credentials, batch, memory_limiter, a balancer, policies of many types, several exporters and headers. Only
addresses for the tests' own eyes, a name for each sampler and a shorter wait are set beside them.
"""
import collections
import concurrent.futures
import http.client
import json
import os
import random
import re
import ssl
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc
import requests
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from kit import metrics, otlp, proc
from kit.certs import Authority, write
from kit.http_sink import HttpSink, accept, say
from kit.proc import Node, Program, Stage, free_port
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("two_layers", timeout_s=240)

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS = {"lb": ("layer1.yaml", "lb/tailrace-lb"), "sampler": ("layer2.yaml", "sampler/tailrace-sampler")}
TENANT = "X-Scope-OrgID"
TENANTS = ("a", "b", None)
TOKEN, VENDOR_KEY = "s3cr3t-token", "s3cr3t-key"
OK = grpc.StatusCode.OK
SECOND_NS = 1_000_000_000


# -- the files as programs ----------------------------------------------------------------------------------


class FileNode(Node):
    """A node that runs one of the files; the environment fills in what differs by host."""

    def __init__(self, name, tier, directory, environment, words=()):
        file, binary = LAYERS[tier]
        ports = {key: free_port() for key in ("HEALTH_PORT", "METRICS_PORT", "OTLP_GRPC_PORT", "OTLP_HTTP_PORT")}
        self.port, self.http_port = ports["OTLP_GRPC_PORT"], ports["OTLP_HTTP_PORT"]
        self.health_port, self.metrics_port = ports["HEALTH_PORT"], ports["METRICS_PORT"]
        self.admin_port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        argv = [os.path.join(proc.BUILD, binary), "--config", os.path.join(HERE, file),
                "--set", f"tailrace.admin.endpoint=127.0.0.1:{self.admin_port}"]
        Program.__init__(self, name, argv + [word for pair in words for word in ("--set", pair)], directory)
        self.environment = {"TLS_DIR": directory, **{key: str(port) for key, port in ports.items()}, **environment}

    def page(self, port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10 * slowness()) as answer:
            return answer.status, answer.read().decode()

    def run_words(self, *words):
        """Exit code, standard output, standard error of the program with these words; it ends by itself."""
        done = subprocess.run([*self.argv, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              env={**os.environ, **self.environment}, timeout=30 * slowness())
        return done.returncode, done.stdout, done.stderr


class Layers(Stage):
    """Both layers by their files: a balancer, two samplers, a backend over gRPC and one over HTTPS."""

    def __enter__(self):
        super().__enter__()
        try:
            self.certificates()
            self.tempo = self.serve(otlp.Sink(credentials=grpc.ssl_server_credentials(
                [(self.backend.key_pem, self.backend.cert_pem)], self.ca.cert_pem, True)))
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*self.backend.write(self.directory, "backend"))
            self.vendor = self.serve(HttpSink(context=context))
            self.nodes()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def certificates(self):
        self.ca = Authority()
        write(os.path.join(self.directory, "ca.pem"), self.ca.cert_pem)
        write(os.path.join(self.directory, "clients.token"), TOKEN.encode() + b"\n")
        self.ca.sign("layer1", ("localhost", "127.0.0.1")).write(self.directory, "layer1")
        self.ca.sign("samplers", ("samplers.tracing.svc",)).write(self.directory, "samplers")
        self.backend = self.ca.sign("backend", ("localhost", "127.0.0.1"))
        self.client = self.ca.sign("client")
        self.client.write(self.directory, "client")

    def nodes(self):
        # All spans of a trace must be there by then, though six SDKs send them and any process may stand still for a while.
        wait = f"processors.tail_sampling.decision_wait={int(5 + 3 * slowness())}s"
        outside = {"TEMPO_PORT": str(self.tempo.port), "VENDOR_PORT": str(self.vendor.port), "VENDOR_KEY": VENDOR_KEY, "CLUSTER": "blue"}
        self.samplers = [FileNode(name, "sampler", self.directory, outside, (f"tailrace.cluster.self={name}", wait))
                         for name in ("sampler-0", "sampler-1")]
        self.lb_node = FileNode("lb-0", "lb", self.directory,
                                {f"SAMPLER_{index}_PORT": str(node.port) for index, node in enumerate(self.samplers)})

    def all_nodes(self):
        return [*self.samplers, self.lb_node]

    def begin(self):
        for node in self.all_nodes():
            self.add(node).wait_ready()

    def credentials(self, with_client=True):
        own = (self.client.key_pem, self.client.cert_pem) if with_client else (None, None)
        return grpc.ssl_channel_credentials(self.ca.cert_pem, *own)

    def books(self, word):
        return sum(node.metrics().value(f"tailrace_spans_{word}_total") for node in self.samplers)


# What --check says of each file: line's key, and a part of the words.
MAPPED = {
    "lb": [
        ("extensions.health_check", "mapped: / at 127.0.0.1:"),
        ("processors.memory_limiter", "mapped: of "),
        ("processors.batch", "mapped: pieces for one sampler are gathered into requests"),
        ("processors.batch.metadata_cardinality_limit", "accepted without effect"),
        ("exporters.loadbalancing.protocol.otlp.sending_queue.queue_size", "accepted without effect"),
        ("exporters.loadbalancing.protocol.otlp.retry_on_failure", "accepted without effect"),
    ],
    "sampler": [
        ("extensions.health_check", "mapped: / at 127.0.0.1:"),
        ("processors.memory_limiter", "mapped: memory for spans is 384 MiB (limit less spike)"),
        ("processors.tail_sampling.expected_new_traces_per_sec", "accepted without effect"),
        ("processors.tail_sampling.policies[0].drop.drop_sub_policy[0].string_attribute.cache_max_size", "accepted without effect"),
        ("processors.batch", "mapped: spans are gathered into requests where they are exported, after 500ms or 512 spans"),
    ],
}


@suite.case("lb", "sampler")
def checked(tier):
    """Each file is taken as it stands; what is mapped or has no effect is said with its line, and nothing else is; secrets are not shown."""
    with Layers() as layers:
        node = layers.lb_node if tier == "lb" else layers.samplers[0]
        code, out, error = node.run_words("--check")
        equal(code, 0, f"exit code of --check:\n{error}")
        check("the configuration is valid" in out, out)
        said = re.findall(r"^tailrace-\w+: warning: .*layer\d\.yaml:\d+: ([\w.\[\]/-]+): (.*)$", error, re.MULTILINE)
        equal(len(said), len(error.splitlines()), f"lines that are warnings with file, line and key:\n{error}")
        for (key, words), (want_key, want_words) in zip(said, MAPPED[tier]):
            check(key == want_key and words.startswith(want_words), f"said of {key}: {words}\nwanted of {want_key}: {want_words}")
        equal(len(said), len(MAPPED[tier]), f"things said:\n{error}")
        code, out, error = node.run_words("--print-config")
        equal(code, 0, f"exit code of --print-config:\n{error}")
        check("s3cr3t" not in out + error, "a secret is shown")
        check(tier == "lb" or "[REDACTED]" in out, f"no place of a secret is shown:\n{out}")


# -- clients: the official SDK ------------------------------------------------------------------------------


class Tee(SpanExporter):
    """Keeps what the SDK's own encoder makes of each span, then exports."""

    def __init__(self, exporter, expected):
        self.exporter, self.expected, self.results = exporter, expected, []

    def export(self, spans):
        self.expected.extend(otlp.flatten(encode_spans(spans)))
        result = self.exporter.export(spans)
        self.results.append(result.name)
        return result

    def shutdown(self):
        self.exporter.shutdown()


class Shop:
    """Two services a tenant: `web` sends over gRPC, `payment` over HTTP, both by TLS with a token. Nothing is sent before close(), then all
    at once, in small requests: the spans of a trace come by both ways and in several requests."""

    def __init__(self, layers):
        self.layers = layers
        self.expected = collections.defaultdict(list)
        self.providers, self.tees = {}, []

    def headers(self, tenant):
        return {"authorization": f"Bearer {TOKEN}", **({TENANT.lower(): tenant} if tenant else {})}

    def exporter(self, service, tenant):
        lb, directory = self.layers.lb_node, self.layers.directory
        if service == "web":
            return GrpcExporter(endpoint=lb.address, credentials=self.layers.credentials(), timeout=20 * slowness(),
                                headers=tuple(self.headers(tenant).items()), compression=grpc.Compression.Gzip)
        session = requests.Session()
        session.trust_env = False  # proxies and authorities of the environment would come before ours
        return HttpExporter(session=session, endpoint=f"https://127.0.0.1:{lb.http_port}/v1/traces", timeout=20 * slowness(),
                            certificate_file=os.path.join(directory, "ca.pem"), headers=self.headers(tenant),
                            client_certificate_file=os.path.join(directory, "client.pem"),
                            client_key_file=os.path.join(directory, "client.key"))

    def tracer(self, service, tenant):
        if (service, tenant) not in self.providers:
            provider = TracerProvider(resource=Resource({"service.name": service, "k8s.pod.name": f"{service}-{tenant}"}),
                                      shutdown_on_exit=False)
            tee = Tee(self.exporter(service, tenant), self.expected[tenant])
            provider.add_span_processor(BatchSpanProcessor(tee, max_queue_size=10000, max_export_batch_size=9, schedule_delay_millis=3_600_000))
            self.providers[service, tenant] = provider
            self.tees.append(tee)
        return self.providers[service, tenant].get_tracer("shop", "1.0")

    def span(self, service, tenant, trace, name, duration_s=0.05, error=False, exception=None, **attributes):
        parent = SpanContext(int.from_bytes(trace, "big"), int.from_bytes(otlp.span_id(), "big"), True, TraceFlags(1))
        now_ns = time.time_ns()
        span = self.tracer(service, tenant).start_span(
            name, context=api.set_span_in_context(NonRecordingSpan(parent)), kind=SpanKind.SERVER,
            start_time=now_ns - int(duration_s * SECOND_NS), attributes={key.replace("__", "."): value for key, value in attributes.items()})
        if exception:
            span.add_event("exception", {"exception.type": exception}, now_ns)
        if error:
            span.set_status(StatusCode.ERROR, "declined")
        span.end(now_ns)

    def close(self):
        for provider in self.providers.values():
            check(provider.force_flush(int(60000 * slowness())), "the SDK did not flush")
            provider.shutdown()
        for tee in self.tees:
            equal(set(tee.results), {"SUCCESS"}, "export results of the SDK")


# -- traces, and what must become of them -----------------------------------------------------------------------

# Spans of a trace beside the two it always has, and whether a policy keeps it; None: only the share of 20 % does; False: dropped for sure.
KINDS = {
    "plain": ([], None),
    "error": ([("payment", {"error": True})], True),
    "slow": ([("payment", {"duration_s": 2.5})], True),
    "not slow": ([("payment", {"duration_s": 1.5})], None),
    "refused payment": ([("payment", {"http__response__status_code": 402})], True),
    "server's fault": ([("payment", {"http__response__status_code": 500})], None),
    "asked for": ([("web", {"debug": True})], True),
    "asked for in text": ([("web", {"debug": "true"})], None),
    "timeout": ([("payment", {"exception": "Timeout"})], True),
    "other exception": ([("payment", {"exception": "ValueError"})], None),
    "gold": ([("web", {"shop__plan": "gold"})], True),
    "silver": ([("web", {"shop__plan": "silver"})], None),
    "wide": ([("web", {})] * 4, True),
    "not wide": ([("web", {})] * 3, None),
    "probe that fails": ([("web", {"http__route": "/healthz", "error": True})], False),
    "probe that is slow": ([("payment", {"http__route": "/ready/now", "duration_s": 9})], False),
}


def in_share(trace, percent=20, salt=b"two-layers"):
    """The processor's `probabilistic`: FNV-1a of salt and trace ID, below a share of all 64-bit numbers."""
    state = 0xcbf29ce484222325
    for byte in salt + trace:
        state = ((state ^ byte) * 0x100000001b3) & (2 ** 64 - 1)
    return state <= (2 ** 64 - 1) * percent // 100


def make_traces(shop, count):
    """count traces of each kind, in turns by each tenant. Returns {trace ID: kept?}."""
    wanted = {}
    for number in range(count):
        for index, (spans, kept) in enumerate(KINDS.values()):
            trace, tenant = otlp.trace_id(), TENANTS[(number + index) % 3]
            for service, options in [("web", {}), ("payment", {}), *spans]:
                shop.span(service, tenant, trace, "GET /cart", **options)
            wanted[trace] = in_share(trace) if kept is None else kept
    return wanted


def make_shared(shop, count):
    """Traces that two tenants have spans of. Returns their IDs, all kept."""
    shared = [otlp.trace_id() for _ in range(count)]
    for trace in shared:
        shop.span("web", "a", trace, "GET /shared", error=True)
        shop.span("payment", "b", trace, "charge")
        shop.span("payment", "a", trace, "charge")
    return shared


def key_of(item):
    """Everything a span carries, as bytes that compare."""
    return b"\0".join(part.encode() if isinstance(part, str) else part.SerializeToString(deterministic=True) for part in item[:-1])


def spans_of(call):
    return otlp.flatten(call.request)


def expect_whole(expected, arrived, what):
    same_once(map(key_of, arrived), map(key_of, expected), what)


@suite.case()
def files_run():
    """What SDKs send over gRPC and HTTP is decided as the file says and reaches both backends whole, once, with their headers; the vendor's
    requests are one tenant's each, by the headers_setter it alone has."""
    with Layers() as layers:
        layers.begin()
        shop = Shop(layers)
        wanted = make_traces(shop, 6)
        wanted.update(dict.fromkeys(make_shared(shop, 6), True))
        shop.close()
        everything = [item for items in shop.expected.values() for item in items]
        kept = [item for item in everything if wanted[item.span.trace_id]]
        check(len(everything) > 250 and 0 < len(kept) < len(everything), f"{len(kept)} spans of {len(everything)} are to be kept")
        until(lambda: layers.books("exported") + layers.books("dropped") >= len(everything) and
              min(len(layers.tempo.spans()), len(layers.vendor.spans())) >= len(kept), "all traces decided and exported", 60)

        equal(set(layers.tempo.traces()), {trace for trace, is_kept in wanted.items() if is_kept}, "traces kept")
        expect_whole(kept, layers.tempo.spans(), "spans at the gRPC backend")
        expect_whole(kept, layers.vendor.spans(), "spans at the HTTPS backend")
        expect_headers(layers, shop, wanted)
        expect_telemetry(layers, everything, kept)


def expect_headers(layers, shop, wanted):
    for call in layers.tempo.calls():
        equal((call.metadata.get("x-cluster"), call.metadata.get(TENANT.lower())), ("blue", None), "headers at the gRPC backend")
        check(call.metadata["user-agent"].startswith("tailrace-sampler/"), call.metadata["user-agent"])
    seen = collections.defaultdict(list)
    for call in layers.vendor.seen():
        equal((call.path, call.headers["api-key"], call.headers["X-Layer"], call.headers["Content-Encoding"]),
              ("/otlp/v1/traces", VENDOR_KEY, "sampler", "gzip"), "what the vendor is sent")
        equal(call.headers.get_all("Authorization"), None, "the clients' token at the vendor")
        seen[only_tenant(call.headers.get_all(TENANT))] += spans_of(call)
    for tenant in TENANTS:
        expect_whole([item for item in shop.expected[tenant] if wanted[item.span.trace_id]], seen[tenant], f"spans under tenant {tenant}")


def only_tenant(values):
    """The one value, or None; two in one request would be two tenants."""
    check(values is None or len(values) == 1, f"a request with {values}")
    return values[0] if values else None


def expect_telemetry(layers, everything, kept):
    metrics.check_lb_books(layers.lb_node)
    # An SDK that waited too long sends again: what is acknowledged twice is exported once.
    check(layers.lb_node.metrics().value("otelcol_receiver_accepted_spans_total") >= len(everything), "spans acknowledged")
    for node in layers.samplers:
        page = metrics.check_sampler_books(node, held=0)
        check(page.value("tailrace_spans_exported_total") > 0, f"{node.name} exported nothing")
        check(page.value("tailrace_exporter_compressed_bytes_total", exporter="otlp/tempo") <
              page.value("tailrace_exporter_uncompressed_bytes_total", exporter="otlp/tempo"), "gzip over gRPC")
    until(lambda: shown_spans(layers) >= len(kept), "the debug exporter's lines")
    equal(shown_spans(layers), len(kept), "spans that the debug exporter counted")
    for node in layers.all_nodes():
        equal(node.page(node.health_port, "/")[0], 200, f"health check of {node.name}")
        check("otelcol_receiver_accepted_spans_total" in node.page(node.metrics_port, "/metrics")[1], f"metrics page of {node.name}")
        for secret in (TOKEN, VENDOR_KEY):
            check(secret.encode() not in node.log(), f"{node.name} logs a secret")
    for line in layers.lb_node.log().decode().splitlines():
        check(line.startswith("tailrace-lb: warning: ") or json.loads(line), f"no JSON: {line}")


def shown_spans(layers):
    """What the debug exporters counted in their lines so far."""
    return sum(int(count) for node in layers.samplers for count in re.findall(r" debug_traces .*?\bspans=(\d+)", node.log().decode()))


@suite.case()
def strangers_stay_out():
    """Who lacks the certificate or the token sends nothing to the first layer, and who lacks the certificate nothing to the second."""
    with Layers() as layers:
        layers.begin()
        request = otlp.request_of([otlp.trace_id()])
        token = [("authorization", f"Bearer {TOKEN}")]
        for what, address, credentials, metadata, want in [
                ("no certificate", layers.lb_node.address, layers.credentials(False), token, grpc.StatusCode.UNAVAILABLE),
                ("plain text", layers.lb_node.address, None, token, grpc.StatusCode.UNAVAILABLE),
                ("no token", layers.lb_node.address, layers.credentials(), None, grpc.StatusCode.UNAUTHENTICATED),
                ("both", layers.lb_node.address, layers.credentials(), token, OK),
                ("no certificate, second layer", layers.samplers[0].address, layers.credentials(False), None, grpc.StatusCode.UNAVAILABLE)]:
            with otlp.Client(address, credentials) as client:
                equal(client.export(request, metadata=metadata).code, want, what)
        metrics.check_lb_books(layers.lb_node)


# -- tenants: what is carried, by every way ------------------------------------------------------------------------

ALWAYS = [{"name": "all", "type": "always_sample"}]
FAST_RETRY = {"initial_interval": "50ms", "max_interval": "200ms", "max_elapsed_time": 0}
SETTER = {"headers_setter": {"headers": [{"key": TENANT, "from_context": TENANT}]}}
TAKES = {"include_metadata": True}


class Tenants(Stage):
    """A balancer, two samplers, a gRPC and an HTTP backend, all plain. named: `headers_setter` at each exporter, or `forward_headers`."""

    def __init__(self, named):
        super().__init__()
        self.named = named
        self.sent = {}  # key of each span: its tenant

    def begin(self, wait="300ms", members=(), lb_takes=TAKES):
        self.grpc_sink, self.http_sink = self.serve(otlp.Sink()), self.serve(HttpSink())
        self.samplers = [self.add(self.sampler_node(f"sampler-{index}", wait)) for index in range(2)]
        for sampler in self.samplers:
            sampler.wait_ready()
        config = proc.lb_config([*members, *(sampler.address for sampler in self.samplers)], grpc=dict(lb_takes), http=dict(lb_takes))
        self.name_headers(config, config["exporters"]["loadbalancing"]["protocol"]["otlp"])
        self.front = self.add(Node("lb-0", "lb/tailrace-lb", config, self.directory)).wait_ready()
        return self

    def sampler_node(self, name, wait):
        config = proc.sampler_config(name, self.grpc_sink.port, ALWAYS, wait=wait, grpc=dict(TAKES), exporter={"retry_on_failure": FAST_RETRY})
        config["exporters"]["otlphttp"] = {"endpoint": self.http_sink.url, "retry_on_failure": FAST_RETRY}
        config["service"]["pipelines"]["traces"]["exporters"] = ["otlp", "otlphttp"]
        for exporter in config["exporters"].values():  # what could go together waits for it
            exporter["sending_queue"] = {"batch": {"flush_timeout": "300ms", "min_size": 1000}}
        self.name_headers(config, *config["exporters"].values())
        return Node(name, "sampler/tailrace-sampler", config, self.directory)

    def name_headers(self, config, *exporters):
        if self.named == "forward_headers":
            config["tailrace"]["forward_headers"] = [TENANT]
            return
        config["extensions"] = SETTER
        config["service"]["extensions"] = list(SETTER)
        for exporter in exporters:
            exporter["auth"] = {"authenticator": "headers_setter"}

    def note(self, request, tenant):
        for item in otlp.flatten(request):
            self.sent[key_of(item)] = tenant
        return request

    def send(self, requests):
        """(request, tenant) pairs at once, in turns over gRPC and HTTP. tenant: None, or the values of the header, in order."""
        with otlp.Client(self.front.address) as client, concurrent.futures.ThreadPoolExecutor(8) as threads:
            calls, posts = [], []
            for index, (request, tenant) in enumerate(requests):
                self.note(request, tenant)
                if index % 2:
                    posts.append(threads.submit(self.post, request, tenant))
                else:
                    calls.append(client.begin(request, metadata=[(TENANT.lower(), value) for value in tenant or ()] + [("x-other", "no")]))
            for call in calls:
                equal(otlp.answer_of(call).code, OK, "answer over gRPC")
            for post in posts:
                equal(post.result(), 200, "answer over HTTP")

    def post(self, request, tenant):
        connection = http.client.HTTPConnection(self.front.http_address, timeout=20 * slowness())
        try:
            body = request.SerializeToString()
            connection.putrequest("POST", "/v1/traces")
            for key, value in [("Content-Type", "application/x-protobuf"), ("Content-Length", str(len(body))), ("X-Other", "no"),
                               *((TENANT, value) for value in tenant or ())]:
                connection.putheader(key, value)
            connection.endheaders(body)
            return connection.getresponse().status
        finally:
            connection.close()

    def got(self):
        """For each backend the (values of the header, spans) of its requests that were answered OK; no other header was carried."""
        with self.grpc_sink.lock:
            by_grpc = [(call.context.invocation_metadata(), call) for call in self.grpc_sink.accepted]
        with self.http_sink.lock:
            by_http = [(call.headers.items(), call) for call in self.http_sink.accepted]
        both = {"gRPC": by_grpc, "HTTP": by_http}
        for calls in both.values():
            for headers, _ in calls:
                check("x-other" not in {key.lower() for key, _ in headers}, "a header that nobody named was carried")
        return {name: [(tuple(value for key, value in headers if key.lower() == TENANT.lower()) or None, spans_of(call))
                       for headers, call in calls] for name, calls in both.items()}

    def arrived(self):
        return {name: sum(len(spans) for _, spans in calls) for name, calls in self.got().items()}

    def expect_apart(self):
        """Each span reached both backends once, in a request that carries its tenant's value and holds no other's spans."""
        until(lambda: min(self.arrived().values()) >= len(self.sent), "spans at both backends", 30)
        for name, calls in self.got().items():
            for values, spans in calls:
                equal({self.sent[key_of(item)] for item in spans}, {values}, f"tenants of the spans in a request of {values} over {name}")
            same_once([key_of(item) for _, spans in calls for item in spans], self.sent, f"spans over {name}")
        for node in self.samplers:
            metrics.check_sampler_books(node, held=0, duplicate=0, dropped=0)
        metrics.check_lb_books(self.front)


VALUES = (("a",), ("b",), None, ("A",), ("a", "b"), ("tenant with blanks; and=signs, \"quoted\"",), ("x" * 3000,))


@suite.case("headers_setter", "forward_headers")
def tenants(named):
    """Clients of many tenants, over gRPC and HTTP at once: each backend request carries one tenant's value, as it was sent, and only that
    tenant's spans, also when backends have it sent again and when tenants share traces."""
    refusals = 4
    with Tenants(named) as stage:
        stage.begin()
        stage.grpc_sink.answer = lambda call: otlp.refuse(grpc.StatusCode.UNAVAILABLE)(call) if call.number < refusals else b""
        stage.http_sink.answer = lambda call: say(503)(call) if call.number < refusals else accept(call)
        shared = [otlp.trace_id() for _ in range(20)]
        requests = []
        for number in range(14):
            for tenant in VALUES:
                own = [otlp.trace_id() for _ in range(3)]
                requests.append((otlp.request_of(own + random.sample(shared, 4), 1 + number % 3), tenant))
        random.Random(7).shuffle(requests)
        stage.send(requests)
        stage.expect_apart()


@suite.case()
def late_spans_of_another():
    """A span that comes after its trace was kept goes out under its own client's value, not the trace's."""
    with Tenants("forward_headers") as stage:
        stage.begin(wait="100ms")
        traces = [otlp.trace_id() for _ in range(10)]
        for tenant in (("a",), None, ("b",), ("a",)):
            stage.send([(otlp.request_of([trace], 2), tenant) for trace in traces])
            stage.expect_apart()


@suite.case()
def sent_elsewhere():
    """Pieces that a member does not take go to its fallback under the same value."""
    with Tenants("headers_setter") as stage:
        broken = stage.serve(otlp.Member("broken"))
        broken.answer = otlp.refuse(grpc.StatusCode.UNAVAILABLE)
        stage.begin(members=[broken.address])
        until(lambda: broken.hellos > 0 and len(stage.front.status()["members"]) == 3, "three members")
        for _ in range(3):
            stage.send([(otlp.request_of([otlp.trace_id() for _ in range(12)], 2), tenant) for tenant in VALUES[:3]])
        stage.expect_apart()
        check(broken.calls(), "the broken member was never asked")
        check(stage.front.metrics().value("tailrace_lb_retried_pieces_total") > 0, "pieces sent elsewhere")


@suite.case()
def not_taken_in():
    """Without include_metadata no client's header goes further than the first layer."""
    with Tenants("forward_headers") as stage:
        stage.begin(lb_takes={})
        requests = [(otlp.request_of([otlp.trace_id()], 2), tenant) for tenant in VALUES[:4]]
        stage.send(requests)
        stage.sent = dict.fromkeys(stage.sent)
        stage.expect_apart()


if __name__ == "__main__":
    sys.exit(suite.main())
