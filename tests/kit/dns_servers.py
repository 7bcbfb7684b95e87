"""DNS servers for tests: dnsmasq and NSD, unprivileged on loopback ports, and one that misbehaves as told."""
import os
import pwd
import shutil
import signal
import socket
import struct
import threading

from kit.proc import free_port
from kit.suite import until

HEADER = struct.Struct(">HHHHHH")
A, AAAA, SRV = 1, 28, 33
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


def find(program, variable):
    """tests/run says where a program is that it unpacked; else it is installed."""
    path = os.environ.get(variable) or shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not path:
        raise AssertionError(f"{program} is not there; tests/run brings it")
    return path


def ask(port, name="ready.test", kind=A, timeout_s=1.0):
    """The response code that a server on this port gives; None: it does not answer."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(("127.0.0.1", port))
            client.send(HEADER.pack(7, 0x0100, 1, 0, 0, 0) + question + struct.pack(">HH", kind, 1))
            return HEADER.unpack_from(client.recv(4096))[1] & 15
        except OSError:
            return None


class Dnsmasq:
    """Addresses come from a file that it reads again when told; services are options, so a change of them is a restart."""

    def __init__(self, stage):
        self.stage = stage
        self.port = free_port()
        self.hosts = os.path.join(stage.directory, f"hosts-{self.port}")
        self.program = None

    def write(self, addresses):
        """addresses: {name: [address, …]}."""
        with open(self.hosts, "w", encoding="ascii") as file:
            file.write("127.0.0.1 ready.test\n")
            for name, values in addresses.items():
                file.writelines(f"{value} {name}\n" for value in values)

    def start(self, addresses, services=(), ttl_s=0):
        """services: (service, target, port)."""
        self.write(addresses)
        argv = [find("dnsmasq", "TAILRACE_DNSMASQ"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--local=/test/",
                f"--addn-hosts={self.hosts}", f"--user={pwd.getpwuid(os.getuid()).pw_name}", "--log-facility=-",
                f"--local-ttl={ttl_s}"]
        argv += [f"--srv-host={service},{target},{port}" for service, target, port in services]
        self.program = self.stage.program(f"dnsmasq-{self.port}-{len(self.stage.programs)}", argv)
        until(lambda: ask(self.port) == NOERROR, "dnsmasq answers")
        return self

    def change(self, addresses):
        self.write(addresses)
        self.program.process.send_signal(signal.SIGHUP)

    def stop(self):
        self.program.terminate()
        self.program.wait()


class Nsd:
    """An authoritative server of the zone `test`, from a file that it reads again when told; one of `broken` has none."""

    def __init__(self, stage):
        self.stage = stage
        self.port = free_port()
        self.directory = os.path.join(stage.directory, f"nsd-{self.port}")
        self.serial = 0
        self.program = None
        os.mkdir(self.directory)

    def write(self, records):
        self.serial += 1
        with open(os.path.join(self.directory, "test.zone"), "w", encoding="ascii") as file:
            file.write(f"$ORIGIN test.\n$TTL 2\n@ IN SOA ns hostmaster {self.serial} 60 60 600 2\n@ NS ns\nns A 127.0.0.1\n"
                       "ready A 127.0.0.1\n" + "".join(record + "\n" for record in records))

    def start(self, records):
        self.write(records)
        path = os.path.join(self.directory, "nsd.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(f'server:\n ip-address: 127.0.0.1@{self.port}\n username: ""\n chroot: ""\n zonesdir: "{self.directory}"\n'
                       f' pidfile: ""\n database: ""\n xfrdfile: "{self.directory}/xfrd"\n zonelistfile: "{self.directory}/zones"\n'
                       f' xfrdir: "{self.directory}"\n server-count: 1\n rrl-ratelimit: 0\n'
                       'remote-control:\n control-enable: no\n'
                       'zone:\n name: test\n zonefile: test.zone\nzone:\n name: broken\n zonefile: not-there.zone\n')
        self.program = self.stage.program(f"nsd-{self.port}-{len(self.stage.programs)}", [find("nsd", "TAILRACE_NSD"), "-d", "-c", path])
        until(lambda: ask(self.port) == NOERROR, "nsd answers")
        return self

    def change(self, records):
        self.write(records)
        self.program.process.send_signal(signal.SIGHUP)

    def stop(self):
        self.program.terminate()
        self.program.wait()


class Faulty:
    """What no proper server does. behave[type] is "ok", "servfail", "empty", "garbage", "silent" or "refused"."""

    def __init__(self, addresses):
        self.addresses = addresses  # {A: [bytes, …], AAAA: [bytes, …]}
        self.behave = {A: "ok", AAAA: "ok"}
        self.asked = 0
        self.socket = None
        self.thread = None

    def start(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()

    def serve(self):
        while True:
            data, client = self.socket.recvfrom(4096)
            if not data:
                return
            self.asked += 1
            answer = self.answer(data)
            if answer:
                self.socket.sendto(answer, client)

    def answer(self, data):
        number = HEADER.unpack_from(data)[0]
        end = 12
        while data[end]:
            end += data[end] + 1
        kind = struct.unpack_from(">H", data, end + 1)[0]
        question = data[12:end + 5]
        behaviour = self.behave.get(kind, "empty")
        if behaviour == "silent":
            return None
        if behaviour in ("servfail", "refused"):
            return HEADER.pack(number, 0x8180 | {"servfail": 2, "refused": 5}[behaviour], 1, 0, 0, 0) + question
        records = [b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(value)) + value for value in self.addresses.get(kind, [])]
        if behaviour == "garbage":  # a question that fits, and records that are none
            return HEADER.pack(number, 0x8180, 1, 3, 0, 0) + question + b"\xc0\xff\xff\xff\xff"
        if behaviour == "empty":
            records = []
        return HEADER.pack(number, 0x8180, 1, len(records), 0, 0) + question + b"".join(records)
