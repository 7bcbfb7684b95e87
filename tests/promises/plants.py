#!/usr/bin/env python3
"""Negative controls: each promise's case must fail on programs built with the matching defect (meson -Dplant=NAME).

A plant passes here when its case fails there, for the right reason, while a case that has nothing to do with the
defect still passes: a program that does not even start proves nothing.
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, ".."))

from kit import plants, proc
from kit.suite import Suite, check, equal

suite = Suite("plants", timeout_s=1200)

# plant: (suite, case that must fail, what it must say), ...
PLANTS = {
    "dedupe_off": [("promises", "resend_adds_nothing", "spans at the backend, each once"),
                   ("cluster/rules", "resend_meets_what_moved", "spans at the backend, each once")],
    "fallback_on_overload": [("promises", "overload_goes_to_client[RESOURCE_EXHAUSTED]", "the member that does not own them got")],
    "acknowledge_before_delivery": [("promises", "acknowledged_end_to_end", "answered before the member that holds its answer")],
    "empty_answer_accepted": [("peers/dns", "name_gone[empty]", "ring: got []"),
                              ("cluster/handoff", "name_gone", "sends to ['sampler-0'")],
    "drain_in_a_hurry": [("peers/bad_input", "drain_answers_in_flight", "a request that was in flight")],
    "give_up_at_once": [("peers/export", "tried_again[503]", "spans at the backend: not within")],
    "inflate_unbounded": [("peers/bad_input", "gzip_bomb[sampler]", "that inflate to")],
    "anybody_may_send": [("peers/security", "basicauth_in[sampler]", "StatusCode.UNAUTHENTICATED")],
    "settle_off": [("cluster/rules", "kept_spans_count[crashed]", "spans at the backend, each once")],
    "handoff_off": [("cluster/rules", "misrouted_spans", "a trace lies in one place")],
    "acknowledge_before_write": [("cluster/rules", "acknowledged_is_written", "acknowledged spans are lost")],
    "clock_restarted_by_move": [("cluster/rules", "deadline_travels", "was decided after one that began later")],
    "sender_forgets_early": [("cluster/rules", "unanswered_give", "spans at the backend, each once")],
    "reload_half_applied": [("peers/reload", "invalid_changes_nothing[POST]", "spans at the backend: not within")],
}
UNRELATED = ("promises", "hello_not_implemented")


def run_case(directory, folder, case):
    """(passed, output) of one case of the suite in tests/folder."""
    # The plant's build has no tools; those of the plain one send the load.
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", folder, "run.py"), "--build", directory, "--only", case, "--quick"],
                          env={"TAILRACE_TOOLS": proc.BUILD, **os.environ},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = re.search(r"^\w+: (\d+) passed, (\d+) failed, 0 skipped$", done.stdout, re.MULTILINE)
    check(found and int(found[1]) + int(found[2]) == 1, f"{case} did not run:\n{done.stdout[-3000:]}")
    return found[1] == "1", done.stdout


@suite.case(*PLANTS)
def defect_is_found(plant):
    """The promise's cases fail on a program with the planted defect, and say what was broken."""
    directory = plants.build("build-plant", plant, ["lb/tailrace-lb", "sampler/tailrace-sampler"], ["-Dtests=false"])
    passed, output = run_case(directory, *UNRELATED)
    check(passed, f"{UNRELATED[1]} fails on {plant} as well, so its failures prove nothing:\n{output[-3000:]}")
    for folder, case, words in PLANTS[plant]:
        passed, output = run_case(directory, folder, case)
        check(not passed, f"{case} passes on a program with the defect {plant}: it cannot fail")
        check(words in output, f"{case} failed on {plant}, but not for its defect:\n{output[-3000:]}")


@suite.case()
def all_plants_have_a_case():
    """Each plant of meson_options.txt has a case here."""
    equal(set(PLANTS), plants.known(), "plants with a case")


if __name__ == "__main__":
    sys.exit(suite.main())
