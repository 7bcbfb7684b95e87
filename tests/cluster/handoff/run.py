#!/usr/bin/env python3
"""Clusters that change while spans flow: samplers come, go, crash, hang and lose their backend or their disk.

Real processes, a real DNS server whose answers change, and a judge at the two ends of the wire: tailrace-load writes down what was
acknowledged, tailrace-sink what arrived. Whatever happens in between, a trace has the one fate that a single node would have given it.
"""
import json
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from kit import metrics
from kit.dns_servers import NXDOMAIN, Dnsmasq, ask
from kit.judged import CACHE, POLICIES, RULE, Load, Sink, faultless, judge
from kit.proc import Stage, free_port
from kit.suite import Suite, check, equal, slowness, until
from kit.tmpfs import Tmpfs

suite = Suite("handoff", timeout_s=600)

NAME = "sampler.test"
# decision_wait: tailrace-load spreads a trace over 0.5 s, and while a ring changes an answer may take a second or two, on sanitized
# programs three. A span that comes after the decision may be the one that mattered.
WAIT_S = 4 if slowness() == 1 else 7
# ack_wait: on a loaded machine samplers may take seconds to agree; what is then not settled is not decided either.
PATIENCE_S = 8
FORWARD_S = 3                          # forward_timeout: then a client is told to send again, and is no load until it does
HANDOFF_S = 12                         # handoff_timeout: what is killed comes back sooner
RATE = 6000                            # spans a second
UNTIL_TOLD = 400                       # seconds
SEND_TWICE = ["--resend-percent", "2", "--resend-delay-ms", "700"]


