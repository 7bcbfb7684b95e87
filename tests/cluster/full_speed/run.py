#!/usr/bin/env python3
"""Two balancers before three samplers at full speed, judged from the two ends of the wire.

tailrace-load writes down what was acknowledged, span by span; tailrace-sink writes down what arrived, and judges:
whole, split, lost, doubled, wrongly kept or dropped. The programs' own counters are only asked whether their books
balance.
"""
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from kit import metrics
from kit.judged import CACHE, POLICIES, RULE, Load, Sink, faultless, judge
from kit.proc import Stage
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("cluster", timeout_s=900)

MIB = 1024 * 1024
# Longer than the load spreads a trace's spans, so that every trace is judged on all of them. Sanitized programs take seconds for an answer.
WAIT = "5s" if slowness() == 1 else "10s"
# Longer than until they were sent again, too: of a trace that was dropped nobody knows the spans any more.
WAIT_FOR_RESENDS = "8s" if slowness() == 1 else "12s"


class Cluster(Stage):
    """Sink, samplers, balancers; without balancers the samplers are the endpoints themselves."""

    def __init__(self, samplers=3, lbs=2, policies=None, inject=(), memory_mib=1024, wait=WAIT):
        super().__init__()
        self.shape = (samplers, lbs)
        self.policies = policies or POLICIES
        self.inject = list(inject)
        self.memory = {"memory": {"limit_mib": memory_mib, "at_limit": "refuse"}}
        self.wait = wait

    def __enter__(self):
        super().__enter__()
        try:
            self.sink = Sink(self, self.inject)
            self.samplers = [self.sampler(f"sampler-{index}", self.sink.port, self.policies, wait=self.wait, tail=CACHE, tailrace=self.memory,
                                         exporter={"compression": "none"})  # the sink takes bytes as they are
                             for index in range(self.shape[0])]
            for node in self.samplers:
                node.wait_ready()
            # No sampler goes here: one that is slow to answer keeps its spans, or a trace would have two owners.
            self.lbs = [self.lb(f"lb-{index}", [node.address for node in self.samplers], timeout="30s") for index in range(self.shape[1])]
            for node in self.lbs:
                node.wait_ready()
                until(lambda node=node: node.metrics().value("otelcol_loadbalancer_num_backends") == len(self.samplers),
                      "all samplers in the ring")
            self.fronts = self.lbs or self.samplers
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def load(self, *options, may_fail=False):
        """Runs tailrace-load to its end; returns its summary."""
        return self.begin_load(*options).finish(may_fail)

    def begin_load(self, *options):
        run = Load(self, self.fronts, *options)
        self.ledger = run.ledger
        return run

    def total(self, word):
        return sum(node.metrics().value(f"tailrace_spans_{word}_total") for node in self.samplers)

    def settle(self, timeout_s=120):
        """Waits until no sampler holds anything, and checks every node's books."""
        until(lambda: all(node.metrics().value("tailrace_spans_held") == 0 for node in self.samplers), "nothing held", timeout_s)
        for node in self.samplers:
            metrics.check_sampler_books(node, held=0)
        for node in self.lbs:
            metrics.check_lb_books(node)

    def judge(self, rule):
        """Ends everything cleanly, then compares the ledger with the arrivals. Returns (judgement, sink's report)."""
        for node in self.lbs + self.samplers:
            node.stop(60)
        report = self.sink.end()
        verdict = judge(self, self.ledger, self.sink.arrivals, rule)
        check(verdict["good"], f"judgement: {verdict['text']}")
        return verdict, report

    def kept(self):
        """IDs of the traces that arrived, from the sink's file: a header, then 64 bytes for each 64 spans of a trace."""
        with open(self.sink.arrivals, "rb") as file:
            data = file.read()
        count = struct.unpack_from("<Q", data, 8)[0]
        start = len(data) - 64 * count
        check(0 < count and 16 <= start < 65536, f"the file of arrivals is not understood: {count} records in {len(data)} bytes")
        return {data[at:at + 16] for at in range(start, len(data), 64)}


