#!/usr/bin/env python3
"""Samplers that know each other: a ring forms, everybody agrees on it, one goes and comes back, strangers are refused by name.

What traces do in all that is tests/cluster's; here the process around them is judged.
"""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc

from kit import certs, http1, otlp, wire
from kit.proc import Node, Stage, free_port, sampler_config
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("cluster_basics")

KEEP = [{"name": "all", "type": "always_sample"}]
SLOTS = 1 << 18


class Fleet:
    """Samplers sampler-0 … at ports that all of them list."""

    def __init__(self, stage, count, wait="1s", journal=False, **times):
        slow = slowness()
        self.stage = stage
        self.wait = wait
        self.journal = journal
        self.sink = stage.serve(otlp.Sink())
        self.ports = [free_port() for _ in range(count)]
        # A process of a loaded machine may stand still for a second or two: nobody is missed for that, and no client is refused.
        self.times = {"status_interval": f"{int(100 * slow)}ms", "peer_timeout": f"{int(3000 * slow)}ms",
                      "hello_wait": f"{int(500 * slow)}ms", "handoff_timeout": f"{int(20000 * slow)}ms",
                      "ack_wait": "3s", "forward_timeout": "4s", **times}
        self.nodes = {}

    def config(self, index, hostnames=None, cluster=None, grpc=None, scheme_host="127.0.0.1", http=None):
        """http: port of the first one's OTLP/HTTP."""
        config = sampler_config(f"sampler-{index}", self.sink.port, KEEP, wait=self.wait, grpc=grpc)
        config["@port"] = self.ports[index]
        config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] = f"127.0.0.1:{self.ports[index]}"
        if http and index == 0:
            config["receivers"]["otlp"]["protocols"]["http"] = {"endpoint": f"127.0.0.1:{http}"}
        config["tailrace"]["cluster"] = {
            "self": f"sampler-{index}", **self.times,
            "resolver": {"static": {"hostnames": hostnames or [f"{scheme_host}:{port}" for port in self.ports]}}, **(cluster or {})}
        if self.journal:
            config["tailrace"]["journal"] = {"directory": os.path.join(self.stage.directory, f"journal-{index}"), "segment_mib": 4,
                                             "max_size_mib": 64}
        return config

    def start(self, index, again=0, **options):
        name = f"sampler-{index}" + (f"-again{again}" if again else "")
        node = self.stage.add(Node(name, "sampler/tailrace-sampler", self.config(index, **options), self.stage.directory))
        self.nodes[index] = node
        return wait_serving(node)

    def start_all(self, **options):
        for index in range(len(self.ports)):
            self.start(index, **options)
        return self


def wait_serving(node):
    """Until it can be asked."""
    def serving():
        check(node.running(), f"{node.name} ended\n{node.tail() if not node.running() else ''}")
        return node.get("/livez")[0] == 200
    until(serving, f"{node.name} serves")
    return node


def cluster_of(node):
    return node.status()["cluster"]


def agreed(nodes, members):
    """Every node has a ring of so many members, the same one, is in step, and all its slots are settled."""
    seen = [cluster_of(node) for node in nodes]
    return all("ring" in cluster for cluster in seen) and \
        len({cluster["ring"]["fingerprint"] for cluster in seen}) == 1 and \
        all(cluster["ring"]["members"] == members and cluster["ring"]["agreed"] and cluster["in_step"] and cluster["settled"]
            for cluster in seen) and \
        sum(cluster["ring"]["slots_settled"] for cluster in seen) == SLOTS


def wait_agreed(nodes, members, timeout_s=30.0):
    try:
        until(lambda: agreed(nodes, members), f"{len(nodes)} nodes agree on a ring of {members}", timeout_s)
    except AssertionError as error:
        raise AssertionError(str(error) + "\n" + "\n".join(json.dumps(cluster_of(node), indent=1) for node in nodes)) from None


def peer(node, name):
    found = [entry for entry in cluster_of(node)["peers"] if entry["name"] == name]
    return found[0] if found else None


