#!/usr/bin/env python3
"""What a sampler writes onto the spans it keeps, against the real Collector on the same bytes.

The Collector's tail sampling processor (tests/peers/oracle) runs with its gates recordpolicy and usetracestate; the
decision, the attributes tailsampling.* and every tracestate must be equal. Needs Go on the PATH.
"""
import json
import os
import pathlib
import random
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kit import otlp
from kit.go_program import go_program
from kit.proc import Stage
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("facts_on_output", timeout_s=900)  # the first case may have to build the Collector's processor
RECORD, TRACESTATE = (f"processor.tailsamplingprocessor.{name}" for name in ("recordpolicy", "usetracestate"))
RANDOM = random.Random(7)


def span_of(request, trace, state="", error=False, spans=1, attributes=None, scope_attributes=None):
    """Adds spans of one trace to the request, under a resource and scope of their own."""
    scope_spans = otlp.scope_of(request, "shop")
    for key, value in (scope_attributes or {}).items():
        attribute = scope_spans.scope.attributes.add()
        attribute.key, attribute.value.string_value = key, value
    for _ in range(spans):
        span = otlp.fill_span(scope_spans.spans.add(), trace, error)
        span.trace_state = state
        for key, value in (attributes or {}).items():
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = key, value


def ask_collector(directory, tail_sampling, requests, gates, *words):
    """{trace: {note words}} of sampled traces; {} for the others."""
    config, traces = directory / "policies.json", directory / "traces.bin"
    config.write_text(json.dumps(tail_sampling))  # every JSON text is YAML
    data = b""
    for request in requests:
        body = request.SerializeToString()
        length, size = b"", len(body)
        while size >= 0x80:
            length, size = length + bytes([size & 0x7f | 0x80]), size >> 7
        data += length + bytes([size]) + body
    traces.write_bytes(data)
    answer = subprocess.run([go_program("oracle"), "-config", config, "-traces", traces, "-tracestate", "-gates", ",".join(gates),
                             f"-record-policy={'true' if RECORD in gates else 'false'}", *words], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=60 * slowness())
    check(answer.returncode == 0, f"the Collector failed: {answer.stderr}")
    decisions = {}
    for line in answer.stdout.splitlines():
        trace, decision, rest = line.split(" ", 2)
        decisions[trace] = set(re.findall(r'[a-z_]+=(?:"(?:[^"\\]|\\.)*"|\S+)', rest)) if decision == "sampled" else set()
        if decision == "sampled":
            decisions[trace].add("sampled")
    return decisions


def notes_of(items, where):
    """The same words from what our sampler sent. where: scope or span."""
    notes = {"sampled"}
    for item in items:
        for attribute in (item.scope if where == "scope" else item.span).attributes:
            if attribute.key.startswith("tailsampling."):
                value = attribute.value
                text = str(value.bool_value).lower() if value.WhichOneof("value") == "bool_value" else value.string_value
                notes.add(f"{attribute.key.removeprefix('tailsampling.')}={text}")
        notes.add(f"tracestate={json.dumps(item.span.trace_state)}")
    return notes


