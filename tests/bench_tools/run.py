#!/usr/bin/env python3
"""The tools that judge everything else: load, sink and judge, run against each other.

A judge that cannot fail is worthless, so each kind of fault is made on purpose, by the sink lying or by it
misbehaving on the wire, and the judge must name that kind and no other; honest runs, however rough the
transport, must pass.

    tests/bench_tools/run.py [--build DIR]
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FAULTS = ["split", "partial", "split_by_node", "lost", "doubled", "wrongly_kept", "wrongly_dropped", "altered",
          "invented", "malformed_requests", "invalid_spans"]


class Failure(Exception):
    pass


def check(truth, text):
    if not truth:
        raise Failure(text)


class Run:
    """One load against one sink, in a directory of its own."""

    def __init__(self, build, directory):
        self.build, self.directory = build, directory

    def path(self, name):
        return os.path.join(self.directory, name)

    def tool(self, name):
        return os.path.join(self.build, "bench", name)

    def go(self, load=(), sink=(), sinks=1, load_good=True):
        processes, ports = [], []
        try:
            for i in range(sinks):
                process = subprocess.Popen(
                    [self.tool("tailrace-sink"), "--arrivals", self.path(f"arrivals{i}"), "--report",
                     self.path(f"report{i}"), *sink], stdout=subprocess.PIPE, text=True)
                processes.append(process)
                ports.append(int(process.stdout.readline()))
            command = [self.tool("tailrace-load"), "--quiet", "--ledger", self.path("ledger")]
            for port in ports:
                command += ["--endpoint", f"127.0.0.1:{port}"]
            done = subprocess.run(command + list(load), stdout=subprocess.PIPE, text=True, timeout=120)
            check(done.returncode == (0 if load_good else 1), f"load exit code {done.returncode}: {done.stdout}")
            self.summary = json.loads(done.stdout)
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            codes = [process.wait(timeout=30) for process in processes]
            for process in processes:
                process.stdout.close()
        check(all(code == 0 for code in codes), f"sink exit codes {codes}")
        self.reports = [json.load(open(self.path(f"report{i}"))) for i in range(sinks)]
        self.arrivals = [self.path(f"arrivals{i}") for i in range(sinks)]

    def judge(self, *words, ledger=None, arrivals=None):
        done = subprocess.run(
            [self.tool("tailrace-sink"), "--examples", "0", "--compare", ledger or self.path("ledger"), *words,
             *(self.arrivals if arrivals is None else arrivals)],
            stdout=subprocess.PIPE, text=True, timeout=120)
        check(done.returncode in (0, 1), f"judge exit code {done.returncode}")
        verdict = json.loads(done.stdout)
        check(verdict["good"] == (done.returncode == 0), "the verdict and the exit code differ")
        return verdict

    def expect(self, verdict, *faults):
        """Exactly these kinds of fault, at least one of each."""
        found = [name for name in FAULTS if verdict[name]]
        check(sorted(found) == sorted(faults), f"expected {sorted(faults)}, found {sorted(found)}: {verdict}")
        check(verdict["good"] == (not faults), f"good is {verdict['good']}: {verdict}")


TRACES = ("--traces", "3000")
TESTS = []


def test(function):
    TESTS.append(function)
    return function


# -- honest runs pass ------------------------------------------------------------------------------------


@test
def honest_run_is_whole(run):
    run.go(load=TRACES)
    verdict = run.judge("--rule", "all")
    run.expect(verdict)
    check(verdict["traces"] == verdict["whole"] == 3000, f"{verdict}")
    check(verdict["acknowledged_spans"] == verdict["arrived_spans"] == 45000, f"{verdict}")
    check(run.summary["spans_acknowledged"] == 45000, f"{run.summary}")


@test
def shapes_of_load_are_whole(run):
    """Any number of spans a trace, services and spans a request; also over 64 spans a trace, and one of each."""
    for spans, services, request in [(1, 1, 1), (1, 1, 68), (7, 7, 5), (15, 5, 500), (15, 4, 67), (200, 16, 131),
                                     (64, 3, 64), (65, 2, 9)]:
        run.go(load=["--traces", "400", "--spans-per-trace", str(spans), "--services", str(services),
                     "--spans-per-request", str(request)])
        verdict = run.judge("--rule", "all")
        run.expect(verdict)
        check(verdict["arrived_spans"] == 400 * spans, f"{spans} {services} {request}: {verdict}")


@test
def open_loop_keeps_its_rate(run):
    """--rate plans every request: the number of spans follows from rate and time, not from the far side's speed."""
    run.go(load=["--seconds", "8", "--rate", "20000"], sink=["--inject", "slow=30"])
    run.expect(run.judge("--rule", "all"))
    spans = run.summary["spans_sent"]
    # The last traces are completed after the time is up: at most --spread-ms more. What was planned while either program was not
    # scheduled just before the end is not made up for.
    check(125000 <= spans <= 172000, f"sent {spans} spans")
    check(run.summary["ack_ms"]["p50"] >= 30, f"{run.summary['ack_ms']}")


