#!/usr/bin/env python3
"""A balancer that finds its members by EndpointSlices, from an API server that does as the case says.

tests/kube/run.py does the same with the real API server; here are the ways in which one fails.
"""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "dns"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from api_server import ApiServer, endpoint, status
from kit import certs, metrics, otlp, proc
from kit.moving_members import Load, expect_balance, expect_nothing_lost, failing, listed, ring_names, start_members, wait_ring
from kit.proc import Stage, free_port, settle
from kit.suite import Suite, check, equal, until
from kit.dns_servers import A, AAAA, Faulty

suite = Suite("k8s")

RESOLUTIONS = "otelcol_loadbalancer_num_resolutions_total"


class Scene:
    """An API server, members behind it, and a balancer that asks it."""

    def __init__(self, stage, count=3, begin=True, **options):
        self.stage = stage
        self.members, self.member_port = start_members(stage, count, **options)
        self.api = stage.serve(NotStarted(ApiServer(stage.directory, free_port())))
        self.api = self.api.server
        self.names = [member.name for member in self.members]
        self.life = 0
        self.put(self.members)
        if begin:
            self.api.start()

    def put(self, members, name="a", quietly=False, **marks):
        """A slice of these; marks: name=dict of conditions."""
        endpoints = [endpoint(member.host, member.name, life=self.life, **marks.get(member.name.replace("-", "_"), {}))
                     for member in members]
        self.api.put(name, endpoints, quietly=quietly)

    def lb(self, ready=True, keys=None, settings=None, tailrace=None):
        resolver = {"k8s": {"service": "sampler.obs", "ports": [self.member_port], **(keys or {})}}
        lb = self.stage.lb(f"lb-{len(self.stage.programs)}", [], resolver=resolver,
                           tailrace={"kubernetes": settings or self.api.settings(), **(tailrace or {})})
        if ready:
            return lb.wait_ready()
        until(lambda: lb.get("/livez"), "the balancer's admin endpoint")
        return lb


class NotStarted:
    """For Stage.serve, which starts what it is given: this one waits for the case to do so."""

    def __init__(self, server):
        self.server = server

    def start(self):
        return self

    def stop(self):
        self.server.stop()


def about(lb):
    return lb.status()["resolver"]


def wait_failing(lb, word, timeout_s=30.0):
    found = until(lambda: failing(lb, word), f"a failure that says {word!r}", timeout_s)
    equal(lb.metrics().value("tailrace_lb_resolver_failing"), 1, "tailrace_lb_resolver_failing")
    return found


def wait_well(lb, timeout_s=45.0):
    until(lambda: not about(lb)["failing"], "the API server answers again", timeout_s)
    equal(lb.metrics().value("tailrace_lb_resolver_failing"), 0, "tailrace_lb_resolver_failing")


# -- the ring follows ----------------------------------------------------------------------------------------


@suite.case()
def ring_follows_under_load():
    """Slices come, change and go, pods end: the ring follows each step, nothing acknowledged is lost or refused."""
    with Stage() as stage:
        scene = Scene(stage, 5)
        api, members = scene.api, scene.members
        scene.put(members[:2])
        lb = scene.lb()
        wait_ring(lb, scene.names[:2])
        with Load(lb) as load:
            load.more()
            scene.put(members[:3])
            wait_ring(lb, scene.names[:3])
            scene.put(members[3:], name="b")
            wait_ring(lb, scene.names)
            load.more()
            scene.put(members[:3], sampler_0={"ready": False, "serving": True, "terminating": True}, sampler_1={"ready": False})
            wait_ring(lb, scene.names[2:])
            load.more()
            api.delete("b")
            wait_ring(lb, ["sampler-2"])
            scene.life = 1  # a pod that ended does not come back: these are new ones
            scene.put(members)
            wait_ring(lb, scene.names)
            load.more()
        expect_nothing_lost(load, members)
        expect_balance(lb, members)
        equal(len(api.asked("list")), 1, "lists")
        page = metrics.check_lb_books(lb)
        equal(page.value("otelcol_loadbalancer_num_backends", resolver="k8s"), 5, "num_backends")
        check(page.value("otelcol_loadbalancer_num_backend_updates_total", resolver="k8s") >= 5, "num_backend_updates")
        check(page.value(RESOLUTIONS, resolver="k8s", success="true") >= 6, "num_resolutions")
        equal(page.value(RESOLUTIONS, resolver="k8s", success="false"), 0, "failed resolutions")
        equal(about(lb)["service"], "sampler", "service on /status")


