"""What the journal and the handoff cost: the part `cluster` of bench/run."""
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from programs import Trouble, free_address, get, metric

MIB = 1024 * 1024
REQUEST = 68  # spans
TENTH = "\n      - { name: tenth, type: probabilistic, probabilistic: { sampling_percentage: 10 } }"
READ_CAP = 3000  # operations a second
HOLD_S = 600  # a decision_wait that no run outlasts


class ReadCap:
    """A control group that may read the disk so many times a second. Needs root and cgroups; text says whether it holds."""

    def __init__(self, directory):
        device = os.stat(directory).st_dev
        self.device = f"{os.major(device)}:{os.minor(device)}"
        self.group = None
        for base, file, words in (("/sys/fs/cgroup/blkio", "blkio.throttle.read_iops_device", f"{self.device} {READ_CAP}"),
                                  ("/sys/fs/cgroup", "io.max", f"{self.device} riops={READ_CAP}")):
            if self.make(os.path.join(base, f"tailrace-bench-{os.getpid()}"), file, words):
                break
        self.text = f"reads capped at {READ_CAP} a second" if self.group else "reads NOT capped: no control group for it here"

    def make(self, group, file, words):
        try:
            os.mkdir(group)
        except OSError:
            return False
        try:
            with open(os.path.join(group, file), "w") as out:
                out.write(words)
            self.group = group
        except OSError:
            os.rmdir(group)
        return self.group is not None

    def hold(self, pid):
        if self.group:
            with open(os.path.join(self.group, "cgroup.procs"), "w") as out:
                out.write(str(pid))

    def end(self):
        """After its processes ended."""
        if self.group:
            os.rmdir(self.group)


