"""The programs under test as processes: their configuration, their ports, their end.

Every process is started with its own log file and dies with the test. stop() demands a clean exit: code 0 and no
word from a sanitizer.
"""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from kit import metrics
from kit.suite import slowness, until

BUILD = os.path.abspath(os.environ.get("TAILRACE_BUILD", "build"))
SANITIZER_WORDS = re.compile(rb"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: ")
# The programs die with the test. Not by preexec_fn: that forks, and gRPC's threads here do not survive a fork.
WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"]
# Below the range that outgoing connections take theirs from. Suites run side by side, and a port stays free for a while between being
# given and being listened at: each process takes blocks of its own.
FIRST_PORT, BLOCK, BLOCKS = 20000, 100, 120
blocks = []  # sockets that hold a block's name in this network namespace; the kernel lets go of them with the process
ports_left = []


def take_block():
    """The ports of a block that no other process has."""
    for number in random.sample(range(BLOCKS), BLOCKS):
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0tailrace-test-ports-{number}")
        except OSError:
            holder.close()
            continue
        blocks.append(holder)
        return list(range(FIRST_PORT + number * BLOCK, FIRST_PORT + (number + 1) * BLOCK))
    raise AssertionError("no free port: all blocks are taken")


def free_port():
    """A port nobody listens on, given to nobody else."""
    while True:
        if not ports_left:
            ports_left.extend(take_block())
        port = ports_left.pop(0)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def listens(address):
    """Whether connections are let in there. For until(): one that is reset says nothing, since it may have been in the queue of one that
    ended while others still listen."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 2 * slowness()).close()
        return True
    except ConnectionRefusedError:
        return False


class Program:
    """One process and its log."""

    def __init__(self, name, argv, directory):
        self.name = name
        self.argv = argv
        self.log_path = os.path.join(directory, name + ".log")
        self.process = None
        self.environment = {}  # beside the test's own

    def start(self):
        environment = {**os.environ, **self.environment}
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
        environment.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(WITH_PARENT + self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment)
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        with open(self.log_path, "rb") as file:
            return file.read()

    def tail(self, size=3000):
        return self.log()[-size:].decode(errors="replace")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s=30.0):
        try:
            return self.process.wait(timeout_s * slowness())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout_s * slowness():.0f} s\n{self.tail()}") from None

    def kill(self):
        if self.running():
            self.process.kill()
            self.process.wait()

    def stop(self, timeout_s=30.0):
        """SIGTERM, then exit 0 and a clean log."""
        if self.running():
            self.terminate()
        code = self.wait(timeout_s)
        if code != 0:
            raise AssertionError(f"{self.name} ended with {code}\n{self.tail()}")
        self.check_log()

    def check_log(self):
        found = SANITIZER_WORDS.search(self.log())
        if found:
            raise AssertionError(f"{self.name}: {self.log()[found.start():found.start() + 6000].decode(errors='replace')}")

    def rss_bytes(self):
        return self.memory("VmRSS")

    def peak_rss_bytes(self):
        return self.memory("VmHWM")

    def memory(self, key):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name}: no {key}")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Node(Program):
    """A tailrace-lb or tailrace-sampler."""

    def __init__(self, name, binary, config, directory):
        self.port = config.pop("@port")
        self.admin_port = config.pop("@admin_port")
        words = config.pop("@words", [])
        self.address = f"{config.pop('@host', '127.0.0.1')}:{self.port}"
        http = config["receivers"].get("otlp", {}).get("protocols", {}).get("http")
        self.http_address = http and http["endpoint"]
        self.config = config
        path = os.path.join(directory, name + ".yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file, indent=1)  # every JSON text is YAML
        super().__init__(name, [os.path.join(BUILD, binary), "--config", path, *words], directory)

    def get(self, path, timeout_s=10.0):
        """(HTTP status, text) of the admin endpoint."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=timeout_s * slowness()) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def alive(self):
        """Its admin endpoint answers, and says so."""
        try:
            return self.get("/livez", 2)[0] == 200
        except OSError:
            return False

    def metrics(self):
        status, text = self.get("/metrics")
        if status != 200:
            raise AssertionError(f"{self.name}: /metrics answered {status}")
        return metrics.Metrics(text)

    def status(self):
        status, text = self.get("/status")
        if status != 200:
            raise AssertionError(f"{self.name}: /status answered {status}")
        return json.loads(text)

    def wait_ready(self, timeout_s=20.0):
        def ready():
            if not self.running():
                raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.tail()}")
            return self.get("/readyz", 2.0)[0] == 200
        until(ready, f"{self.name} ready", timeout_s)
        return self


