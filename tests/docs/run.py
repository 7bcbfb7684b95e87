#!/usr/bin/env python3
"""What the tree says of itself is true: who includes what, and that the paths its pages name exist.

Needs nothing but Python; `meson test --suite docs` runs it.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from kit.suite import Suite, check, equal

suite = Suite("docs")

# A library is included by one folder or file only (docs/span-path.md). Tests beside the code may use what the file
# they test uses; the shared parts of tests and the benchmarks are programs of their own.
LIBRARIES = {
    r"grpc/": ["common/security/tls_grpc", "common/security/tls_grpc_version", "common/ingest/receiver_grpc", "common/export/link_grpc", "common/run/grpc_pump", "bench/"],
    r"event2/": ["common/run/", "common/metrics/admin_http", "common/ingest/receiver_http", "common/ingest/http_connection", "common/export/link_http", "common/cluster/resolve/"],
    r"ares\.h": ["common/cluster/resolve/dns", "common/cluster/resolve/dns_answer"],
    r"openssl/": ["common/security/", "common/ingest/http_stream", "*_test", "bench/"],
    r"crypt\.h": ["common/security/htpasswd"],
    r"curl/": ["common/run/curl_loop", "common/security/tls_curl", "common/cluster/resolve/k8s", "common/export/link_http"],
    r"yaml\.h": ["common/config/"],
    r"jansson\.h": ["common/config/", "common/otlp/json", "common/export/http_answer", "common/cluster/resolve/k8s_slices", "lb/", "sampler/", "bench/", "*_test"],
    r"yajl/": ["common/otlp/otlp_json"],
    r"xxhash\.h": ["common/base/hash.h"],
    r"re2/": ["common/base/regex_re2"],
    r"libdeflate\.h": ["common/ingest/inflate", "common/export/compress", "*_test", "bench/"],
    r"zstd\.h": ["common/ingest/inflate", "common/export/compress", "*_test", "bench/"],
    r"protobuf-c/": ["proto/", "common/", "sampler/handoff/", "*_test", "bench/"],
    r"cmocka\.h": ["*_test"],
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.MULTILINE)
PATH = re.compile(r"`([^`\s]+)`")
TOPS = ("common", "lb", "sampler", "proto", "tests", "bench", "deploy", "docs", ".ci", "helm")
BUILT = re.compile(r"^(?:build[\w-]*/|.*[*<>{}$…].*|.*\bNAME\b.*|.*\bNNNN\b.*)")
MACHINE_PATHS = re.compile(rb"(?:^|[\s\"'=(:`])(/work/|/root/|/home/\w|/tmp/build-|/tmp/bash)")


def tracked():
    """Committed files, and those about to be."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            stdout=subprocess.PIPE, check=False)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        names = [os.path.relpath(os.path.join(directory, name), ROOT) for directory, _, files in os.walk(ROOT)
                 if not re.search(r"/(\.git|build[^/]*|\.cache)(/|$)", directory[len(ROOT):]) for name in files]
    return sorted(name for name in names if os.path.isfile(os.path.join(ROOT, name)))


def text_of(name):
    with open(os.path.join(ROOT, name), "rb") as file:
        return file.read()


def sources():
    for name in tracked():
        if name.endswith((".c", ".h", ".cc", ".def")):
            yield name, INCLUDE.findall(text_of(name).decode())


def allowed(name, places):
    stem = re.sub(r"\.(c|h|cc)$", "", name)
    for place in places:
        if place == "*_test":
            if stem.endswith("_test") or name.startswith("tests/"):
                return True
        elif place.endswith("/") or place.endswith(".h"):
            if name.startswith(place):
                return True
        elif re.sub(r"_(test|fuzz|bench)$", "", stem) == place:
            return True
    return False


@suite.case()
def one_place_a_library():
    """A library is included by its own folder or file only."""
    wrong = []
    for name, includes in sources():
        for _, header in includes:
            for pattern, places in LIBRARIES.items():
                if re.match(pattern, header) and not allowed(name, places):
                    wrong.append(f"{name} includes {header}; only {', '.join(places)} may")
    check(not wrong, "\n".join(wrong))


@suite.case()
def tiers_stay_apart():
    """common/ includes nothing of lb/ or sampler/, and these never include each other."""
    wrong = []
    for name, includes in sources():
        forbidden = {"common": ("lb/", "sampler/"), "lb": ("sampler/",), "sampler": ("lb/",),
                     "proto": ("common/", "lb/", "sampler/")}.get(name.split("/")[0], ())
        wrong += [f"{name} includes {header}" for kind, header in includes if kind == '"' and header.startswith(forbidden or "\0")]
    check(not wrong, "\n".join(wrong))


@suite.case()
def includes_name_their_place():
    """Our own headers are included by their path from the root, and exist."""
    wrong = []

    def generated(header):
        """protoc-c's, or one that the folder's meson.build writes."""
        folder = os.path.join(os.path.dirname(header), "meson.build")
        return header.endswith(".pb-c.h") or (os.path.isfile(os.path.join(ROOT, folder)) and
                                              f"'{os.path.basename(header)}'" in text_of(folder).decode())

    for name, includes in sources():
        for kind, header in includes:
            if kind == '"' and not os.path.isfile(os.path.join(ROOT, header)) and not generated(header):
                wrong.append(f'{name} includes "{header}", which is no path from the root')
    check(not wrong, "\n".join(wrong))


