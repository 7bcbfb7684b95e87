#!/usr/bin/env python3
"""Compares our decisions with those of the real Collector, trace by trace.

    tests/collector/run.py --runner build/tests/test_policy_cases [--seed S] [--traces N] [--quick]

The runner writes policies, traces and what we decided: first the cases beside the policies, then random policy sets and
traces from a seed, in requests of one or several traces, shuffled. A failure names its portion: that seed and number of
traces make it again. The Collector's tail sampling processor (tests/peers/oracle) decides the same bytes. Decision and
credited policy must be equal, refused settings refused with the same words; a case marked `differs` must really differ.
What cannot be run has failed: there is no skipping. The last line says how many comparisons passed and failed.
"""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from kit.go_program import go_program

SHOWN_FAILURES = 20  # of one set; more say nothing new
PORTION = 20000  # random traces on disk at a time
TRACES_PER_SET = 100


def build_oracle():
    try:
        return go_program("oracle")
    except (OSError, AssertionError) as error:
        raise SystemExit(f"the Collector's processor cannot be built: {error}\n0 passed, 1 failed")


def emit(runner, directory, arguments):
    result = subprocess.run([runner, *arguments, "--emit", directory], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{result.stdout}{result.stderr}{runner} failed\n0 passed, 1 failed")


class Result:
    def __init__(self, name):
        self.name, self.passed, self.failures = name, 0, []

    def check(self, fine, message):
        if fine:
            self.passed += 1
        else:
            self.failures.append(message)


def run_oracle(oracle, directory, *arguments):
    return subprocess.run([oracle, "-config", directory / "policies.yaml", *arguments], capture_output=True, text=True,
                          timeout=300)


def compare_refusal(result, oracle, directory, words, differs):
    answer = run_oracle(oracle, directory, "-validate")
    if differs:
        result.check(answer.returncode == 0, f"marked as different, but the Collector refuses it too: {answer.stderr.strip()}")
        return
    result.check(answer.returncode != 0 and words in answer.stderr + answer.stdout,
                 f"we refuse with `{words}`, the Collector says: {(answer.stderr or answer.stdout).strip()}")


def collector_decisions(text):
    """{trace ID: (decision, policy)} of the oracle's lines."""
    decisions = {}
    for line in text.splitlines():
        trace_id, decision, rest = line.split(" ", 2)
        notes = dict(note.split("=", 1) for note in rest.split(" ")[1:])
        decisions[trace_id] = (decision, notes.get("policy", ""))
    return decisions


def compare_set(oracle, directory):
    result = Result(directory.name)
    expected = [line.split("\t") for line in (directory / "expected.txt").read_text().splitlines()]
    if expected and expected[0][0] == "refused":
        compare_refusal(result, oracle, directory, expected[0][1], expected[0][2])
        return result
    answer = run_oracle(oracle, directory, "-traces", directory / "traces.bin")
    if answer.returncode != 0 or not expected:
        result.check(False, f"the Collector did not run: {answer.stderr.strip()}")
        return result
    theirs = collector_decisions(answer.stdout)
    for trace_id, decision, policy, place, differs in expected:
        their = theirs.pop(trace_id, ("nothing", ""))
        if differs:
            result.check(their != (decision, policy) and their[0] != "nothing",
                         f"{place}: marked as different, but the Collector decides alike: {decision} {policy}")
        else:
            result.check(their == (decision, policy),
                         f"{place} ({trace_id}): we decide {decision} {policy}, the Collector {their[0]} {their[1]}")
    for trace_id in theirs:
        result.check(False, f"the Collector decided {trace_id}, which we did not")
    return result


def compare_portion(oracle, runner, what, arguments):
    """(passed, failed) of the sets that the runner writes when called so."""
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="tailrace-collector-") as scratch:
        parent = pathlib.Path(scratch) / "sets"
        emit(runner, parent, arguments)
        directories = sorted(parent.iterdir())
        with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for directory, result in zip(directories, pool.map(lambda path: compare_set(oracle, path), directories)):
                passed += result.passed
                failed += len(result.failures)
                if result.failures:
                    print(f"{result.name}: {len(result.failures)} failed ({what})")
                    print((directory / "policies.yaml").read_text(), end="")
                    print("\n".join(result.failures[:SHOWN_FAILURES]))
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description="Compares our decisions with the real Collector's.")
    parser.add_argument("--runner", required=True, help="the program test_policy_cases")
    parser.add_argument("--seed", default=os.environ.get("TAILRACE_SEED", "1"), help="of the random run")
    parser.add_argument("--traces", type=int, default=100000, help="random traces; any number, it is done in portions")
    parser.add_argument("--conditions", type=int, default=3000, help="random OTTL conditions, each asked of eight spans")
    parser.add_argument("--quick", action="store_true", help="a tenth of them")
    options = parser.parse_args()

    oracle = build_oracle()
    left = options.traces // 10 if options.quick else options.traces
    passed, failed = compare_portion(oracle, options.runner, "cases", [])
    seed = int(options.seed)
    conditions = options.conditions // 10 if options.quick else options.conditions
    if conditions > 0:
        good, bad = compare_portion(oracle, options.runner, f"--seed {seed} --conditions {conditions}",
                                    ["--ottl", str(seed), str(conditions)])
        passed, failed = passed + good, failed + bad
    while left > 0:
        count = min(left, PORTION)
        arguments = ["--random", str(seed), str(count), str(max(1, count // TRACES_PER_SET))]
        good, bad = compare_portion(oracle, options.runner, f"--seed {seed} --traces {count}", arguments)
        passed, failed = passed + good, failed + bad
        left -= count
        seed += 1
        if options.traces > 10 * PORTION:
            print(f"{passed} equal, {failed} not; {left} to go", flush=True)
    print(f"collector: {passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
