#!/usr/bin/env python3
"""TLS and credentials, in and out, in both tiers: who gets through, who does not, and that new files count without a restart.

Certificates are made for each case. [lb] is a balancer before a sampler, [sampler] a sampler alone. After each case every node ends
cleanly and the books balance where spans were sent.
"""
import base64
import http.client
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

import grpc

from kit import metrics, otlp, proc
from kit.certs import Authority, write
from kit.proc import Stage, free_port
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("security")

ALWAYS = [{"name": "all", "type": "always_sample"}]
OK, UNAVAILABLE, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED
LOCAL = ("localhost", "127.0.0.1")


class Front(Stage):
    """The node under test, `node`, with a sampler behind it (unless it is one) and a sink; certificates in `directory`."""

    def __init__(self, tier="sampler"):
        super().__init__()
        self.tier = tier
        self.ca = Authority()
        self.other_ca = Authority("another authority")
        self.file("ca.pem", self.ca.cert_pem)
        self.file("other-ca.pem", self.other_ca.cert_pem)
        self.server = self.ca.sign("server", LOCAL)
        self.client = self.ca.sign("client")
        self.stranger = self.other_ca.sign("stranger", LOCAL)
        for name in ("server", "client", "stranger"):
            getattr(self, name).write(self.directory, name)

    def path(self, name):
        return os.path.join(self.directory, name)

    def file(self, name, data):
        return write(self.path(name), data if isinstance(data, bytes) else data.encode())

    def tls(self, name="server", **more):
        return {"tls": {"cert_file": self.path(name + ".pem"), "key_file": self.path(name + ".key"), **more}}

    def start(self, grpc=None, extensions=None, **options):
        """The node under test with these keys at its gRPC receiver; a sampler behind a balancer is plain."""
        self.sink = self.serve(otlp.Sink())
        front = {"grpc": grpc or {}, **options}
        if self.tier == "sampler":
            self.samplers = [self.with_extensions("sampler", "sampler-0", self.sink.port, ALWAYS, extensions=extensions, **front)]
            self.node = self.samplers[0]
        else:
            self.samplers = [self.sampler("sampler-0", self.sink.port, ALWAYS).wait_ready()]
            self.node = self.with_extensions("lb", "lb-0", [self.samplers[0].address], extensions=extensions, **front)
        self.node.wait_ready()
        return self.node

    def with_extensions(self, kind, name, *arguments, extensions=None, http=None, **options):
        """As Stage.lb and Stage.sampler, with extensions in the file; http: keys of the HTTP receiver, at self.http_port."""
        config = getattr(proc, kind + "_config")(*([name] if kind == "sampler" else []), *arguments, **options)
        if http is not None:
            self.http_port = free_port()
            config["receivers"]["otlp"]["protocols"]["http"] = {"endpoint": f"127.0.0.1:{self.http_port}", **http}
        if extensions:
            config["extensions"] = extensions
            config["service"]["extensions"] = list(extensions)
        return self.add(proc.Node(name, f"{kind}/tailrace-{kind}", config, self.directory))

    def credentials(self, ca=None, client=None):
        ca = ca or self.ca
        return grpc.ssl_channel_credentials(ca.cert_pem, client.key_pem if client else None, client.cert_pem if client else None)

    def export(self, credentials=None, spans=2, **options):
        """(answer, request) over a connection of its own."""
        request = otlp.request_of([otlp.trace_id()], spans)
        with otlp.Client(self.node.address, credentials) as client:
            return client.export(request, **options), request

    def context(self, ca="ca.pem", client=None, **versions):
        context = ssl.create_default_context(cafile=self.path(ca))
        for key, value in versions.items():
            setattr(context, key, value)
        if client:
            context.load_cert_chain(self.path(client + ".pem"), self.path(client + ".key"))
        return context

    def post(self, context=None, spans=2, headers=None):
        """(HTTP status, or the word for a connection that was not let in, and the request) over a connection of its own."""
        request = otlp.request_of([otlp.trace_id()], spans)
        kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
        connection = kind("127.0.0.1", self.http_port, timeout=10 * slowness(), **({"context": context} if context else {}))
        try:
            connection.request("POST", "/v1/traces", request.SerializeToString(),
                               {"Content-Type": "application/x-protobuf", **(headers or {})})
            answer = connection.getresponse()
            answer.read()
            return answer.status, request
        except (OSError, http.client.HTTPException):
            return "no connection", request
        finally:
            connection.close()

    def expect_stored(self, requests):
        want = sum(otlp.span_count(request) for request in requests)
        until(lambda: len(self.sink.spans()) >= want, f"{want} spans at the backend")
        got = sorted(item.span.span_id for item in self.sink.spans())
        equal(got, sorted(item.span.span_id for request in requests for item in otlp.flatten(request)), "spans at the backend")
        for sampler in self.samplers:
            metrics.check_sampler_books(sampler)

    def wait_log(self, node, *words):
        """A line of the node's log with all these words."""
        def find():
            for line in node.log().decode(errors="replace").splitlines():
                if all(word in line for word in words):
                    return line
            return None
        return until(find, f"a line of {node.name}'s log with {words}")


