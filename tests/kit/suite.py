"""Cases and their closing line.

A case is a function whose docstring opens with the property it holds. A suite runs its cases one after the
other, each within a bound of time, and ends with a line that tests/run adds up:

    bad_input: 21 passed, 0 failed, 0 skipped
"""
import argparse
import http.client
import os
import signal
import sys
import time
import traceback


class CaseTimeout(Exception):
    pass


class Suite:
    def __init__(self, name, timeout_s=120):
        self.name = name
        self.timeout_s = timeout_s
        self.cases = []
        self.options = argparse.Namespace(build="build", quick=False)

    def case(self, *variants, timeout_s=None):
        """@suite.case() or @suite.case("lb", "sampler"): the case then runs once with each word."""
        def register(function):
            for variant in variants or (None,):
                name = function.__name__ + (f"[{variant}]" if variant else "")
                self.cases.append((name, function, variant, timeout_s or self.timeout_s))
            return function
        return register

    def main(self):
        parser = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").strip(),
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--build", default=os.environ.get("TAILRACE_BUILD", "build"),
                            help="build directory whose binaries are tested")
        parser.add_argument("--only", default="", help="run the cases whose name contains this, or one of these, with commas between")
        parser.add_argument("--quick", action="store_true", help="shorter loads")
        parser.add_argument("--list", action="store_true", help="print the cases and their properties")
        self.options = parser.parse_args()
        set_build(self.options.build)

        chosen = [case for case in self.cases if any(part in case[0] for part in self.options.only.split(","))]
        if self.options.list:
            for name, function, _, _ in chosen:
                print(f"{name}: {first_line(function)}")
            return 0
        signal.signal(signal.SIGALRM, on_alarm)
        passed = failed = 0
        for name, function, variant, timeout_s in chosen:
            print(f"  {name} ... ", end="", flush=True)
            started = time.monotonic()
            error = run_case(function, variant, timeout_s)
            seconds = time.monotonic() - started
            if error is None:
                passed += 1
                print(f"ok ({seconds:.1f} s)", flush=True)
            else:
                failed += 1
                print(f"FAILED ({seconds:.1f} s)\n    property: {first_line(function)}\n{indent(error)}", flush=True)
        if not chosen:
            print(f"  no case is called *{self.options.only}*")
            failed = 1
        print(f"{self.name}: {passed} passed, {failed} failed, 0 skipped", flush=True)
        return 1 if failed else 0


def set_build(build):
    from kit import proc
    proc.BUILD = os.path.abspath(build)


def run_case(function, variant, timeout_s):
    signal.alarm(int(timeout_s * slowness()))
    try:
        if variant is None:
            function()
        else:
            function(variant)
        return None
    except Exception:  # a case may fail in any way; the next one still runs
        return traceback.format_exc()
    finally:
        signal.alarm(0)


def on_alarm(_signum, _frame):
    raise CaseTimeout("the case did not end within its time")


def first_line(function):
    return (function.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def indent(text):
    return "".join("    " + line + "\n" for line in text.rstrip().splitlines())


def until(condition, what, timeout_s=20.0, every_s=0.05):
    """Waits for condition() to be true; its last value is returned. Who begins or ends to listen may refuse or reset the connection of
    one that asks: that is not an answer, and it is asked again."""
    end = time.monotonic() + timeout_s * slowness()
    while True:
        unanswered = ""
        try:
            value = condition()
            if value:
                return value
        except (OSError, http.client.HTTPException) as error:
            unanswered = f" ({error!r})"
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout_s * slowness():.0f} s{unanswered}")
        time.sleep(every_s)


def slowness():
    """How much longer things may take: sanitizer builds set it."""
    return float(os.environ.get("TAILRACE_TEST_SLOWNESS", "1"))


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def same_once(got, want, what):
    """The same IDs on both sides, each once, in any order; counts what differs instead of printing all."""
    got, want = list(got), set(want)
    doubled = len(got) - len(set(got))
    missing, extra = want - set(got), set(got) - want
    if doubled or missing or extra:
        example = next(iter(missing or extra), b"").hex()
        raise AssertionError(f"{what}: of {len(want)} {len(missing)} missing, {doubled} doubled, {len(extra)} unexpected {example}")


def check(condition, what):
    if not condition:
        raise AssertionError(what)
