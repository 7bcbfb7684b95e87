"""What the parts of bench/run share: processes and their cost as the kernel sees it, and the policies that samplers get."""
import glob
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

# Ten policies, each of a kind that looks at something else; together they keep a few traces in a hundred.
POLICIES = """
      - { name: errors, type: status_code, status_code: { status_codes: [ERROR] } }
      - { name: slow, type: latency, latency: { threshold_ms: 1000 } }
      - { name: very-slow, type: latency, latency: { threshold_ms: 5000 } }
      - { name: one-percent, type: probabilistic, probabilistic: { sampling_percentage: 1 } }
      - { name: tenant, type: string_attribute, string_attribute: { key: tenant, values: [tenant-90, tenant-91] } }
      - { name: route, type: string_attribute, string_attribute: { key: http.route, values: [/admin, /internal] } }
      - { name: database, type: string_attribute, string_attribute: { key: db.system, values: [oracle] } }
      - { name: service, type: string_attribute, string_attribute: { key: service.name, values: [auditor] } }
      - { name: agent, type: string_attribute, string_attribute: { key: user_agent.original, values: ["^curl/.*"], enabled_regex_matching: true } }
      - { name: method, type: string_attribute, string_attribute: { key: http.request.method, values: [TRACE] } }"""


class Trouble(Exception):
    pass


def free_address():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return answer.read().decode()


def metric(address, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in get(address, "/metrics").splitlines()
               if line.split("{")[0].split(" ")[0] == name)


class Program:
    def __init__(self, bench, name, *words):
        self.name, self.log = name, os.path.join(bench.directory, f"{name}.{len(bench.programs)}.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        bench.programs.append(self)

    def address(self):
        """Of a tool that prints its port."""
        line = self.process.stdout.readline().strip()
        self.check()
        return f"127.0.0.1:{line}"

    def stat(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()

    def cpu_s(self):
        """User and system time of all its threads."""
        fields = self.stat()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def threads_s(self):
        """User and system time by the threads' names: {name: (user, system)}."""
        times = {}
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/stat"):
            try:
                with open(path) as file:
                    name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            except OSError:  # it ended
                continue
            fields, before = rest.split(), times.get(name, (0, 0))
            times[name] = (before[0] + int(fields[11]) / TICKS, before[1] + int(fields[12]) / TICKS)
        return times

    def rss(self):
        return int(self.stat()[21]) * PAGE

    def check(self):
        if self.process.poll() is not None:
            with open(self.log) as log:
                raise Trouble(f"{self.name} ended with {self.process.returncode}: {log.read()[-1500:]}")

    def ready(self, admin):
        until = time.monotonic() + 20
        while True:
            self.check()
            try:
                get(admin, "/readyz")
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > until:
                    raise Trouble(f"{self.name} is not ready after 20 s") from None
                time.sleep(0.05)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