class Cluster(Stage):
    """Samplers behind a DNS name, balancers that ask for it, and what they need. node() starts a sampler, listed or not."""

    def __init__(self, samplers=3, lbs=2, sink=None, journal=True, policies=None, rule=RULE, wait_s=WAIT_S, patience_s=PATIENCE_S, tailrace=None,
                 exporter=None):
        super().__init__()
        self.first, self.lb_count = samplers, lbs
        self.sink_options = sink or {}
        self.journal = journal
        self.wait_s, self.patience_s = wait_s, patience_s
        self.policies, self.rule = policies or POLICIES, rule
        self.tailrace = tailrace or {}
        self.exporter = exporter or {}
        self.samplers = {}
        self.listed = []
        self.port = free_port()
        self.subnet = random.randint(2, 250)
        self.killed = 0

    def __enter__(self):
        super().__enter__()
        try:
            self.sink = Sink(self, **self.sink_options)
            self.dns = Dnsmasq(self).start({})
            for index in range(self.first):
                self.node(index)
            self.list_only(range(self.first))
            self.wait_agreement()
            self.lbs = [self.balancer(f"lb-{index}") for index in range(self.lb_count)]
            for lb in self.lbs:
                lb.wait_ready()
            self.wait_rings()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    # -- who is there ----------------------------------------------------------------------------------------------

    def resolver(self):
        return {"dns": {"hostname": NAME, "port": str(self.port), "interval": "200ms", "timeout": "2s"}}

    def host(self, index):
        return f"127.0.{self.subnet}.{40 + index}"

    def directory_of(self, index):
        return os.path.join(self.directory, f"journal-{index}")

    def node(self, index, **tailrace):
        """A sampler that was not there yet."""
        settings = {
            "cluster": {"self": f"sampler-{index}", "resolver": self.resolver(), "handoff_timeout": f"{HANDOFF_S * slowness():.0f}s",
                        "ack_wait": f"{self.patience_s}s", "forward_timeout": f"{min(self.patience_s, FORWARD_S)}s"},
            "dns": {"servers": [f"127.0.0.1:{self.dns.port}"]},
            "memory": {"limit_mib": 512, "at_limit": "refuse"},
            **({"journal": {"directory": self.directory_of(index), "max_size_mib": 512, "segment_mib": 4}} if self.journal else {}),
            **self.tailrace, **tailrace}
        self.samplers[index] = self.sampler(f"sampler-{index}", self.sink.port, self.policies, wait=f"{self.wait_s}s", tail=CACHE, tailrace=settings,
                                            exporter={"compression": "none", **self.exporter}, host=self.host(index), port=self.port)
        return self.samplers[index]

    def balancer(self, name, resolver=None):
        return self.lb(name, [], resolver=resolver or self.resolver(), tailrace={"dns": {"servers": [f"127.0.0.1:{self.dns.port}"]}})

    def list_only(self, indices):
        """What DNS says from now on."""
        self.listed = list(indices)
        self.dns.change({NAME: [self.host(index) for index in self.listed]})

    def running(self):
        return [node for node in self.samplers.values() if node.running()]

    def wait_agreement(self, nodes=None, timeout_s=60):
        """All of them (default: all that run) have one ring, are in step and settled."""
        nodes = nodes or self.running()
        names = sorted(node.name for node in nodes)

        def agreed():
            pages = [node.status()["cluster"] for node in nodes]
            return (all("ring" in page for page in pages) and len({page["ring"]["fingerprint"] for page in pages}) == 1 and
                    all(page["in_step"] and page["settled"] for page in pages) and
                    all(sorted([page["self"]] + [peer["name"] for peer in page["peers"] if peer["in_ring"]]) == names for page in pages))
        try:
            until(agreed, f"one settled ring of {names}", timeout_s, every_s=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(json.dumps(node.status()["cluster"], indent=1) for node in nodes if node.running())) from None

    def wait_rings(self):
        """Every balancer that asks DNS sends to all that are listed."""
        names = sorted(f"sampler-{index}" for index in self.listed)
        for lb in self.lbs:
            until(lambda lb=lb: sorted(entry["name"] for entry in lb.status()["members"] if entry["slots"] > 0) == names,
                  f"{lb.name} sends to {names}", 30)

    # -- what happens to them ----------------------------------------------------------------------------------------

    def kill(self, index):
        self.samplers[index].kill()
        self.killed += 1

    def leave(self, *indices, timeout_s=60):
        """SIGTERM to all of them: each gives everything away and ends well, holding nothing."""
        for index in indices:
            self.samplers[index].terminate()
        for index in indices:
            self.left(self.samplers[index], timeout_s)

    def left(self, node, timeout_s):
        equal(node.wait(timeout_s), 0, f"{node.name}: exit code\n{node.tail()}")
        node.check_log()
        last = [line for line in node.log().decode().splitlines() if "stopped" in line][-1]
        check("spans_left=0" in last, f"{node.name} left something behind: {last}")

    def scale(self, count):
        """As Kubernetes does it: new ones are listed when they are ready, those that go are delisted and told to end."""
        for index in range(count):
            if index not in self.samplers or not self.samplers[index].running():
                self.node(index)
        for index in range(count):
            self.samplers[index].wait_ready(60)
        self.list_only(range(count))
        self.leave(*(index for index in self.samplers if index >= count and self.samplers[index].running()))
        self.wait_agreement()

    # -- load and judgement ----------------------------------------------------------------------------------------

    def load(self, *options, seconds=None, rate=RATE):
        """seconds: UNTIL_TOLD where it lasts as long as the changes, however slow the machine is."""
        seconds = seconds or (12 if suite.options.quick else 20)
        if slowness() > 1:  # far from what they can do: else what comes to one that lags never ends
            rate /= 2 * slowness()
        return Load(self, self.lbs, "--rate", str(int(rate)), "--seconds", str(seconds), "--retry-seconds", "120",
                    "--drain-seconds", "120", *SEND_TWICE, *options)

    def changed(self, load):
        """All changes were made, and the load met them: it goes on for a while and ends."""
        check(load.running(), "the load lasted as long as the changes")
        time.sleep(3)
        load.program.terminate()

    def finish(self, load, but=(), timeout_s=120, out_of_step=False):
        """The load ends, everything held finds its end, books balance, and the judge compares. Returns its judgement.

        out_of_step: the case leaves a sampler alone for longer than ack_wait before it may know that it is.
        """
        done = load.finish()
        equal(done["spans_failed"] + done["spans_rejected"], 0, "spans not acknowledged")
        until(lambda: all(node.metrics().value("tailrace_spans_held") == 0 for node in self.running()), "nothing held", timeout_s)
        for node in self.running():
            metrics.check_sampler_books(node, held=0)
            page = node.metrics()
            for name in ("tailrace_verdict_conflicts_total", "tailrace_traces_decided_apart_total",
                         "tailrace_cluster_settle_timeouts_total") + (() if out_of_step else ("tailrace_spans_taken_out_of_step_total",)):
                equal(page.value(name), 0, f"{node.name}: {name}")
        for lb in self.lbs:
            if lb.running():
                metrics.check_lb_books(lb)
                lb.stop(60)
        for node in self.running():
            node.stop(60)
        self.sink.end()
        verdict = judge(self, load.ledger, self.sink.arrivals, self.rule)
        faultless(verdict, but)
        check(verdict["whole"] > 0, f"something was kept: {verdict['text']}")
        check(verdict["rightly_dropped"] > 0 or self.rule == "all", f"something was dropped: {verdict['text']}")
        equal(verdict["unjudged"], 0, "traces of which not every span was acknowledged")
        return verdict

    def total(self, name, **labels):
        return sum(node.metrics().value(name, **labels) for node in self.running())