def protocols(port, grpc, http, host="127.0.0.1"):
    """gRPC always; HTTP where its keys are given ({} for none)."""
    both = {"grpc": {"endpoint": f"{host}:{port}", **(grpc or {})}}
    if http is not None:
        both["http"] = {"endpoint": f"127.0.0.1:{free_port()}", **http}
    return both


def sampler_config(name, backend_port, policies, wait="1s", tail=None, tailrace=None, exporter=None, grpc=None, words=(), http=None,
                   host="127.0.0.1", port=None):
    """host, port: of OTLP over gRPC; members that one DNS name gives share a port. The exporter's timeout is longer than a busy machine takes
    for 64 MiB: what a backend has taken, but not answered in time, is sent to it again."""
    port, admin_port = port or free_port(), free_port()
    return {
        "@port": port, "@admin_port": admin_port, "@words": list(words), "@host": host,
        "receivers": {"otlp": {"protocols": protocols(port, grpc, http, host)}},
        "processors": {"tail_sampling": {
            "decision_wait": wait,
            "decision_cache": {"sampled_cache_size": 200000, "non_sampled_cache_size": 200000},
            "policies": policies, **(tail or {})}},
        "exporters": {"otlp": {"endpoint": f"127.0.0.1:{backend_port}", "tls": {"insecure": True},
                               "timeout": "60s", "headers": {"tailrace-node": name}, **(exporter or {})}},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "processors": ["tail_sampling"],
                                             "exporters": ["otlp"]}}},
        "tailrace": {"admin": {"endpoint": f"127.0.0.1:{admin_port}"}, "workers": 2, "cluster": {"self": name},
                     "memory": {"limit_mib": 512}, **(tailrace or {})},
    }


def lb_config(members, timeout="5s", tailrace=None, protocol=None, grpc=None, resolver=None, http=None):
    """resolver: instead of a static one with these members."""
    port, admin_port = free_port(), free_port()
    return {
        "@port": port, "@admin_port": admin_port,
        "receivers": {"otlp": {"protocols": protocols(port, grpc, http)}},
        "exporters": {"loadbalancing": {
            "routing_key": "traceID",
            "protocol": {"otlp": {"timeout": timeout, "tls": {"insecure": True}, **(protocol or {})}},
            "resolver": resolver or {"static": {"hostnames": list(members)}}}},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["loadbalancing"]}}},
        "tailrace": {"admin": {"endpoint": f"127.0.0.1:{admin_port}"}, "workers": 2, **(tailrace or {})},
    }


class Stage:
    """What one case starts. On leaving: everything ends, cleanly unless the case already failed; then logs are shown."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="tailrace-test-")
        self.programs = []
        self.servers = []

    def __enter__(self):
        return self

    def sampler(self, name, backend_port, policies, **options):
        return self.add(Node(name, "sampler/tailrace-sampler",
                             sampler_config(name, backend_port, policies, **options), self.directory))

    def lb(self, name, members, **options):
        return self.add(Node(name, "lb/tailrace-lb", lb_config(members, **options), self.directory))

    def program(self, name, argv):
        return self.add(Program(name, argv, self.directory))

    def add(self, program):
        self.programs.append(program)
        return program.start()

    def serve(self, server):
        """A Python server (sink, fake member) that ends with the stage."""
        self.servers.append(server)
        return server.start()

    def __exit__(self, kind, _value, _trace):
        failures = []
        # Those that send first: balancers, then samplers, then what stands in for backends.
        for program in sorted(self.programs, key=lambda program: not program.argv[0].endswith("tailrace-lb")):
            if not program.running():
                if program.process.returncode not in (0, -signal.SIGKILL):
                    failures.append(f"{program.name} ended with {program.process.returncode}")
                continue
            if kind is None:
                try:
                    program.stop()
                except AssertionError as error:
                    failures.append(str(error))
            program.kill()
        for server in self.servers:
            server.stop()
        for program in self.programs:
            try:
                program.check_log()
            except AssertionError as error:
                failures.append(str(error))
        if kind is not None or failures:
            for program in self.programs:
                print(f"\n    -- {program.name} (exit {program.process.returncode}), end of its log --\n" +
                      "".join("    | " + line + "\n" for line in program.tail().splitlines()), end="")
        shutil.rmtree(self.directory, ignore_errors=True)
        if kind is None and failures:
            raise AssertionError("\n".join(failures))
        return False


def settle(seconds):
    time.sleep(seconds * slowness())