@suite.case(timeout_s=1800)
def full_speed():
    """At full speed every acknowledged span has its one fate: traces whole, none split, lost or doubled, decisions as on a single node."""
    seconds = 15 if suite.options.quick else 60
    with Cluster() as cluster:
        done = cluster.load("--seconds", str(seconds))
        equal(done["spans_failed"] + done["spans_rejected"], 0, "spans not acknowledged")
        cluster.settle()
        new = cluster.total("received") - cluster.total("duplicate")
        equal(new, done["spans_acknowledged"], "spans the samplers took, against spans acknowledged to the load")
        equal(cluster.total("exported") + cluster.total("dropped"), new, "spans that found their end")
        verdict, report = cluster.judge(RULE)
        faultless(verdict)
        equal(verdict["acknowledged_spans"], done["spans_acknowledged"], "spans in the ledger")
        check(verdict["acknowledged_spans"] > 100_000 / slowness(), f"only {verdict['acknowledged_spans']} spans: that is no load")
        check(verdict["whole"] > 0 and verdict["rightly_dropped"] > 0, f"something was kept and something dropped: {verdict}")
        equal(sorted(report["nodes"]), ["sampler-0", "sampler-1", "sampler-2"], "samplers that exported")
        kept = cluster.kept()
    with Cluster(samplers=1, lbs=0, memory_mib=3072) as alone:
        single = alone.load("--traces", str(done["traces"]))
        equal(single["spans_acknowledged"], done["spans_acknowledged"], "spans of the single-node run")
        alone.settle()
        faultless(alone.judge(RULE)[0])
        check(alone.kept() == kept, f"traces kept by one node and by three differ: {len(alone.kept() ^ kept)} of {len(kept)}")


@suite.case()
def resends_and_a_bad_backend():
    """With requests sent twice and a backend that refuses, dawdles and cuts connections, the judgement is the same."""
    with Cluster(inject=["refuse=20:14:50", "slow=20", "close=50"], wait=WAIT_FOR_RESENDS) as cluster:
        done = cluster.load("--seconds", "10", "--rate", str(int(60_000 / slowness())), "--resend-percent", "10", "--resend-delay-ms", "1500")
        equal(done["spans_failed"] + done["spans_rejected"], 0, "spans not acknowledged")
        check(done["resends_acknowledged"] > 0, "requests were sent twice")
        cluster.settle(240)
        equal(cluster.total("received") - cluster.total("duplicate"), done["spans_acknowledged"], "spans taken once")
        check(cluster.total("duplicate") > 0, "resent spans were recognised")
        verdict, report = cluster.judge(RULE)
        faultless(verdict)
        check(report["refused"] > 0 and report["closed_connections"] > 0 and report["slowed"] > 0, f"the backend misbehaved: {report}")


@suite.case()
def memory_stays_bounded():
    """When traces come faster than memory allows, clients are held back, memory stays in its budget, and nothing acknowledged is lost."""
    limit_mib = 96
    # However slow the machine is: it goes on until memory is short, and for a while after.
    with Cluster(policies=[{"name": "all", "type": "always_sample"}], memory_mib=limit_mib, wait=f"{int(8 * max(2, slowness()))}s") as cluster:
        before = {node.name: node.rss_bytes() for node in cluster.samplers + cluster.lbs}
        load = cluster.begin_load("--seconds", str(int(90 * slowness())), "--span-bytes", "2800", "--retry-seconds", "5", "--drain-seconds", "30")
        until(lambda: any(node.metrics().value("tailrace_requests_refused_total", reason="memory") for node in cluster.samplers),
              "memory is short", 80)
        time.sleep(5)
        load.end(may_fail=True)
        for node in cluster.samplers:
            page = node.metrics()
            check(page.value("tailrace_store_committed_bytes") <= limit_mib * MIB, f"{node.name}: the budget was passed")
            # Beside the store: requests under way, headers, records, what is being exported.
            grown = node.peak_rss_bytes() - before[node.name]
            check(grown < (limit_mib * 1.1 + 160) * MIB * slowness(), f"{node.name}: peak RSS grew by {grown / MIB:.0f} MiB")
        for node in cluster.lbs:
            # A balancer holds what is under way: 64 MiB for each member at most, and gRPC's own.
            grown = node.peak_rss_bytes() - before[node.name]
            check(grown < (3 * 64 + 160) * MIB * slowness(), f"{node.name}: peak RSS grew by {grown / MIB:.0f} MiB")
        cluster.settle()
        faultless(cluster.judge("all")[0])


if __name__ == "__main__":
    sys.exit(suite.main())