@suite.case()
def three_form_a_ring():
    """Three samplers find each other, agree, share the slots, settle, and are ready; each says so of the others."""
    with Stage() as stage:
        fleet = Fleet(stage, 3).start_all()
        nodes = list(fleet.nodes.values())
        for node in nodes:
            node.wait_ready()
        wait_agreed(nodes, 3)
        for index, node in fleet.nodes.items():
            cluster = cluster_of(node)
            equal(cluster["state"], "ready", "state")
            equal(cluster["self"], f"sampler-{index}", "self")
            check(0.25 * SLOTS < cluster["ring"]["slots_owned"] < 0.42 * SLOTS, f"slots: {cluster['ring']}")
            equal(sorted(entry["name"] for entry in cluster["peers"]),
                  sorted(f"sampler-{other}" for other in fleet.nodes if other != index), "peers")
            check(all(entry["reachable"] and entry["agrees"] for entry in cluster["peers"]), f"peers: {cluster['peers']}")
            numbers = node.metrics()
            equal(numbers.value("tailrace_cluster_members"), 3, "members")
            equal(numbers.value("tailrace_cluster_ring_agreed"), 1, "agreed")
            equal(numbers.value("tailrace_cluster_state"), 2, "state")
            equal(numbers.value("tailrace_peer_reachable", peer=f"sampler-{(index + 1) % 3}"), 1, "reachable")


@suite.case()
def one_leaves_and_comes_back():
    """SIGTERM: draining, its slots go, it leaves clean with exit 0; it comes back, and the ring is the one before."""
    with Stage() as stage:
        fleet = Fleet(stage, 3).start_all()
        wait_agreed(list(fleet.nodes.values()), 3)
        before = cluster_of(fleet.nodes[0])["ring"]["fingerprint"]
        incarnation = peer(fleet.nodes[0], "sampler-2")["incarnation"]
        fleet.nodes[2].stop()
        rest = [fleet.nodes[0], fleet.nodes[1]]
        wait_agreed(rest, 2)
        check(cluster_of(rest[0])["ring"]["fingerprint"] != before, "the ring is another one")
        equal(cluster_of(rest[0])["counters"]["members_dropped"], 0, "dropped")
        back = fleet.start(2, again=1).wait_ready()
        wait_agreed([*rest, back], 3)
        equal(cluster_of(back)["ring"]["fingerprint"], before, "the ring of before")
        check(peer(rest[0], "sampler-2")["incarnation"] > incarnation, "a later incarnation")


@suite.case()
def one_dies():
    """kill -9: its slots stay its own until handoff_timeout, then the others take them; back later, it is in again."""
    with Stage() as stage:
        fleet = Fleet(stage, 3, handoff_timeout=f"{int(6000 * slowness())}ms").start_all()
        wait_agreed(list(fleet.nodes.values()), 3)
        fleet.nodes[1].kill()
        rest = [fleet.nodes[0], fleet.nodes[2]]
        until(lambda: all(not peer(node, "sampler-1")["reachable"] for node in rest), "sampler-1 is silent")
        equal([cluster_of(node)["ring"]["members"] for node in rest], [3, 3], "it keeps its place")
        wait_agreed(rest, 2, timeout_s=60)
        equal([cluster_of(node)["counters"]["members_dropped"] > 0 or peer(node, "sampler-1")["gone"] for node in rest],
              [True, True], "dropped, or heard that it was")
        back = fleet.start(1, again=1)
        wait_agreed([*rest, back], 3)


@suite.case()
def grows_by_one_that_nobody_lists():
    """A fourth that knows one of three is known to all: members name each other."""
    with Stage() as stage:
        fleet = Fleet(stage, 4)
        three = [f"127.0.0.1:{port}" for port in fleet.ports[:3]]
        for index in range(3):
            fleet.start(index, hostnames=three)
        wait_agreed(list(fleet.nodes.values()), 3)
        fleet.start(3, hostnames=three[:1])
        wait_agreed(list(fleet.nodes.values()), 4)


def send(nodes, traces, spans_each=3, credentials=None, options=()):
    """Every span of a trace to another node, whoever owns it; all acknowledged. Returns how many spans."""
    requests = [[] for _ in nodes]
    for number, trace in enumerate(traces):
        for k in range(spans_each):
            requests[(number + k) % len(nodes)].append(trace)
    for node, chosen in zip(nodes, requests):
        with otlp.Client(node.address, credentials=credentials or None, options=options) as client:
            answer = client.export(otlp.request_of(chosen))
            equal(answer.code, grpc.StatusCode.OK, f"{node.name}: {answer.message}")
    return spans_each * len(traces)


