#!/usr/bin/env python3
"""ottl_condition in the whole program: traces that conditions ask for reach the backend and no others, errors are logged
where the error mode says so, a configuration with a bad condition is refused with the place.

That each condition is true where the Collector's is, is tests/collector's work, on the engine alone.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc

from kit import otlp, proc
from kit.proc import Stage
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("ottl")


def policy(name, **settings):
    return {"name": name, "type": "ottl_condition", "ottl_condition": settings}


def request_of(service, **fields):
    """A trace of one span: fields of the span; its request and its ID."""
    trace = otlp.trace_id()
    request = otlp.request_of([trace], service=service)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for key, value in fields.items():
        if key == "event":
            span.events.add(name=value)
        elif key == "name":
            span.name = value
        else:
            span.attributes.add(key=key).value.int_value = value
    return trace, request


def kept_of(stage, policies, requests):
    """Which of the traces reach the backend, and the sampler's log."""
    sink = stage.serve(otlp.Sink())
    node = stage.sampler("sampler-0", sink.port, policies).wait_ready()
    client = otlp.Client(node.address)
    for _, request in requests:
        answer = client.export(request)
        equal(answer.code, grpc.StatusCode.OK, "export")
    client.channel.close()
    decided = "otelcol_processor_tail_sampling_global_count_traces_sampled_total"
    until(lambda: node.metrics().value(decided) == len(requests), "all traces decided", 30)
    expected = {trace for (trace, _), name in zip(requests, KEPT) if name}
    until(lambda: set(sink.traces()) >= expected, "what is kept has arrived", 30)
    return set(sink.traces()), expected, node.log().decode(errors="replace")


KEPT = (True, False, True, False, True)
ERROR = 'span.attributes["code"] + 1 > 500'


@suite.case()
def conditions_choose_traces():
    """Span, event and resource conditions keep what they are true of; an error counts as false and is logged once."""
    with Stage() as stage:
        requests = [request_of("shop", code=500), request_of("shop", code=200), request_of("shop", event="exception", code=1),
                    request_of("shop", name="no code"), request_of("pay", code=1)]
        kept, expected, log = kept_of(stage, [
            policy("codes", error_mode="ignore", span=[ERROR]),
            policy("raised", spanevent=['spanevent.name == "exception"']),
            policy("pay", span=['resource.attributes["service.name"] == "pay" and IsRootSpan()'])], requests)
        equal(kept, expected, "traces at the backend")
        lines = [line for line in log.splitlines() if "ottl_condition_failed" in line]
        check(0 < len(lines) <= 2, f"one line a worker about errors: {lines}")
        check("policy=\"codes\"" in lines[0] and "got nil" in lines[0], f"it says whose and why: {lines[0]}")


@suite.case()
def a_bad_condition_is_refused_with_its_place():
    """--check prints the policy, what is wrong, and where it starts."""
    with Stage() as stage:
        config = {key: value for key, value in
                  proc.sampler_config("sampler-0", 4317, [policy("typo", span=['span.nane == "x"'])]).items() if key[0] != "@"}
        path = os.path.join(stage.directory, "bad.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        program = os.path.join(proc.BUILD, "sampler", "tailrace-sampler")
        answer = subprocess.run([program, "--check", "--config", path], capture_output=True, text=True, timeout=60 * slowness())
        text = answer.stdout + answer.stderr
        check(answer.returncode != 0, "refused")
        for part in ('failed to create policy evaluator for "typo"', "1:6: ", "did you mean name?", 'error:     span.nane == "x"\n', "error:          ^\n"):
            check(part in text, f"{part!r} is in: {text}")


if __name__ == "__main__":
    sys.exit(suite.main())