def explained(cluster, verdict):
    """A crash between the backend's answer and its record lets that request go out again: so many may be doubled, no more."""
    most = cluster.killed * 10 * 2000  # requests under way at a crash (num_consumers), about 1 MiB each
    check(verdict["doubled"] <= most, f"{verdict['doubled']} spans doubled by {cluster.killed} crashes")
    return verdict


@suite.case()
def scale_out_and_in():
    """From three samplers to five to two while spans flow: every trace has the one fate that a single node would have given it."""
    with Cluster() as cluster:
        load = cluster.load(seconds=UNTIL_TOLD)
        time.sleep(WAIT_S + 1)
        cluster.scale(5)
        cluster.wait_rings()
        time.sleep(WAIT_S + 1)
        check(cluster.total("tailrace_traces_given_total") > 0, "traces moved to the new samplers")
        cluster.scale(2)
        cluster.wait_rings()
        time.sleep(WAIT_S)
        cluster.changed(load)
        check(cluster.total("tailrace_spans_taken_over_total") > 0, "traces moved to those that stayed")
        cluster.finish(load)


@suite.case()
def scale_in_without_journal():
    """Without a journal nothing is lost either when samplers leave in order."""
    with Cluster(samplers=4, journal=False) as cluster:
        load = cluster.load(seconds=UNTIL_TOLD)
        time.sleep(WAIT_S + 2)
        cluster.scale(2)
        time.sleep(WAIT_S)
        cluster.changed(load)
        cluster.finish(load)


@suite.case()
def crash_and_return():
    """kill -9 of a sampler that comes back with its journal within handoff_timeout: no slot moves, and nothing acknowledged is lost."""
    with Cluster() as cluster:
        load = cluster.load()
        time.sleep(WAIT_S + 1)
        cluster.kill(1)
        time.sleep(2)
        until(lambda: cluster.total("tailrace_spans_kept_total") > 0, "others keep spans for the one that is away", HANDOFF_S / 2)
        cluster.samplers[1].start().wait_ready(60)
        until(lambda: cluster.samplers[1].metrics().value("tailrace_spans_recovered_total") > 0, "spans came back from the journal")
        cluster.wait_agreement()
        for node in cluster.running():
            equal(node.metrics().value("tailrace_cluster_members_dropped_total"), 0, "members dropped")
        explained(cluster, cluster.finish(load, but=("doubled",)))


