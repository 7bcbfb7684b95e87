#!/usr/bin/env python3
"""A balancer that finds its members by DNS, against servers that are not ours: dnsmasq and NSD.

Their answers change while spans flow, fail, come back, come truncated. Members are test servers on loopback addresses, so that
one port serves them all, as it does in a cluster.
"""
import contextlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import grpc

from kit import metrics, otlp
from kit.moving_members import (Load, expect_balance, expect_nothing_lost, failing, ips, listed, ring_names, start_members,
                                wait_ring)
from kit.proc import Stage, free_port
from kit.suite import Suite, check, equal, until
from kit.dns_servers import A, AAAA, Dnsmasq, Faulty, Nsd

suite = Suite("dns")

NAME = "sampler.test"
RESOLUTIONS = "otelcol_loadbalancer_num_resolutions_total"


def resolver(port=None, hostname=NAME, interval="200ms", timeout="2s"):
    return {"dns": {"hostname": hostname, "interval": interval, "timeout": timeout, **({"port": str(port)} if port else {})}}


def start_lb(stage, server, port=None, ready=True, **options):
    lb = stage.lb(f"lb-{len(stage.programs)}", [], resolver=resolver(port, **options),
                  tailrace={"dns": {"servers": [f"127.0.0.1:{server.port}"]}})
    return lb.wait_ready() if ready else lb


def failures(lb):
    return lb.metrics().value(RESOLUTIONS, resolver="dns", success="false")


def wait_failing(lb, words):
    """Other reasons may come before this one: an answer is late on a busy machine."""
    until(lambda: failing(lb, words), f"a failed look-up that says {words!r}")


# -- members come and go --------------------------------------------------------------------------------


@suite.case("dnsmasq", "nsd")
def members_change_under_load(server_kind):
    """Three, five, two members while spans flow: nothing acknowledged is lost or doubled, nothing refused, the balance follows."""
    with Stage() as stage:
        members, port = start_members(stage, 5)
        server = (Dnsmasq if server_kind == "dnsmasq" else Nsd)(stage)

        def answers(chosen):
            return {NAME: ips(chosen)} if server_kind == "dnsmasq" else [f"sampler A {ip}" for ip in ips(chosen)]

        server.start(answers(members[:3]))
        lb = start_lb(stage, server, port)
        wait_ring(lb, ["sampler-0", "sampler-1", "sampler-2"])
        with Load(lb) as load:
            load.more()
            server.change(answers(members))
            wait_ring(lb, [member.name for member in members])
            load.more()
            server.change(answers(members[3:]))
            wait_ring(lb, ["sampler-3", "sampler-4"])
            load.more()
        expect_nothing_lost(load, members)
        expect_balance(lb, members[3:])
        page = metrics.check_lb_books(lb)
        equal(page.value("otelcol_loadbalancer_num_backends", resolver="dns"), 2, "num_backends")
        check(page.value("otelcol_loadbalancer_num_backend_updates_total", resolver="dns") >= 3, "num_backend_updates")
        check(page.value(RESOLUTIONS, resolver="dns", success="true") > 3, "num_resolutions")
        equal(page.value("tailrace_lb_retry_budget_exhausted_total"), 0, "retry budget exhausted")


@suite.case()
def members_drain_under_load():
    """Members that leave DNS and then shut down, GOAWAY and all, as in a rolling restart: nothing acknowledged is lost, nothing refused."""
    with Stage() as stage:
        members, port = start_members(stage, 4)
        server = Dnsmasq(stage).start({NAME: ips(members)})
        lb = start_lb(stage, server, port)
        wait_ring(lb, [member.name for member in members])
        with Load(lb) as load:
            load.more()
            for member in members[:2]:
                server.change({NAME: ips(other for other in members[2:] + members[:2] if other is not member)})
                until(lambda gone=member: gone.name not in ring_names(lb), f"a ring without {member.name}")
                member.stop(grace_s=5)
                load.more()
                member.start()
                server.change({NAME: ips(members)})
                wait_ring(lb, [other.name for other in members])
                load.more()
            members[3].stop(grace_s=5)  # still in DNS: a drain that DNS has not heard of
            load.more()
        expect_nothing_lost(load, members, doubled=load.count())
        metrics.check_lb_books(lb)


@suite.case(timeout_s=180)
def links_end():
    """A member that left is on /status and /metrics for a while, then gone; one that comes back before has its link still."""
    with Stage() as stage:
        members, port = start_members(stage, 3)
        server = Dnsmasq(stage).start({NAME: ips(members)})
        lb = start_lb(stage, server, port)
        wait_ring(lb, ["sampler-0", "sampler-1", "sampler-2"])
        hellos = [member.hellos for member in members]  # one each, unless its answer was late
        server.change({NAME: ips(members[:1])})
        wait_ring(lb, ["sampler-0"])
        equal(len(lb.status()["members"]), 3, "members on /status")
        server.change({NAME: ips(members[:2])})
        wait_ring(lb, ["sampler-0", "sampler-1"])
        equal(members[1].hellos, hellos[1], "Hellos to the member that came back")
        address = members[2].address
        until(lambda: address not in [entry["address"] for entry in lb.status()["members"]], "the link ends", timeout_s=60, every_s=0.5)
        check(address not in lb.get("/metrics")[1], "its label is on /metrics")
        server.change({NAME: ips(members)})
        wait_ring(lb, ["sampler-0", "sampler-1", "sampler-2"])
        check(members[2].hellos > hellos[2], "no Hello to the member that came back late")
        expect_balance(lb, members)