def wait_whole(fleet, traces, spans, timeout_s=40.0):
    """All traces arrive, each whole, from one node, no span twice."""
    until(lambda: len(fleet.sink.spans()) >= spans, f"{spans} spans at the sink", timeout_s)
    arrived = fleet.sink.traces()
    equal(set(arrived), set(traces), "traces")
    for trace, items in arrived.items():
        equal(len({item.node for item in items}), 1, f"nodes that exported {trace.hex()}")
        equal(len({item.span.span_id for item in items}), len(items), f"spans of {trace.hex()}, none twice")
    equal(len(fleet.sink.spans()), spans, "spans")


def books_balance(nodes):
    return all(node.status()["books"]["balance"] for node in nodes)


@suite.case("memory", "journal")
def spans_meet_at_their_owner(kind):
    """Spans that come to whatever node are decided and exported by one."""
    with Stage() as stage:
        fleet = Fleet(stage, 3, journal=kind == "journal").start_all()
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 3)
        traces = [otlp.trace_id() for _ in range(200)]
        spans = send(nodes, traces)
        wait_whole(fleet, traces, spans)
        until(lambda: books_balance(nodes), "the books balance")


@suite.case("memory", "journal")
def a_drain_loses_nothing(kind):
    """SIGTERM while traces wait: they travel, the node ends clean long before they are due, and each is exported once, whole."""
    with Stage() as stage:
        fleet = Fleet(stage, 3, wait=f"{int(8 * slowness())}s", journal=kind == "journal").start_all()
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 3)
        traces = [otlp.trace_id() for _ in range(200)]
        spans = send(nodes, traces)
        nodes[1].stop()
        check(b"traces_left=0" in nodes[1].log() and b"clean=true" in nodes[1].log(), "it left clean")
        equal(fleet.sink.spans(), [], "nothing was decided for that")
        wait_whole(fleet, traces, spans)
        until(lambda: books_balance([nodes[0], nodes[2]]), "the books balance")


@suite.case()
def a_drain_behind_a_balancer():
    """Balancer and samplers see one ring; while one drains under load nothing is refused, lost, split or doubled."""
    with Stage() as stage:
        fleet = Fleet(stage, 3).start_all()
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 3)
        lb = stage.lb("lb", [node.address for node in nodes]).wait_ready()
        ring = cluster_of(nodes[0])["ring"]["fingerprint"]
        until(lambda: lb.status()["ring"]["fingerprint"] == ring, "the balancer's ring is the samplers'")
        traces = [otlp.trace_id() for _ in range(200)]
        spans = send([lb], traces)
        equal([node.metrics().value("tailrace_ring_disagreements_total") for node in nodes], [0, 0, 0], "disagreements")
        # A sampler that was slow to answer loses its piece to another one, by the balancer's own will.
        forwarded = sum(node.metrics().value("tailrace_spans_forwarded_total") for node in nodes)
        check(forwarded <= lb.metrics().value("tailrace_lb_fallback_spans_total"), f"{forwarded} spans were sent to the wrong one")
        nodes[2].terminate()
        while nodes[2].running():
            more = [otlp.trace_id() for _ in range(20)]
            spans += send([lb], more)
            traces += more
        equal(nodes[2].wait(), 0, "exit code")
        more = [otlp.trace_id() for _ in range(100)]
        spans += send([lb], more)
        traces += more
        wait_whole(fleet, traces, spans)
        until(lambda: books_balance(nodes[:2]), "the books balance")