def handshake(port, least=ssl.TLSVersion.TLSv1_2, most=ssl.TLSVersion.TLSv1_3, ciphers=None):
    """(serial of the server's certificate, TLS version, suite) of a bare handshake; an ssl.SSLError when it is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = least, most
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ciphers:
        context.set_ciphers(ciphers)
    with socket.create_connection(("127.0.0.1", port), timeout=10 * slowness()) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            from cryptography import x509
            serial = x509.load_der_x509_certificate(secured.getpeercert(True)).serial_number
            return serial, secured.version(), secured.cipher()[0]


# -- in -------------------------------------------------------------------------------------------------


@suite.case("lb", "sampler")
def tls_in(tier):
    """A receiver with a certificate takes who trusts it, and nobody over plain text or who trusts others only."""
    with Front(tier) as front:
        front.start(front.tls())
        answer, request = front.export(front.credentials())
        equal(answer.code, OK, f"a client that trusts the authority ({answer.message})")
        equal(front.export(front.credentials(front.other_ca))[0].code, UNAVAILABLE, "a client that trusts another authority")
        equal(front.export()[0].code, UNAVAILABLE, "a client without TLS")
        line = front.wait_log(front.node, "tls_handshake_failed", "remedy=")
        check("transport=grpc" in line, line)
        front.expect_stored([request])


@suite.case("lb", "sampler")
def mutual_tls_in(tier):
    """With client_ca_file only clients with a certificate of that authority come in."""
    with Front(tier) as front:
        front.start(front.tls(client_ca_file=front.path("ca.pem")))
        answer, request = front.export(front.credentials(client=front.client))
        equal(answer.code, OK, f"with a certificate ({answer.message})")
        equal(front.export(front.credentials())[0].code, UNAVAILABLE, "without a certificate")
        equal(front.export(front.credentials(client=front.stranger))[0].code, UNAVAILABLE, "with another authority's certificate")
        front.wait_log(front.node, "tls_handshake_failed", "remedy=")
        front.expect_stored([request])


@suite.case("lb", "sampler")
def versions_and_suites(tier):
    """min_version, max_version and cipher_suites hold on gRPC."""
    with Front(tier) as front:
        front.start(front.tls(min_version="1.3"))
        equal(handshake(front.node.port)[:2], (front.server.serial, "TLSv1.3"), "a client of TLS 1.3")
        try:
            version = handshake(front.node.port, most=ssl.TLSVersion.TLSv1_2)[1]
        except (ssl.SSLError, ConnectionError):
            version = "refused"
        equal(version, "refused", "a client of TLS 1.2")
    with Front(tier) as front:
        front.start(front.tls(max_version="1.2", cipher_suites=["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]))
        equal(handshake(front.node.port)[1:], ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"), "version and suite")
        try:
            suite_taken = handshake(front.node.port, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")[2]
        except (ssl.SSLError, ConnectionError):
            suite_taken = "refused"
        equal(suite_taken, "refused", "a client with another suite only")


@suite.case("lb", "sampler")
def inline_pem(tier):
    """Certificate and key may stand in the file itself, and are not printed."""
    with Front(tier) as front:
        front.start({"tls": {"cert_pem": front.server.cert_pem.decode(), "key_pem": front.server.key_pem.decode()}})
        answer, request = front.export(front.credentials())
        equal(answer.code, OK, f"answer ({answer.message})")
        front.expect_stored([request])
        printed = subprocess.run(front.node.argv + ["--print-config"], stdout=subprocess.PIPE, check=True).stdout
        check(b"PRIVATE KEY" not in printed, "--print-config shows the key")


@suite.case("lb", "sampler")
def https_in(tier):
    """The HTTP receiver takes who trusts its certificate, speaks a version it allows and shows a certificate when it asks for one; a new
    certificate and new authorities count without a restart."""
    with Front(tier) as front:
        front.file("clients.pem", front.ca.cert_pem)
        front.start(http=front.tls(client_ca_file=front.path("clients.pem"), min_version="1.3"))
        good = front.context(client="client")
        status, request = front.post(good)
        equal(status, 200, "with a certificate")
        for what, context in {"plain text": None, "no certificate": front.context(), "another authority": front.context("other-ca.pem", "client"),
                              "another authority's certificate": front.context(client="stranger"),
                              "TLS 1.2": front.context(client="client", maximum_version=ssl.TLSVersion.TLSv1_2)}.items():
            equal(front.post(context)[0], "no connection", what)
        sent = [request]
        fresh = front.ca.sign("server", LOCAL)
        fresh.write(front.directory, "server")
        until(lambda: handshake(front.http_port)[0] == fresh.serial, "the new certificate")
        sent.append(front.post(good)[1])
        front.file("clients.pem", front.other_ca.cert_pem)
        until(lambda: front.post(good, spans=0)[0] == "no connection", "the old client refused")
        status, request = front.post(front.context(client="stranger"))
        equal(status, 200, "the new authority's client")
        front.file("server.pem", b"rubbish")
        front.wait_log(front.node, "tls_reload_failed", "protocols.http.tls", "holds no certificate")
        equal(handshake(front.http_port)[0], fresh.serial, "the certificate after a bad file")
        front.expect_stored(sent + [request])


# -- out ------------------------------------------------------------------------------------------------


class HttpsBackend:
    """Takes OTLP/HTTP by TLS and keeps the requests and their headers."""

    def __init__(self, identity, directory, client_ca=None):
        cert, key = identity.write(directory, "https-backend")
        self.got, outer = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((otlp.ExportTraceServiceRequest.FromString(body), dict(self.headers)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        context.load_cert_chain(cert, key)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # refused handshakes are what we ask for
        # The handshake on the connection's own thread, so that one that hangs stops nobody.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def spans(self):
        return [item for request, _ in list(self.got) for item in otlp.flatten(request)]


@suite.case(*[name for name in ("its authority", "another authority", "over its time", "another name", "another name, overridden",
                                "not verified", "TLS 1.3 wanted", "the client's certificate")])
def https_to_backend(what):
    """An OTLP/HTTP exporter verifies its backend as a gRPC exporter does, and shows its own certificate and password."""
    names, days, keys, words = BACKENDS[what]
    with Front() as front:
        client_ca = front.path("ca.pem") if "cert_file" in keys else None
        front.sink = front.serve(HttpsBackend(front.ca.sign("backend", names, days), front.directory, client_ca))
        keys = {key: front.path(value) if key.endswith("_file") else value for key, value in keys.items()}
        config = proc.sampler_config("sampler-0", 1, ALWAYS, wait="100ms")
        config["exporters"] = {"otlphttp": {"endpoint": f"https://127.0.0.1:{front.sink.port}", "compression": "none", "tls": keys,
                                            "auth": {"authenticator": "basicauth"}}}
        config["extensions"] = {"basicauth": {"client_auth": {"username": "anna", "password": PASSWORD}}}
        config["service"]["extensions"] = ["basicauth"]
        config["service"]["pipelines"]["traces"]["exporters"] = ["otlphttp"]
        front.node = front.add(proc.Node("sampler-0", "sampler/tailrace-sampler", config, front.directory)).wait_ready()
        front.samplers = [front.node]
        answer, request = front.export()
        equal(answer.code, OK, f"the sampler takes it ({answer.message})")
        if words is None:
            front.expect_stored([request])
            equal(front.sink.got[0][1].get("authorization") or front.sink.got[0][1].get("Authorization"), basic("anna", PASSWORD)[0][1],
                  "what the backend is shown")
        else:
            front.wait_log(front.node, "last_error=", "remedy=")
            equal(front.sink.spans(), [], "spans at the backend")
        expect_nowhere(front, PASSWORD)
        if words is not None:
            front.node.kill()


@suite.case()
def mutual_tls_inside():
    """A balancer reaches its samplers by mutual TLS; one with a wrong authority, or without a certificate, reaches nobody and says why."""
    with Front("sampler") as front:
        front.start(front.tls(client_ca_file=front.path("ca.pem")))
        member = front.tls("client", ca_file=front.path("ca.pem"))
        front.node = front.lb("lb-0", [front.samplers[0].address], protocol=member).wait_ready()
        answer, request = front.export()
        equal(answer.code, OK, f"through both ({answer.message})")
        front.expect_stored([request])
        wrong = front.lb("lb-1", [front.samplers[0].address], protocol=front.tls("client", ca_file=front.path("other-ca.pem")))
        line = front.wait_log(wrong, "tls_connection_failed", "remedy=")
        check("ca_file" in line, line)
        bare = front.lb("lb-2", [front.samplers[0].address], protocol={"tls": {"ca_file": front.path("ca.pem")}})
        line = front.wait_log(bare, "tls_connection_failed", "remedy=")
        check("cert" in line, line)
        for node in (wrong, bare):
            equal(until(lambda node=node: node.get("/readyz"), "its answer")[0], 503, f"{node.name}: readiness without a member")


BACKENDS = {  # name: (server's names, days, exporter's tls keys, words of the log when it fails; None: it works)
    "its authority": (LOCAL, 10, {"ca_file": "ca.pem"}, None),
    "another authority": (LOCAL, 10, {"ca_file": "other-ca.pem"}, "ca_file"),
    "over its time": (LOCAL, -1, {"ca_file": "ca.pem"}, "renew"),
    "another name": (("tempo.example",), 10, {"ca_file": "ca.pem"}, "server_name_override"),
    "another name, overridden": (("tempo.example",), 10, {"ca_file": "ca.pem", "server_name_override": "tempo.example"}, None),
    "not verified": (("tempo.example",), -1, {"insecure_skip_verify": True}, None),
    "TLS 1.3 wanted": (LOCAL, 10, {"ca_file": "ca.pem", "min_version": "1.3"}, None),
    "the client's certificate": (LOCAL, 10, {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}, None),
    "not verified, with a certificate": (LOCAL, 10, {"insecure_skip_verify": True, "cert_file": "client.pem", "key_file": "client.key"}, None),
}


@suite.case(*BACKENDS)
def tls_to_backend(what):
    """A sampler sends to backends whose certificate is in order or is said to be of no matter, and says of others what to do."""
    names, days, keys, words = BACKENDS[what]
    keys = dict(keys)
    with Front() as front:
        server = front.ca.sign("backend", names, days)
        credentials = grpc.ssl_server_credentials([(server.key_pem, server.cert_pem)], front.ca.cert_pem, "cert_file" in keys)
        front.sink = front.serve(otlp.Sink(credentials=credentials))
        keys = {key: front.path(value) if key.endswith("_file") else value for key, value in keys.items()}
        front.samplers = [front.sampler("sampler-0", front.sink.port, ALWAYS, wait="100ms", exporter={"tls": keys})]
        front.node = front.samplers[0].wait_ready()
        answer, request = front.export()
        equal(answer.code, OK, f"the sampler takes it ({answer.message})")
        if words is None:
            front.expect_stored([request])
            return
        front.wait_log(front.node, "tls_connection_failed", "remedy=")
        front.wait_log(front.node, "remedy=", words)  # the same line, but where its first try took longer than a connection may
        equal(front.sink.spans(), [], "spans at the backend")
        front.node.kill()  # it would wait for the backend until its drain ends


# -- reload ---------------------------------------------------------------------------------------------


class Traffic:
    """Sends without pause, on a connection of its own for each request; remembers every answer that was not OK."""

    def __init__(self, front, credentials):
        self.front = front
        self.credentials = credentials  # a function: what a client uses now
        self.stopping = threading.Event()
        self.requests, self.failures = [], []
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stopping.is_set():
            answer, request = self.front.export(self.credentials())
            if answer.code == OK:
                self.requests.append(request)
            else:
                self.failures.append(f"{answer.code} {answer.message}")
            time.sleep(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


@suite.case("lb", "sampler")
def reload_certificate(tier):
    """A new certificate is shown to new connections without a restart and without a failed request; a bad one is refused and logged
    once."""
    with Front(tier) as front:
        front.start(front.tls())
        with Traffic(front, front.credentials) as traffic:
            for _ in range(2):
                fresh = front.ca.sign("server", LOCAL)
                fresh.write(front.directory, "server")
                until(lambda: handshake(front.node.port)[0] == fresh.serial, "the new certificate")
            until(lambda: front.node.log().count(b"tls_reloaded") >= 2, "two reloads in the log")
            failed = front.node.log().count(b"tls_reload_failed")
            front.file("server.key", front.client.key_pem)
            front.wait_log(front.node, "tls_reload_failed", "does not belong to", "remedy=")
            front.file("server.pem", b"rubbish")
            front.wait_log(front.node, "tls_reload_failed", "holds no certificate")
            time.sleep(3)  # further looks say nothing more
            equal(front.node.log().count(b"tls_reload_failed") - failed, 2, "failed reloads in the log")
            equal(handshake(front.node.port)[0], fresh.serial, "the certificate after bad files")
            until(lambda: len(traffic.requests) > 20, "requests")
        equal(traffic.failures, [], "failed requests")
        front.expect_stored(traffic.requests)


@suite.case("lb", "sampler")
def reload_client_authority(tier):
    """New authorities for clients count for new connections: the old ones' clients are refused, the new ones' come in."""
    with Front(tier) as front:
        front.file("clients.pem", front.ca.cert_pem)
        front.start(front.tls(client_ca_file=front.path("clients.pem"), client_ca_file_reload=True))
        sent = [front.export(front.credentials(client=front.client))[1]]
        equal(front.export(front.credentials(client=front.stranger))[0].code, UNAVAILABLE, "the other authority's client before")
        front.file("clients.pem", front.other_ca.cert_pem)
        until(lambda: front.export(front.credentials(client=front.client), spans=0)[0].code == UNAVAILABLE, "the old client refused")
        answer, request = front.export(front.credentials(client=front.stranger))
        equal(answer.code, OK, f"the new authority's client ({answer.message})")
        front.expect_stored(sent + [request])


@suite.case()
def reload_everywhere():
    """All certificates and authorities between balancer, sampler and backend are replaced under load, one after the other as operators
    do it, and no request fails."""
    with Front("sampler") as front:
        both = front.ca.cert_pem + front.other_ca.cert_pem
        for name in ("inner", "outer"):
            front.file(name + "-ca.pem", front.ca.cert_pem)
        front.ca.sign("lb").write(front.directory, "lb")
        front.ca.sign("sampler", LOCAL).write(front.directory, "sampler")
        front.ca.sign("exporter").write(front.directory, "exporter")
        backend = front.ca.sign("backend", LOCAL)
        now = {"server": backend, "ca": front.ca.cert_pem}

        def configuration():
            return grpc.ssl_server_certificate_configuration([(now["server"].key_pem, now["server"].cert_pem)], now["ca"])
        front.sink = front.serve(otlp.Sink(credentials=grpc.dynamic_ssl_server_credentials(configuration(), configuration, True)))
        front.samplers = [front.sampler(
            "sampler-0", front.sink.port, ALWAYS, wait="200ms", grpc=front.tls("sampler", client_ca_file=front.path("inner-ca.pem")),
            exporter=front.tls("exporter", ca_file=front.path("outer-ca.pem"))).wait_ready()]
        front.node = front.lb("lb-0", [front.samplers[0].address], timeout="30s",
                              protocol=front.tls("lb", ca_file=front.path("inner-ca.pem"))).wait_ready()

        until(lambda: front.samplers[0].metrics().value("tailrace_exporter_links_up", exporter="otlp") == 2, "connections to the backend")
        said = {node: len(node.log()) for node in (front.node, front.samplers[0])}  # a first connection may have taken too long

        def reloads(node, count):
            until(lambda: node.log().count(b"tls_reloaded") >= count, f"{count} reloads of {node.name}")
        with Traffic(front, lambda: None) as traffic:
            # First everybody trusts both authorities, then everybody gets a certificate of the new one, then the old one goes.
            now["ca"] = both
            front.file("inner-ca.pem", both)
            front.file("outer-ca.pem", both)
            reloads(front.node, 1)
            reloads(front.samplers[0], 2)
            now["server"] = front.other_ca.sign("backend", LOCAL)
            front.other_ca.sign("lb").write(front.directory, "lb")
            front.other_ca.sign("exporter").write(front.directory, "exporter")
            front.other_ca.sign("sampler", LOCAL).write(front.directory, "sampler")
            reloads(front.node, 2)
            reloads(front.samplers[0], 4)
            until(lambda: handshake_serial_issuer(front, front.samplers[0].port) == "another authority", "the sampler's new certificate")
            now["ca"] = front.other_ca.cert_pem
            front.file("inner-ca.pem", front.other_ca.cert_pem)
            front.file("outer-ca.pem", front.other_ca.cert_pem)
            reloads(front.node, 3)
            reloads(front.samplers[0], 6)
            before = len(traffic.requests)
            until(lambda: len(traffic.requests) > before + 20, "requests after the last change")
        equal(traffic.failures, [], "failed requests")
        front.expect_stored(traffic.requests)
        for node, size in said.items():
            check(b"tls_connection_failed" not in node.log()[size:], "no connection was refused on the way")
        # Nobody is left on what was made of the old authority: a new connection of each proves it.
        equal(front.node.metrics().value("tailrace_lb_retried_pieces_total"), 0, "pieces sent again")


def handshake_serial_issuer(front, port):
    """Who signed the certificate that a server shows to a client with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(front.path("client.pem"), front.path("client.key"))
    context.set_alpn_protocols(["h2"])
    from cryptography import x509
    from cryptography.x509.oid import NameOID
    with socket.create_connection(("127.0.0.1", port), timeout=10 * slowness()) as plain:
        with context.wrap_socket(plain) as secured:
            cert = x509.load_der_x509_certificate(secured.getpeercert(True))
            return cert.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