def leaves_alone(lb, member):
    """Whether a request of many traces gives the member none."""
    before = len(member.calls())
    with otlp.Client(lb.address) as client:
        equal(client.export(otlp.request_of([otlp.trace_id() for _ in range(200)])).code, grpc.StatusCode.OK, "answer")
    return len(member.calls()) == before


# -- what a name gives ------------------------------------------------------------------------------------


@suite.case()
def services():
    """SRV records give ports, and names that stay when a member's address changes: no slot moves."""
    with Stage() as stage:
        members = [stage.serve(otlp.Member("", host=f"127.0.0.{20 + i}", hello=False)) for i in range(3)]
        names = [f"pod-{i}.test" for i in range(3)]
        targets = [("_otlp._tcp.sampler.test", name, member.port) for name, member in zip(names, members)]
        server = Dnsmasq(stage).start({name: [member.host] for name, member in zip(names, members)}, targets)
        lb = start_lb(stage, server, hostname="_otlp._tcp.sampler.test")
        stable = [f"{name}:{member.port}" for name, member in zip(names, members)]
        wait_ring(lb, stable)
        equal(listed(lb), sorted(member.address for member in members), "addresses")
        expect_balance(lb, members)

        fingerprint = lb.status()["ring"]["fingerprint"]
        moved = stage.serve(otlp.Member("", members[0].port, host="127.0.0.30", hello=False))
        server.change({name: [member.host] for name, member in zip(names, [moved] + members[1:])})
        until(lambda: moved.address in listed(lb) and members[0].address not in listed(lb), "the new address")
        until(lambda: leaves_alone(lb, members[0]), "no more spans to the old address")
        wait_ring(lb, stable)
        equal(lb.status()["ring"]["fingerprint"], fingerprint, "fingerprint of the ring")
        expect_balance(lb, [moved] + members[1:])


@suite.case()
def ipv6_only():
    """Members that have only AAAA records are called at them."""
    with Stage() as stage:
        member = stage.serve(otlp.Member("sampler-0", host="[::1]"))
        server = Dnsmasq(stage).start({NAME: ["::1"]})
        lb = start_lb(stage, server, member.port)
        equal(listed(lb), [f"[::1]:{member.port}"], "addresses")
        expect_balance(lb, [member])


@suite.case()
def both_families():
    """A member with an A and an AAAA record is one member."""
    with Stage() as stage:
        port = free_port()
        first = stage.serve(otlp.Member("sampler-0", port, host="127.0.0.1"))
        second = stage.serve(otlp.Member("sampler-0", port, host="[::1]"))
        server = Dnsmasq(stage).start({NAME: ["::1", "127.0.0.1"]})
        lb = start_lb(stage, server, port)
        until(lambda: len([entry for entry in lb.status()["members"] if entry["name"] == "sampler-0"]) == 2, "both addresses named")
        equal(lb.status()["ring"]["members"], 1, "members")
        with otlp.Client(lb.address) as client:
            equal(client.export(otlp.request_of([otlp.trace_id() for _ in range(50)])).code, grpc.StatusCode.OK, "answer")
        equal(len(first.spans()) + len(second.spans()), 50, "spans")


@suite.case()
def search_domain():
    """A short name is looked up in the search domains."""
    os.environ["LOCALDOMAIN"] = "nowhere.test obs.test"
    try:
        with Stage() as stage:
            members, port = start_members(stage, 2)
            server = Dnsmasq(stage).start({"tailrace-sampler.obs.test": ips(members)})
            lb = start_lb(stage, server, port, hostname="tailrace-sampler")
            wait_ring(lb, ["sampler-0", "sampler-1"])
    finally:
        del os.environ["LOCALDOMAIN"]


@suite.case()
def truncated_answers():
    """An answer too large for UDP is asked for again over TCP, and used whole."""
    with Stage() as stage:
        members, port = start_members(stage, 2)
        unused = [f"127.0.1.{i}" for i in range(1, 121)]
        server = Nsd(stage).start([f"sampler A {ip}" for ip in ips(members) + unused])
        lb = start_lb(stage, server, port, timeout="10s")
        wait_ring(lb, ["sampler-0", "sampler-1"])
        equal(lb.status()["resolver"]["addresses"], 122, "addresses")
        equal(failures(lb), 0, "failed look-ups")
        expect_balance(lb, members)


# -- servers that fail ----------------------------------------------------------------------------------------