@suite.case()
def draining_is_said_with_every_answer():
    """Before SIGTERM no answer says anything of that; from then on each one does, over gRPC and HTTP, OK or not, to whoever asks."""
    slow = slowness()
    with Stage() as stage:
        fleet = Fleet(stage, 2, wait=f"{int(6 * slow)}s", peer_timeout=f"{int(15000 * slow)}ms", forward_timeout=f"{int(2000 * slow)}ms")
        http_port = free_port()
        fleet.start_all(http=http_port)
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 2)
        traces = [otlp.trace_id() for _ in range(100)]
        request = otlp.request_of(traces)
        with otlp.Client(nodes[0].address) as client:
            def said():
                """What each kind of answer says, and the codes of the two requests with spans."""
                calls = [client.begin(b""), client.begin(b"\xff"), client.begin(request),
                         client.begin(b"", method=otlp.HELLO), client.begin(b"", method="/tailrace.v1.Peer/Give"),
                         client.begin(b"\xff", method="/tailrace.v1.Peer/Tell")]
                trailers = [dict(call.trailing_metadata()) for call in calls]  # waits for its end
                over_http = [http1.post(f"127.0.0.1:{http_port}", body) for body in (b"", b"\xff")]
                return ([answer.get("tailrace-state") for answer in trailers + [answer.headers for answer in over_http]],
                        [call.code() for call in calls[:3]])

            words, codes = said()
            equal(words, [None] * 8, "of one that is ready")
            equal(codes, [grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK], "codes")
            nodes[1].process.send_signal(signal.SIGSTOP)  # so that the drain takes its time: nobody takes what it gives
            nodes[0].terminate()
            until(lambda: cluster_of(nodes[0])["state"] == "draining", "it drains")
            words, codes = said()
            equal(words, ["draining"] * 8, "of one that drains")
            equal(codes, [grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE], "codes")
            nodes[1].process.send_signal(signal.SIGCONT)
        equal(nodes[0].wait(60), 0, "exit code")
        wait_whole(fleet, traces, len(traces), 90)


@suite.case()
def a_balancer_turns_away_from_one_that_drains():
    """A member whose answers say that it drains, while its Hello goes on saying that it is ready, gets nothing more from the first such
    answer on, for as long as they say so: the next in rank does, and that is no fallback. Without that word it gets its traces."""
    with Stage() as stage:
        leaving, staying = members = [stage.serve(otlp.Member(f"sampler-{index}", hands_over=True)) for index in range(2)]
        lb = stage.lb("lb", [member.address for member in members]).wait_ready()
        until(lambda: lb.status()["ring"]["members"] == 2, "both are known")
        traces = [otlp.trace_id() for _ in range(100)]

        def sent():
            """How many of the traces came to each."""
            before = [len(member.calls()) for member in members]
            send([lb], traces, 1)
            return [len({item.span.trace_id for item in member.spans(member.calls()[count:])}) for member, count in zip(members, before)]

        def states():
            return [entry["state"] for entry in sorted(lb.status()["members"], key=lambda entry: entry["name"])]

        hellos = leaving.hellos
        share = sent()
        check(share[0] > 0 and share[1] > 0 and sum(share) == 100, f"shares {share}")
        until(lambda: leaving.hellos >= hellos + 2, "it has been asked again")  # the control: a Hello alone changes nothing
        equal(sent(), share, "nobody drains")
        leaving.trailers = (("tailrace-state", "draining"),)
        equal(sent(), share, "the first answers that say it")
        equal(sent(), [0, 100], "from then on")
        until(lambda: states() == ["draining", "ready"], "/status says it")
        hellos = leaving.hellos
        until(lambda: leaving.hellos >= hellos + 2, "its Hello has said that it is ready")
        equal(sent(), [0, 100], "still")
        equal(lb.metrics().value("tailrace_lb_fallback_spans_total"), 0, "fallbacks")
        staying.trailers = leaving.trailers
        equal(sent(), [0, 100], "the other one says it too")
        equal(sent(), share, "nobody else is there: each keeps its own")
        leaving.trailers = staying.trailers = ()
        until(lambda: states() == ["ready", "ready"], "they are back")
        equal(sent(), share, "as before")


@suite.case()
def a_death_loses_nothing():
    """kill -9 with a journal: back within handoff_timeout, it has its traces again, and each is exported once, whole."""
    with Stage() as stage:
        fleet = Fleet(stage, 3, wait=f"{int(6 * slowness())}s", journal=True).start_all()
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 3)
        traces = [otlp.trace_id() for _ in range(200)]
        spans = send(nodes, traces)
        nodes[1].kill()
        nodes[1] = fleet.start(1, again=1).wait_ready()
        until(lambda: nodes[1].metrics().value("tailrace_spans_recovered_total") > 0, "spans were recovered")
        wait_whole(fleet, traces, spans)
        until(lambda: books_balance(nodes), "the books balance")


