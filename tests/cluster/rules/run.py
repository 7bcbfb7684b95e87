#!/usr/bin/env python3
"""Hand-made spans for what a load finds only by luck: one rule of the handoff or the journal a case.

plants.py shows that each fails on a program that breaks its rule.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc

from kit import metrics, otlp
from kit.proc import Stage, free_port
from kit.suite import Suite, check, equal, same_once, slowness, until
from kit.tmpfs import Tmpfs

suite = Suite("rules", timeout_s=240)

OK = grpc.StatusCode.OK
ERRORS = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]
ALWAYS = [{"name": "all", "type": "always_sample"}]
SLOTS = 1 << 18


def seconds(value):
    return f"{int(1000 * value * slowness())}ms"


class Fleet(Stage):
    """Samplers that list each other, each with a journal, before one sink."""

    def __init__(self, count=2, policies=None, wait_s=3, peer_timeout_s=5, **tailrace):
        """peer_timeout_s: longer than a process of a loaded machine stands still, unless the case waits for it."""
        super().__init__()
        self.policies = policies or ALWAYS
        self.wait_s = wait_s
        self.peer_timeout_s = peer_timeout_s
        self.tailrace = tailrace
        self.ports = [free_port() for _ in range(count)]

    def __enter__(self):
        super().__enter__()
        try:
            self.sink = self.serve(otlp.Sink())
            self.nodes = [self.node(index) for index in range(len(self.ports))]
            self.wait_settled()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def node(self, index):
        cluster = {"self": f"sampler-{index}", "status_interval": seconds(0.1), "peer_timeout": seconds(self.peer_timeout_s),
                   "hello_wait": seconds(0.5), "handoff_timeout": seconds(40), "ack_wait": seconds(5), "forward_timeout": seconds(5),
                   "resolver": {"static": {"hostnames": [f"127.0.0.1:{port}" for port in self.ports]}}}
        journal = {"directory": os.path.join(self.directory, f"journal-{index}"), "segment_mib": 1, "max_size_mib": 256}
        return self.sampler(f"sampler-{index}", self.sink.port, self.policies, wait=seconds(self.wait_s), port=self.ports[index],
                            tailrace={"cluster": cluster, "journal": journal, **self.tailrace})

    def wait_settled(self, nodes=None):
        """These (default: all) have one ring, and all slots are settled."""
        nodes = nodes or self.nodes

        def settled():
            pages = [node.status()["cluster"] for node in nodes]
            return (all("ring" in page and page["in_step"] and page["settled"] and page["ring"]["members"] == len(nodes) for page in pages) and
                    len({page["ring"]["fingerprint"] for page in pages}) == 1 and
                    sum(page["ring"]["slots_settled"] for page in pages) == SLOTS)
        until(settled, "one settled ring", 60)

    def owned_by(self, index, traces):
        """Those whose owner is this sampler, as any of them says."""
        return [trace for trace in traces if f'"owner": "sampler-{index}"' in self.nodes[index].get(f"/traces/{trace.hex()}")[1]]

    def send(self, index, *requests):
        with otlp.Client(self.nodes[index].address) as client:
            for request in requests:
                answer = client.export(request)
                equal((answer.code, answer.rejected), (OK, 0), f"answer of sampler-{index} ({answer.message})")

    def expect_each_once(self, *requests, timeout_s=60):
        """Nothing is held any more, and the sink has these spans, each once."""
        want = ids(*requests)
        running = [node for node in self.nodes if node.running()]
        until(lambda: all(node.metrics().value("tailrace_spans_held") == 0 for node in running), "nothing held", timeout_s)
        # Gauges are written once a worker's turn: what was acknowledged a moment ago may not be in them yet.
        until(lambda: len(self.sink.spans()) >= len(want), "spans at the backend, each once")
        time.sleep(0.5 * slowness())
        same_once((item.span.span_id for item in self.sink.spans()), want, "spans at the backend, each once")
        for node in running:
            metrics.check_sampler_books(node, held=0)


def ids(*requests):
    return [item.span.span_id for request in requests for item in otlp.flatten(request)]


def new_traces(count):
    return [otlp.trace_id() for _ in range(count)]


@suite.case()
def misrouted_spans():
    """Spans that come to a sampler which does not own them are with their owner before they are acknowledged."""
    with Fleet(wait_s=6) as fleet:
        traces = new_traces(200)
        halves = [otlp.request_of(traces, 2), otlp.request_of(traces, 3, service="cart")]
        fleet.send(0, halves[0])
        fleet.send(1, halves[1])

        def held():
            """(spans, traces) by sampler; gauges are written once a worker's turn, these two in the same one."""
            return [(node.metrics().value("tailrace_spans_held"), node.status()["traces_held"]) for node in fleet.nodes]

        until(lambda: [sum(numbers) for numbers in zip(*held())] == [len(ids(*halves)), len(traces)],
              "all spans are held, and a trace lies in one place", 5)
        fleet.expect_each_once(*halves)
        nodes = {item.span.trace_id: set() for item in fleet.sink.spans()}
        for item in fleet.sink.spans():
            nodes[item.span.trace_id].add(item.node)
        check(all(len(who) == 1 for who in nodes.values()), "each trace was exported by one sampler")
        equal(sorted({name for who in nodes.values() for name in who}), ["sampler-0", "sampler-1"], "samplers that exported")