# -- credentials ----------------------------------------------------------------------------------------

PASSWORD, TOKEN = "hunter2-of-the-test", "token-of-the-test"
BCRYPT = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"  # "secret"


def basic(user, password):
    return [("authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())]


def expect_nowhere(front, *secrets):
    """No secret in a log, on /status or in --print-config."""
    for node in [program for program in front.programs if isinstance(program, proc.Node)]:
        printed = subprocess.run(node.argv + ["--print-config"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout
        for where, text in {"log": node.log(), "--print-config": printed, "/status": json.dumps(node.status()).encode(),
                            "/metrics": node.get("/metrics")[1].encode()}.items():
            for secret in secrets:
                for form in (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")[:-1]):
                    check(form not in text, f"{node.name}: a secret stands in its {where}")


@suite.case("lb", "sampler")
def basicauth_in(tier):
    """Only who knows a password of the file may send; others are told UNAUTHENTICATED and counted, and a changed file counts at once."""
    with Front(tier) as front:
        path = front.file("htpasswd", f"anna:{PASSWORD}\nbert:{BCRYPT}\n")
        front.start({"auth": {"authenticator": "basicauth"}}, {"basicauth": {"htpasswd": {"file": path, "inline": "carl:inline-word"}}})
        sent = []
        for user, password in (("anna", PASSWORD), ("bert", "secret"), ("bert", "secret"), ("carl", "inline-word")):
            answer, request = front.export(metadata=basic(user, password))
            equal(answer.code, OK, f"{user} ({answer.message})")
            sent.append(request)
        refused = [basic("anna", "x"), basic("anna", ""), basic("dora", PASSWORD), basic("bert", BCRYPT), None,
                   [("authorization", "Bearer " + PASSWORD)], basic("anna", PASSWORD) * 2]
        for metadata in refused:
            answer, _ = front.export(metadata=metadata)
            equal((answer.code, answer.retry_s), (UNAUTHENTICATED, None), f"with {metadata}")
        equal(front.node.metrics().value("tailrace_requests_refused_total", reason="unauthenticated"), len(refused), "refusals counted")
        equal(otlp.health(front.node.address), 1, "health is open to probes")
        front.file("htpasswd", "anna:another-word\n")
        until(lambda: front.export(metadata=basic("anna", PASSWORD), spans=0)[0].code == UNAUTHENTICATED, "the old password refused")
        equal(front.export(metadata=basic("bert", "secret"), spans=0)[0].code, UNAUTHENTICATED, "a user taken out of the file")
        answer, request = front.export(metadata=basic("anna", "another-word"))
        equal(answer.code, OK, f"the new password ({answer.message})")
        front.expect_stored(sent + [request])
        expect_nowhere(front, PASSWORD, "another-word", "inline-word", BCRYPT)


@suite.case("lb", "sampler")
def bearertokenauth_in(tier):
    """Only who sends a token of the file may send; a new token counts without a restart, an empty file changes nothing."""
    with Front(tier) as front:
        path = front.file("tokens", f"{TOKEN}\nsecond-{TOKEN}\n")
        front.start({"auth": {"authenticator": "bearertokenauth/in"}}, {"bearertokenauth/in": {"filename": path}})
        sent = []
        for token in (TOKEN, "second-" + TOKEN):
            answer, request = front.export(metadata=[("authorization", "Bearer " + token)])
            equal(answer.code, OK, f"{token} ({answer.message})")
            sent.append(request)
        for metadata in (None, [("authorization", TOKEN)], [("authorization", f"Bearer {TOKEN}x")], basic("anna", TOKEN)):
            equal(front.export(metadata=metadata)[0].code, UNAUTHENTICATED, f"with {metadata}")
        front.file("tokens", f"new-{TOKEN}")
        until(lambda: front.export(metadata=[("authorization", "Bearer new-" + TOKEN)], spans=0)[0].code == OK, "the new token")
        equal(front.export(metadata=[("authorization", "Bearer " + TOKEN)], spans=0)[0].code, UNAUTHENTICATED, "the old token")
        front.file("tokens", "\n")
        front.wait_log(front.node, "auth_reload_failed", "holds no token", "remedy=")
        equal(front.export(metadata=[("authorization", "Bearer new-" + TOKEN)], spans=0)[0].code, OK, "the last good token")
        front.expect_stored(sent)
        expect_nowhere(front, TOKEN)


@suite.case("lb", "sampler")
def credentials_over_http(tier):
    """The HTTP receiver lets in as the gRPC receiver does; others get 401, a challenge's name and a count."""
    with Front(tier) as front:
        path = front.file("tokens", TOKEN)
        front.start(http={"auth": {"authenticator": "bearertokenauth"}}, extensions={"bearertokenauth": {"filename": path}})
        status, request = front.post(headers={"Authorization": "Bearer " + TOKEN})
        equal(status, 200, "with the token")
        refused = [{}, {"Authorization": "Bearer x" + TOKEN}, {"Authorization": TOKEN}]
        for headers in refused:
            equal(front.post(headers=headers)[0], 401, f"with {headers}")
        equal(front.node.metrics().value("tailrace_requests_refused_total", reason="unauthenticated"), len(refused), "refusals counted")
        front.expect_stored([request])
        expect_nowhere(front, TOKEN)


@suite.case()
def credentials_inside_and_out():
    """A balancer shows its samplers a token, a sampler its backend a password; files that change count for the next request."""
    with Front() as front:
        token_path, word_path = front.file("token", TOKEN), front.file("word", PASSWORD + "\n")
        bearer = {"bearertokenauth": {"filename": token_path}}
        front.sink = front.serve(otlp.Sink())
        front.samplers = [front.with_extensions(
            "sampler", "sampler-0", front.sink.port, ALWAYS, wait="100ms", grpc={"auth": {"authenticator": "bearertokenauth"}},
            exporter={"auth": {"authenticator": "basicauth/out"}},
            extensions={**bearer, "basicauth/out": {"client_auth": {"username": "anna", "password_file": word_path}}}).wait_ready()]
        front.node = front.with_extensions("lb", "lb-0", [front.samplers[0].address], protocol={"auth": {"authenticator": "bearertokenauth"}},
                                           extensions=bearer).wait_ready()
        answer, first = front.export()
        equal(answer.code, OK, f"through both ({answer.message})")
        front.expect_stored([first])
        equal(front.sink.calls()[-1].metadata.get("authorization"), basic("anna", PASSWORD)[0][1], "what the backend is shown")
        with otlp.Client(front.samplers[0].address) as client:
            equal(client.export(otlp.request_of([otlp.trace_id()]), timeout_s=5).code, UNAUTHENTICATED, "without the token, past the balancer")
            equal(client.export(b"", timeout_s=5, method=otlp.HELLO).code, UNAUTHENTICATED, "the peer protocol without the token")
        front.file("token", "next-" + TOKEN)
        front.file("word", "next-" + PASSWORD)
        for node in (front.samplers[0], front.node):
            front.wait_log(node, "auth_reloaded")
        until(lambda: front.samplers[0].log().count(b"auth_reloaded") == 2, "both files of the sampler")
        answer, second = front.export()
        equal(answer.code, OK, f"after the change ({answer.message})")
        front.expect_stored([first, second])
        equal(front.sink.calls()[-1].metadata.get("authorization"), basic("anna", "next-" + PASSWORD)[0][1], "what the backend is shown then")
        expect_nowhere(front, TOKEN, PASSWORD)


# -- a start that cannot be -------------------------------------------------------------------------------


@suite.case("lb", "sampler")
def refused_at_start(tier):
    """A file that is missing, broken or of another certificate ends the start with key, file and reason."""
    with Front(tier) as front:
        front.file("secret.key", front.server.encrypted_key_pem(b"geheim"))
        front.file("folder.pem", b"")
        expired = front.ca.sign("expired", LOCAL, days=-1)
        expired.write(front.directory, "expired")
        os.mkdir(front.path("folder"))
        key = "receivers.otlp.protocols.grpc.tls"
        cases = [
            ({"cert_file": front.path("none.pem"), "key_file": front.path("server.key")}, [key, "cert_file", "none.pem", "No such file"]),
            ({"cert_file": front.path("server.pem"), "key_file": front.path("client.key")}, [key, "client.key", "does not belong to"]),
            ({"cert_file": front.path("server.pem"), "key_file": front.path("secret.key")}, [key, "secret.key", "passphrase"]),
            ({"cert_file": front.path("expired.pem"), "key_file": front.path("expired.key")}, [key, "expired.pem", "expired on"]),
            ({"cert_file": front.path("folder"), "key_file": front.path("server.key")}, [key, "folder", "is a directory"]),
            ({"cert_file": front.path("server.pem"), "key_file": front.path("server.key"), "cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265"]},
             [key, "cipher_suites", "did you mean"]),
            ({"cert_file": front.path("server.pem"), "key_file": front.path("server.key"), "min_version": "1.1"}, [key, "min_version", "RFC 8996"]),
            ({"cert_file": front.path("server.pem"), "key_file": front.path("server.key"), "curve_preferences": ["X25519"]},
             [key, "curve_preferences", "gRPC"]),
        ]
        for index, (tls, words) in enumerate(cases):
            make = front.lb if tier == "lb" else front.sampler
            node = make(f"node-{index}", *(([f"127.0.0.1:{1}"],) if tier == "lb" else (1, ALWAYS)), grpc={"tls": tls})
            code = node.wait()
            check(code != 0, f"{tls} was taken")
            log = node.log().decode()
            for word in words:
                check(word in log, f"{word} is not in: {log}")
            check("geheim" not in log, "the passphrase is shown")
            front.programs.remove(node)


if __name__ == "__main__":
    sys.exit(suite.main())
