"""One gRPC call by hand over a plain HTTP/2 connection: encodings, flags and framing that a gRPC library would not send.

Only what such a call needs. The client announces a header table of size 0, so the server's headers come as
literals and no table has to be kept. Source: RFC 9113, RFC 7541, gRPC over HTTP/2.
"""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
SETTINGS_HEADER_TABLE_SIZE = 1
SETTINGS_TRUE_BINARY = 0xfe03  # gRPC core's own: "-bin" values come as they are, not as Huffman-coded base64
FRAME_MAX = 16384


def call(address, path, body, encoding=None, flag=0, timeout_s=20.0, framed=True):
    """Sends one message and returns the response's headers and trailers as a dict; reset streams give {'reset': code}.

    body is what stands after the five bytes of gRPC framing; framed=False sends no message at all.
    """
    host, port = address.rsplit(":", 1)
    end = time.monotonic() + timeout_s
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address),
                   ("te", "trailers"), ("content-type", "application/grpc")]
        if encoding:
            headers.append(("grpc-encoding", encoding))
        message = struct.pack(">BI", flag, len(body)) + body if framed else b""
        reader = Reader(connection, end)
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HIHI", SETTINGS_HEADER_TABLE_SIZE, 0, SETTINGS_TRUE_BINARY, 1)) +
                           frame(HEADERS, END_HEADERS | (0 if message else END_STREAM), 1, encode(headers)))
        return talk(connection, reader, message)


def talk(connection, reader, message):
    stream_window = connection_window = 65535
    initial_window = 65535
    fields, sent = {}, 0
    while True:
        while sent < len(message):
            size = min(FRAME_MAX, len(message) - sent, stream_window, connection_window)
            if size <= 0:
                break
            last = sent + size == len(message)
            connection.sendall(frame(DATA, END_STREAM if last else 0, 1, message[sent:sent + size]))
            sent += size
            stream_window -= size
            connection_window -= size
        kind, flags, stream, payload = reader.frame()
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                key, value = struct.unpack(">HI", payload[at:at + 6])
                if key == 4:
                    stream_window += value - initial_window
                    initial_window = value
            connection.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            connection.sendall(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            size = struct.unpack(">I", payload)[0] & 0x7fffffff
            if stream:
                stream_window += size
            else:
                connection_window += size
        elif kind == HEADERS and stream == 1:
            while not flags & END_HEADERS:
                _, more, _, rest = reader.frame()
                payload += rest
                flags |= more & END_HEADERS
            fields.update(decode(payload))
            if flags & END_STREAM:
                return fields
        elif kind == DATA and stream == 1:
            if payload:
                fields["body"] = fields.get("body", b"") + payload
            if flags & END_STREAM:
                return fields
        elif kind == RST_STREAM and stream == 1:
            return {**fields, "reset": struct.unpack(">I", payload)[0]}
        elif kind == GOAWAY:
            return {**fields, "goaway": struct.unpack(">I", payload[4:8])[0]}


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class Reader:
    def __init__(self, connection, end):
        self.connection = connection
        self.end = end

    def exactly(self, size):
        data = b""
        while len(data) < size:
            left = self.end - time.monotonic()
            if left <= 0:
                raise AssertionError("the server did not answer in time")
            self.connection.settimeout(left)
            try:
                more = self.connection.recv(size - len(data))
            except TimeoutError:
                raise AssertionError("the server did not answer in time") from None
            if not more:
                raise AssertionError("the server closed the connection")
            data += more
        return data

    def frame(self):
        head = self.exactly(9)
        return head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7fffffff, self.exactly(int.from_bytes(head[:3], "big"))


def encode(headers):
    """Literals without indexing, names and values in plain."""
    return b"".join(b"\x00" + integer(len(name), 7) + name.encode() + integer(len(value), 7) + value.encode()
                    for name, value in headers)


def integer(value, bits):
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out = bytearray((most,))
    value -= most
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(block):
    """Literal fields by name; a name or field that stands in the static table appears as '#index'."""
    at, fields = 0, {}

    def number(bits):
        nonlocal at
        most = (1 << bits) - 1
        value = block[at] & most
        at += 1
        if value == most:
            shift = 0
            while True:
                byte = block[at]
                at += 1
                value += (byte & 0x7f) << shift
                shift += 7
                if byte < 0x80:
                    break
        return value

    def text():
        nonlocal at
        huffman = block[at] & 0x80
        size = number(7)
        data = block[at:at + size]
        at += size
        return "(huffman)" if huffman else data.decode("latin-1")

    while at < len(block):
        first = block[at]
        if first & 0x80:
            fields[f"#{number(7)}"] = ""
        elif first & 0xe0 == 0x20:
            number(5)
        else:
            index = number(6 if first & 0x40 else 4)
            name = f"#{index}" if index else text()
            fields[name] = text()
    return fields
