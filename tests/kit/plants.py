"""Programs with a planted defect (meson -Dplant=NAME), for suites that show that their cases can fail."""
import os
import re
import subprocess

from kit.suite import check

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def known():
    """The names of meson_options.txt."""
    with open(os.path.join(ROOT, "meson_options.txt"), encoding="utf-8") as file:
        choices = re.search(r"option\('plant'.*?choices: \[(.*?)\]", file.read(), re.DOTALL)[1]
    return set(re.findall(r"'(\w+)'", choices)) - {"none"}


def build(name, plant, targets, options=()):
    """Builds the targets in the directory `name` of the tree, and returns its path. One directory for all plants: only what asks for
    a plant is compiled again for the next."""
    directory = os.path.join(ROOT, name)
    if os.path.exists(os.path.join(directory, "build.ninja")):
        run(["meson", "configure", directory, f"-Dplant={plant}"])
    else:
        run(["meson", "setup", directory, ROOT, "--buildtype=release", f"-Dplant={plant}", "-Dbench=false", *options])
    run(["ninja", "-C", directory, *targets])
    return directory


def run(argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
