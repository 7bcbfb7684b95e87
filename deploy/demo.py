#!/usr/bin/env python3
"""The cluster of deploy/demo: one load balancer, three samplers, a backend, and traces through all of them; a fourth sampler
joins while they flow, and one leaves.

Everything shown comes from the programs' admin endpoints; the judgement at the end does not: it compares what the load
generator saw acknowledged with what the backend saw arrive.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLERS = 3  # at first; one more joins
JOINS_AT, LEAVES_AT = 0.3, 0.6  # of the time that traces are sent
DECISION_WAIT_S = 4  # well over the half second that a trace's spans are spread over
POLICIES = """
      - { name: errors, type: status_code, status_code: { status_codes: [ERROR] } }
      - { name: slow, type: latency, latency: { threshold_ms: 1000 } }
      - { name: tenant-07, type: string_attribute, string_attribute: { key: tenant, values: [tenant-07] } }
      - { name: five-percent, type: probabilistic, probabilistic: { sampling_percentage: 5 } }"""
RULE = "errors|latency>1000|tenant=tenant-07|percent=5"  # the same, for the judge
SAMPLED, NOT_SAMPLED = 'decision="sampled"', 'decision="not_sampled"'  # labels

SAMPLER_YAML = """\
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: "{otlp}" }} }} }}
processors:
  tail_sampling:
    decision_wait: {wait}s
    decision_cache: {{ sampled_cache_size: 1000000, non_sampled_cache_size: 1000000 }}
    policies:{policies}
exporters:
  otlp: {{ endpoint: "{sink}", compression: none, tls: {{ insecure: true }}, headers: {{ tailrace-node: {name} }} }}
service:
  pipelines: {{ traces: {{ receivers: [otlp], processors: [tail_sampling], exporters: [otlp] }} }}
tailrace:
  workers: 1
  admin: {{ endpoint: "{admin}" }}
  cluster: {{ self: {name}, resolver: {{ static: {{ hostnames: [{fellows}] }} }} }}
  journal: {{ directory: "{journal}", max_size_mib: 1024, segment_mib: 16 }}
"""

LB_YAML = """\
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: "{otlp}" }} }} }}
exporters:
  loadbalancing:
    routing_key: traceID
    protocol: {{ otlp: {{ timeout: 5s, tls: {{ insecure: true }} }} }}
    resolver: {{ static: {{ hostnames: [{members}] }} }}
service:
  pipelines: {{ traces: {{ receivers: [otlp], exporters: [loadbalancing] }} }}
tailrace:
  admin: {{ endpoint: "{admin}" }}