@suite.case()
def crash_of_all():
    """kill -9 of every sampler at once; they come back one by one."""
    with Cluster(patience_s=1) as cluster:
        load = cluster.load()
        time.sleep(WAIT_S + 1)
        for index in range(3):
            cluster.kill(index)
        for index in (2, 0, 1):
            time.sleep(0.5)
            cluster.samplers[index].start()
        cluster.wait_agreement()
        # The first to return hears nobody until hello_wait is over, which is longer than ack_wait.
        explained(cluster, cluster.finish(load, but=("doubled",), out_of_step=True))


@suite.case()
def rolling_restart():
    """Every sampler in turn is told to end and started again, as in an update."""
    with Cluster() as cluster:
        load = cluster.load(seconds=UNTIL_TOLD)
        time.sleep(WAIT_S + 1)
        for index in (2, 1, 0):
            cluster.list_only(other for other in range(3) if other != index)
            cluster.leave(index)
            cluster.samplers[index].start().wait_ready(60)
            cluster.list_only(range(3))
            cluster.wait_agreement()
        cluster.wait_rings()
        time.sleep(WAIT_S)
        cluster.changed(load)
        cluster.finish(load)


@suite.case()
def stale_balancer():
    """A balancer that knows only some of the samplers, and one that is none any more, splits nothing and loses nothing."""
    with Cluster(samplers=4, lbs=1) as cluster:
        stale = cluster.balancer("lb-stale", {"static": {"hostnames": [f"{cluster.host(index)}:{cluster.port}" for index in (0, 3)]}})
        cluster.lbs.append(stale)
        stale.wait_ready()
        load = cluster.load(seconds=UNTIL_TOLD)
        time.sleep(WAIT_S + 1)
        until(lambda: cluster.total("tailrace_spans_forwarded_total") > 0, "what came to the wrong sampler was forwarded")
        cluster.scale(3)  # sampler-3 ends; the stale balancer goes on asking for it
        time.sleep(WAIT_S)
        cluster.changed(load)
        cluster.finish(load)


@suite.case()
def name_gone():
    """While DNS names nobody every ring stays as it was, and a sampler that crashes meanwhile comes back into it."""
    with Cluster(patience_s=1) as cluster:
        load = cluster.load(seconds=UNTIL_TOLD)
        time.sleep(3)

        def rings():
            """But for those of samplers that found that they had stood still."""
            return cluster.total("tailrace_cluster_rings_total") - cluster.total("tailrace_cluster_standstills_total")

        before = rings()
        cluster.dns.change({})
        until(lambda: ask(cluster.dns.port, NAME) == NXDOMAIN, "DNS names nobody")
        time.sleep(2)  # ten look-ups
        until(lambda: rings() == before, "no sampler has made another ring", 5)  # the two are not written at the same moment
        cluster.wait_rings()
        cluster.kill(1)
        cluster.samplers[1].start()
        time.sleep(2)
        cluster.list_only(range(3))
        cluster.wait_agreement()
        cluster.changed(load)
        # Nobody told the one that returned that there are no others: it waited for them, for longer than ack_wait.
        explained(cluster, cluster.finish(load, but=("doubled",), out_of_step=True))


@suite.case()
def backend_away():
    """The backend refuses for longer than decision_wait, while one sampler leaves and one crashes: survivors wait, travel and arrive."""
    with Cluster(sink={"inject": ["refuse=100:14"], "outage_s": (2, 2 + 3 * WAIT_S * (1 + slowness()) / 2)}) as cluster:
        load = cluster.load()
        time.sleep(WAIT_S + 3)
        cluster.kill(0)
        cluster.samplers[0].start().wait_ready(60)
        cluster.list_only(range(2))
        cluster.leave(2)
        cluster.wait_agreement()
        explained(cluster, cluster.finish(load, but=("doubled",), timeout_s=180))