@test
def several_sinks_are_one_backend(run):
    run.go(load=TRACES, sinks=2)
    check(all(report["spans"] > 0 for report in run.reports), f"{run.reports}")
    run.expect(run.judge("--rule", "all"))


@test
def rough_transport_loses_nothing(run):
    """Refusals with and without a retry time, hangs and cut connections: retried until acknowledged, counted once."""
    for inject in ["refuse=20:14", "refuse=20:8:20", "hang=3", "close=40", "refuse=5:14:10,hang=1,close=60,slow=2"]:
        # The deadline is what a hang costs. Where either program is not scheduled for so long, spans arrive twice.
        run.go(load=[*TRACES, "--deadline-ms", "4000"], sink=["--inject", inject])
        report, summary = run.reports[0], run.summary
        check(report["refused"] + report["hung"] + report["closed_connections"] > 0, f"{inject}: nothing injected")
        check(summary["retries"] > 0 and summary["spans_failed"] == 0, f"{inject}: {summary}")
        verdict = run.judge("--rule", "all")
        run.expect(verdict)
        check(verdict["unknown"] == 0, f"{inject}: {verdict}")


@test
def final_refusal_is_not_retried(run):
    """RESOURCE_EXHAUSTED without RetryInfo and INVALID_ARGUMENT: given up; such spans are unknown, not lost."""
    for code in ("8", "3"):
        run.go(load=TRACES, sink=["--inject", f"refuse=30:{code}"], load_good=False)
        check(run.summary["retries"] == 0 and run.summary["spans_failed"] > 0, f"{run.summary}")
        check(run.summary["by_status"][code] > 0, f"{run.summary}")
        verdict = run.judge("--rule", "all")
        check(verdict["unknown_spans"] == run.summary["spans_failed"], f"{verdict} {run.summary}")
        run.expect(verdict)


@test
def retry_time_is_honoured(run):
    run.go(load=["--traces", "20"], sink=["--inject", "refuse=100:14:700", "--inject-to", "0.2"])
    check(run.summary["ack_ms"]["max"] >= 700, f"{run.summary}")
    run.expect(run.judge("--rule", "all"))


@test
def injection_window_is_kept(run):
    run.go(load=["--traces", "3000"], sink=["--inject", "refuse=100:14", "--inject-from", "1000"])
    check(run.reports[0]["refused"] == 0 and run.summary["retries"] == 0, f"{run.reports[0]}")


# -- each fault is found, and only that one ---------------------------------------------------------------


@test
def loss_is_found(run):
    run.go(load=TRACES, sink=["--lose", "1"])
    verdict = run.judge("--rule", "all")
    run.expect(verdict, "lost", "partial", "split")
    check(verdict["lost"] == 45000 - verdict["arrived_spans"] > 0, f"{verdict}")


