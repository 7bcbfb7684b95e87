"""HTTP/1.1 by hand: requests that no HTTP library would send, and every byte of the answers."""
import collections
import http.client
import socket
import time

from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from kit.suite import slowness

PROTOBUF, JSON = "application/x-protobuf", "application/json"
Answer = collections.namedtuple("Answer", "status headers body closed")


class Connection:
    def __init__(self, address, timeout_s=20.0, context=None, source=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s * slowness(), source_address=source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname=host)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def post(self, body, content_type=PROTOBUF, path="/v1/traces", method="POST", **options):
        self.send(request(body, content_type, path, method, **options))
        return self.answer(method)

    def answer(self, method="POST"):
        """The next answer on this connection; `closed` says that nothing comes after it."""
        response = http.client.HTTPResponse(Source(self.file), method=method)
        response.begin()
        body = response.read()
        headers = {}
        for name, value in response.getheaders():
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        return Answer(response.status, headers, body, response.will_close)

    def at_end(self):
        """The server closes (or resets) without another byte."""
        try:
            return self.file.read(1) == b""
        except TimeoutError:  # it is still open
            return False
        except OSError:
            return True


class Source:
    """What http.client wants of a socket, without closing ours."""

    def __init__(self, file):
        self.file = file

    def makefile(self, _mode):
        return Unclosed(self.file)


class Unclosed:
    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def close(self):
        pass


def request(body=b"", content_type=PROTOBUF, path="/v1/traces", method="POST", headers=None, chunked=None, version="HTTP/1.1"):
    """The bytes of a request. chunked: a list of chunk sizes to cut the body into, the last one for all the rest."""
    lines = [f"{method} {path} {version}", "Host: test"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        pieces, at = [], 0
        for size in chunked[:-1]:
            pieces.append(body[at:at + size])
            at += size
        pieces += [body[start:start + chunked[-1]] for start in range(at, len(body), chunked[-1])]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    elif not any(name.lower() == "content-length" for name in headers or {}):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post(address, body, content_type=PROTOBUF, timeout_s=20.0, **options):
    """One request on a connection of its own."""
    with Connection(address, timeout_s) as connection:
        return connection.post(body, content_type, **options)


def parse(answer, message):
    """The body as the message, by its own content type. What JSON has and the message has not is an error."""
    kind = answer.headers.get("content-type")
    if kind == PROTOBUF:
        message.ParseFromString(answer.body)
        if message.SerializeToString(deterministic=True) != answer.body:
            raise AssertionError(f"not the bytes that protobuf itself writes: {answer.body!r}")
        return message
    if kind == JSON:
        return json_format.Parse(answer.body.decode(), message)
    raise AssertionError(f"neither protobuf nor JSON: {answer}")


def success(answer):
    return parse(answer, ExportTraceServiceResponse()).partial_success


def refusal(answer):
    """(gRPC code, message, retry delay in seconds or None)."""
    status = parse(answer, status_pb2.Status())
    retry_s = None
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            retry_s = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return status.code, status.message, retry_s


def wait_s(seconds):
    time.sleep(seconds * slowness())