"""


class Trouble(Exception):
    pass


def free_addresses(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=2) as answer:
        return answer.read().decode()


class Page:
    """A page of metrics: sums over all label sets whose labels include the given ones."""

    LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")

    def __init__(self, text):
        self.rows = [match.groups() for match in map(self.LINE.match, text.splitlines()) if match]

    def sum(self, name, label=""):
        return sum(int(float(value)) for row, labels, value in self.rows if row == name and label in (labels or ""))

    def balance(self):
        """The books: received + recovered + taken_over = exported + dropped + duplicate + handed_over + held."""
        came = sum(self.sum(f"tailrace_spans_{word}_total") for word in ("received", "recovered", "taken_over"))
        went = sum(self.sum(f"tailrace_spans_{word}_total") for word in ("exported", "dropped", "duplicate", "handed_over"))
        return came == went + self.sum("tailrace_spans_held")


class Program:
    """A process of ours, ended by its own process id."""

    def __init__(self, name, words, directory):
        self.name, self.log = name, os.path.join(directory, name + ".log")
        with open(self.log, "w") as log:
            # A session of its own: Ctrl-C is for this script, which ends the others in order.
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)

    def alive(self):
        return self.process.poll() is None

    def stop(self, timeout_s=30):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def check(self):
        if not self.alive():
            with open(self.log) as log:
                raise Trouble(f"{self.name} ended with {self.process.returncode}:\n{log.read()[-2000:]}")


class Demo:
    def __init__(self, options):
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="tailrace-demo-")
        self.programs = []
        self.leaver = None  # the sampler that was told to stop

    def path(self, name):
        return os.path.join(self.directory, name)

    def tool(self, *name):
        return os.path.join(self.options.build, *name)

    def start(self, name, *words):
        program = Program(name, list(words), self.directory)
        self.programs.append(program)
        return program

    def start_tier(self, name, tool, yaml):
        with open(self.path(name + ".yaml"), "w") as out:
            out.write(yaml)
        return self.start(name, tool, "--config", self.path(name + ".yaml"))

    def wait_ready(self, program, admin):
        until = time.monotonic() + 30
        while True:
            program.check()
            try:
                get(admin, "/readyz")
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > until:
                    raise Trouble(f"{program.name} is not ready after 30 s; see {program.log}")
                time.sleep(0.05)

    def start_sampler(self, i, fellows):
        """fellows: whom it looks for; those find it by its looking for them."""
        name, otlp, admin = f"sampler-{i}", *self.addresses[2 * i:2 * i + 2]
        yaml = SAMPLER_YAML.format(otlp=otlp, admin=admin, sink=self.sink_address, name=name, wait=DECISION_WAIT_S, policies=POLICIES,
                                   fellows=", ".join(f'"{one}"' for one in fellows), journal=self.path(f"journal-{i}"))
        program = self.start_tier(name, self.tool("sampler", "tailrace-sampler"), yaml)
        self.samplers.append((program, admin))

    def cluster(self):
        self.addresses = addresses = free_addresses(2 * (SAMPLERS + 1) + 2)
        self.sink = self.start("backend", self.tool("bench", "tailrace-sink"), "--status", self.path("backend.json"),
                               "--arrivals", self.path("arrivals"))
        port = self.sink.process.stdout.readline().strip()
        self.sink.check()
        self.sink_address = f"127.0.0.1:{port}"
        self.samplers, self.last_pages = [], {}
        self.members = members = addresses[:2 * (SAMPLERS + 1):2]
        for i in range(SAMPLERS):
            self.start_sampler(i, members[:SAMPLERS])
        for program, admin in self.samplers:
            self.wait_ready(program, admin)
        self.front, self.lb_admin = addresses[-2:]
        yaml = LB_YAML.format(otlp=self.front, admin=self.lb_admin, members=", ".join(f'"{one}"' for one in members))
        self.lb = self.start_tier("lb", self.tool("lb", "tailrace-lb"), yaml)
        self.wait_ready(self.lb, self.lb_admin)
        until = time.monotonic() + 20
        while Page(get(self.lb_admin, "/metrics")).sum("otelcol_loadbalancer_num_backends") < SAMPLERS:
            if time.monotonic() > until:
                raise Trouble("the load balancer did not find all samplers within 20 s")
            time.sleep(0.05)

        print(f"   OTLP/gRPC in   {self.front}   (load balancer; admin http://{self.lb_admin}/status)")
        for i, (_, admin) in enumerate(self.samplers):
            print(f"   sampler-{i}      {members[i]}   (admin http://{admin}/status)")
        print(f"   backend        {self.sink_address}")
        print(f"   configuration and logs in {self.directory}", flush=True)

    # -- what it shows ----------------------------------------------------------------------------------

    HEAD = (f"{'':>5} {'spans in':>10} {'traces':>7} {'errors':>7} {'slow':>6} {'tenant':>7} {'5 %':>6} {'traces':>7} "
            f"{'traces':>8} {'resent':>7} {'spans at':>9} {'split':>6}\n"
            f"{'':>5} {'':>10} {'held':>7} {'decided by policy: kept':^29} {'kept':>7} {'dropped':>8} {'spans':>7} "
            f"{'backend':>9} {'traces':>6}  books")

    def show(self, line_count, elapsed_s):
        lb = Page(get(self.lb_admin, "/metrics"))
        pages = [self.page(program, admin) for program, admin in self.samplers]
        with open(self.path("backend.json")) as file:
            backend = json.load(file)

        def total(name, label=""):
            return sum(page.sum(name, label) for page in pages)

        if line_count % 20 == 0:
            print(self.HEAD)
        decided = "otelcol_processor_tail_sampling_global_count_traces_sampled_total"
        kept_by = [total("tailrace_traces_credited_total", f'policy="{name}"')
                   for name in ("errors", "slow", "tenant-07", "five-percent")]
        balance = all(page.balance() for page in pages)
        held = sum(page.sum("tailrace_spans_held") for page, (program, _) in zip(pages, self.samplers) if program.alive())
        print(f"{elapsed_s:4.0f}s {lb.sum('otelcol_receiver_accepted_spans_total'):10d} "
              f"{total('otelcol_processor_tail_sampling_sampling_traces_on_memory'):7d} "
              f"{kept_by[0]:7d} {kept_by[1]:6d} {kept_by[2]:7d} {kept_by[3]:6d} "
              f"{total(decided, SAMPLED):7d} {total(decided, NOT_SAMPLED):8d} "
              f"{total('tailrace_spans_duplicate_total'):7d} {backend['spans']:9d} "
              f"{backend['traces_of_several_nodes']:6d}  {'balance' if balance else 'DO NOT BALANCE'}", flush=True)
        return held

    def page(self, program, admin):
        """Its metrics; of one that has left the last that it showed, of one that is just starting none."""
        try:
            self.last_pages[program.name] = Page(get(admin, "/metrics"))
        except (urllib.error.URLError, OSError):
            if program is not self.leaver and program.name in self.last_pages:
                raise
        return self.last_pages.get(program.name, Page(""))

    def scale(self, elapsed_s):
        """One joins, and later one leaves, as a scaling or a rolling update has it."""
        if len(self.samplers) == SAMPLERS and elapsed_s > JOINS_AT * self.options.seconds:
            print(f"== sampler-{SAMPLERS} joins: its share of the traces under way moves to it", flush=True)
            self.start_sampler(SAMPLERS, self.members)
        if not self.leaver and elapsed_s > LEAVES_AT * self.options.seconds:
            print("== sampler-0 is told to stop: it hands over what it holds, and ends", flush=True)
            self.leaver = self.samplers[0][0]
            self.leaver.process.terminate()

    def watch(self):
        """A line a second until the load has ended and nothing is held; with --keep, until Ctrl-C."""
        started = time.monotonic()
        line_count, load_ended, said = 0, None, False
        while True:
            time.sleep(max(0.0, started + line_count + 1 - time.monotonic()))
            for program in self.programs:
                if program not in (self.load, self.leaver):
                    program.check()
            self.scale(time.monotonic() - started)
            held = self.show(line_count, time.monotonic() - started)
            line_count += 1
            if self.load.alive():
                continue
            load_ended = load_ended or time.monotonic()
            if held == 0 and not self.options.keep:
                return
            if held == 0 and not said:
                said = True
                print(f"== running until Ctrl-C; point an SDK at OTEL_EXPORTER_OTLP_ENDPOINT=http://{self.front}\n"
                      f"   (OTEL_EXPORTER_OTLP_PROTOCOL=grpc); traces are decided {DECISION_WAIT_S} s after their first span")
            if held and time.monotonic() > load_ended + DECISION_WAIT_S + 60:
                raise Trouble(f"{held} spans are still held a minute after the last decision was due")

    # -- the end ----------------------------------------------------------------------------------------

    def judgement(self):
        """What was acknowledged against what arrived. True: nothing split, lost, doubled or wrongly decided."""
        print("== stopping: load balancer, samplers, backend; then comparing both ends of the wire", flush=True)
        if self.load.alive():
            self.load.stop()
        # The balancer first, then the samplers decide and export what they hold, then the backend writes its records.
        codes = {program.name: program.stop() for program in [self.lb] + [one for one, _ in self.samplers] + [self.sink]}
        unclean = {name: code for name, code in codes.items() if code != 0}
        if unclean:
            print(f"   not a clean stop: {unclean}; logs in {self.directory}")
        done = subprocess.run([self.tool("bench", "tailrace-sink"), "--compare", self.path("ledger"), "--rule", RULE,
                               self.path("arrivals")], stdout=subprocess.PIPE, text=True)
        if done.returncode not in (0, 1):
            raise Trouble(f"the judge ended with {done.returncode}")
        verdict = json.loads(done.stdout)
        with open(self.path("load.json")) as file:
            load = json.load(file)
        print(f"""
   sent           {load['spans_sent']} spans in {load['requests']} requests, {load['traces']} traces; {load['resends']} requests sent twice
   acknowledged   {verdict['acknowledged_spans']} spans of {verdict['traces']} traces (p50 {load['ack_ms']['p50']} ms, p99 {load['ack_ms']['p99']} ms)
   kept, whole    {verdict['whole']} traces
   dropped        {verdict['rightly_dropped']} traces, as the policies say
   split          {verdict['split']} traces
   lost           {verdict['lost']} spans
   doubled        {verdict['doubled']} spans
   decided wrong  {verdict['wrongly_kept']} kept, {verdict['wrongly_dropped']} dropped
   altered        {verdict['altered']} traces, invented {verdict['invented']} spans