@suite.case("plain", "tls")
def an_orphan_volume_is_drained(kind):
    """A volume whose sampler is gone for good: --drain-journal gives its traces to the cluster, which exports each once, whole;
    afterwards nothing is left in it."""
    with Stage() as stage:
        fleet = Fleet(stage, 3, wait=f"{int(10 * slowness())}s", journal=True)
        words, tls, client = [], {}, {}
        if kind == "tls":
            authority = certs.Authority()
            ca_file = certs.write(os.path.join(stage.directory, "ca.pem"), authority.cert_pem)
            # As the chart has it: one certificate for all, by a name that is nobody's address, and nobody else is let in.
            name = "samplers.test"
            identity = authority.sign("sampler", [name])
            cert_file, key_file = identity.write(stage.directory, "sampler")
            tls = {"grpc": {"tls": {"cert_file": cert_file, "key_file": key_file, "client_ca_file": ca_file}},
                   "cluster": {"tls": {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file, "server_name_override": name}}}
            words = ["--ca-file", ca_file, "--cert-file", cert_file, "--key-file", key_file, "--server-name", name]
            client = {"credentials": grpc.ssl_channel_credentials(authority.cert_pem, identity.key_pem, identity.cert_pem),
                      "options": [("grpc.ssl_target_name_override", name)]}
        fleet.start_all(**tls)
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 3)
        traces = [otlp.trace_id() for _ in range(200)]
        spans = send(nodes, traces, **client)
        nodes[1].kill()
        orphan = os.path.join(stage.directory, "orphan")
        os.rename(os.path.join(stage.directory, "journal-1"), orphan)
        nodes[1] = fleet.start(1, again=1, **tls)
        command = [nodes[0].argv[0], "--drain-journal", orphan, "--to", nodes[2].address, "--decision-wait", fleet.wait, *words]
        drained = stage.program("drain", command)
        equal(drained.wait(60), 0, f"exit code\n{drained.tail()}")
        check(b"traces_left=0" in drained.log(), "nothing is left")
        again = stage.program("drain-again", command)
        equal(again.wait(60), 0, f"exit code\n{again.tail()}")
        check(b"given_traces=0" in again.log() or b"spans=0" in again.log(), again.tail())
        wait_whole(fleet, traces, spans)


@suite.case()
def drain_journal_says_what_is_wrong():
    """Words that are missing or wrong, and a directory that is not there, holds no journal or is in use, end with a clear word and their
    code; nothing is made in a directory that is none."""
    with Stage() as stage:
        fleet = Fleet(stage, 1, journal=True).start_all()
        program = fleet.nodes[0].argv[0]
        used, empty = os.path.join(stage.directory, "journal-0"), os.path.join(stage.directory, "empty")
        os.mkdir(empty)
        for words, code, text in [
                (["--drain-journal", used], 1, "--to HOST:PORT is missing"),
                (["--drain-journal", used, "--to", "nowhere:x"], 1, "--drain-journal:"),
                (["--drain-journal", used, "--to", "a:1", "--cert-file", "c"], 1, "--key-file is missing"),
                (["--drain-journal", used, "--to", "a:1", "--server-name", "n"], 1, "--ca-file is missing"),
                (["--drain-journal", used, "--to", "a:1", "--config", "c"], 1, "no option of --drain-journal"),
                (["--drain-journal", used + "-not", "--to", "a:1"], 2, "no such directory"),
                (["--drain-journal", empty, "--to", "a:1"], 2, "no journal is there"),
                (["--drain-journal", used, "--to", "a:1"], 2, "another process")]:
            ran = stage.program(f"wrong-{len(stage.programs)}", [program, *words])
            equal(ran.wait(), code, f"exit code of {words}\n{ran.tail()}")
            check(text in ran.tail(), f"{words}: {ran.tail()}")
            stage.programs.remove(ran)
        equal(os.listdir(empty), [], "made in a directory without a journal")


@suite.case()
def drain_journal_says_that_nobody_answers():
    """Without a sampler at --to it says so and waits; when it is told to stop, all is still in the journal and its exit code is 3."""
    with Stage() as stage:
        fleet = Fleet(stage, 1, wait="1h", journal=True).start_all()
        node = fleet.nodes[0].wait_ready()
        send([node], [otlp.trace_id() for _ in range(10)])
        node.kill()
        drain = stage.program("drain", [node.argv[0], "--drain-journal", os.path.join(stage.directory, "journal-0"), "--to", node.address])
        until(lambda: b"drain_waits" in drain.log(), "it says that it waits", 30)
        drain.terminate()
        equal(drain.wait(), 3, "exit code")
        check("traces_left=10" in drain.tail(), drain.tail())
        stage.programs.remove(drain)