@suite.case("crashed", "stopped")
def kept_spans_count(how):
    """An owner that was away for a while decides nothing before it has what others kept for it, even what is overdue."""
    wait_s = 5  # for what is not the lost one's this must not be over before the errors are there
    with Fleet(policies=ERRORS, wait_s=wait_s, peer_timeout_s=1.5) as fleet:
        traces = new_traces(300)
        plain, errors = otlp.request_of(traces, 2), otlp.request_of(traces, 1, service="cart", error=True)
        fleet.send(0, plain)
        due = time.monotonic() + wait_s * slowness()
        if how == "crashed":
            fleet.nodes[1].kill()
        else:
            fleet.nodes[1].process.send_signal(signal.SIGSTOP)
        until(lambda: not fleet.nodes[0].status()["cluster"]["peers"][0]["reachable"], "sampler-1 is missed")
        fleet.send(0, errors)
        check(fleet.nodes[0].metrics().value("tailrace_spans_kept_total") > 0, "some are kept for sampler-1")
        time.sleep(max(0, due - time.monotonic()) + 0.5 * slowness())  # decision_wait passes while the owner is away
        if how == "crashed":
            fleet.nodes[1].start()
        else:
            fleet.nodes[1].process.send_signal(signal.SIGCONT)
        fleet.wait_settled()
        fleet.expect_each_once(plain, errors)


@suite.case()
def deadline_travels():
    """A trace that moves keeps its deadline: one that began later, and did not move, is not decided before it."""
    # A loaded machine may take longer for the move than traces wait.
    check(decided_in_order(8) or decided_in_order(25), "nothing was decided before the move was over: else this case shows nothing")


def decided_in_order(wait_s):
    """False when something was decided before the move was over."""
    with Fleet(wait_s=wait_s) as fleet:
        first = otlp.request_of(fleet.owned_by(1, new_traces(40)))
        fleet.send(1, first)
        time.sleep(3 * slowness())  # a deadline travels as what is left of it: on the way it may become later
        second = otlp.request_of(fleet.owned_by(0, new_traces(40)))
        fleet.send(0, second)
        time.sleep(1 * slowness())
        fleet.nodes[1].stop(60)
        fleet.wait_settled(fleet.nodes[:1])
        if fleet.sink.spans():
            return False
        until(lambda: fleet.nodes[0].metrics().value("tailrace_spans_taken_over_total") == len(ids(first)), "spans taken over")
        fleet.expect_each_once(first, second)
        order = [item.span.span_id for call in fleet.sink.calls() for item in otlp.flatten(call.request)]
        last_moved = max(order.index(span) for span in ids(first))
        check(last_moved < min(order.index(span) for span in ids(second)), "a trace that moved was decided after one that began later")
        return True


@suite.case()
def unanswered_give():
    """What was sent to another sampler is not forgotten before that one has said that it has it."""
    with Fleet(wait_s=4) as fleet:
        request = otlp.request_of(fleet.owned_by(1, new_traces(200)), 3)
        fleet.send(1, request)
        fleet.nodes[0].process.send_signal(signal.SIGSTOP)
        fleet.nodes[1].terminate()  # it gives to sampler-0, which does not hear it
        until(lambda: fleet.nodes[1].metrics().value("tailrace_given_bytes_total") > 0, "a call that gives traces away has been sent")
        fleet.nodes[0].kill()
        time.sleep(0.5 * slowness())
        fleet.nodes[0].start().wait_ready(60)
        equal(fleet.nodes[1].wait(60), 0, "exit code of the sampler that left")
        fleet.expect_each_once(request)


@suite.case()
def resend_meets_what_moved():
    """Spans that are sent again after their trace has moved to another sampler are known there, decided or not."""
    with Fleet(wait_s=4) as fleet:
        request = otlp.request_of(fleet.owned_by(1, new_traces(100)), 3)
        fleet.send(1, request)
        fleet.nodes[1].stop(60)
        fleet.send(0, request)
        until(lambda: fleet.sink.spans(), "decided")
        fleet.send(0, request)
        time.sleep(5 * slowness())  # a decision period: what was wrongly taken as new would come out now
        fleet.expect_each_once(request)


@suite.case()
def acknowledged_is_written():
    """What a journal's disk did not take was not acknowledged: after a crash every acknowledged span is there."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        disk = os.path.join(stage.directory, "small")
        with Tmpfs(disk, 6) as small:
            batches = [[otlp.request_of(new_traces(20), 5, size_bytes=400) for _ in range(8)] for _ in range(40)]  # ready: nothing may be due
            node = stage.sampler("sampler-0", sink.port, ALWAYS, wait=seconds(6),
                                 tailrace={"journal": {"directory": os.path.join(disk, "journal"), "segment_mib": 1, "max_size_mib": 256}})
            node.wait_ready()
            taken, refused = [], 0
            with otlp.Client(node.address) as client:
                while refused < 3:
                    check(batches, "a disk of 6 MiB took all that")
                    for request, call in [(request, client.begin(request)) for request in batches.pop()]:
                        answer = otlp.answer_of(call)
                        if answer.code == OK:
                            taken.append(request)
                        else:
                            refused += 1
            check(not sink.spans(), "nothing was decided before the crash")
            node.kill()
            small.grow(64)
            node.start().wait_ready(60)
            until(lambda: node.metrics().value("tailrace_spans_recovered_total") > 0, "spans came back from the journal")
            until(lambda: node.metrics().value("tailrace_spans_held") == 0, "nothing held", 60)
            got = {item.span.span_id for item in sink.spans()}
            lost = [span for span in ids(*taken) if span not in got]
            check(not lost, f"{len(lost)} of {len(ids(*taken))} acknowledged spans are lost")
            node.stop()


if __name__ == "__main__":
    sys.exit(suite.main())
