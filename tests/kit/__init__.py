"""Shared parts of the outer tests."""
import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # read when gRPC is imported: its fork handlers get in the way of subprocess
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # refusals are what we ask for; they need no log
