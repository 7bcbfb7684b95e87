"""Loads that are judged from the two ends of the wire.

tailrace-load writes down what was acknowledged, span by span; tailrace-sink writes down what arrived, and judges: whole, split,
lost, doubled, wrongly kept or dropped. Nothing of it comes from the programs under test.
"""
import json
import os

from kit import proc
from kit.suite import check, equal

SEED = 20240607
# What the samplers are told and what the judge is told; the judge knows the Collector's hash.
POLICIES = [
    {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    {"name": "slow", "type": "latency", "latency": {"threshold_ms": 1000}},
    {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": 10}},
]
RULE = "errors|latency>1000|percent=10"
# Decisions of a whole run are remembered: a span sent again late must find its own.
CACHE = {"decision_cache": {"sampled_cache_size": 4_000_000, "non_sampled_cache_size": 4_000_000}}


def tool(name):
    """A program of bench/: the sanitized build borrows those of the plain one."""
    return os.path.join(os.environ.get("TAILRACE_TOOLS", proc.BUILD), "bench", name)


class Sink:
    """tailrace-sink. inject: its faults, as it wants them; outage_s: (from, to) seconds after the first request, then they end.
    host, port: where others than processes of this machine reach it."""

    def __init__(self, stage, inject=(), outage_s=None, host="127.0.0.1", port=None):
        self.stage = stage
        self.port = port or proc.free_port()
        self.arrivals = os.path.join(stage.directory, "arrivals")
        self.report = os.path.join(stage.directory, "sink.json")
        words = [word for item in inject for word in ("--inject", item)]
        if outage_s:
            words += ["--inject-from", str(outage_s[0]), "--inject-to", str(outage_s[1])]
        self.program = stage.program("sink", [tool("tailrace-sink"), "--address", host, "--port", str(self.port),
                                              "--arrivals", self.arrivals, "--report", self.report, *words])

    def end(self):
        """Its report; the file of arrivals is whole then."""
        self.program.stop(60)
        with open(self.report, encoding="utf-8") as file:
            return json.load(file)


class Load:
    """tailrace-load, in the background until finish(). Trace IDs follow from the seed: one that samplers have seen makes late spans."""

    def __init__(self, stage, fronts, *options, seed=SEED):
        self.stage = stage
        self.summary = os.path.join(stage.directory, "load.json")
        self.ledger = os.path.join(stage.directory, "ledger")
        self.program = stage.program("load", [tool("tailrace-load"), "--endpoint", ",".join(node.address for node in fronts), "--quiet",
                                              "--seed", str(seed), "--ledger", self.ledger, "--summary", self.summary, *options])

    def running(self):
        return self.program.running()

    def end(self, **options):
        """No new traces: those begun are completed. Returns the summary."""
        self.program.terminate()
        return self.finish(**options)

    def finish(self, may_fail=False, timeout_s=600):
        """Waits for its end; returns its summary. may_fail: some spans may never have been acknowledged."""
        code = self.program.wait(timeout_s)
        self.stage.programs.remove(self.program)
        check(code == 0 or (may_fail and code == 1), f"tailrace-load ended with {code}\n{self.program.tail()}")
        with open(self.summary, encoding="utf-8") as file:
            done = json.load(file)
        print(f"{done['spans_acknowledged']} spans in {done['seconds']:.0f} s, the slowest answer after {done['ack_ms']['max'] / 1000:.1f} s ",
              end="", flush=True)
        return done


def judge(stage, ledger, arrivals, rule=RULE):
    """Compares both ends; the sink has ended. The judgement, good or not."""
    program = stage.program("judge", [tool("tailrace-sink"), "--compare", ledger, "--rule", rule, arrivals])
    code = program.wait(300)
    stage.programs.remove(program)
    text = program.log().decode()
    check("{" in text, f"the judge ended with {code}: {text}")
    verdict = json.loads(text[text.index("{"):])
    check(verdict["good"] == (code == 0), f"the judge says good: {verdict['good']} and ends with {code}")
    verdict["text"] = text
    return verdict


FAULTS = ("split", "partial", "lost", "doubled", "wrongly_kept", "wrongly_dropped", "altered", "invented", "malformed_requests")


def faultless(verdict, but=()):
    """No fault of any kind, except of those that the case caused and has looked at itself."""
    for word in FAULTS:
        if word not in but:
            equal(verdict[word], 0, f"{word} ({verdict['text']})")
