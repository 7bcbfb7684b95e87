#!/usr/bin/env python3
"""Connections that live long: their age brings clients to new nodes, and nothing is lost on the way.

Clients stand before a relay that spreads connections as a Service of Kubernetes does: each new one goes where the relay
points to at that moment, one that is there stays where it is.
"""
import contextlib
import http.client
import os
import signal
import socket
import ssl
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc

from kit import certs, metrics, otlp
from kit.proc import Stage, listens
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("live")

ALWAYS = [{"name": "all", "type": "always_sample"}]
AGE_S = 2  # a machine that stands still for a second does not use up a connection before its first request
AGED = {"keepalive": {"server_parameters": {"max_connection_age": f"{AGE_S}s"}}}
CLIENTS = 6
TIMEOUT = "20s"  # of balancers: a sampler that a busy machine holds up is not asked twice
PAUSE_S = 1  # who sends nothing for so long may find that its connection ended without a word


class Relay:
    """Carries TCP connections to `target`; `open` counts those that are open, by where they went, `total` all there were."""

    def __init__(self, target):
        self.target = target
        self.open = {}
        self.total = 0
        self.lock = threading.Lock()
        self.sockets = set()
        self.server = None

    def start(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def stop(self):
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self.server.close()
        with self.lock:
            for one in self.sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def opened_to(self, target):
        with self.lock:
            return self.open.get(target, 0)

    def accept(self):
        with contextlib.suppress(OSError):  # the end
            while True:
                near, _ = self.server.accept()
                with self.lock:  # from here on it is seen, also before it is through
                    target = self.target
                    self.open[target] = self.open.get(target, 0) + 1
                threading.Thread(target=self.carry, args=(near, target), daemon=True).start()

    def point_to(self, target):
        with self.lock:
            self.target = target

    def carry(self, near, target):
        host, port = target.rsplit(":", 1)
        try:
            far = socket.create_connection((host, int(port)))
        except OSError:
            near.close()
            with self.lock:
                self.open[target] -= 1
            return
        with self.lock:
            self.total += 1
            self.sockets |= {near, far}
        back = threading.Thread(target=self.pump, args=(far, near), daemon=True)
        back.start()
        self.pump(near, far)
        back.join()
        with self.lock:
            self.open[target] -= 1
            self.sockets -= {near, far}
        near.close()
        far.close()

    @staticmethod
    def pump(source, drain):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                drain.sendall(data)
        with contextlib.suppress(OSError):
            drain.shutdown(socket.SHUT_WR)


class HttpClient:
    """Keeps its connection for as long as the node does."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=20 * slowness())
        self.asked_at = None  # on this connection

    def post(self, request):
        """The answer, read. After a pause, such as a busy machine makes, the request may have met the end of the connection: it then goes
        out once more over a new one."""
        try:
            return self.ask(request)
        except ConnectionError:
            if self.asked_at is None or time.monotonic() - self.asked_at < PAUSE_S:
                raise
        self.close()
        return self.ask(request)

    def ask(self, request):
        asked_at = time.monotonic()
        self.connection.request("POST", "/v1/traces", request.SerializeToString(), {"Content-Type": "application/x-protobuf"})
        answer = self.connection.getresponse()
        answer.read()
        self.asked_at = None if answer.will_close else asked_at  # "Connection: close" ends it here, the next request opens another
        return answer

    def close(self):
        self.connection.close()
        self.asked_at = None


class Load:
    """Clients that keep a connection each and send without a pause; none of their requests may fail."""

    def __init__(self, transport, address):
        self.address = address
        self.acknowledged, self.failures = [], []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=getattr(self, transport)) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(60 * slowness())

    def requests(self):
        while not self.ended.is_set():
            yield otlp.request_of([otlp.trace_id() for _ in range(3)], 2)
            time.sleep(0.01)

    def grpc(self):
        # As SDKs do it: what has not left the client when its connection ends goes over the next one.
        with otlp.Client(self.address, options=[("grpc.enable_retries", 1)]) as client:
            for request in self.requests():
                answer = client.export(request)
                if answer.code == grpc.StatusCode.OK:
                    self.acknowledged.append(request)
                else:
                    self.failures.append(f"{answer.code}: {answer.message}")

    def http(self):
        client = HttpClient(self.address)
        for request in self.requests():
            try:
                answer = client.post(request)
                if answer.status == 200:
                    self.acknowledged.append(request)
                else:
                    self.failures.append(f"HTTP {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                client.close()
        client.close()

    def span_ids(self):
        return [item.span.span_id for request in self.acknowledged for item in otlp.flatten(request)]


def start_nodes(stage, tier, keys, http_keys=None):
    """Two nodes of the tier, with what they need behind them: (first, second, samplers, sink)."""
    sink = stage.serve(otlp.Sink())
    own = {"grpc": keys, "http": http_keys or {}}
    samplers = [stage.sampler(f"sampler-{index}", sink.port, ALWAYS, **(own if tier == "sampler" else {"http": {}})).wait_ready()
                for index in range(2)]
    if tier == "sampler":
        return (*samplers, samplers, sink)
    addresses = [sampler.address for sampler in samplers]
    return (*(stage.lb(f"lb-{index}", addresses, timeout=TIMEOUT, **own).wait_ready() for index in range(2)), samplers, sink)


def address_of(node, transport):
    return node.address if transport == "grpc" else node.http_address


def expect_delivered(load, samplers, sink):
    """Every acknowledged span is at the backend once, and nothing else."""
    want = load.span_ids()
    check(not load.failures, f"{len(load.failures)} requests failed, such as {load.failures[:3]}")
    until(lambda: sum(sampler.metrics().value("tailrace_spans_exported_total") for sampler in samplers) >= len(want), "exported")
    same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend")
    for sampler in samplers:
        metrics.check_sampler_books(sampler, held=0, dropped=0, duplicate=0)


@suite.case("lb grpc", "lb http", "sampler grpc", "sampler http")
def age_moves_clients(words):
    """Connections that reach max_connection_age end without a failed request, and their clients come to the node that is new."""
    tier, transport = words.split()
    with Stage() as stage:
        old, new, samplers, sink = start_nodes(stage, tier, AGED)
        old_address, new_address = address_of(old, transport), address_of(new, transport)
        relay = stage.serve(Relay(old_address))
        with Load(transport, relay.address) as load:
            until(lambda: relay.opened_to(old_address) == CLIENTS and len(load.acknowledged) > 10 * CLIENTS, "all clients are served")
            equal(new.metrics().value("tailrace_requests_total"), 0, "requests at the new node so far")
            relay.point_to(new_address)
            until(lambda: relay.opened_to(old_address) == 0, "the old node's connections end")
            until(lambda: relay.opened_to(new_address) >= CLIENTS, "all clients are at the new node")
            before = old.metrics().value("tailrace_requests_total")
            seen = len(load.acknowledged)
            until(lambda: len(load.acknowledged) > seen + 10 * CLIENTS, "all clients are served by the new node")
            equal(old.metrics().value("tailrace_requests_total"), before, "requests at the old node")
        expect_delivered(load, samplers, sink)


@suite.case("lb", "sampler")
def an_answer_says_that_it_ends(tier):
    """An HTTP connection in use that reaches its age ends after an answer which says so, never in front of a request."""
    pause_s = 0.1  # long enough for each sweep to find the connections idle
    with Stage() as stage:
        node, _, samplers, sink = start_nodes(stage, tier, AGED)
        answered, told = [], []

        def send_until_told():
            client = HttpClient(node.http_address)
            while True:
                request = otlp.request_of([otlp.trace_id()], 2)
                answer = client.post(request)  # raises where the connection has ended without a word
                check(answer.status == 200, f"HTTP {answer.status}")
                answered.append(request)
                if answer.will_close:
                    told.append(answer.getheader("Connection"))
                    client.close()
                    return
                time.sleep(pause_s)

        clients = [threading.Thread(target=send_until_told) for _ in range(4 * CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(60 * slowness())
        equal(told, ["close"] * len(clients), "what the last answers said")
        want = [item.span.span_id for request in answered for item in otlp.flatten(request)]
        until(lambda: len(sink.spans()) >= len(want), "exported")
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend")


@suite.case("lb", "sampler")
def a_stop_answers_what_came_before(tier):
    """A request that lies in an idle HTTP connection's socket when the node is told to stop is answered before it ends."""
    with Stage() as stage:
        node, _, samplers, sink = start_nodes(stage, tier, None)
        connections = [http.client.HTTPConnection(node.http_address, timeout=20 * slowness()) for _ in range(4 * CLIENTS)]
        sent = []

        def send(connection):
            sent.append(otlp.request_of([otlp.trace_id()], 2))
            connection.request("POST", "/v1/traces", sent[-1].SerializeToString(), {"Content-Type": "application/x-protobuf"})

        def take(connection):
            answer = connection.getresponse()
            answer.read()
            equal(answer.status, 200, "answer")
            return answer.will_close

        for connection in connections:
            send(connection)
            check(not take(connection), "the connection stays")
        os.kill(node.process.pid, signal.SIGSTOP)  # both are there when it looks again
        for connection in connections:
            send(connection)
        os.kill(node.process.pid, signal.SIGTERM)
        os.kill(node.process.pid, signal.SIGCONT)
        for connection in connections:
            take(connection)
            connection.close()
        want = [item.span.span_id for request in sent for item in otlp.flatten(request)]
        until(lambda: len(sink.spans()) >= len(want), "exported")
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend")
        equal(node.wait(60 * slowness()), 0, "exit status")


class TlsByHand:
    """An HTTP connection under TLS whose bytes go out when, and as far as, the test says."""

    def __init__(self, address):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20 * slowness())
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.through(self.tls.do_handshake)
        self.socket.sendall(self.outgoing.read())

    def through(self, action):
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                data = self.socket.recv(65536)
                check(data, "the connection ended without a word")
                self.incoming.write(data)

    def record(self, request):
        """One record with the whole request, as it goes on the wire."""
        body = request.SerializeToString()
        self.tls.write(b"POST /v1/traces HTTP/1.1\r\nHost: here\r\nContent-Type: application/x-protobuf\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return self.outgoing.read()

    def answer_head(self):
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.through(lambda: self.tls.read(65536))
        return got.split(b"\r\n\r\n")[0].decode().lower().split("\r\n")

    def all_read(self):
        """Nothing is on its way to the other end, and nothing lies in its socket."""
        near, far = (f"0100007F:{end[1]:04X}" for end in (self.socket.getsockname(), self.socket.getpeername()))
        queues = {}
        with open("/proc/net/tcp", encoding="ascii") as file:
            for line in file:
                words = line.split()
                queues[words[1], words[2]] = words[4].split(":")  # sent and not confirmed, come and not read
        sent, come = queues.get((near, far)), queues.get((far, near))
        return bool(sent and come) and int(sent[0], 16) == 0 and int(come[1], 16) == 0

    def close(self):
        self.socket.close()


@suite.case("lb", "sampler")
def a_stop_waits_for_half_a_record(tier):
    """Under TLS a request may have come in part, and nothing of it can be read yet, when the node is told to stop: it is answered."""
    with Stage() as stage:
        identity = certs.Authority().sign("node", ["127.0.0.1"])
        cert, key = identity.write(stage.directory, "node")
        node, _, samplers, sink = start_nodes(stage, tier, None,
                                              {"tls": {"cert_file": cert, "key_file": key}, "read_header_timeout": "60s"})
        connections = [TlsByHand(node.http_address) for _ in range(CLIENTS)]
        sent = []

        def next_record(connection):
            sent.append(otlp.request_of([otlp.trace_id()], 2))
            return connection.record(sent[-1])

        for connection in connections:
            connection.socket.sendall(next_record(connection))
            equal(connection.answer_head()[0], "http/1.1 200 ok", "the first answer")
        rests = []
        for connection in connections:
            record = next_record(connection)
            connection.socket.sendall(record[:len(record) // 2])
            rests.append(record[len(record) // 2:])
        until(lambda: all(connection.all_read() for connection in connections), "the first halves are read")
        os.kill(node.process.pid, signal.SIGTERM)
        until(lambda: not listens(node.http_address), "nobody is let in any more")
        time.sleep(1)  # some sweeps
        for connection, rest in zip(connections, rests):
            connection.socket.sendall(rest)
            head = connection.answer_head()
            equal((head[0], "connection: close" in head), ("http/1.1 200 ok", True), "the last answer")
            connection.close()
        want = [item.span.span_id for request in sent for item in otlp.flatten(request)]
        until(lambda: len(sink.spans()) >= len(want), "exported")
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend")
        equal(node.wait(60 * slowness()), 0, "exit status")


@suite.case("grpc", "http")
def without_an_age_they_stay(transport):
    """Without max_connection_age a connection stays where it is: what moves clients in the cases above is their age."""
    with Stage() as stage:
        old, new, samplers, sink = start_nodes(stage, "lb", None)
        relay = stage.serve(Relay(address_of(old, transport)))
        with Load(transport, relay.address) as load:
            until(lambda: relay.opened_to(address_of(old, transport)) == CLIENTS, "all clients are there")
            relay.point_to(address_of(new, transport))
            time.sleep(2 * AGE_S)
            equal(relay.opened_to(address_of(old, transport)), CLIENTS, "connections at the old node")
            equal(new.metrics().value("tailrace_requests_total"), 0, "requests at the new node")
        expect_delivered(load, samplers, sink)


@suite.case()
def ages_differ():
    """HTTP connections opened together do not end together: ages differ by up to a tenth either way, and never by more."""
    age_s, count = 10, 40  # they end within two seconds: a machine that stands still for one does not make them one moment
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        keys = {"keepalive": {"server_parameters": {"max_connection_age": f"{age_s}s"}}}
        node = stage.sampler("sampler-0", sink.port, ALWAYS, grpc=keys, http={"read_header_timeout": "60s"}).wait_ready()
        host, port = node.http_address.rsplit(":", 1)
        ages, threads = [], []

        def live():
            begun = time.monotonic()
            with socket.create_connection((host, int(port))) as connection:
                connection.settimeout(30 * slowness())
                while connection.recv(4096):  # it is idle: it ends without a word
                    pass
            ages.append(time.monotonic() - begun)

        for _ in range(count):
            threads.append(threading.Thread(target=live))
            threads[-1].start()
        for thread in threads:
            thread.join(60 * slowness())
        equal(len(ages), count, "connections that ended")
        check(min(ages) >= age_s * 0.9 - 0.05, f"a connection ended after {min(ages):.2f} s")
        # Of 40 draws from 2 s, the first and the last lie within 0.2 s once in 10^37 runs.
        check(max(ages) - min(ages) > 0.2, f"all ended between {min(ages):.2f} and {max(ages):.2f} s")


@suite.case("lb", "sampler")
def idle_connections_end(tier):
    """A gRPC connection without calls ends after max_connection_idle; its client comes back as if nothing had been."""
    with Stage() as stage:
        # gRPC ends an idle connection at once: a call that needs longer than this to reach the node would meet its end.
        node, _, samplers, sink = start_nodes(stage, tier, {"keepalive": {"server_parameters": {"max_connection_idle": "2s"}}})
        relay = stage.serve(Relay(node.address))
        sent = [otlp.request_of([otlp.trace_id()], 2) for _ in range(2)]
        with otlp.Client(relay.address) as client:
            for request in sent:
                equal(client.export(request).code, grpc.StatusCode.OK, "answer")
                until(lambda: relay.opened_to(node.address) == 0, "the idle connection ends")
        equal(relay.total, len(sent), "connections")
        want = [item.span.span_id for request in sent for item in otlp.flatten(request)]
        until(lambda: len(sink.spans()) >= len(want), "exported")
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend")
        for sampler in samplers:
            metrics.check_sampler_books(sampler, held=0, dropped=0)


@suite.case()
def links_age_too():
    """A sampler that ends its balancers' connections by their age loses nothing: no client is refused, no span comes twice."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        samplers = [stage.sampler(f"sampler-{index}", sink.port, ALWAYS, grpc=AGED).wait_ready() for index in range(2)]
        relays = [stage.serve(Relay(sampler.address)) for sampler in samplers]
        node = stage.lb("lb-0", [relay.address for relay in relays], timeout=TIMEOUT).wait_ready()
        with Load("grpc", node.address) as load:
            until(lambda: all(relay.total >= 4 for relay in relays), "each link came to its age three times")
            seen = len(load.acknowledged)
            until(lambda: len(load.acknowledged) > seen + 10 * CLIENTS, "served after three ages")
        expect_delivered(load, samplers, sink)


if __name__ == "__main__":
    sys.exit(suite.main())