@suite.case()
def server_down_and_up():
    """A server that goes away takes no member with it, and is asked again when it is back."""
    with Stage() as stage:
        members, port = start_members(stage, 3)
        server = Nsd(stage).start([f"sampler A {ip}" for ip in ips(members[:2])])
        lb = start_lb(stage, server, port)
        wait_ring(lb, ["sampler-0", "sampler-1"])
        with Load(lb) as load:
            server.stop()
            until(lambda: failures(lb) >= 2, "look-ups fail")
            wait_failing(lb, "sampler.test")
            load.more()
            equal(ring_names(lb), ["sampler-0", "sampler-1"], "ring")
            server.start([f"sampler A {ip}" for ip in ips(members)])
            wait_ring(lb, ["sampler-0", "sampler-1", "sampler-2"])
            load.more()
        until(lambda: not lb.status()["resolver"]["failing"], "look-ups do not fail any more")
        expect_nothing_lost(load, members)


@suite.case()
def server_late():
    """A balancer that starts before DNS knows anything gets ready when it does."""
    with Stage() as stage:
        members, port = start_members(stage, 1)
        server = Dnsmasq(stage).start({})
        lb = start_lb(stage, server, port, ready=False, interval="20s")
        until(lambda: failures_seen(lb) >= 1, "a failed look-up")
        wait_failing(lb, "no such name")
        check(lb.get("/readyz")[0] == 503, "ready without a member")
        with otlp.Client(lb.address) as client:
            answer = client.export(otlp.request_of([otlp.trace_id()]))
        equal(answer.code, grpc.StatusCode.UNAVAILABLE, "answer")
        check(answer.retry_s is not None, "no RetryInfo")
        server.change({NAME: ips(members)})
        lb.wait_ready()
        expect_balance(lb, members)


def failures_seen(lb):
    with contextlib.suppress(OSError):
        return failures(lb)
    return 0


@suite.case("nxdomain", "empty", "servfail")
def name_gone(how):
    """A name that is denied, has no address, or cannot be looked up keeps the members that it had."""
    with Stage() as stage:
        members, port = start_members(stage, 2)
        good = [f"sampler A {ip}" for ip in ips(members)]
        server = Nsd(stage).start(good)
        lb = start_lb(stage, server, port)
        wait_ring(lb, ["sampler-0", "sampler-1"])
        if how == "servfail":
            server.stop()
            server = Faulty({}).start()
            server.behave = {A: "servfail", AAAA: "servfail"}
            stage.servers.append(server)
            lb.stop()
            lb = start_lb(stage, server, port, ready=False)  # a broken server from the start: nothing, and said so
            until(lambda: failures_seen(lb) >= 1, "a failed look-up")
            wait_failing(lb, "each server failed")
            server.addresses = {A: [bytes(map(int, ip.split("."))) for ip in ips(members)]}
            server.behave = {A: "ok", AAAA: "ok"}
            lb.wait_ready()
            wait_ring(lb, ["sampler-0", "sampler-1"])
            server.behave = {A: "servfail", AAAA: "servfail"}
        else:
            server.change([] if how == "nxdomain" else ['sampler TXT "no address"'])
        before = failures(lb)
        until(lambda: failures(lb) >= before + 2, "look-ups fail")
        reason = {"nxdomain": "no such name", "empty": "no such record", "servfail": "each server failed"}[how]
        wait_failing(lb, reason)
        equal(ring_names(lb), ["sampler-0", "sampler-1"], "ring")
        expect_balance(lb, members)


@suite.case("servfail", "garbage", "silent")
def one_family_fails(how):
    """When one of the two questions fails, its addresses stay, and those of the other follow their answer."""
    with Stage() as stage:
        port = free_port()
        four = [stage.serve(otlp.Member(f"sampler-{i}", port, host=f"127.0.0.{10 + i}")) for i in range(2)]
        six = stage.serve(otlp.Member("sampler-6", port, host="[::1]"))
        packed = [bytes([127, 0, 0, 10 + i]) for i in range(2)]
        server = stage.serve(Faulty({A: packed[:1], AAAA: [bytes(15) + b"\1"]}))
        lb = start_lb(stage, server, port, timeout="500ms")
        wait_ring(lb, ["sampler-0", "sampler-6"])
        server.behave[AAAA] = how
        until(lambda: failures(lb) >= 1, "a look-up fails in part")
        server.addresses[A] = packed
        wait_ring(lb, ["sampler-0", "sampler-1", "sampler-6"])
        expect_balance(lb, four + [six])
        server.addresses[AAAA] = []
        server.behave[AAAA] = "ok"
        wait_ring(lb, ["sampler-0", "sampler-1"])


@suite.case()
def ttl_before_interval():
    """A TTL that ends before the interval does brings the next look-up forward."""
    with Stage() as stage:
        members, port = start_members(stage, 2)
        server = Dnsmasq(stage).start({NAME: ips(members[:1])}, ttl_s=1)
        lb = start_lb(stage, server, port, interval="1h", timeout="10s")  # after one that failed the next is an hour away
        wait_ring(lb, ["sampler-0"])
        server.change({NAME: ips(members)})
        wait_ring(lb, ["sampler-0", "sampler-1"])


if __name__ == "__main__":
    sys.exit(suite.main())