@suite.case()
def a_pod_is_one_member():
    """Two slices that show the same pod, in two families or on a move, are one member; it goes when both have dropped it."""
    with Stage() as stage:
        scene = Scene(stage, 2)
        scene.api.put("six", [endpoint("fd00::10", "sampler-0"), endpoint("fd00::11", "sampler-1")], family="IPv6")
        lb = scene.lb()
        wait_ring(lb, scene.names)
        equal(listed(lb), [member.address for member in scene.members], "addresses")
        scene.put(scene.members[1:], name="b")
        scene.put(scene.members[:1])
        settle(0.3)
        equal(ring_names(lb), scene.names, "the ring after a pod's move")
        equal(listed(lb), [member.address for member in scene.members], "addresses")


@suite.case()
def pods_without_a_name_of_their_own():
    """Collectors as members are known by their pods: one that returns under another address is the same member."""
    with Stage() as stage:
        scene = Scene(stage, 3, hello=False)
        lb = scene.lb()
        wait_ring(lb, scene.names)
        before = lb.status()["ring"]["fingerprint"]
        moved = stage.serve(otlp.Member("sampler-0", scene.member_port, host="127.0.0.30", hello=False))
        scene.put([moved] + scene.members[1:])
        until(lambda: moved.address in listed(lb), "the new address")
        until(lambda: any(entry["address"] == moved.address and entry["slots"] > 0 for entry in lb.status()["members"]), "its share")
        equal(lb.status()["ring"]["fingerprint"], before, "fingerprint of the ring")


@suite.case("name", "wrong")
def port_by_name(kind):
    """A port may be named as the Service names it; a name that it has not is told with those that it has."""
    with Stage() as stage:
        scene = Scene(stage, 2)
        scene.api.put("a", [endpoint(member.host, member.name) for member in scene.members],
                      ports=[{"name": "admin", "port": 1, "protocol": "TCP"}, {"name": "otlp", "port": scene.member_port, "protocol": "TCP"}])
        lb = scene.lb(ready=False, keys={"ports": ["otlp" if kind == "name" else "grpc"]})
        if kind == "name":
            wait_ring(lb.wait_ready(), scene.names)
        else:
            wait_failing(lb, "service obs/sampler has no port grpc; its ports: admin, otlp")


@suite.case()
def nothing_and_nobody_ready():
    """An empty answer, a deleted slice, pods that are all unready: the last ring stays, and the condition is in sight."""
    with Stage() as stage:
        scene = Scene(stage, 2)
        lb = scene.lb()
        wait_ring(lb, scene.names)
        scene.put(scene.members, sampler_0={"ready": False}, sampler_1={"ready": False})
        wait_failing(lb, "no sampler that is listed is ready")
        until(lambda: scene.api.watches, "a watch")
        watches = scene.api.watches
        scene.api.cut()
        until(lambda: scene.api.watches > watches, "a watch after that")
        wait_failing(lb, "no sampler that is listed is ready")
        scene.api.put("a", None)
        wait_failing(lb, "service obs/sampler has no endpoint")
        scene.api.delete("a")
        wait_failing(lb, "has no EndpointSlice")
        equal(ring_names(lb), scene.names, "the ring")
        expect_balance(lb, scene.members)
        scene.put(scene.members[:1])
        wait_ring(lb, scene.names[:1])
        wait_well(lb)


# -- watches ---------------------------------------------------------------------------------------------------