@suite.case()
def the_last_one_keeps_them_on_disk():
    """One node alone, with a journal, in a hurry: its last line says what is left, and that comes back with it."""
    with Stage() as stage:
        fleet = Fleet(stage, 1, wait=f"{int(5 * slowness())}s", journal=True).start_all()
        node = fleet.nodes[0].wait_ready()
        traces = [otlp.trace_id() for _ in range(100)]
        spans = send([node], traces)
        node.terminate()
        until(lambda: b"draining" in node.log(), "it drains")
        node.terminate()
        equal(node.wait(), 3, "exit code of a stop that was cut short")
        last = node.log().strip().splitlines()[-1].decode()
        check("stopped" in last and "traces_left=100" in last and "left_in=journal" in last, last)
        stage.programs.remove(node)
        fleet.start(0, again=1)
        wait_whole(fleet, traces, spans)


@suite.case()
def two_processes_never_share_a_journal():
    """A second process with the same directory is told so and ends."""
    with Stage() as stage:
        fleet = Fleet(stage, 1, journal=True).start_all()
        config = fleet.config(0)
        config["@port"] = free_port()
        config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] = "127.0.0.1:0"
        second = stage.add(Node("second", "sampler/tailrace-sampler", config, stage.directory))
        equal(second.wait(), 2, "exit code of a failed start")
        check("tailrace.journal.directory" in second.tail() and "another process" in second.tail(), second.tail())
        stage.programs.remove(second)


@suite.case()
def another_cluster_is_refused():
    """An address of another cluster is refused by name on both sides, and neither ring changes."""
    with Stage() as stage:
        fleet = Fleet(stage, 3)
        addresses = [f"127.0.0.1:{port}" for port in fleet.ports]
        fleet.start(0, hostnames=addresses)
        fleet.start(1, hostnames=addresses)
        stranger = fleet.start(2, hostnames=addresses, cluster={"name": "green"})
        ours = [fleet.nodes[0], fleet.nodes[1]]
        wait_agreed(ours, 2)
        until(lambda: any("green" in text for text in cluster_of(ours[0])["refused"]), "sampler-0 names the other cluster")
        until(lambda: any("tailrace" in text for text in cluster_of(stranger)["refused"]), "the stranger names ours")
        until(lambda: ours[0].metrics().value("tailrace_cluster_statuses_refused_total") > 0, "counted")
        until(lambda: "ring" in cluster_of(stranger), "the stranger has a ring")
        equal(cluster_of(stranger)["ring"]["members"], 1, "the stranger's ring")
        check(b"peer_refused" in ours[0].log(), "the log says so")


def status_message(name="stranger", cluster="tailrace", hash_version=otlp.RING_HASH_VERSION, state=otlp.STATE_READY):
    return (wire.field_bytes(1, cluster) + wire.field_varint(2, hash_version) + wire.field_bytes(3, name) + wire.field_fixed64(4, 77) +
            wire.field_varint(5, 1) + wire.field_varint(6, state) + wire.field_bytes(7, "127.0.0.1:1") + wire.field_bytes(17, "test"))


@suite.case()
def strange_words_are_refused():
    """Statuses of another hash version, of no sense, or without any end are refused, counted and named; the ring stays."""
    with Stage() as stage:
        fleet = Fleet(stage, 2).start_all()
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 2)
        with otlp.Client(nodes[0].address) as client:
            def code_of(method, data):
                call = client.begin(data, method=f"/tailrace.v1.Peer/{method}")
                call.exception()
                return call.code()

            equal(code_of("Tell", status_message(hash_version=99)), grpc.StatusCode.OK, "an answer that names the one it called")
            until(lambda: any("stranger" in text and "99" in text for text in cluster_of(nodes[0])["refused"]), "named")
            for data in (b"", b"\xff" * 100, status_message(name=""), status_message(name="x" * 5000), status_message(state=9),
                         status_message()[:-3], status_message() + b"\xa2\x01\xff\xff\xff\xff\x0f"):
                check(code_of("Tell", data) != grpc.StatusCode.OK, f"{data[:40]!r} is refused")
            for method in ("Give", "Forward", "Explain"):
                equal(code_of(method, b"\xff" * 50), grpc.StatusCode.INVALID_ARGUMENT, f"{method} of no sense")
        check(nodes[0].metrics().value("tailrace_cluster_statuses_refused_total") > 0, "counted")
        equal(cluster_of(nodes[0])["ring"]["members"], 2, "members")
        wait_agreed(nodes, 2)
        nodes[0].stop()


