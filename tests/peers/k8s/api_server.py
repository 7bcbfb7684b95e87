"""A Kubernetes API server that serves the EndpointSlices of one namespace, and misbehaves when told to.

TLS, a token, list and watch as the real one has them (HTTP/1.1, chunks, one event a line). What it does can be changed while it runs.
"""
import collections
import http.server
import json
import os
import socket
import socketserver
import ssl
import threading
import time
import urllib.parse

from kit import certs

Request = collections.namedtuple("Request", "kind version token time query")
SELECTOR = "kubernetes.io/service-name="


def endpoint(address, name="", ready=True, serving=None, terminating=False, hostname=True, life=0):
    made = {"addresses": [address], "conditions": {"ready": ready, "serving": ready if serving is None else serving, "terminating": terminating}}
    if name:
        made["targetRef"] = {"kind": "Pod", "name": name, "namespace": "obs", "uid": f"uid-of-{name}-{address}-{life}"}
        if hostname:
            made["hostname"] = name
    return made


def status(code, reason, message, **details):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
            **({"details": details} if details else {})}


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass  # clients that break off are what this is for


class ApiServer:
    def __init__(self, directory, port, service="sampler", namespace="obs"):
        self.directory, self.port, self.service, self.namespace = directory, port, service, namespace
        self.token_file = os.path.join(directory, "account", "token")
        self.ca_file = os.path.join(directory, "account", "ca.crt")
        self.changed = threading.Condition()
        self.slices = {}
        self.version = 100
        self.oldest = 0  # versions below are gone
        self.events = []  # (version, line)
        self.tokens = {"token-0"}
        self.requests = []
        self.answers = collections.deque()  # functions that answer the next requests in place of the server
        self.silent = False  # watches say nothing more, and do not end
        self.watches = 0  # begun so far: accepted, from a version that is known
        self.accounts = 0
        self.connections = set()
        self.server = None
        self.contexts = {}
        self.authority = certs.Authority()
        self.rotate_account("token-0", self.authority.cert_pem)

    # -- what stands in the pod's service account folder ------------------------------------------------

    def rotate_account(self, token, authorities):
        """As the kubelet does it: a new folder, then the swap of ..data."""
        home = os.path.join(self.directory, "account")
        self.accounts += 1
        folder = f"..{self.accounts}"
        os.makedirs(os.path.join(home, folder))
        for name, data in (("token", token.encode()), ("ca.crt", authorities)):
            with open(os.path.join(home, folder, name), "wb") as file:
                file.write(data)
            if not os.path.islink(os.path.join(home, name)):
                os.symlink(os.path.join("..data", name), os.path.join(home, name))
        os.symlink(folder, os.path.join(home, "..data_tmp"))
        os.rename(os.path.join(home, "..data_tmp"), os.path.join(home, "..data"))

    def settings(self):
        """tailrace.kubernetes of a balancer that asks here."""
        return {"api_server": f"https://127.0.0.1:{self.port}", "token_file": self.token_file, "ca_file": self.ca_file}

    # -- life --------------------------------------------------------------------------------------------

    def start(self, tls=True):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def log_message(self, *_):
                pass

            def setup(self):
                if tls:
                    self.request = outer.context().wrap_socket(self.request, server_side=True)
                outer.connections.add(self.request)
                super().setup()

            def finish(self):
                outer.connections.discard(self.request)
                super().finish()

            def do_GET(self):
                outer.serve(self)

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.stopped = False
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def context(self):
        with self.changed:
            if self.contexts.get(self.authority) is None:
                identity = self.authority.sign("kube-apiserver", ["127.0.0.1", "kubernetes.default.svc"])
                made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                made.load_cert_chain(*identity.write(self.directory, f"server-{len(self.contexts)}"))
                self.contexts[self.authority] = made
            return self.contexts[self.authority]

    def cut(self):
        """Ends all connections, as a proxy in between may."""
        with self.changed:
            connections = list(self.connections)
        for connection in connections:
            try:
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        if not self.server:
            return
        self.server.shutdown()
        self.server.server_close()
        self.server = None
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self.cut()

    # -- what there is --------------------------------------------------------------------------------------

    def tell(self, kind, thing):
        with self.changed:
            self.version += 1
            thing["metadata"]["resourceVersion"] = str(self.version)
            self.events.append((self.version, json.dumps({"type": kind, "object": thing}).encode()))
            self.changed.notify_all()

    def put(self, name, endpoints, family="IPv4", ports=None, quietly=False):
        """quietly: nobody who watches is told."""
        thing = {"metadata": {"name": name, "namespace": self.namespace, "labels": {"kubernetes.io/service-name": self.service}},
                 "addressType": family, "endpoints": endpoints,
                 "ports": ports if ports is not None else [{"name": "otlp", "port": 4317, "protocol": "TCP"}]}
        kind = "MODIFIED" if name in self.slices else "ADDED"
        self.slices[name] = thing
        if quietly:
            self.version += 1
        else:
            self.tell(kind, thing)

    def delete(self, name):
        self.tell("DELETED", self.slices.pop(name))

    def bookmark(self):
        self.tell("BOOKMARK", {"kind": "EndpointSlice", "metadata": {}})

    def say(self, line):
        """Bytes into each watch, whatever they are."""
        with self.changed:
            self.events.append((self.version, line))
            self.changed.notify_all()

    def forget(self):
        """As after a compaction, or a restart of the real one."""
        with self.changed:
            self.oldest = self.version

    def asked(self, kind):
        return [request for request in self.requests if request.kind == kind]

    # -- requests -------------------------------------------------------------------------------------------------

    def serve(self, call):
        url = urllib.parse.urlsplit(call.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        kind = "watch" if query.get("watch") == "1" else "list"
        token = (call.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.requests.append(Request(kind, query.get("resourceVersion", ""), token, time.monotonic(), query))
        answer = self.answers.popleft() if self.answers else None
        if answer and answer(call):
            return
        if token not in self.tokens:
            self.refuse(call, status(401, "Unauthorized", "Unauthorized"))
        elif url.path != f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices" or \
                query.get("labelSelector") != SELECTOR + self.service:
            self.refuse(call, status(404, "NotFound", f"the server could not find {call.path}"))
        elif kind == "list":
            self.list(call)
        else:
            self.watch(call, query)

    @staticmethod
    def refuse(call, body, headers=()):
        data = json.dumps(body).encode()
        call.send_response(body["code"])
        for name, value in headers:
            call.send_header(name, value)
        call.send_header("Content-Type", "application/json")
        call.send_header("Content-Length", str(len(data)))
        call.end_headers()
        call.wfile.write(data)

    def list(self, call):
        with self.changed:
            body = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {"resourceVersion": str(self.version)},
                    "items": list(self.slices.values())}
            data = json.dumps(body).encode()
        call.send_response(200)
        call.send_header("Content-Type", "application/json")
        call.send_header("Content-Length", str(len(data)))
        call.end_headers()
        call.wfile.write(data)

    def watch(self, call, query):
        version, end = int(query["resourceVersion"]), time.monotonic() + int(query["timeoutSeconds"])
        call.send_response(200)
        call.send_header("Content-Type", "application/json")
        call.send_header("Transfer-Encoding", "chunked")
        call.end_headers()
        call.wfile.flush()
        with self.changed:
            gone, at = version < self.oldest, len([entry for entry in self.events if entry[0] <= version])
        if gone:
            expired = status(410, "Expired", f"too old resource version: {version} ({self.oldest})")
            self.chunk(call, json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
            self.chunk(call, b"")
            return
        self.watches += 1
        while time.monotonic() < end or self.silent:
            with self.changed:
                if len(self.events) == at:
                    self.changed.wait(min(1.0, max(end - time.monotonic(), 0.01)))
                lines, at = [line for _, line in self.events[at:]], len(self.events)
                if self.stopped:
                    return
            for line in lines if not self.silent else ():
                if len(line) > 7:
                    self.chunk(call, line[:7])  # an event rarely comes in one piece
                    line = line[7:]
                self.chunk(call, line + b"\n")
        self.chunk(call, b"")

    @staticmethod
    def chunk(call, data):
        """b"": the end."""
        call.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        call.wfile.flush()