@suite.case()
def watches_go_on_from_where_they_came_to():
    """A watch that ends, or breaks, is followed by one from the last version, a bookmark's too; no list is asked for."""
    with Stage() as stage:
        scene = Scene(stage, 3)
        api = scene.api
        lb = scene.lb(keys={"timeout": "2s"})
        wait_ring(lb, scene.names)
        lists = len(api.asked("list"))  # the first has as short a time as a watch
        until(lambda: len(api.asked("watch")) >= 3, "watches that follow each other", 30)
        api.bookmark()
        marked = str(api.version)
        until(lambda: about(lb)["last_good_age_ns"] < 1e9, "the bookmark is read")
        settle(0.3)
        api.cut()
        until(lambda: api.asked("watch")[-1].version == marked, f"a watch from {marked}")
        scene.put(scene.members[:2])
        wait_ring(lb, scene.names[:2])
        equal(len(api.asked("list")), lists, "lists")
        check(all(1 <= int(request.query["timeoutSeconds"]) <= 2 for request in api.asked("watch")), "time limits of watches")
        check(all(request.query["allowWatchBookmarks"] == "true" for request in api.asked("watch")), "bookmarks are asked for")


@suite.case("event", "status")
def version_is_gone(kind):
    """A version that is too old, as an event with HTTP 200 or as HTTP 410: a new list at once, and what was missed is in the ring."""
    with Stage() as stage:
        scene = Scene(stage, 3)
        api = scene.api
        lb = scene.lb()
        wait_ring(lb, scene.names)
        until(lambda: api.watches, "a watch")
        scene.put(scene.members[1:], quietly=True)
        if kind == "event":
            api.forget()
        else:
            api.answers.append(lambda call: api.refuse(call, status(410, "Expired", "gone")) or True)
        api.cut()
        wait_ring(lb, scene.names[1:])
        equal(len(api.asked("list")), 2, "lists")
        wait_well(lb)


@suite.case()
def half_dead():
    """A server that leaves a watch open and says nothing more is left when the watch's time is over; changes are seen then."""
    with Stage() as stage:
        scene = Scene(stage, 2)
        api = scene.api
        lb = scene.lb(keys={"timeout": "1s"})
        wait_ring(lb, scene.names)
        lists = len(api.asked("list"))  # the first has as short a time as a watch
        api.silent = True
        until(lambda: api.watches, "a watch")
        settle(1.5)
        before = len(api.asked("watch"))
        scene.put(scene.members[:1])
        api.answers.append(lambda call: setattr(api, "silent", False))
        until(lambda: len(api.asked("watch")) > before, "another watch", 40)
        wait_ring(lb, scene.names[:1])
        equal(len(api.asked("list")), lists, "lists")


@suite.case("rubbish", "cut", "no_object", "endless")
def events_that_are_none(kind):
    """Bytes that no API server sends end the watch, and a new list puts right what may have been missed."""
    with Stage() as stage:
        scene = Scene(stage, 2)
        api = scene.api
        lb = scene.lb()
        wait_ring(lb, scene.names)
        until(lambda: api.watches, "a watch")
        scene.put(scene.members[:1], quietly=True)
        api.say({"rubbish": b"\xff\x00<html>", "cut": json.dumps({"type": "ADDED", "object": api.slices["a"]}).encode()[:-3],
                 "no_object": b'{"type": "MODIFIED", "object": {"endpoints": 7}}', "endless": b'{"x": "' + b"x" * (17 << 20)}[kind])
        wait_ring(lb, scene.names[:1])
        wait_well(lb)
        check(about(lb)["failures"] >= 1, "the failure is counted")
        word = "an event longer than 16 MiB" if kind == "endless" else "an answer that no API server gives"
        check(word in lb.log().decode(), "the reason is logged")
        check(lb.peak_rss_bytes() < 1 << 30, "memory")


# -- refusals ----------------------------------------------------------------------------------------------------