@suite.case()
def one_name_twice_is_refused():
    """Two processes of one name: the second is told, and the ring does not take both."""
    with Stage() as stage:
        fleet = Fleet(stage, 3)
        addresses = [f"127.0.0.1:{port}" for port in fleet.ports]
        fleet.start(0, hostnames=addresses[:2])
        fleet.start(1, hostnames=addresses[:2])
        wait_agreed([fleet.nodes[0], fleet.nodes[1]], 2)
        twin = fleet.start(2, hostnames=addresses, cluster={"self": "sampler-0"})
        until(lambda: any("sampler-0" in text for text in cluster_of(fleet.nodes[0])["refused"]), "sampler-0 hears of its twin")
        until(lambda: any("sampler-0" in text for text in cluster_of(twin)["refused"]), "and the twin of it")
        twin.kill()
        until(lambda: agreed([fleet.nodes[0], fleet.nodes[1]], 2) or cluster_of(fleet.nodes[1])["ring"]["members"] == 2, "a ring of two")


@suite.case()
def peers_speak_tls():
    """With certificates on both sides samplers find each other; one without a certificate is not let in."""
    with Stage() as stage:
        authority = certs.Authority()
        ca_file = certs.write(os.path.join(stage.directory, "ca.pem"), authority.cert_pem)
        cert_file, key_file = authority.sign("sampler", ["127.0.0.1", "localhost"]).write(stage.directory, "sampler")
        server = {"tls": {"cert_file": cert_file, "key_file": key_file, "client_ca_file": ca_file}}
        client = {"tls": {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}}
        fleet = Fleet(stage, 3)
        for index in range(2):
            fleet.start(index, grpc=server, cluster=client)
        bare = fleet.start(2, grpc=server, cluster={"tls": {"ca_file": ca_file}})
        with_certificate = [fleet.nodes[0], fleet.nodes[1]]
        until(lambda: all(peer(node, name) and peer(node, name)["reachable"]
                          for node, name in zip(with_certificate, ("sampler-1", "sampler-0"))), "the two speak")
        until(lambda: b"tls_connection_failed" in bare.log(), "the third's connections fail, and it says why")
        check(all(not entry["reachable"] for entry in cluster_of(bare)["peers"]), "and reaches nobody")


@suite.case()
def peers_show_credentials():
    """Receivers that ask for a password ask other samplers too, who have it by tailrace.cluster.auth."""
    with Stage() as stage:
        fleet = Fleet(stage, 2)
        for index in range(2):
            config = fleet.config(index, grpc={"auth": {"authenticator": "basicauth/server"}},
                                  cluster={"auth": {"authenticator": "basicauth/client"}})
            config["extensions"] = {"basicauth/server": {"htpasswd": {"inline": "peer:s3cr3t"}},
                                    "basicauth/client": {"client_auth": {"username": "peer", "password": "s3cr3t"}}}
            config["service"]["extensions"] = ["basicauth/server", "basicauth/client"]
            fleet.nodes[index] = wait_serving(
                stage.add(Node(f"sampler-{index}", "sampler/tailrace-sampler", config, stage.directory)))
        wait_agreed(list(fleet.nodes.values()), 2)


@suite.case()
def explain_names_the_owner():
    """/traces/{id} of any sampler is answered by the trace's owner."""
    with Stage() as stage:
        fleet = Fleet(stage, 3).start_all()
        nodes = list(fleet.nodes.values())
        wait_agreed(nodes, 3)
        owners = set()
        for _ in range(24):  # not all of one owner, by chance
            trace = otlp.trace_id().hex()
            answers = [json.loads(node.get(f"/traces/{trace}")[1]) for node in nodes]
            equal(len({answer["owner"] for answer in answers}), 1, f"owners of {trace}: {answers}")
            equal({answer["answered_by"] for answer in answers}, {answers[0]["owner"]}, "answered by")
            owners.add(answers[0]["owner"])
        check(len(owners) > 1, f"owners: {owners}")


if __name__ == "__main__":
    sys.exit(suite.main())