@test
def loss_is_found_without_knowing_the_rule(run):
    """A trace of which something arrived was kept: the rest of it must be there, whatever the policies are."""
    run.go(load=TRACES, sink=["--lose", "0.1"])
    empty = run.path("none")
    open(empty, "w").close()
    run.expect(run.judge("--decisions", empty), "lost", "partial", "split")


@test
def loss_of_everything_is_found(run):
    run.go(load=TRACES, sink=["--lose", "100"])
    verdict = run.judge("--rule", "all")
    run.expect(verdict, "lost", "wrongly_dropped")
    check(verdict["wrongly_dropped"] == 3000 and verdict["lost"] == 45000, f"{verdict}")


@test
def doubling_is_found(run):
    run.go(load=TRACES, sink=["--double", "0.1"])
    verdict = run.judge("--rule", "all")
    run.expect(verdict, "doubled")
    check(verdict["doubled"] == run.reports[0]["doubled_spans"], f"{verdict}")


@test
def resends_without_dedupe_are_found(run):
    """What --resend-percent sends twice arrives twice here: the wire's own doubling, not the sink's lie."""
    run.go(load=[*TRACES, "--resend-percent", "5"])
    check(run.summary["resends"] == run.summary["resends_acknowledged"] > 0, f"{run.summary}")
    run.expect(run.judge("--rule", "all"), "doubled")


@test
def delayed_resends_are_found(run):
    run.go(load=[*TRACES, "--resend-percent", "5", "--resend-delay-ms", "300"])
    run.expect(run.judge("--rule", "all"), "doubled")


@test
def doubling_across_sinks_is_found(run):
    run.go(load=TRACES)
    verdict = run.judge("--rule", "all", arrivals=[run.arrivals[0], run.arrivals[0]])
    run.expect(verdict, "doubled")
    check(verdict["doubled"] == 45000, f"{verdict}")


@test
def two_nodes_are_a_split(run):
    run.go(load=TRACES, sink=["--misname", "3"])
    verdict = run.judge("--rule", "all")
    run.expect(verdict, "split", "split_by_node")
    check(verdict["whole"] + verdict["split"] == 3000, f"{verdict}")
    check(run.reports[0]["traces_of_several_nodes"] == verdict["split"], f"{run.reports[0]}")


@test
def alteration_is_found(run):
    run.go(load=TRACES, sink=["--alter", "0.1"])
    run.expect(run.judge("--rule", "all"), "altered")


@test
def wrong_decisions_are_found(run):
    run.go(load=[*TRACES, "--error-percent", "10", "--slow-percent", "5"])
    verdict = run.judge("--rule", "errors|latency>1000")
    run.expect(verdict, "wrongly_kept")
    check(2300 < verdict["wrongly_kept"] < 2800, f"{verdict}")
    verdict = run.judge("--rule", "none")
    check(verdict["wrongly_kept"] == 3000, f"{verdict}")
    # Nothing arrived: the same rule now misses what it keeps.
    run.go(load=[*TRACES, "--error-percent", "10", "--slow-percent", "5"], sink=["--lose", "100"])
    verdict = run.judge("--rule", "errors|latency>1000")
    run.expect(verdict, "lost", "wrongly_dropped")
    check(200 < verdict["wrongly_dropped"] < 700, f"{verdict}")
    check(verdict["wrongly_dropped"] + verdict["rightly_dropped"] == 3000, f"{verdict}")
    run.expect(run.judge("--rule", "none"))


@test
def rules_have_their_share(run):
    run.go(load=[*TRACES, "--error-percent", "0", "--slow-percent", "0"])
    for rule, low, high in [("errors", 3000, 3000), ("latency>1000", 3000, 3000), ("percent=10", 2600, 2800),
                            ("percent=10:salt", 2600, 2800), ("tenant=tenant-03", 2800, 2960), ("percent=100", 0, 0),
                            ("errors|percent=50", 1350, 1650)]:
        kept = run.judge("--rule", rule)["wrongly_kept"]
        check(low <= kept <= high, f"{rule}: {kept} of 3000 are not by the rule")