@suite.case()
def token_is_replaced():
    """A token that is not taken any more is read anew and the request repeated at once, without a failure in sight."""
    with Stage() as stage:
        scene = Scene(stage, 2)
        api = scene.api
        lb = scene.lb(keys={"timeout": "1s"})
        wait_ring(lb, scene.names)
        until(lambda: api.watches, "a watch")
        failures = about(lb)["failures"]  # the first list has as short a time as a watch
        api.answers.append(lambda call: api.rotate_account("token-1", api.authority.cert_pem) or setattr(api, "tokens", {"token-1"}))
        until(lambda: api.requests[-1].token == "token-1", "the new token")
        scene.put(scene.members[:1])
        wait_ring(lb, scene.names[:1])
        equal(about(lb)["failures"], failures, "failures")
        api.tokens = {"token-2"}
        wait_failing(lb, "401")
        api.rotate_account("token-2\n", api.authority.cert_pem)
        wait_well(lb)
        os.remove(os.path.join(stage.directory, "account", "..data"))
        wait_failing(lb, "no token")
        api.rotate_account("token-2", api.authority.cert_pem)
        wait_well(lb)
        equal(ring_names(lb), scene.names[:1], "the ring")


@suite.case()
def not_allowed():
    """Without RBAC at the start: not ready, the server's words on /status and in the log; when it is mended the ring forms by itself."""
    with Stage() as stage:
        scene = Scene(stage, 2, begin=False)
        api = scene.api
        words = 'endpointslices.discovery.k8s.io is forbidden: User "system:serviceaccount:obs:lb" cannot list resource "endpointslices"'
        api.answers.extend([lambda call: api.refuse(call, status(403, "Forbidden", words)) or True] * 1000)
        api.start()
        lb = scene.lb(ready=False)
        found = wait_failing(lb, words)
        equal(found["last_good_age_ns"], None, "last_good_age_ns")
        equal(lb.get("/readyz")[0], 503, "/readyz")
        check(words.encode() in lb.log().replace(b'\\"', b'"'), f"the log says so: {lb.tail()}")
        api.answers.clear()
        wait_ring(lb.wait_ready(60), scene.names)
        wait_well(lb)


@suite.case("header", "body")
def told_to_wait(kind):
    """429 with Retry-After, or with retryAfterSeconds in its body: that long nothing is asked."""
    with Stage() as stage:
        scene = Scene(stage, 2, begin=False)
        api = scene.api
        body = status(429, "TooManyRequests", "please slow down", **({"retryAfterSeconds": 3} if kind == "body" else {}))
        api.answers.append(lambda call: api.refuse(call, body, [("Retry-After", "3")] if kind == "header" else []) or True)
        api.start()
        lb = scene.lb()
        wait_ring(lb, scene.names)
        check(api.requests[1].time - api.requests[0].time >= 2.9, f"asked again after {api.requests[1].time - api.requests[0].time:.1f} s")


@suite.case("down", "errors", "hangs", "restart")
def server_is_away(kind):
    """The last ring serves on while the API server is away or in trouble, in sight of /status; when it is back, changes are seen."""
    with Stage() as stage:
        scene = Scene(stage, 3)
        api = scene.api
        lb = scene.lb(keys={"timeout": "10s"})
        wait_ring(lb, scene.names)
        until(lambda: api.watches, "a watch")
        if kind in ("down", "restart"):
            api.stop()
        elif kind == "errors":
            api.answers.extend([lambda call: api.refuse(call, status(500, "InternalError", "etcd is away")) or True] * 1000)
            api.cut()
        else:
            api.answers.extend([lambda call: time.sleep(1) or setattr(call, "close_connection", True) or True] * 1000)
            api.cut()
        wait_failing(lb, {"errors": "etcd is away", "hangs": "https://127.0.0.1"}.get(kind, "onnect"))
        equal(ring_names(lb), scene.names, "the ring meanwhile")
        with Load(lb) as load:
            load.more(500)
        expect_nothing_lost(load, scene.members)
        scene.put(scene.members[:2], quietly=kind == "restart")
        if kind == "restart":
            api.forget()
        if kind in ("down", "restart"):
            api.start()
        api.answers.clear()
        wait_ring_slowly(lb, scene.names[:2])  # it may just have begun to pause
        wait_well(lb)
        equal(len(api.asked("list")), 2 if kind == "restart" else 1, "lists")