@suite.case()
def full_disk():
    """A journal's disk that is smaller than what it may take: what cannot be written is not acknowledged, and what was is not lost."""
    # Everything is kept: a client that is refused for longer than decision_wait brings its spans after the decision.
    with Cluster(samplers=2, policies=[{"name": "all", "type": "always_sample"}], rule="all") as cluster:
        disk = os.path.join(cluster.directory, "small")
        with Tmpfs(disk, 8):
            cluster.node(2, journal={"directory": os.path.join(disk, "journal"), "max_size_mib": 512, "segment_mib": 1})
            cluster.samplers[2].wait_ready(60)
            cluster.list_only(range(3))
            cluster.wait_agreement()
            cluster.wait_rings()
            load = cluster.load(rate=3 * RATE)
            until(lambda: cluster.samplers[2].metrics().value("tailrace_requests_refused_total", reason="journal") > 0, "the disk is full", 60)
            cluster.finish(load, timeout_s=180)


@suite.case()
def stopped_sampler():
    """A sampler that stands still for longer than the balancers' timeout, and goes on."""
    with Cluster() as cluster:
        load = cluster.load()
        time.sleep(4)
        cluster.samplers[1].process.send_signal(signal.SIGSTOP)
        time.sleep(min(6.5, HANDOFF_S - 3))  # the balancers' timeout: 5 s
        cluster.samplers[1].process.send_signal(signal.SIGCONT)
        cluster.wait_agreement()
        cluster.finish(load)


@suite.case()
def crash_of_a_balancer():
    """kill -9 of a balancer: its clients send again through the other one, and nothing is doubled."""
    # tailrace-load waits up to 3 s between attempts, and may draw the dead one several times: what it sends again must come in time.
    with Cluster(wait_s=10) as cluster:
        load = cluster.load()
        time.sleep(5)
        cluster.lbs[0].kill()
        time.sleep(2)
        cluster.lbs[0].start().wait_ready(60)
        cluster.finish(load)


@suite.case()
def lost_for_good():
    """A sampler that never comes back: after handoff_timeout the others go on without it; its volume is drained into the cluster."""
    with Cluster() as cluster:
        load = cluster.load(seconds=max(20, HANDOFF_S + 8))
        time.sleep(WAIT_S + 1)
        cluster.kill(2)
        cluster.list_only(range(2))
        # Who hears of it from another first, and misses it too, does not count it.
        until(lambda: cluster.total("tailrace_cluster_members_dropped_total") > 0, "the lost one is dropped", HANDOFF_S + 30)
        cluster.wait_agreement()
        program = cluster.program("drain", [cluster.samplers[2].argv[0], "--drain-journal", cluster.directory_of(2), "--to",
                                            cluster.samplers[0].address])
        equal(program.wait(60), 0, f"--drain-journal: {program.tail()}")
        # Traces whose parts were judged before the volume came back may have been decided without them: handoff section 8.
        done = load.finish()
        equal(done["spans_failed"] + done["spans_rejected"], 0, "spans not acknowledged")
        until(lambda: all(node.metrics().value("tailrace_spans_held") == 0 for node in cluster.running()), "nothing held", 120)
        for node in cluster.running():
            metrics.check_sampler_books(node, held=0)
        for node in cluster.lbs + cluster.running():
            node.stop(60)
        cluster.sink.end()
        verdict = judge(cluster, load.ledger, cluster.sink.arrivals)
        faultless(verdict, but=("split", "partial", "lost", "wrongly_dropped", "wrongly_kept", "doubled"))
        open_traces = verdict["partial"] + verdict["wrongly_dropped"] + verdict["wrongly_kept"]
        check(open_traces <= 2 * RATE * WAIT_S / 15, f"only traces under way at the loss may be judged in parts: {verdict['text']}")


if __name__ == "__main__":
    sys.exit(suite.main())