def pages():
    return [name for name in tracked() if name.endswith(".md") and (name.startswith("docs/") or name == "README.md")]


@suite.case()
def named_paths_exist():
    """A path that README.md or a page of docs/ names exists."""
    wrong = []
    check("README.md" in pages() and "docs/span-path.md" in pages(), f"pages found: {pages()}")
    for page in pages():
        text = re.sub(r"```.*?```", "", text_of(page).decode(), flags=re.DOTALL)
        targets = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
        for target in targets - {""}:
            if not os.path.exists(os.path.normpath(os.path.join(ROOT, os.path.dirname(page), target))):
                wrong.append(f"{page} links to {target}")
        for word in PATH.findall(text):
            path = word.rstrip(".,:;").split(":")[0]
            if "/" not in path or path.split("/")[0] not in TOPS or BUILT.match(path):
                continue
            if not os.path.exists(os.path.join(ROOT, path)):
                wrong.append(f"{page} names {path}")
    check(not wrong, "\n".join(wrong))


@suite.case()
def decisions_are_listed():
    """Each decision note is listed in docs/decisions/README.md, and each note that code cites by number exists."""
    notes = {name[len("docs/decisions/"):] for name in tracked() if re.match(r"docs/decisions/\d{4}-", name)}
    index = text_of("docs/decisions/README.md").decode()
    wrong = [f"docs/decisions/README.md does not list {note}" for note in sorted(notes) if f"({note})" not in index]
    numbers = {note[:4] for note in notes}
    for name, _ in sources():
        wrong += [f"{name} cites note {number}" for number in re.findall(r"\bnotes? (\d{4})\b", text_of(name).decode())
                  if number not in numbers]
    check(not wrong, "\n".join(wrong))


@suite.case()
def commands_exist():
    """A command of ours that a page shows in a block can be run."""
    wrong, count = [], 0
    for page in pages():
        for block in re.findall(r"```(?:sh|bash)?\n(.*?)```", text_of(page).decode(), flags=re.DOTALL):
            for line in block.splitlines():
                word = line.split()[0] if line.split() else ""
                if re.fullmatch(r"[\w.]+(/[\w.-]+)+", word) and word.split("/")[0] in TOPS:
                    count += 1
                    if not os.access(os.path.join(ROOT, word), os.X_OK):
                        wrong.append(f"{page} shows {word}")
    check(count >= 2, f"{count} commands found")
    check(not wrong, "\n".join(wrong))


@suite.case()
def named_functions_exist():
    """A function that docs/span-path.md names stands in the file it names beside it."""
    wrong, rows = [], 0
    for line in text_of("docs/span-path.md").decode().splitlines():
        if not line.startswith("|"):
            continue
        files = [path for path in PATH.findall(line) if re.search(r"\.(c|h|cc|def)$", path)]
        names = [name[:-2] for name in PATH.findall(line) if re.fullmatch(r"\w+\(\)", name)]
        if not files or not names:
            continue
        rows += 1
        existing = [text_of(path).decode() for path in files if os.path.isfile(os.path.join(ROOT, path))]
        wrong += [f"{name}() is not in {', '.join(files)}" for name in names
                  if not any(re.search(rf"\b{name}\b", text) for text in existing)]
    check(rows > 5, f"only {rows} rows of docs/span-path.md name a function and its file")
    check(not wrong, "\n".join(wrong))


@suite.case()
def metrics_are_declared_once():
    """No two lines of metrics.def make the same sample."""
    lines = re.findall(r'^METRIC\(\w+, "(\w+)", \w+, (\w+), "((?:[^"\\]|\\.)*)"', text_of("common/metrics/metrics.def").decode(), re.MULTILINE)
    check(len(lines) > 100, f"only {len(lines)} metrics were read")
    twice = {line for line in lines if lines.count(line) > 1}
    equal(twice, set(), "declared twice")


@suite.case()
def metrics_named_in_pages_exist():
    """A metric that a page names is in metrics.def."""
    known = set(re.findall(r'"((?:tailrace|otelcol)_\w+)"', text_of("common/metrics/metrics.def").decode()))
    wrong = [f"{page} names {word}" for page in pages()
             for word in re.findall(r"`((?:tailrace|otelcol)_\w+)`", text_of(page).decode()) if word not in known]
    check(not wrong, "\n".join(wrong))


@suite.case()
def no_machine_paths():
    """No committed text names a path of the machine it was written on."""
    wrong = []
    for name in tracked():
        if name.startswith("tests/corpus/") or name == "tests/docs/run.py":
            continue
        data = text_of(name)
        if b"\0" in data:
            continue
        for number, line in enumerate(data.splitlines(), 1):
            if MACHINE_PATHS.search(line):
                wrong.append(f"{name}:{number}: {line.decode(errors='replace').strip()[:120]}")
    check(not wrong, "\n".join(wrong))


if __name__ == "__main__":
    sys.exit(suite.main())
