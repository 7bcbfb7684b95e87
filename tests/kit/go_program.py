"""Where tests keep what they build and install, and the programs in Go among it."""
import functools
import os
import pathlib
import subprocess

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
    built = subprocess.run(["go", "build", "-buildvcs=false", "-o", program, "."], cwd=PEERS / name, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=900)
    if built.returncode != 0:
        raise AssertionError(f"{name} cannot be built:\n{built.stdout}{built.stderr}")
    return program
