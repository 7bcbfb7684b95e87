#!/usr/bin/env python3
"""tail_sampling in the whole program: what is kept reaches the backend and nothing else, when decisions fall, and what
is one a node though there are several workers.

That each policy decides as the Collector's does is tests/collector's work, on the engine alone.
"""
import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kit import metrics, otlp, proc
from kit.proc import Node, Stage, sampler_config
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("policies")

OK = grpc.StatusCode.OK
NEVER = "600s"  # a decision_wait that no case outlives
CAPS = "otelcol_processor_tail_sampling_"
ERRORS = {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}
ALL = {"name": "all", "type": "always_sample"}


class One(Stage):
    """One sampler before a sink, and a client of it."""

    def __init__(self, policies, **options):
        super().__init__()
        self.policies = policies
        self.options = options

    def __enter__(self):
        super().__enter__()
        try:
            self.sink = self.serve(otlp.Sink())
            self.node = super().sampler("sampler-0", self.sink.port, self.policies, **self.options).wait_ready()
            self.client = otlp.Client(self.node.address)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *details):
        if hasattr(self, "client"):
            self.client.channel.close()
        return super().__exit__(*details)

    def send(self, request):
        answer = self.client.export(request)
        equal((answer.code, answer.rejected), (OK, 0), f"export ({answer.message})")
        return request

    def value(self, name, **labels):
        return self.node.metrics().value(name, **labels)

    def decided(self, count):
        """Waits until so many traces are decided."""
        until(lambda: self.value(CAPS + "global_count_traces_sampled_total") == count, f"{count} traces decided", 30)

    def kept(self):
        return sorted(self.sink.traces())


def trace_of(*spans, trace=None, resource=None):
    """A request of one trace; each span is a dict of attributes, or of fields that begin with an underscore."""
    trace = trace or otlp.trace_id()
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    put_attributes(resource_spans.resource, resource or {})
    scope_spans = resource_spans.scope_spans.add()
    for fields in spans or ({},):
        span = otlp.fill_span(scope_spans.spans.add(), trace)
        put_attributes(span, {key: value for key, value in fields.items() if not key.startswith("_")})
        for key, value in fields.items():
            if key == "_error":
                span.status.code = 2
            elif key == "_child":
                span.parent_span_id = otlp.span_id()
            elif key.startswith("_"):
                setattr(span, key[1:], value)
    return trace, request


def put_attributes(message, values):
    for key, value in values.items():
        attribute = message.attributes.add()
        attribute.key = key
        kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
        setattr(attribute.value, kind, value)


def check_config(policies, tail=None, tailrace=None, arguments=()):
    """(exit code, what it says) of --check."""
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(Stage())
        config = proc.sampler_config("checked", 1, policies, tail=tail, tailrace=tailrace)
        node = proc.Node("checked", "sampler/tailrace-sampler", config, stage.directory)
        answer = subprocess.run(node.argv + ["--check", *arguments], capture_output=True, text=True, timeout=60 * slowness())
        return answer.returncode, answer.stdout + answer.stderr


# -- what is kept -------------------------------------------------------------------------------------