@test
def decisions_file_is_obeyed(run):
    run.go(load=["--traces", "10"])
    # The judge names the traces itself: rule none calls each of them wrongly kept.
    done = subprocess.run(
        [run.tool("tailrace-sink"), "--examples", "100", "--rule", "none", "--compare", run.path("ledger"),
         run.arrivals[0]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ids = [line.split("trace=")[1].split()[0] for line in done.stderr.splitlines() if "trace=" in line]
    check(len(set(ids)) == 10, f"{done.stderr}")
    path = run.path("decisions")
    with open(path, "w") as out:
        out.writelines(f"{id} sampled\n" for id in ids)
    run.expect(run.judge("--decisions", path))
    with open(path, "w") as out:
        out.writelines(f"{id} {'not' if i < 4 else 'sampled'}\n" for i, id in enumerate(ids))
    verdict = run.judge("--decisions", path)
    run.expect(verdict, "wrongly_kept")
    check(verdict["wrongly_kept"] == 4, f"{verdict}")


@test
def strangers_are_told_apart(run):
    """Arrivals of another run are nobody's in this ledger: all of ours is then missing."""
    run.go(load=[*TRACES, "--seed", "7"])
    os.rename(run.path("ledger"), run.path("ledger7"))
    run.go(load=[*TRACES, "--seed", "8"])
    verdict = run.judge("--rule", "all", ledger=run.path("ledger7"))
    run.expect(verdict, "lost", "wrongly_dropped")
    check(verdict["foreign_groups"] == 3000, f"{verdict}")


@test
def spans_never_sent_are_found(run):
    """The ledger of a run cut short, judged against the arrivals of the whole one with the same seed."""
    run.go(load=[*TRACES, "--seed", "9"])
    os.rename(run.arrivals[0], run.path("all"))
    # Refused for good: these spans count as sent and unknown, so nothing is invented …
    run.go(load=["--traces", "3000", "--seed", "9"], sink=["--inject", "refuse=100:3"], load_good=False)
    verdict = run.judge("--rule", "none", arrivals=[run.path("all")])
    check(verdict["invented"] == 0 and verdict["unknown_spans"] == 45000, f"{verdict}")
    check(not verdict["good"] and verdict["traces"] == 0, "nothing acknowledged is nothing to judge")
    # … but a shorter run never sent the others of its seed.
    run.go(load=["--traces", "1", "--seed", "9", "--spans-per-trace", "15"])
    verdict = run.judge("--rule", "all", arrivals=[run.path("all")])
    run.expect(verdict, "altered")  # the runs began at different times, and spans carry the time
    check(verdict["foreign_groups"] == 2999, f"{verdict}")
    # A trace is cut off in the middle by a far side that answers nothing: its other lanes were never sent.
    run.go(load=["--traces", "3000", "--seed", "9", "--connections", "1", "--in-flight", "2", "--drain-seconds", "0",
                 "--seconds", "0.3", "--deadline-ms", "20000"], sink=["--inject", "hang=100"], load_good=False)
    verdict = run.judge("--rule", "none", arrivals=[run.path("all")])
    check(verdict["unknown_spans"] > 0 and verdict["invented"] > 0, f"{verdict}")


@test
def empty_runs_do_not_pass(run):
    run.go(load=["--traces", "50"], sink=["--inject", "refuse=100:3"], load_good=False)
    check(not run.judge("--rule", "all")["good"], "a run without acknowledgement was called good")


@test
def unreadable_input_is_an_error(run):
    run.go(load=["--traces", "5"])
    cases = [["--compare", run.path("missing"), run.arrivals[0]], ["--compare", run.path("ledger"), run.path("missing")],
             ["--compare", run.arrivals[0], run.arrivals[0]], ["--compare", run.path("ledger"), run.path("ledger")],
             ["--compare", run.path("ledger")], ["--compare", run.path("ledger"), "--rule", "eror", run.arrivals[0]],
             ["--compare", run.path("ledger"), "--decisions", run.path("ledger"), run.arrivals[0]],
             ["--inject", "refuse=5"], ["--inject", "sloow=5"], ["--port", "-1"], ["--nonsense"]]
    for words in cases:
        done = subprocess.run([run.tool("tailrace-sink"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, timeout=20)
        check(done.returncode == 2 and done.stderr, f"{words}: exit code {done.returncode}")
    # A file cut short is not a shorter run.
    with open(run.path("ledger"), "rb") as whole, open(run.path("cut"), "wb") as cut:
        cut.write(whole.read()[:-8])
    done = subprocess.run([run.tool("tailrace-sink"), "--compare", run.path("cut"), run.arrivals[0]],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    check(done.returncode == 2, f"cut ledger: exit code {done.returncode}")


# -- the rest of the sink and the ceiling ------------------------------------------------------------------


@test
def status_is_live(run):
    sink = subprocess.Popen([run.tool("tailrace-sink"), "--status", run.path("status")], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    try:
        port = int(sink.stdout.readline())
        check(json.load(open(run.path("status")))["spans"] == 0, "no status at start")
        done = subprocess.run([run.tool("tailrace-load"), "--quiet", "--endpoint", f"127.0.0.1:{port}", "--traces", "100"],
                              stdout=subprocess.DEVNULL, timeout=60)
        check(done.returncode == 0, "load failed")
        until = time.monotonic() + 30
        while json.load(open(run.path("status")))["spans"] != 1500:
            check(time.monotonic() < until, "the status file never showed the spans")
            time.sleep(0.1)
        sink.send_signal(signal.SIGUSR1)
        line = json.loads("".join(sink.stderr.readline() for _ in range(4)))
        check(line["traces"] == 100, f"{line}")
    finally:
        sink.send_signal(signal.SIGTERM)
        check(sink.wait(timeout=30) == 0, "sink did not stop cleanly")
        sink.stdout.close()
        sink.stderr.close()


@test
def ceiling_answers_and_forwards(run):
    processes = []

    def start(*words):
        processes.append(subprocess.Popen(list(words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        return int(processes[-1].stdout.readline())

    try:
        plain = start(run.tool("bench-ceiling"))
        sink = start(run.tool("tailrace-sink"), "--arrivals", run.path("arrivals"))
        relay = start(run.tool("bench-ceiling"), "--forward", f"127.0.0.1:{sink}")
        for port, ledger in [(plain, "plain"), (relay, "relay")]:
            done = subprocess.run([run.tool("tailrace-load"), "--quiet", "--endpoint", f"127.0.0.1:{port}", "--traces",
                                   "2000", "--ledger", run.path(ledger)], stdout=subprocess.PIPE, text=True, timeout=60)
            check(done.returncode == 0 and json.loads(done.stdout)["spans_acknowledged"] == 30000, done.stdout)
    finally:
        codes = []
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            codes.append(process.wait(timeout=30))
            process.stdout.close()
    check(codes == [0, 0, 0], f"exit codes {codes}")
    run.expect(run.judge("--rule", "all", ledger=run.path("relay"), arrivals=[run.path("arrivals")]))
    # What went to the plain one reached nobody.
    verdict = run.judge("--rule", "none", ledger=run.path("plain"), arrivals=[run.path("arrivals")])
    check(verdict["acknowledged_spans"] == 30000, f"{verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("names", nargs="*", help="only these tests")
    options = parser.parse_args()
    passed = failed = 0
    for function in TESTS:
        if options.names and function.__name__ not in options.names:
            continue
        with tempfile.TemporaryDirectory() as directory:
            try:
                function(Run(options.build, directory))
                passed += 1
                print(f"ok {function.__name__}", flush=True)
            except (Failure, subprocess.TimeoutExpired, OSError, ValueError) as error:
                failed += 1
                print(f"FAILED {function.__name__}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
