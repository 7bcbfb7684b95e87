#!/usr/bin/env python3
"""Users' configurations through --check, and the two-layer pair as running programs.

Each file of corpus/ opens with what is expected of it:

    # expect: ok | refused
    # says: a part of a warning or an error, each in the order of the file

Values that begin with s3cr3t are secrets: nothing that is printed may show them. Needs nothing but Python.
"""
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from kit import proc
from kit.suite import Suite, check, equal, slowness, until

suite = Suite("config")
CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
PROGRAMS = {"lb": ("lb", "tailrace-lb"), "sampler": ("sampler", "tailrace-sampler")}


def run(tier, *arguments):
    """Exit code, standard output, standard error."""
    program = os.path.join(proc.BUILD, *PROGRAMS[tier])
    done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=30 * slowness(), check=False)
    return done.returncode, done.stdout, done.stderr


def files(tier):
    folder = os.path.join(CORPUS, tier)
    found = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".yaml")]
    check(len(found) >= 10, f"{len(found)} files in {folder}")
    return found


def expectation(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    expected = re.findall(r"^# expect: (ok|refused)$", text, re.MULTILINE)
    check(len(expected) == 1, f"{path}: one line `# expect: ok` or `# expect: refused` is needed")
    return expected[0], re.findall(r"^# says: (.*)$", text, re.MULTILINE)


def no_secret(path, *printed):
    for text in printed:
        check("s3cr3t" not in text, f"{path}: a secret is shown:\n{text}")


@suite.case("lb", "sampler")
def corpus(tier):
    """A pasted file is taken, or refused with line, key and remedy; what is mapped or has no effect is said."""
    wrong = []
    for path in files(tier):
        name = os.path.basename(path)
        expected, says = expectation(path)
        code, out, error = run(tier, "--config", path, "--check")
        no_secret(name, out, error)
        want = 0 if expected == "ok" else 1
        if code != want:
            wrong.append(f"{name}: exit {code}, want {want}\n{out}{error}")
        if expected == "refused" and not says:
            wrong.append(f"{name}: a refusal needs a line `# says:`")
        if expected == "refused" and error.count(": error: ") != len(says):
            wrong.append(f"{name}: {error.count(': error: ')} errors, {len(says)} expected\n{error}")
        at = 0
        for part in says:
            found = error.find(part, at if expected == "refused" else 0)
            if found < 0:
                wrong.append(f"{name}: does not say, or not in its place: {part}\n{error}")
                break
            at = found
        for line in error.splitlines():
            if not re.match(r"tailrace-\w+: (error|warning): .*\.yaml:\d+: [\w.\[\]/-]+: ", line):
                wrong.append(f"{name}: a message without file, line and key: {line}")
    check(not wrong, "\n".join(wrong))


@suite.case("lb", "sampler")
def printed(tier):
    """--print-config shows no secret, and what it prints is taken as the file was."""
    wrong = []
    for path in files(tier):
        name = os.path.basename(path)
        expected, _ = expectation(path)
        code, out, error = run(tier, "--config", path, "--print-config")
        no_secret(name, out, error)
        equal(code, 0 if expected == "ok" else 1, f"{name}: exit code of --print-config")
        if expected != "ok":
            continue
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as again:
            again.write(out)
            again.flush()
            code, _, error = run(tier, "--config", again.name, "--check")
            if code != 0:
                wrong.append(f"{name}: what was printed is not taken:\n{error}\n{out}")
    check(not wrong, "\n".join(wrong))


@suite.case()
def set_without_value():
    """`--set KEY=` says that the default counts, instead of taking it silently."""
    path = os.path.join(CORPUS, "lb", "readme_static.yaml")
    code, _, error = run("lb", "--config", path, "--check", "--set", "tailrace.admin.endpoint=")
    equal(code, 0, "exit code")
    check("tailrace.admin.endpoint has no value, so its default counts" in error, error)


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10 * slowness())
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def sampler_file(directory, otlp_port, health_port, metrics_port, more=""):
    path = os.path.join(directory, "sampler.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"""
extensions: {{ health_check: {{ endpoint: "127.0.0.1:{health_port}" }} }}
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: "127.0.0.1:{otlp_port}" }} }} }} }}
processors:
  memory_limiter: {{ check_interval: 1s, limit_mib: 512 }}
  tail_sampling: {{ policies: [ {{ name: all, type: always_sample }} ] }}
  batch:
exporters: {{ nop: }}
service:
  extensions: [health_check]
  telemetry: {{ metrics: {{ address: "127.0.0.1:{metrics_port}" }} }}
  pipelines: {{ traces: {{ receivers: [otlp], processors: [memory_limiter, tail_sampling, batch], exporters: [nop] }} }}
{more}
""")
    return path


@suite.case()
def probe_and_scrape():
    """A pasted probe of the health check and a scrape of the metrics address work while the program runs."""
    health_port, metrics_port, otlp_port, admin_port = (proc.free_port() for _ in range(4))
    with tempfile.TemporaryDirectory() as directory:
        path = sampler_file(directory, otlp_port, health_port, metrics_port,
                            f'tailrace: {{ admin: {{ endpoint: "127.0.0.1:{admin_port}" }}, workers: 1 }}')
        program = proc.Program("sampler", [os.path.join(proc.BUILD, *PROGRAMS["sampler"]), "--config", path], directory).start()
        try:
            until(lambda: not program.running() or get(health_port, "/")[0] == 200, "the health check says that it serves")
            check(program.running(), program.tail())
            status, body = get(health_port, "/")
            equal((status, "Server available" in body), (200, True), f"health check: {body}")
            equal(get(health_port, "/metrics")[0], 404, "metrics at the health check's address")
            status, body = get(metrics_port, "/metrics")
            equal(status, 200, "metrics at their own address")
            check("otelcol_receiver_accepted_spans_total" in body, body[:2000])
            equal(get(metrics_port, "/status")[0], 404, "status at the metrics address")
            equal(get(admin_port, "/livez")[0], 200, "the admin endpoint")
            log = program.log().decode()
            for word in ("memory for spans is 409 MiB", "spans are gathered into requests where they are exported"):
                check(word in log, f"the log does not say: {word}\n{log}")
            program.process.send_signal(signal.SIGTERM)
            equal(program.wait(), 0, "exit code")
        finally:
            if program.running():
                program.process.kill()
                program.process.wait()


if __name__ == "__main__":
    sys.exit(suite.main())
