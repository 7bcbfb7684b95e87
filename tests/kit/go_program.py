"""Where tests keep what they build and install, and the programs in Go among it."""
import functools
import os
import pathlib
import subprocess
import time

PEERS = pathlib.Path(__file__).resolve().parent.parent / "peers"


def cache_dir():
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "tailrace"
    path = pathlib.Path(os.environ.get("TAILRACE_CACHE", default))
    path.mkdir(parents=True, exist_ok=True)
    return path


@functools.lru_cache(maxsize=None)
def go_program(name):
    """The program of tests/peers/NAME, built once a run; Go's own build cache makes this quick when nothing changed. Raises OSError
    without Go, AssertionError with its words when it does not build."""
    program = cache_dir() / name
    fetching(["go", "build", "-buildvcs=false", "-o", str(program), "."], cwd=PEERS / name, timeout=900)
    return program


def fetching(command, **options):
    """Runs a command that may ask a registry, which may fail for a moment: up to three times."""
    for pause_s in (5, 20, None):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
        if done.returncode == 0:
            return
        words = f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        if pause_s is None:
            raise AssertionError(words)
        print(f"{words}\nagain in {pause_s} s", flush=True)
        time.sleep(pause_s)