@suite.case()
def each_type_keeps_its_own():
    """Of a trace for each policy type, and one that nobody wants, those wanted arrive whole, each credited to its policy."""
    policies = [
        {"name": "number", "type": "numeric_attribute", "numeric_attribute": {"key": "n", "min_value": 5, "max_value": 9}},
        {"name": "bool", "type": "boolean_attribute", "boolean_attribute": {"key": "b", "value": True}},
        {"name": "flag", "type": "trace_flags"},
        {"name": "state", "type": "trace_state", "trace_state": {"key": "tk", "values": ["v"]}},
        {"name": "count", "type": "span_count", "span_count": {"min_spans": 7, "max_spans": 8}},
        {"name": "both", "type": "and", "and": {"and_sub_policy": [
            {"name": "x", "type": "string_attribute", "string_attribute": {"key": "x", "values": ["1"]}},
            {"name": "y", "type": "not", "not": {"not_sub_policy": {"type": "string_attribute", "string_attribute": {"key": "y", "values": ["1"]}}}},
        ]}},
        {"name": "share", "type": "composite", "composite": {"max_total_spans_per_second": 1000, "composite_sub_policy": [
            {"name": "c", "type": "string_attribute", "string_attribute": {"key": "c", "values": ["1"]}}]}},
        {"name": "rate", "type": "and", "and": {"and_sub_policy": [
            {"name": "r", "type": "string_attribute", "string_attribute": {"key": "r", "values": ["1"]}},
            {"name": "l", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 1000}}]}},
        {"name": "no-tests", "type": "drop", "drop": {"drop_sub_policy": [
            {"name": "t", "type": "string_attribute", "string_attribute": {"key": "test", "values": ["1"]}}]}},
    ]
    wanted = {
        "number": trace_of({"n": 1}, {"n": 7}),
        "bool": trace_of({}, resource={"b": True}),
        "flag": trace_of({"_flags": 0x301}),
        "state": trace_of({"_trace_state": "a=b,tk=v"}),
        "count": trace_of(*[{}] * 7),
        "both": trace_of({"x": "1"}, {}),
        "share": trace_of({"c": "1"}),
        "rate": trace_of({"r": "1"}, {}),
    }
    unwanted = [trace_of({"n": 70, "b": False, "_flags": 2, "_trace_state": "tk = v"}), trace_of({"x": "1"}, {"y": "1"}),
                trace_of({"n": 7}, {"test": "1"}), trace_of({"n": 7.0})]
    with One(policies) as one:
        for _, request in [*wanted.values(), *unwanted]:
            one.send(request)
        one.decided(len(wanted) + len(unwanted))
        until(lambda: len(one.sink.spans()) >= sum(otlp.span_count(request) for _, request in wanted.values()), "spans kept")
        same_once(one.kept(), [trace for trace, _ in wanted.values()], "traces kept")
        metrics.check_sampler_books(one.node, held=0)  # what policies said is written with the books, once a worker's turn
        for name in wanted:
            equal(one.value("tailrace_traces_credited_total", policy=name), 1, f"traces credited to {name}")
        equal(one.value(CAPS + "count_traces_sampled_total", policy="no-tests", decision="dropped"), 1, "votes to drop")
        equal(one.value(CAPS + "global_count_traces_sampled_total", decision="dropped"), 1, "traces dropped")


@suite.case()
def one_bucket_a_node():
    """A bucket is one for all workers: of many traces exactly those that fit into it are kept."""
    policies = [{"name": "rate", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 0, "burst_capacity": 40}}]
    with One(policies, tailrace={"workers": 4}) as one:
        one.send(otlp.request_of([otlp.trace_id() for _ in range(300)], 2))
        one.decided(300)
        until(lambda: len(one.sink.spans()) >= 40, "spans kept")
        metrics.check_sampler_books(one.node, held=0, exported=40, dropped=560)


@suite.case()
def bytes_do_not_depend_on_requests():
    """A trace costs a bytes limiter the same in one request or in two: it passes at exactly its cost."""
    def traces(name):
        trace = otlp.trace_id()
        request = otlp.request_of([trace], 2, name=name)
        for resource_spans in request.resource_spans:
            del resource_spans.resource.attributes[:]
            for scope_spans in resource_spans.scope_spans:
                scope_spans.scope.name, scope_spans.scope.version = "lib", "1.0"
        whole, halves = request.SerializeToString(), []
        for index in (1, 0):
            half = ExportTraceServiceRequest.FromString(whole)
            del half.resource_spans[0].scope_spans[0].spans[index]
            halves.append(half)
        return trace, halves

    # 136 bytes: two spans of 56 with tag and length, scope, resource, and their tags and lengths.
    policies = [{"name": "bytes", "type": "bytes_limiting", "bytes_limiting": {"bytes_per_second": 0, "burst_capacity": 136}}]
    with One(policies, wait="6s") as one:  # by then both halves are there, however slowly
        too_long, halves = traces("opp")
        fits, more = traces("op")
        for half in [*halves, *more]:
            one.send(half)
        one.decided(2)
        until(lambda: len(one.sink.spans()) >= 2, "spans kept")
        equal(one.kept(), [fits], "traces kept")
        check(too_long not in one.kept(), "the trace of one byte a span more")
        metrics.check_sampler_books(one.node, held=0, exported=2)