""")
        good = verdict["good"] and not unclean
        print("== good: every acknowledged span had its one fate" if good else "== NOT GOOD", flush=True)
        return good

    def run(self):
        try:
            print("== starting one load balancer, three samplers and a backend on 127.0.0.1", flush=True)
            self.cluster()
            print(f"== sending {self.options.rate} spans a second for {self.options.seconds} s", flush=True)
            self.load = self.start(
                "load", self.tool("bench", "tailrace-load"), "--quiet", "--endpoint", self.front, "--rate",
                str(self.options.rate), "--seconds", str(self.options.seconds), "--connections", "2", "--resend-percent", "1",
                "--ledger", self.path("ledger"), "--summary", self.path("load.json"), "--seed", str(time.time_ns() % 2**32))
            try:
                self.watch()
            except KeyboardInterrupt:
                print(flush=True)
            return self.judgement()
        except KeyboardInterrupt:
            return False
        except (Trouble, OSError) as trouble:
            print(f"deploy/demo: {trouble}", file=sys.stderr)
            return False
        finally:
            for program in reversed(self.programs):
                program.stop(10)

    def clean(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=20000)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    demo = Demo(options)
    good = demo.run()
    if good:
        demo.clean()
    else:
        print(f"   configuration, logs and records are left in {demo.directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