def compare(tail_sampling, requests, gates=(RECORD, TRACESTATE), tailrace=None, where="scope", late=(), wait="1s"):
    """Sends the requests to a sampler and to the Collector. late: requests after the decision."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sampler = stage.sampler("sampler-0", sink.port, tail_sampling["policies"], wait=wait, tailrace=tailrace,
                                words=["--feature-gates", ",".join(gates)],
                                tail={key: value for key, value in tail_sampling.items() if key != "policies"})
        sampler.wait_ready()
        spans = sum(otlp.span_count(request) for request in requests)
        with otlp.Client(sampler.address) as client:
            for request in requests:
                equal(client.export(request).code.name, "OK", "answer")
            until(lambda: settled(sampler) >= spans, "all spans settled", 30)
            for request in late:
                equal(client.export(request).code.name, "OK", "answer to late spans")
            until(lambda: settled(sampler) >= spans + sum(map(otlp.span_count, late)), "late spans settled", 30)
        ours = {trace.hex(): notes_of(items, where) for trace, items in sink.traces().items()}
        unreadable = sampler.metrics().value("otelcol_processor_tail_sampling_count_spans_with_unparseable_tracestate_total")
        directory = pathlib.Path(stage.directory)
        if late:
            return ours, unreadable
        theirs = ask_collector(directory, tail_sampling, requests, gates)
    check(any("sampled" in notes for notes in theirs.values()), "the Collector kept nothing: nothing was compared")
    for trace, notes in theirs.items():
        if where == "span" or not any(gate == TRACESTATE for gate in gates):
            notes = {note for note in notes if where == "scope" or note.split("=")[0] in ("sampled", "tracestate", "policy", "composite_policy")}
        equal(sorted(ours.get(trace, set())), sorted(notes), f"what is written onto trace {trace}")
    return ours, unreadable


def settled(sampler):
    numbers = sampler.metrics()
    return numbers.value("tailrace_spans_exported_total") + numbers.value("tailrace_spans_dropped_total")


STATES = ["", "ot=rv:80000000000000", "ot=rv:7fffffffffffff", "ot=th:c;rv:ffffffffffffff", "ot=th:0", "zz=1,ot=x:y;rv:ffffffffffffff",
          "BAD", "ot=rv:8", "ot=th:8;", " a=1 , b@c=2 ,, ot=th:1;y:z ", "a=1,b=2", "ot=th:fffffffffffff;rv:ffffffffffffff",
          "ot=rv:00000000000000", "ot=rv:e6666666666666", "ot=rv:e6666666666665", ",".join(f"k{n}=v" for n in range(31)),
          ",".join(f"k{n}=v" for n in range(32)), "k=" + "v" * 300, "ot=th:8,ot=th:c", "a=1,a=2"]


def random_state():
    kind = RANDOM.randrange(6)
    if kind == 0:
        return RANDOM.choice(STATES)
    members = [f"k{RANDOM.randrange(9)}={RANDOM.randrange(99)}" for _ in range(RANDOM.randrange(3))]
    pairs = []
    if RANDOM.random() < 0.6:
        pairs.append(f"rv:{RANDOM.randrange(2**56):014x}")
    if RANDOM.random() < 0.5:
        pairs.append("th:" + (f"{RANDOM.randrange(2**56):014x}".rstrip("0") or "0")[:RANDOM.randrange(1, 15)])
    if RANDOM.random() < 0.3:
        pairs.append("x:" + "".join(RANDOM.choice("aZ9.-_") for _ in range(RANDOM.randrange(4))))
    RANDOM.shuffle(pairs)
    if pairs:
        members.insert(RANDOM.randrange(len(members) + 1), "ot=" + ";".join(pairs))
    return RANDOM.choice([",", " , ", ",,"]).join(members)


@suite.case()
def credited_policies():
    """The credited policy, the policy inside a composite and the scope's own attributes are as the Collector writes them."""
    policies = [
        {"name": "share", "type": "probabilistic", "probabilistic": {"sampling_percentage": 99.9}},
        {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
        {"name": "both", "type": "composite", "composite": {
            "max_total_spans_per_second": 1000000, "composite_sub_policy": [
                {"name": "gold", "type": "string_attribute", "string_attribute": {"key": "tier", "values": ["gold"]}},
                {"name": "rest", "type": "string_attribute", "string_attribute": {"key": "tier", "values": ["tin"]}}]}},
    ]
    requests = []
    for number in range(60):
        request = ExportTraceServiceRequest()
        trace = otlp.trace_id()
        scope = {"tailsampling.policy": "of another processor", "mine": "1"} if number % 7 == 0 else {"mine": "2"}
        span_of(request, trace, "a=1", number % 3 == 0, 2, {"tier": ["gold", "tin", "none"][number % 4 % 3]}, scope)
        span_of(request, trace, "", False, 1)
        requests.append(request)
    ours, _ = compare({"policies": policies}, requests, gates=(RECORD,))
    names = {note for notes in ours.values() for note in notes}
    check({"policy=errors", "policy=both", "composite_policy=gold", "composite_policy=rest"} <= names, f"not all shown: {names}")


@suite.case()
def tracestates():
    """With the gate usetracestate decisions follow rv and th, and each span leaves with the Collector's tracestate."""
    policies = [
        {"name": "share", "type": "probabilistic", "probabilistic": {"sampling_percentage": 50}},
        {"name": "tenth", "type": "probabilistic", "probabilistic": {"sampling_percentage": 10, "hash_salt": "x"}},
        {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    ]
    requests = []
    for state in STATES + [random_state() for _ in range(400)]:
        request = ExportTraceServiceRequest()
        trace = RANDOM.randbytes(16)
        span_of(request, trace, state, RANDOM.random() < 0.2, RANDOM.randrange(1, 3))
        if RANDOM.random() < 0.4:
            span_of(request, trace, random_state())
        requests.append(request)
    _, unreadable = compare({"policies": policies}, requests)
    check(unreadable > 0, "unreadable tracestates are counted")


@suite.case()
def limiters_weigh_a_batch():
    """Under usetracestate a limiter keeps the traces of the highest randomness that its tokens pay for, in `and` as well."""
    policies = [
        {"name": "few", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 1, "burst_capacity": 30}},
        {"name": "gold", "type": "and", "and": {"and_sub_policy": [
            {"name": "tier", "type": "string_attribute", "string_attribute": {"key": "tier", "values": ["gold"]}},
            {"name": "bytes", "type": "bytes_limiting", "bytes_limiting": {"bytes_per_second": 1, "burst_capacity": 3000}}]}},
    ]
    request = ExportTraceServiceRequest()  # one request: all are due together
    for _ in range(80):
        trace = RANDOM.randbytes(16)
        state = f"ot=rv:{RANDOM.randrange(2**56):014x}" if RANDOM.random() < 0.7 else ""
        span_of(request, trace, state, False, RANDOM.randrange(1, 5), {"tier": RANDOM.choice(["gold", "tin"])})
    ours, _ = compare({"policies": policies}, [request], tailrace={"workers": 1})
    check(0 < len(ours) < 80, f"{len(ours)} of 80 kept: the limits were not met")


@suite.case()
def on_spans():
    """tailrace.record_policy: span puts the same attributes on each span and leaves scopes alone; off wins over the gate."""
    policies = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]
    request = ExportTraceServiceRequest()
    span_of(request, otlp.trace_id(), "a=1", True, 3, {"tailsampling.policy": "old", "k": "v"})
    ours, _ = compare({"policies": policies}, [request], gates=(RECORD,), tailrace={"record_policy": "span"}, where="span")
    equal(ours.popitem()[1], {"sampled", "policy=errors", 'tracestate="a=1"'}, "words on the spans")
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sampler = stage.sampler("sampler-0", sink.port, policies, wait="1s", words=["--feature-gates", RECORD],
                                tailrace={"record_policy": "off"})
        sampler.wait_ready()
        with otlp.Client(sampler.address) as client:
            client.export(request)
        until(lambda: settled(sampler) >= 3, "the trace is out", 30)
        items = sink.spans()
        equal(notes_of(items, "scope"), {"sampled", 'tracestate="a=1"'}, "words on the scope with record_policy: off")
        equal([a.value.string_value for a in items[0].span.attributes], ["old", "v"], "attributes of a span that is left alone")


@suite.case("cached", "uncached")
def late_spans(kind):
    """Late spans that a decision cache answers say so and carry the stored threshold; without a cache they carry only th."""
    size = 1000 if kind == "cached" else 0
    cache = {"decision_cache": {"sampled_cache_size": size, "non_sampled_cache_size": size}}
    policies = [{"name": "half", "type": "probabilistic", "probabilistic": {"sampling_percentage": 50}}]
    trace = otlp.trace_id()
    first, late = ExportTraceServiceRequest(), ExportTraceServiceRequest()
    span_of(first, trace, "ot=rv:ffffffffffffff")
    span_of(late, trace, "late=1")
    ours, _ = compare({"policies": policies, **cache}, [first], late=[late])
    want = {"sampled", "policy=half", 'tracestate="ot=rv:ffffffffffffff;th:8"', 'tracestate="ot=th:8,late=1"'}
    equal(ours[trace.hex()], want | ({"cached_decision=true"} if kind == "cached" else set()), "words on the trace")


if __name__ == "__main__":
    sys.exit(suite.main())