# -- when decisions fall --------------------------------------------------------------------------------

@suite.case("span-ingest", "early_keep")
def decides_early(by):
    """A trace is kept as soon as a span makes it so, with all its spans, and followed by later ones; the others wait."""
    tail = {"sampling_strategy": "span-ingest"} if by == "span-ingest" else None
    tailrace = {"early_keep": True} if by == "early_keep" else None
    inverted = {"name": "inverted", "type": "not", "not": {"not_sub_policy": ERRORS}}
    with One([ERRORS, inverted], wait=NEVER, tail=tail, tailrace=tailrace) as one:
        bad, first = trace_of({}, {})
        good, other = trace_of({})
        one.send(first)
        one.send(other)
        metrics.check_sampler_books(one.node, held=3)
        one.send(trace_of({"_error": True}, trace=bad)[1])
        until(lambda: len(one.sink.spans()) == 3, "the failed trace kept, with the spans before", 30)
        one.send(trace_of({}, trace=bad)[1])
        until(lambda: len(one.sink.spans()) == 4, "a later span of it kept", 30)
        equal(one.kept(), [bad], "traces kept")
        metrics.check_sampler_books(one.node, held=1, exported=4)
        one.node.stop()
        equal(one.kept(), sorted([bad, good]), "traces kept when it ended: nothing can undo the absence any more")


@suite.case()
def early_keep_leaves_rates_alone():
    """With a rate in the set nothing is decided early: it would be spent by other traces than without."""
    policies = [ERRORS, {"name": "rate", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 1}}]
    with One(policies, wait=NEVER, tailrace={"early_keep": True}) as one:
        one.send(trace_of({"_error": True})[1])
        metrics.check_sampler_books(one.node, held=1)


@suite.case()
def root_brings_the_decision_forward():
    """decision_wait_after_root_received counts from the root span; without one the trace waits decision_wait."""
    with One([ALL], wait=NEVER, tail={"decision_wait_after_root_received": "100ms"}) as one:
        rooted, first = trace_of({"_child": True})
        _, rootless = trace_of({"_child": True})
        one.send(first)
        one.send(rootless)
        metrics.check_sampler_books(one.node, held=2)
        one.send(trace_of({}, trace=rooted)[1])
        until(lambda: len(one.sink.spans()) == 2, "the trace with a root decided", 30)
        equal(one.kept(), [rooted], "traces kept")
        metrics.check_sampler_books(one.node, held=1)


HELD, EARLY = CAPS + "sampling_traces_on_memory", CAPS + "sampling_trace_dropped_too_early_total"


@suite.case()
def overflow_is_refused_when_it_shall_block():
    """With block_on_overflow a full table refuses, with a delay to come back after, and nothing is decided early to make room."""
    with One([ALL], wait=NEVER, tail={"num_traces": 5, "block_on_overflow": True}) as one:
        one.send(otlp.request_of([otlp.trace_id() for _ in range(5)]))
        until(lambda: one.value(HELD) == 5, "five traces held")
        answer = one.client.export(otlp.request_of([otlp.trace_id()]))
        equal(answer.code, grpc.StatusCode.RESOURCE_EXHAUSTED, "answer of a full table")
        check(answer.retry_s and answer.retry_s > 0, "a refusal says when to come back")
        until(lambda: one.value("tailrace_requests_refused_total", reason="memory") > 0, "the refusal is counted")
        equal(one.value("tailrace_requests_refused_total", reason="memory"), 1, "refusals counted")
        equal((one.value(EARLY), one.value(HELD)), (0, 5), "traces decided early, and held")


@suite.case()
def overflow_ends():
    """With block_on_overflow spans are taken again once traces were decided, though no decision cache is there."""
    caches = {"decision_cache": {"sampled_cache_size": 0, "non_sampled_cache_size": 0}}
    with One([ALL], wait="1s", tail={"num_traces": 5, "block_on_overflow": True, **caches}) as one:
        traces = [otlp.trace_id() for _ in range(30)]
        for trace in traces:
            until(lambda trace=trace: one.client.export(otlp.request_of([trace])).code == OK, "room", 30)
        until(lambda: len(one.kept()) == len(traces), "all are kept", 30)
        equal(one.value(EARLY), 0, "traces decided early")


