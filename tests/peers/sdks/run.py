#!/usr/bin/env python3
"""The official OpenTelemetry SDKs for JavaScript and Go send by each of their OTLP protocols through two balancers and
three samplers.

The sender (tests/peers/sdk_js, tests/peers/sdk_go) gives each span to us and, by OTLP/gRPC, to a reference backend: what
came out at our end is compared with that, field by field. Needs node with npm and Go on the PATH.
"""
import hashlib
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from kit import metrics, otlp
from kit.go_program import PEERS, cache_dir, fetching, go_program
from kit.proc import Stage
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("sdks")
ALWAYS = [{"name": "all", "type": "always_sample"}]
TRACES = 40
SPANS = TRACES * 13


def run(command, **options):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    check(result.returncode == 0, f"{' '.join(map(str, command))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def javascript():
    """Command of the JavaScript sender; its packages are installed anew when the lock file changes."""
    source = PEERS / "sdk_js"
    lock = (source / "package-lock.json").read_bytes()
    place = cache_dir() / "sdk_js"
    stamp = place / "stamp"
    if not stamp.exists() or stamp.read_text() != hashlib.sha256(lock).hexdigest():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, place / name)
        fetching(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, timeout=600)
        stamp.write_text(hashlib.sha256(lock).hexdigest())
    shutil.copy(source / "send.mjs", place / "send.mjs")
    return ["node", str(place / "send.mjs")], "--"


def go():
    """Command of the Go sender."""
    return [str(go_program("sdk_go"))], "-"


def check_literals(items):
    """Values written down here, so that a fault common to both ways would show."""
    root = next(item for item in items if item.span.name == "GET /cart/4")
    values = {attribute.key: attribute.value for attribute in root.span.attributes}
    equal(values["text"].string_value, "naïve ✓ 漢字 🚀", "unicode attribute")
    equal(values["no"].WhichOneof("value"), "bool_value", "a false flag is still a flag")
    equal(values["empty"].WhichOneof("value"), "string_value", "an empty text is still a text")
    equal([value.string_value for value in values["texts"].array_value.values], ["a", "", "ß"], "array of texts")
    equal(root.span.trace_state, "vendor=v4,rojo=00f067aa0ba902b7", "tracestate")
    equal(root.span.kind, 2, "server kind")
    equal(root.scope_schema, "https://opentelemetry.io/schemas/1.20.0", "scope schema URL")
    same = [item for item in items if item.span.trace_id == root.span.trace_id]
    equal(len(same), 13, "spans of the trace")
    failed = next(item for item in same if item.span.name.startswith("payment") and item.span.status.code == 2)
    equal(failed.span.status.message, "karte abgelehnt – 拒否", "status message")
    equal(failed.span.events[-1].name, "exception", "recorded exception")
    check(failed.span.dropped_events_count > 0, "events past the SDK's limit are counted")
    equal(len(failed.span.links), 1, "links")


def whole(sender, protocol, compressed):
    command, dash = sender()
    with Stage() as stage:
        sink, reference = stage.serve(otlp.Sink()), stage.serve(otlp.Sink())
        samplers = [stage.sampler(f"sampler-{index}", sink.port, ALWAYS, wait="2s") for index in range(3)]
        for sampler in samplers:
            sampler.wait_ready()
        lbs = [stage.lb(f"lb-{index}", [sampler.address for sampler in samplers], http={}) for index in range(2)]
        for lb in lbs:
            lb.wait_ready()
            until(lambda lb=lb: lb.metrics().value("otelcol_loadbalancer_num_backends") == len(samplers), "all samplers in the ring")
        endpoints = [lb.address if protocol == "grpc" else lb.http_address for lb in lbs]
        said = run([*command, f"{dash}protocol={protocol}", f"{dash}endpoint={','.join(endpoints)}",
                    f"{dash}reference={reference.address}", f"{dash}traces={TRACES}", *([f"{dash}gzip"] if compressed else [])],
                   timeout=90 * slowness())
        equal(said.strip(), f"sent {SPANS} spans", "the sender's last word")
        until(lambda: sum(node.metrics().value("tailrace_spans_exported_total") for node in samplers) >= SPANS, "all spans exported", 30)
        equal(len(reference.spans()), SPANS, "spans at the reference backend")
        otlp.expect_same_spans(reference.spans(), sink.spans())
        check_literals(sink.spans())
        for trace, items in sink.traces().items():
            equal(len({item.node for item in items}), 1, f"nodes that exported trace {trace.hex()}")
        for node in samplers:
            metrics.check_sampler_books(node, held=0, duplicate=0, dropped=0)
        for node in lbs:
            metrics.check_lb_books(node)


@suite.case("grpc", "http/protobuf", "http/json", "grpc+gzip", "http/protobuf+gzip", "http/json+gzip", timeout_s=900)
def javascript_sdk(protocol):
    """Every span of the JavaScript SDK arrives once, from one node, with every field as the SDK meant it."""
    whole(javascript, protocol.removesuffix("+gzip"), protocol.endswith("+gzip"))


@suite.case("grpc", "http/protobuf", "grpc+gzip", "http/protobuf+gzip", timeout_s=900)
def go_sdk(protocol):
    """Every span of the Go SDK arrives once, from one node, with every field as the SDK meant it."""
    whole(go, protocol.removesuffix("+gzip"), protocol.endswith("+gzip"))


if __name__ == "__main__":
    sys.exit(suite.main())
