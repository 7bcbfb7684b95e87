"""A backend that takes OTLP over HTTP, for tests: Python's own server, read with the official protobuf classes."""
import collections
import contextlib
import gzip
import http.server
import socket
import threading
import time

import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from kit import otlp

INFLATE = {"gzip": gzip.decompress, "identity": bytes,
           "zstd": lambda raw: zstandard.ZstdDecompressor().decompressobj().decompress(raw)}


class Call(collections.namedtuple("Call", "number headers raw body request path peer at")):
    pass


class Answer(collections.namedtuple("Answer", "status headers body")):
    pass


def accept(_call):
    return Answer(200, {"Content-Type": "application/x-protobuf"}, ExportTraceServiceResponse().SerializeToString())


def close(_call):
    """No answer at all: the connection ends."""
    return None


def say(status, body=b"", content_type="application/x-protobuf", **headers):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _call: Answer(status, {"Content-Type": content_type, **given}, body)


class HttpSink:
    """answer(call) says what each call gets. `calls` holds all of them, `accepted` those answered by 2xx."""

    def __init__(self, answer=accept, port=0, context=None):
        """context: ssl.SSLContext of a server; None: plain text."""
        self.answer = answer
        self.context = context
        self.wanted_port = port
        self.lock = threading.Lock()
        self.calls, self.accepted, self.connections = [], [], []
        self.server = None

    def start(self):
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                with sink.lock:
                    sink.connections.append(self.connection)

            def do_POST(self):
                sink.on_post(self)

            def log_message(self, *_args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_args):
                pass  # a client that went away

        self.server = Server(("127.0.0.1", self.wanted_port), Handler)
        if self.context:
            # The handshake on the connection's own thread, so that one that hangs stops nobody.
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
            for connection in self.connections:  # kept ones are threads of their own
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def on_post(self, handler):
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        body = INFLATE[handler.headers.get("Content-Encoding", "identity")](raw)
        with self.lock:
            call = Call(len(self.calls), handler.headers, raw, body, ExportTraceServiceRequest.FromString(body), handler.path,
                        handler.client_address, time.monotonic())
            self.calls.append(call)
        answer = self.answer(call)
        if answer is None:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if 200 <= answer.status < 300:
            with self.lock:
                self.accepted.append(call)
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body)

    def seen(self):
        with self.lock:
            return list(self.calls)

    def spans(self):
        with self.lock:
            return [item for call in self.accepted for item in otlp.flatten(call.request)]

    def ids(self):
        return [item.span.span_id for item in self.spans()]