@suite.case()
def zero_traces_still_decide():
    """num_traces: 0 lets one trace at a time wait; what it pushes out is decided, not thrown away."""
    with One([ERRORS], wait=NEVER, tail={"num_traces": 0}, tailrace={"workers": 1}) as one:
        failed, request = trace_of({"_error": True})
        one.send(request)
        one.send(trace_of({})[1])
        until(lambda: one.kept() == [failed], "the first was decided when the second came", 30)
        metrics.check_sampler_books(one.node, held=1, exported=1)


# -- what is refused at start ---------------------------------------------------------------------------

@suite.case()
def refused_at_start():
    """What cannot be run is refused with its reason before anything is served."""
    rate = {"name": "limit", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 5}}
    cases = [
        ([ERRORS, {"name": "a", "type": "and", "and": {"and_sub_policy": [rate]}}], {"sampling_strategy": "span-ingest"}, (),
         'sampling_strategy "span-ingest" requires all policies to be stateless, but policy "a" is stateful'),
        ([ERRORS], {"sampling_strategy": ""}, (),
         'invalid sampling_strategy "", expected one of "trace-complete" or "span-ingest"'),
        ([ERRORS], {"num_shards": 257}, (), "num_shards (257) must not exceed 256"),
        ([ERRORS], {"tail_storage": "file_storage"}, (), "tail_storage"),
        ([{"name": "a", "type": "acme", "acme": {"x": 1}}], None, (), "unknown sampling policy type acme; were it an extension's"),
        ([{"name": "a", "type": "numeric_attribute", "numeric_attribute": {"key": "k"}}], None, (), "needs min_value or max_value"),
    ]
    for policies, tail, arguments, words in cases:
        code, said = check_config(policies, tail, arguments=arguments)
        equal(code, 1, f"exit code for {words}")
        check(words in said, f"`{words}` is not in: {said}")


@suite.case()
def accepted_without_effect():
    """What says nothing here is accepted, so that a file runs unchanged, and noted."""
    code, said = check_config([ERRORS], {"num_shards": 4, "expected_new_traces_per_sec": 100})
    equal(code, 0, said)
    check("num_shards" in said and "expected_new_traces_per_sec" in said, f"both are noted in: {said}")


@suite.case()
def metrics_of_policies():
    """What each policy said is counted under the Collector's names, and under those of a component that has a name: NAME.policy."""
    policies = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
                {"name": "kept", "type": "string_attribute", "string_attribute": {"key": "k", "values": ["1"]}}]
    for component, prefix in (("tail_sampling", ""), ("tail_sampling/a.b/c", "a.b/c.")):
        with Stage() as stage:
            sink = stage.serve(otlp.Sink())
            config = sampler_config("sampler-0", sink.port, policies)
            config["processors"] = {component: config["processors"]["tail_sampling"]}
            config["service"]["pipelines"]["traces"]["processors"] = [component]
            node = stage.add(Node("sampler-0", "sampler/tailrace-sampler", config, stage.directory)).wait_ready()
            client = otlp.Client(node.address)
            for attributes in ({"k": "1"}, {"k": "2"}, {}):
                equal(client.export(trace_of(attributes)[1]).code, OK, "export")
            until(lambda: node.metrics().value(CAPS + "global_count_traces_sampled_total") == 3, "three traces decided", 30)
            client.channel.close()
            metrics.check_sampler_books(node, held=0)
            values = node.metrics()  # a page begun after the books were at rest: what policies said is written before them
            equal(values.value(CAPS + "sampling_policy_execution_count_total", policy=prefix + "errors"), 3, "executions of errors")
            equal(values.value(CAPS + "sampling_policy_execution_count_total", policy=prefix + "kept"), 3, "executions of kept")
            equal(values.value(CAPS + "count_traces_sampled_total", policy=prefix + "kept", decision="sampled"), 1, "votes for")
            equal(values.value(CAPS + "count_traces_sampled_total", policy=prefix + "kept", decision="not_sampled"), 2, "votes against")
            equal(values.value("tailrace_traces_credited_total", policy=prefix + "kept"), 1, "credit")


if __name__ == "__main__":
    sys.exit(suite.main())