# -- who the server is -----------------------------------------------------------------------------------------------


@suite.case()
def authorities_are_replaced():
    """A server under another authority is not believed; once ca.crt names it, it is, without a restart."""
    with Stage() as stage:
        scene = Scene(stage, 2)
        api = scene.api
        lb = scene.lb()
        wait_ring(lb, scene.names)
        api.authority = certs.Authority()
        api.cut()
        wait_failing(lb, "certificate")
        seen = len(api.requests)
        settle(1)
        equal(len(api.requests), seen, "requests, with their token, to a server that is not believed")
        api.rotate_account("token-0", api.authority.cert_pem)
        wait_well(lb)
        scene.put(scene.members[:1])
        wait_ring(lb, scene.names[:1])


@suite.case("environment", "plain_text")
def where_the_server_is(kind):
    """The API server of the pod's environment; and one in plain text, which is shown no token."""
    with Stage() as stage:
        scene = Scene(stage, 2, begin=False)
        api = scene.api
        if kind == "environment":
            api.start()
            os.environ.update(KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=str(api.port))
            try:
                lb = scene.lb(settings={"token_file": api.token_file, "ca_file": api.ca_file})
            finally:
                del os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        else:
            api.tokens = {""}
            api.start(tls=False)
            lb = scene.lb(settings={"api_server": f"http://127.0.0.1:{api.port}/"})
        wait_ring(lb, scene.names)
        equal({request.token for request in api.requests}, {"token-0" if kind == "environment" else ""}, "tokens shown")


@suite.case()
def not_in_a_cluster():
    """Outside a cluster, without a setting, the start fails and says what to set."""
    with Stage() as stage:
        config = proc.lb_config([], resolver={"k8s": {"service": "sampler.obs"}})
        path = os.path.join(stage.directory, "lb.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({key: value for key, value in config.items() if key[0] != "@"}, file)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBERNETES_")}
        ended = subprocess.run([os.path.join(proc.BUILD, "lb/tailrace-lb"), "--config", path], env=environment, stdin=subprocess.DEVNULL,
                               capture_output=True, text=True, timeout=60)
        check(ended.returncode != 0, "it started")
        check("set tailrace.kubernetes" in ended.stderr + ended.stdout, f"says {ended.stderr}{ended.stdout}")


# -- the fallback -----------------------------------------------------------------------------------------------------


@suite.case("never", "later")
def dns_stands_in(kind):
    """Without the API server, from the start or after a while, members are those DNS knows; once it answers, its own again."""
    with Stage() as stage:
        scene = Scene(stage, 3, begin=kind == "later")
        api = scene.api
        dns = stage.serve(Faulty({A: [bytes([127, 0, 0, 10]), bytes([127, 0, 0, 11])], AAAA: []}))
        lb = scene.lb(ready=False, keys={"timeout": "10s"},
                      tailrace={"dns": {"servers": [f"127.0.0.1:{dns.port}"]},
                                "resolver_fallback": {"dns": {"hostname": "sampler.test", "port": str(scene.member_port), "interval": "200ms"}}})
        if kind == "later":
            wait_ring(lb, scene.names)
            equal(dns.asked, 0, "questions to DNS while the API server answers")
            api.stop()
        wait_ring_slowly(lb, scene.names[:2])
        now = wait_failing(lb, "onnect")
        equal(now["source"], "dns", "source of the list")
        equal(lb.metrics().value("tailrace_lb_resolver_fallback"), 1, "tailrace_lb_resolver_fallback")
        api.start()
        wait_ring_slowly(lb, scene.names)
        wait_well(lb)
        equal(about(lb)["source"], "k8s", "source of the list")
        settle(0.3)  # what was asked before is read
        asked = dns.asked
        settle(1)
        equal(dns.asked, asked, "questions to DNS after that")


def wait_ring_slowly(lb, names):
    until(lambda: ring_names(lb) == sorted(names), f"a ring of {sorted(names)}", timeout_s=60)


if __name__ == "__main__":
    sys.exit(suite.main())
