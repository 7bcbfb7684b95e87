#!/usr/bin/env python3
"""The configurations that README.md and the pages show are accepted by the programs they are shown for."""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from kit import proc
from kit.suite import Suite, check

suite = Suite("examples")
PROGRAMS = {"lb.yaml": "lb/tailrace-lb", "sampler.yaml": "sampler/tailrace-sampler"}


def check_config(program, text):
    """(exit status, output) of --check."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([os.path.join(proc.BUILD, program), "--config", file.name, "--check"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def examples():
    pages = ["README.md"] + sorted(os.path.join("docs", name) for name in os.listdir(os.path.join(ROOT, "docs")) if name.endswith(".md"))
    for page in pages:
        with open(os.path.join(ROOT, page), encoding="utf-8") as file:
            text = file.read()
        for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL):
            named = re.match(r"# (lb|sampler)\.yaml\b", block)
            if named:
                yield page, f"{named[1]}.yaml", block


@suite.case()
def shown_configurations_are_accepted():
    """Each block that begins with "# lb.yaml" or "# sampler.yaml" passes --check."""
    shown = list(examples())
    check({name for page, name, _ in shown if page == "README.md"} == set(PROGRAMS), "README.md shows one of each")
    for page, name, block in shown:
        code, output = check_config(PROGRAMS[name], block)
        check(code == 0, f"{page}: {name} is refused ({code}):\n{output}")


@suite.case("lb.yaml", "sampler.yaml")
def a_mistake_is_refused(name):
    """--check is not deaf: a misspelt key is refused with exit 1, the line and the nearest known key."""
    block = next(block for _, shown, block in examples() if shown == name)
    broken = block.replace("endpoint:", "endpiont:", 1)
    code, output = check_config(PROGRAMS[name], broken)
    line = next(number for number, text in enumerate(broken.splitlines(), 1) if "endpiont" in text)
    check(code == 1, f"exit status {code}:\n{output}")
    check(f":{line}" in output and "endpiont" in output and "endpoint" in output, f"says where and what was meant (line {line}):\n{output}")


if __name__ == "__main__":
    sys.exit(suite.main())