class ClusterBench:
    def __init__(self, bench):
        self.bench, self.lines = bench, []

    def say(self, text):
        self.lines.append(text)

    def journal(self, directory, sync="none", segment_mib=64, more=""):
        return f', journal: {{ directory: "{directory}", sync: {sync}, segment_mib: {segment_mib} }}{more}'

    def run(self):
        result, chosen = {}, self.bench.options.parts.split(",") if self.bench.options.parts else []
        for part in (self.journal_on_and_off, self.recovery, self.spilled, self.read_back, self.outage, self.handoff, self.handoff_share):
            if chosen and part.__name__ not in chosen:
                continue
            print(f"  measuring {part.__name__.replace('_', ' ')}", file=sys.stderr, flush=True)
            self.directory = tempfile.mkdtemp(prefix="journal-", dir=self.bench.options.disk or self.bench.directory)
            try:
                result[part.__name__] = part()
            finally:
                self.bench.stop_all()
                shutil.rmtree(self.directory, ignore_errors=True)
        result["lines"] = ["", "cluster"] + self.lines
        return result

    # -- a journal -------------------------------------------------------------------------------------------------

    def cost(self, more, request):
        """ns a span of a sampler at full speed: of all its threads, and of them user and system time, the journal's writer apart."""
        bench, wait = self.bench, 2
        program, address, admin = bench.start_sampler(wait, more)
        bench.load(address, request, "--seconds", str(wait + 1))
        bench.drained(admin)
        before, started = program.threads_s(), program.cpu_s()
        load = bench.load(address, request, "--seconds", str(bench.options.seconds))
        bench.drained(admin)
        after, spans = program.threads_s(), load["spans_acknowledged"]
        cost = {"all": (program.cpu_s() - started) / spans * 1e9, "user": 0, "system": 0, "writer user": 0, "writer system": 0}
        for name, times in after.items():
            writer = "writer " if name == "journal-write" else ""
            for kind, now, then in zip(("user", "system"), times, before.get(name, (0, 0))):
                cost[writer + kind] += (now - then) / spans * 1e9
        bench.stop_all()
        return cost

    def journal_on_and_off(self):
        """Rounds alternate, so that the machine's mood is the same for both."""
        result = {}
        for request in self.bench.options.spans_per_request:
            rounds = {"off": [], "none": [], "interval": []}
            for index in range(self.bench.options.rounds):
                for name in rounds:
                    directory = os.path.join(self.directory, f"{name}-{index}")
                    rounds[name].append(self.cost("" if name == "off" else self.journal(directory, name), request))
                    shutil.rmtree(directory, ignore_errors=True)
            result[request] = rounds
            self.show_cost(request, {name: {kind: statistics.median(one[kind] for one in rows) for kind in rows[0]} for name, rows in rounds.items()})
        return result

    def show_cost(self, request, median):
        for name, row in median.items():
            ratio = "" if name == "off" else f": {median['off']['all'] / row['all']:.2f} of it without" + (" (goal 0.7)" if name == "none" else "")
            writer = "" if name == "off" else f", and its writer's {row['writer user']:.0f} and {row['writer system']:.0f}"
            self.say(f"  journal {'off' if name == 'off' else 'sync ' + name:<14} {request:>4} spans a request  {1e3 / row['all']:.2f} M spans per CPU-second{ratio}; "
                     f"ns a span: {row['user']:.0f} user, {row['system']:.0f} system{writer}")

    def recovery(self):
        """kill -9, start, and what the log says it took. The kernel still has the journal in memory."""
        bench = self.bench
        options = self.journal(self.directory, more=", memory: { limit_mib: 2048 }")
        program, address, admin = bench.start_sampler(HOLD_S, options)
        load = bench.load(address, REQUEST, "--traces", "40000")
        held = metric(admin, "tailrace_spans_held")
        program.process.kill()
        program.process.wait()
        program, _, admin = bench.start_sampler(HOLD_S, options, otlp=address)
        with open(program.log) as log:
            found = re.search(r"recovered .*bytes=(\d+) spans=(\d+) .*milliseconds=(\d+)", log.read())
        if not found or int(found[2]) != held or metric(admin, "tailrace_spans_held") != held:
            raise Trouble(f"{held} spans were held, {found and found[2]} came back")
        seconds = int(found[3]) / 1e3
        span_mb = held * load["bytes_per_span"] / 1e6
        self.say(f"  recovery                  {span_mb / seconds:.0f} MB/s of spans, {held / seconds / 1e6:.2f} M spans/s: {held:.0f} spans in {seconds:.2f} s")
        return {"spans": held, "seconds": seconds, "megabytes_per_second": span_mb / seconds, "spans_per_second": held / seconds}

    # -- spans on disk alone ---------------------------------------------------------------------------------------

    def fill(self, admin, address, spans_per_trace):
        """Until intake is refused for want of memory."""
        for _ in range(40):
            self.bench.load(address, REQUEST, "--seconds", "2", "--rate", "150000", "--spread-ms", "100", "--retry-seconds", "1",
                            "--drain-seconds", "3", "--spans-per-trace", str(spans_per_trace), "--services", str(min(5, spans_per_trace)))
            if metric(admin, "tailrace_requests_refused_total") > 0:
                return
        raise Trouble("memory never ran full")

    def spilled(self):
        """Memory for each span held when it holds as many as it can, nearly all of them spilled."""
        result, limit_mib = {}, 128
        for spans in (15, 3):
            options = self.journal(os.path.join(self.directory, str(spans)), more=f", memory: {{ limit_mib: {limit_mib}, at_limit: spill }}")
            program, address, admin = self.bench.start_sampler(HOLD_S, options)
            self.fill(admin, address, spans)
            held, spilled = metric(admin, "tailrace_spans_held"), metric(admin, "tailrace_spans_spilled")
            used = metric(admin, "tailrace_store_committed_bytes")
            row = result[spans] = {"held": held, "spilled": spilled, "store_bytes_per_span": used / held, "rss_bytes_per_span": program.rss() / held}
            program.process.kill()
            program.process.wait()
            self.bench.stop_all()
            self.say(f"  spilled, {spans:>2} spans a trace  {row['store_bytes_per_span']:.0f} B of the store a span held ({spilled / held:.0%} of {held:.0f} spilled), "
                     f"{row['rss_bytes_per_span']:.0f} B of RSS" + (" (goal: 64)" if spans == 15 else ""))
        return result

    def forget_pages(self):
        """What was written is read from the disk again."""
        os.sync()
        for folder, _, names in os.walk(self.directory):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def read_back(self):
        """A tenth of the traces is kept, and comes back from a disk that allows so many reads a second."""
        wait = 25
        cap = ReadCap(self.directory)
        try:
            options = self.journal(self.directory, more=", memory: { limit_mib: 96, at_limit: spill }")
            program, address, admin = self.bench.start_sampler(wait, options, TENTH)
            load = self.bench.load(address, REQUEST, "--seconds", "8", "--rate", "40000", "--spread-ms", "100")
            cap.hold(program.process.pid)
            spilled = metric(admin, "tailrace_spans_spilled")
            self.forget_pages()
            self.wait_for(lambda: metric(admin, "tailrace_spans_exported_total") > 0, wait + 20, "the first trace is decided")
            started = time.monotonic()
            self.bench.drained(admin)
            seconds = time.monotonic() - started
            kept, reads = metric(admin, "tailrace_spans_exported_total"), metric(admin, "tailrace_journal_reads_total")
            self.say(f"  read back                 {kept:.0f} kept spans in {seconds:.1f} s with {reads:.0f} reads ({kept / max(reads, 1):.1f} spans a read; "
                     f"{spilled / load['spans_acknowledged']:.0%} of all were spilled; they came in over 8 s): {cap.text}")
            return {"kept": kept, "reads": reads, "seconds": seconds, "spilled": spilled, "capped": cap.group is not None}
        finally:
            self.bench.stop_all()
            cap.end()

    @staticmethod
    def wait_for(condition, timeout_s, what):
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise Trouble(f"{what}: not within {timeout_s} s")
            time.sleep(0.02)

    # -- a backend that is away --------------------------------------------------------------------------------------

    def outage(self):
        """Memory and disk, against the bytes of what is kept: the growth from one moment of the outage to another."""
        bench, rate, wait, seconds = self.bench, 20000, 5, self.bench.options.outage
        port = free_address()  # nobody is there
        program, address, admin = bench.start_sampler(wait, self.journal(self.directory, segment_mib=16), TENTH, backend=port)

        def look():
            size = metric(admin, "tailrace_journal_size_bytes")
            free = sum(16 * MIB for _ in range(int(self.segments_free(admin))))
            return {"held": metric(admin, "tailrace_spans_held"), "rss": program.rss(), "disk": size - free,
                    "live": metric(admin, "tailrace_journal_live_bytes")}

        bench.seed += 1
        load = subprocess.Popen([bench.tool("bench", "tailrace-load"), "--quiet", "--endpoint", address, "--rate", str(rate), "--seconds",
                                 str(seconds), "--seed", str(bench.seed)], stdout=subprocess.PIPE, text=True)
        try:
            time.sleep(seconds / 3)
            first = look()
            time.sleep(seconds * 0.6)
            last = look()
            text = load.communicate(timeout=60)[0]
        finally:
            if load.poll() is None:
                load.kill()
                load.wait()
        per_span = float(re.search(r'"bytes_per_span": ([\d.]+)', text)[1])
        program.process.kill()
        program.process.wait()
        kept = (last["held"] - first["held"]) * per_span
        ratios = {name: (last[name] - first[name]) / kept for name in ("rss", "disk", "live")}
        self.say(f"  backend away for {seconds:.0f} s      memory grew by {ratios['rss']:.2f}, disk by {ratios['disk']:.2f} (live {ratios['live']:.2f}) of the bytes of what is kept, "
                 f"{kept / MIB:.0f} MiB of {rate} spans/s at 10 % (goal: 1.3)")
        return {"seconds": seconds, "kept_bytes": kept, **ratios, "first": first, "last": last}

    @staticmethod
    def segments_free(admin):
        found = re.search(r'^tailrace_journal_segments\{content="nothing"\} (\d+)', get(admin, "/metrics"), re.MULTILINE)
        return int(found[1]) if found else 0

    # -- handoff ---------------------------------------------------------------------------------------------------------

    def member(self, addresses, index, limit_mib=2048):
        """A sampler that knows those before it."""
        names = ", ".join(f'"{one}"' for one in addresses[:index + 1])
        return self.bench.start_sampler(HOLD_S, f", cluster: {{ self: sampler-{index}, hello_wait: 500ms, resolver: {{ static: {{ hostnames: [{names}] }} }} }}"
                                        f", memory: {{ limit_mib: {limit_mib} }}", otlp=addresses[index], name=f"sampler-{index}")

    def wait_agreed(self, members):
        self.wait_for(lambda: all(metric(admin, "tailrace_cluster_slots_settled") == metric(admin, "tailrace_cluster_slots_owned")
                                  and metric(admin, "tailrace_cluster_members") == len(members) for _, _, admin in members), 40, "all agree")

    def start_load(self, front, *words):
        self.bench.seed += 1
        return subprocess.Popen([self.bench.tool("bench", "tailrace-load"), "--quiet", "--endpoint", front, "--seed", str(self.bench.seed), *words],
                                stdout=subprocess.PIPE, text=True)

    def handoff(self):
        """A third sampler joins two that hold traces and take in more: what moves a second, and what intake is meanwhile."""
        bench, rate = self.bench, 20000
        addresses = [free_address() for _ in range(3)]
        members = [self.member(addresses, 0), self.member(addresses, 1)]
        front = ",".join(addresses[:2])
        self.wait_agreed(members)
        bench.load(front, REQUEST, "--traces", "60000")
        load = self.start_load(front, "--rate", str(rate), "--seconds", "30")
        try:
            time.sleep(4)
            before = self.taken(members)
            members.append(self.member(addresses, 2))
            joined = members[2][2]
            moved = self.watch_move(joined, members)
            text = load.communicate(timeout=90)[0]
        finally:
            if load.poll() is None:
                load.kill()
                load.wait()
        if load.returncode != 0:
            raise Trouble(f"tailrace-load ended with {load.returncode}: {text}")
        offered = rate * moved["seconds"]
        self.say(f"  handoff                   {moved['spans'] / moved['seconds'] / 1e6:.2f} M spans/s from two samplers of one worker to a third "
                 f"({moved['spans']:.0f} spans in {moved['seconds']:.2f} s); intake meanwhile {moved['intake'] / offered:.0%} of {rate} spans/s offered")
        return {**moved, "before": before}

    def handoff_share(self):
        """Full speed through a balancer while a third sampler joins two, or leaves them, and as long after that: what intake keeps when it and
        the handoff want all of the same workers."""
        result = {}
        for way in ("joins", "leaves"):
            addresses = [free_address() for _ in range(3)]
            members = [self.member(addresses, index, 6144) for index in range(2 if way == "joins" else 3)]
            self.wait_agreed(members)
            self.bench.load(",".join(addresses[:len(members)]), REQUEST, "--traces", "60000")
            _, front, lb = self.bench.start_lb(members=addresses, known=len(members))
            load = self.start_load(front, "--seconds", "60", "--in-flight", "100")
            try:
                time.sleep(2)
                row = result[way] = self.share_of(way, members, addresses, lb)
            finally:
                load.kill()
                load.wait()
                load.stdout.close()
            self.bench.stop_all()
            self.say(f"  a third one {way:<6}        intake at full speed {row['during'] / 1e3:.0f} k spans/s in the {row['seconds']:.1f} s while {row['spans'] / 1e3:.0f} k spans move, "
                     f"{row['after'] / 1e3:.0f} k after: {row['during'] / row['after']:.2f} (goal: 0.75)")
        return result

    def share_of(self, way, members, addresses, lb):
        def seen():
            return time.monotonic(), metric(lb, "otelcol_receiver_accepted_spans_total")

        def rate(before, after):
            return (after[1] - before[1]) / (after[0] - before[0])

        if way == "joins":
            members.append(self.member(addresses, 2, 6144))
            takers, over = members[2:], lambda: metric(members[2][2], "tailrace_cluster_slots_settled") > 0
        else:
            members[2][0].process.terminate()
            takers, over = members[:2], lambda: members[2][0].process.poll() is not None
        self.wait_for(lambda: self.taken_over(takers) > 0, 30, "the first trace moved")
        begun = seen()
        self.wait_for(over, 120, "all has moved")
        moved, spans = seen(), self.taken_over(takers)
        time.sleep(max(2, moved[0] - begun[0]))
        return {"spans": spans, "seconds": moved[0] - begun[0], "during": rate(begun, moved), "after": rate(moved, seen())}

    @staticmethod
    def taken_over(members):
        return sum(metric(admin, "tailrace_spans_taken_over_total") for _, _, admin in members)

    @staticmethod
    def taken(members):
        """Fresh spans taken in: what one passed on counts where it went."""
        return sum(metric(admin, "tailrace_spans_received_total") - metric(admin, "tailrace_spans_forwarded_total") for _, _, admin in members)

    def watch_move(self, joined, members):
        self.wait_for(lambda: metric(joined, "tailrace_spans_taken_over_total") > 0, 30, "the first trace moved")
        started, intake = time.monotonic(), self.taken(members)
        self.wait_for(lambda: metric(joined, "tailrace_cluster_slots_settled") > 0, 60, "all has moved")
        return {"seconds": time.monotonic() - started, "intake": self.taken(members) - intake,
                "spans": metric(joined, "tailrace_spans_taken_over_total")}
