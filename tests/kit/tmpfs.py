"""Small disks."""
import os
import subprocess

from kit.suite import check


class Tmpfs:
    """A disk of so many MiB; needs root."""

    def __init__(self, path, mib):
        self.path, self.mib = path, mib

    def __enter__(self):
        check(os.geteuid() == 0, "a small disk must be mounted, which needs root")
        os.makedirs(self.path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.mib}m", "tailrace-test", self.path], check=True)
        return self

    def grow(self, mib):
        subprocess.run(["mount", "-o", f"remount,size={mib}m", self.path], check=True)

    def __exit__(self, *_):
        subprocess.run(["umount", "--lazy", self.path], check=True)
