#!/usr/bin/env python3
"""Negative controls of the simulator: with each planted defect (meson -Dplant=NAME) a scenario must fail, for that defect's reason,
within few seeds; and on the same program a scenario that has nothing to do with it passes.
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

from kit import plants
from kit.suite import Suite, check, equal

suite = Suite("sim_plants", timeout_s=1200)

# plant: (scenario that must fail, seeds that find it, what it must say, scenario that must pass all the same)
PLANTS = {
    "dedupe_off": ("alone", "1-20", "and again by", "quiet"),
    "fallback_on_overload": ("overload", "1-20", "but .* were acknowledged", "quiet"),
    "acknowledge_before_delivery": ("overload", "1-20", "but .* were acknowledged", "quiet"),
    "drain_in_a_hurry": ("balancers_roll", "1-20", "a request was cancelled by lb", "quiet"),
    "handoff_off": ("scale", "1-12", "but .* were acknowledged|decided twice", "quiet"),
    "settle_off": ("machine_dies", "1-12", "but .* were acknowledged|decided twice", "quiet"),
    "acknowledge_before_write": ("crash_in_write", "1-30", "but .* were acknowledged|never", "quiet"),
    "clock_restarted_by_move": ("scale", "1-12", "ms too late", "quiet"),
    "sender_forgets_early": ("scale", "1-12", "but .* were acknowledged|never", "quiet"),
    "give_up_at_once": ("backend_outage", "1-20", "it never arrived", "quiet"),
}
# What these break is not in the simulator, or another suite's: bodies over HTTP, credentials, answers of a name server, files that change.
ELSEWHERE = {"inflate_unbounded", "anybody_may_send", "empty_answer_accepted", "reload_half_applied"}


def run_sim(program, scenario, seeds):
    """(failed runs, output)"""
    done = subprocess.run([program, "--scenario", scenario, "--seeds", seeds, "--jobs", str(os.cpu_count() or 1)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = re.search(r"^sim: (\d+) passed, (\d+) failed, 0 skipped$", done.stdout, re.MULTILINE)
    check(found and int(found[1]) + int(found[2]) > 0, f"{scenario} did not run:\n{done.stdout[-3000:]}")
    return int(found[2]), done.stdout


@suite.case(*PLANTS)
def defect_is_found(plant):
    """The scenario fails on a program with the planted defect, and says what was broken."""
    scenario, seeds, words, unrelated = PLANTS[plant]
    program = os.path.join(plants.build("build-plant-sim", plant, ["tests/sim/sim"]), "tests/sim/sim")
    failed, output = run_sim(program, unrelated, "1-5")
    check(failed == 0, f"{unrelated} fails on {plant} as well, so its failures prove nothing:\n{output[-3000:]}")
    failed, output = run_sim(program, scenario, seeds)
    check(failed > 0, f"{scenario} passes on a program with the defect {plant}: it cannot fail")
    check(re.search(words, output), f"{scenario} failed on {plant}, but not for its defect:\n{output[-3000:]}")


@suite.case()
def all_plants_are_known():
    """Each plant of meson_options.txt is found here, or is one that only other suites can find."""
    equal(set(PLANTS) | ELSEWHERE, plants.known(), "plants that are found here or elsewhere")


if __name__ == "__main__":
    sys.exit(suite.main())
