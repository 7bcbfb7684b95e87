#!/usr/bin/env python3
"""`tailrace-sampler --replay` decides recorded traces as the sampler and the Collector do, whatever they were written in;
and our OTLP/JSON reader reads what protobuf's own reader and the Collector's read.
"""
import base64
import gzip
import importlib.util
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kit import proc, wire
from kit.suite import Suite, check, equal, slowness

suite = Suite("replay", timeout_s=300)

SEED = int(os.environ.get("TAILRACE_SEED", "1"))
START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
ID_KEYS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
ERRORS = "policies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}]\n"
ALL = "policies: [{name: all, type: always_sample}]\n"
WHOLE = """
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:4317}}}}
processors: {tail_sampling: {%s}}
exporters: {otlp: {endpoint: 127.0.0.1:4318, tls: {insecure: true}}}
service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling], exporters: [otlp]}}}
"""


def collector_module():
    spec = importlib.util.spec_from_file_location("collector_run", HERE.parent.parent / "collector" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(argv, stdin=b""):
    return subprocess.run(list(map(str, argv)), input=stdin, capture_output=True, timeout=240 * slowness(), check=False)


def replay(*arguments, stdin=b"", code=0):
    """(lines of standard output, standard error)"""
    answer = run([os.path.join(proc.BUILD, "sampler", "tailrace-sampler"), "--replay", *arguments], stdin)
    errors = answer.stderr.decode()
    equal(answer.returncode, code, f"exit status of --replay {' '.join(map(str, arguments))} ({errors})")
    check(not proc.SANITIZER_WORDS.search(answer.stderr), errors)
    return answer.stdout.decode().splitlines(), errors


class Folder:
    """Files of one case."""

    def __enter__(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="tailrace-replay-")
        return self

    def __exit__(self, *_):
        self.scratch.cleanup()

    def write(self, name, content):
        path = pathlib.Path(self.scratch.name, name)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


# -- requests --------------------------------------------------------------------------------------------

def varint(value):
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def delimited(requests):
    out = b""
    for request in requests:
        data = request.SerializeToString()
        out += varint(len(data)) + data
    return out


TEXTS = ["", "a", "GET /cart", "zwölf", "名前", "🙂", "quote\" back\\slash /", "tab\tnewline\n", "\x00", "\x7f", "x" * 130, "long" * 5000]


def random_value(value, rng, depth=0):
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind == 0:
        value.string_value = rng.choice(TEXTS)
    elif kind == 1:
        value.bool_value = rng.random() < 0.5
    elif kind == 2:
        value.int_value = rng.choice([0, 1, -1, 2**63 - 1, -2**63, rng.randrange(-10**6, 10**6)])
    elif kind == 3:
        value.double_value = rng.choice([0.0, 1.5, -2.5e-300, 1e308, 5e-324, float("inf"), float("-inf"), rng.random()])
    elif kind == 4:
        value.bytes_value = rng.randbytes(rng.randrange(20))
    elif kind == 6:
        value.array_value.SetInParent()
        for _ in range(rng.randrange(4)):
            random_value(value.array_value.values.add(), rng, depth + 1)
    elif kind == 7:
        value.kvlist_value.SetInParent()
        random_attributes(value.kvlist_value.values, rng, depth + 1)
    # 5, 8: nothing set


def random_attributes(attributes, rng, depth=0):
    for _ in range(rng.randrange(5)):
        attribute = attributes.add()
        attribute.key = rng.choice(TEXTS[:9])
        if rng.random() < 0.95:
            random_value(attribute.value, rng, depth)


def random_span(span, rng):
    span.trace_id = rng.randbytes(16)
    span.span_id = rng.randbytes(8)
    if rng.random() < 0.5:
        span.parent_span_id = rng.randbytes(8)
    span.trace_state = rng.choice(["", "a=b", "ot=th:8"])
    span.flags = rng.choice([0, 1, 257, 2**32 - 1])
    span.name = rng.choice(TEXTS)
    span.kind = rng.randrange(6)
    span.start_time_unix_nano = rng.choice([0, START, 2**64 - 1])
    span.end_time_unix_nano = rng.choice([0, START + 1])
    span.dropped_attributes_count = rng.choice([0, 1, 2**32 - 1])
    span.dropped_events_count = rng.choice([0, 2])
    span.dropped_links_count = rng.choice([0, 3])
    random_attributes(span.attributes, rng)
    for _ in range(rng.randrange(3)):
        event = span.events.add(time_unix_nano=rng.randrange(2**64), name=rng.choice(TEXTS), dropped_attributes_count=rng.randrange(3))
        random_attributes(event.attributes, rng)
    for _ in range(rng.randrange(3)):
        link = span.links.add(trace_id=rng.randbytes(16), span_id=rng.randbytes(8), trace_state="k=v", flags=rng.randrange(4),
                              dropped_attributes_count=rng.randrange(2))
        random_attributes(link.attributes, rng)
    if rng.random() < 0.7:
        span.status.SetInParent()
        span.status.code = rng.randrange(3)
        span.status.message = rng.choice(TEXTS[:6])


def random_request(rng):
    request = ExportTraceServiceRequest()
    for _ in range(rng.randrange(4)):
        resource_spans = request.resource_spans.add(schema_url=rng.choice(["", "https://example.com/schema"]))
        if rng.random() < 0.9:
            resource_spans.resource.SetInParent()
            resource_spans.resource.dropped_attributes_count = rng.randrange(2)
            random_attributes(resource_spans.resource.attributes, rng)
            if rng.random() < 0.2:
                resource_spans.resource.entity_refs.add(type="service", schema_url="u", id_keys=["a", "b"], description_keys=["c"])
        for _ in range(rng.randrange(3)):
            scope_spans = resource_spans.scope_spans.add(schema_url=rng.choice(["", "s"]))
            if rng.random() < 0.8:
                scope_spans.scope.SetInParent()
                scope_spans.scope.name, scope_spans.scope.version = rng.choice(TEXTS[:6]), rng.choice(["", "1"])
                scope_spans.scope.dropped_attributes_count = rng.randrange(2)
                random_attributes(scope_spans.scope.attributes, rng)
            for _ in range(rng.randrange(4)):
                random_span(scope_spans.spans.add(), rng)
    return request


def ids_in_hex(node, rng):
    """protobuf writes IDs in base64, OTLP/JSON in hex."""
    if isinstance(node, list):
        return [ids_in_hex(item, rng) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key in ID_KEYS and isinstance(value, str):
            text = base64.b64decode(value).hex()
            out[key] = text.upper() if rng.random() < 0.3 else text
        else:
            out[key] = ids_in_hex(value, rng)
    return out


def to_json(request, rng):
    tree = json_format.MessageToDict(request, use_integers_for_enums=rng.random() < 0.7,
                                     preserving_proto_field_name=rng.random() < 0.2,
                                     always_print_fields_with_no_presence=rng.random() < 0.2)
    separators = rng.choice([(",", ":"), (", ", ": "), (" , ", "\t: ")])
    return json.dumps(ids_in_hex(tree, rng), ensure_ascii=rng.random() < 0.5, separators=separators)


def read_json(lines):
    """What our reader makes of each line: (request, None) or (None, reason)."""
    answer = run([os.path.join(proc.BUILD, "tests", "otlp_json_to_proto")], b"".join(line + b"\n" for line in lines))
    equal(answer.returncode, 0, f"exit status of the reader ({answer.stderr.decode()})")
    results, at = [], 0
    while at < len(answer.stdout):
        status, length = struct.unpack_from("<BI", answer.stdout, at)
        content = answer.stdout[at + 5:at + 5 + length]
        at += 5 + length
        results.append((None, content.decode(errors="replace")) if status else (content, None))
    equal(len(results), len(lines), "answers of the reader")
    return results


# -- OTLP/JSON ---------------------------------------------------------------------------------------------

@suite.case()
def json_as_protobuf_reads_it():
    """Each field of a request that protobuf writes as JSON arrives as it was."""
    rng = random.Random(SEED)
    requests = [random_request(rng) for _ in range(150 if suite.options.quick else 600)]
    texts = [to_json(request, rng) for request in requests]
    for request, text, (content, reason) in zip(requests, texts, read_json([text.encode() for text in texts])):
        check(content is not None, f"refused: {reason}\n{text[:2000]}")
        check(ExportTraceServiceRequest.FromString(content) == request, f"not the same (seed {SEED}): {text[:4000]}")


def in_span(text):
    return ('{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00112233445566778899aabbccddeeff",'
            '"spanId":"0102030405060708",' + text + "}]}]}]}").encode()


def in_value(text):
    return in_span('"attributes":[{"key":"k","value":{' + text + "}}]")


# Both readers take these and make the same of them, or both refuse; but for those below.
EDGES = [
    in_span('"name":"\\ud83d\\ude00 \\ud800 \\udc00\\ud800 \\u0000 \\/\\b\\f"'), in_span('"name":"\\ud800\\u0041"'),
    in_span('"name":"').replace(b'"name":"', b'"name":"\xff\xc0"'), in_span('"name":null'), in_span('"name":1'),
    in_span('"name":"a","name":"b"'), in_span('"kind":"SPAN_KIND_SERVER"'), in_span('"kind":"SERVER"'), in_span('"kind":2'),
    in_span('"kind":77'), in_span('"kind":-1'), in_span('"kind":4294967296'), in_span('"kind":1.5'), in_span('"kind":true'),
    in_span('"startTimeUnixNano":"18446744073709551615"'), in_span('"startTimeUnixNano":18446744073709551616'),
    in_span('"startTimeUnixNano":-1'), in_span('"startTimeUnixNano":"x"'), in_span('"startTimeUnixNano":""'),
    in_span('"startTimeUnixNano":1.5'), in_span('"flags":"257"'), in_span('"flags":4294967296'), in_span('"status":{"code":2}'),
    in_span('"status":{"code":"STATUS_CODE_ERROR","message":"m"}'), in_span('"status":null'), in_span('"status":[]'),
    in_span('"attributes":{}'), in_span('"attributes":null'), in_span('"attributes":[null]'), in_span('"attributes":[1]'),
    in_span('"links":[{"traceId":"zz"}]'), in_span('"events":[{"timeUnixNano":5}]'), in_span('"unknown":{"a":[1,{"b":null}]}'),
    in_span('"dropped_events_count":"7","trace_state":"a=b"'), in_span('"attributes":[{"key":"a"}],"attributes":[{"key":"b"}]'),
    in_value('"stringValue":""'), in_value('"intValue":"-9223372036854775808"'), in_value('"intValue":9223372036854775808'),
    in_value('"intValue":1.5'), in_value('"boolValue":"true"'), in_value('"boolValue":false'), in_value('"doubleValue":"NaN"'),
    in_value('"doubleValue":"-Infinity"'), in_value('"doubleValue":1e999'), in_value('"doubleValue":-0'),
    in_value('"bytesValue":"AAH/"'), in_value('"bytesValue":"AA=="'), in_value('"bytesValue":"A"'), in_value('"bytesValue":"A!=="'),
    in_value('"arrayValue":{"values":[{"intValue":1},null,{}]}'), in_value('"kvlistValue":{"values":[{"key":"k"}]}'),
    in_value('"intValue":1,"stringValue":"x"'), in_value(""), b"{}", b"{", b'{"resourceSpans":7}',
    b'{"resourceSpans":[{"resource":{"droppedAttributesCount":1},"resource":{"attributes":[{"key":"a"}]}}]}',
    b'{"resourceSpans":[null]}', b'{"resourceSpans":null}',
]
# Ours reads what protobuf's JSON mapping allows and the Collector refuses: the reference says so, null is absent and whole numbers
# may have an exponent; a wrong ID is its span's fault; and nothing may stand behind the request.
DIFFERENT = [
    in_span('"kind":null'), in_span('"startTimeUnixNano":null'), in_span('"startTimeUnixNano":1e3'), in_span('"flags":10.0'),
    in_span('"startTimeUnixNano":"1e3"'), in_value('"bytesValue":"AA"'), in_value('"bytesValue":"_-8="'),
    in_span('"parentSpanId":"0102"'), in_span('"links":[{"traceId":"01"}]'), b"{}{}", b"{} x",
]
EDGES += DIFFERENT


def oracle_reads(oracle, folder, lines):
    """Each line's request by the Collector's reader; None: refused."""
    out = folder.write("oracle.bin", b"")
    answer = run([oracle, "-traces", folder.write("oracle.jsonl", b"".join(line + b"\n" for line in lines)), "-to-proto", out])
    if answer.returncode != 0:
        return None
    requests = list(records(out.read_bytes()))
    equal(len(requests), len(lines), "requests of the Collector's reader")
    return requests


def records(data):
    """Of a delimited file."""
    at = 0
    while at < len(data):
        length, at = wire.read_varint(data, at)
        yield data[at:at + length]
        at += length


def as_collector_writes(request):
    """A span's status and a resource or scope are always there in what it writes; an entity is not read by all versions."""
    for resource_spans in request.resource_spans:
        resource_spans.resource.SetInParent()
        for scope_spans in resource_spans.scope_spans:
            scope_spans.scope.SetInParent()
            for span in scope_spans.spans:
                span.status.SetInParent()
    return complete_values(request)


def complete_values(message):
    """Every KeyValue has a value there."""
    for field, content in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in content if field.is_repeated else [content]:
                complete_values(item)
    if message.DESCRIPTOR.name == "KeyValue":
        message.value.SetInParent()
    return message


@suite.case()
def json_as_the_collector_reads_it():
    """The Collector's JSON reader makes the same of random requests and of odd ones, and refuses the same."""
    oracle = collector_module().build_oracle()
    rng = random.Random(SEED + 1)
    texts = [to_json(random_request(rng), rng).encode() for _ in range(60 if suite.options.quick else 200)]
    with Folder() as folder:
        theirs = oracle_reads(oracle, folder, texts)
        check(theirs is not None, "the Collector refuses a random request")
        for text, their, (content, reason) in zip(texts, theirs, read_json(texts)):
            check(content is not None, f"refused: {reason}")
            equal(normal(content), normal(their), text[:2000])
        wrong = []
        for text, (content, reason) in zip(EDGES, read_json(EDGES)):
            their = oracle_reads(oracle, folder, [text])
            if text in DIFFERENT:
                if (their is None) == (content is None):
                    wrong.append(f"marked as different, but is not: {text!r}")
            elif (their is None) != (content is None):
                wrong.append(f"{text!r}: ours {reason or 'reads it'}, the Collector {'refuses' if their is None else 'reads it'}")
            elif content is not None and normal(content) != normal(their[0]):
                wrong.append(f"{text!r}:\n{normal(content)}\n{normal(their[0])}")
        check(not wrong, "\n".join(wrong))


def normal(content):
    """Comparable bytes: Go writes another NaN, and protobuf for Python refuses what is no UTF-8."""
    for theirs, ours in ((b"\x01\0\0\0\0\0\xf8\x7f", b"\0\0\0\0\0\0\xf8\x7f"), (b"\xff\xc0", b"??")):
        content = content.replace(theirs, ours)
    return as_collector_writes(ExportTraceServiceRequest.FromString(content)).SerializeToString(deterministic=True)


# -- decisions ---------------------------------------------------------------------------------------------

def emitted(folder, *arguments):
    directory = pathlib.Path(folder.scratch.name, "sets")
    answer = run([os.path.join(proc.BUILD, "tests", "test_policy_cases"), *arguments, "--emit", directory])
    equal(answer.returncode, 0, f"exit status of test_policy_cases ({answer.stderr.decode()[-2000:]})")
    return sorted(directory.iterdir())


def decisions(lines):
    """{trace ID: (sampled?, policy)}"""
    out = {}
    for line in lines:
        row = json.loads(line)
        check(row["trace_id"] not in out, f"twice: {row['trace_id']}")
        out[row["trace_id"]] = ("sampled", row["policy"]) if row["decision"] == "sampled" else ("not", "")
    equal(list(out), sorted(out), "trace IDs in order")
    return out


STATEFUL = ("rate_limiting", "bytes_limiting", "composite")


def replay_apart(folder, directory):
    """The lines of all traces of a set; each is asked as if it were the first, which matters where buckets are."""
    traces, options = directory / "traces.bin", ("--config", directory / "policies.yaml", "--format", "json")
    if not any(word in (directory / "policies.yaml").read_text() for word in STATEFUL):
        return replay(traces, *options)[0]
    lines = []
    for record in records(traces.read_bytes()):
        lines += replay(folder.write("trace", varint(len(record)) + record), *options)[0]
    return sorted(lines)


@suite.case()
def cases_of_the_policies():
    """What the cases beside the policies say is what a replay decides; settings that are refused are refused here too."""
    with Folder() as folder:
        wrong, traces = [], 0
        for directory in emitted(folder):
            rows = [line.split("\t") for line in (directory / "expected.txt").read_text().splitlines()]
            if rows and rows[0][0] == "refused":
                _, errors = replay(directory / "traces.bin", "--config", directory / "policies.yaml", code=1)
                if rows[0][1] not in errors:
                    wrong.append(f"{directory.name}: {errors}")
                continue
            found = decisions(replay_apart(folder, directory))
            for trace_id, decision, policy, place, _differs in rows:
                traces += 1
                got = found.pop(trace_id, ("rejected", ""))
                if got != (decision, policy):
                    wrong.append(f"{directory.name}, {place}: {got}, not {(decision, policy)}")
            wrong += [f"{directory.name}: {trace_id} came from nowhere" for trace_id in found]
        check(traces > 100, f"only {traces} traces")
        check(not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20]))


@suite.case(timeout_s=600)
def decisions_of_the_collector():
    """Random traces under random policy sets are decided as the Collector's processor decides them."""
    collector = collector_module()
    oracle = collector.build_oracle()
    with Folder() as folder:
        wrong, traces = [], 0
        for directory in emitted(folder, "--random", str(SEED + 2), "500" if suite.options.quick else "4000", "20"):
            rows = [line.split("\t") for line in (directory / "expected.txt").read_text().splitlines()]
            if rows[0][0] == "refused":
                continue
            differs = {row[0] for row in rows if row[4]}
            answer = run([oracle, "-config", directory / "policies.yaml", "-traces", directory / "traces.bin"])
            equal(answer.returncode, 0, f"the Collector's status ({answer.stderr.decode()})")
            theirs = collector.collector_decisions(answer.stdout.decode())
            lines, _ = replay(directory / "traces.bin", "--config", directory / "policies.yaml", "--format", "json")
            ours = decisions(lines)
            for trace_id in theirs.keys() - differs:
                traces += 1
                if ours.get(trace_id) != theirs[trace_id]:
                    wrong.append(f"{directory.name} {trace_id}: {ours.get(trace_id)}, the Collector {theirs[trace_id]}")
        check(traces > 100, f"only {traces} traces")
        check(not wrong, f"{len(wrong)} of {traces} wrong (seed {SEED + 2}):\n" + "\n".join(wrong[:20]))


# -- files, options, reports -------------------------------------------------------------------------------

def shop(number, service="cart", error=False, start=START, took=SECOND, spans=2, method=None):
    """One request, one trace."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = service
    scope_spans = resource_spans.scope_spans.add()
    for index in range(spans):
        span = scope_spans.spans.add(trace_id=number.to_bytes(16, "big"), span_id=(number * 100 + index + 1).to_bytes(8, "big"),
                                     name="work", start_time_unix_nano=start, end_time_unix_nano=start + took)
        if error and index == 0:
            span.status.code = 2
        if method:
            span.attributes.add(key="method").value.string_value = method
    return request


def plain_json(request, **options):
    rng = random.Random(0)
    return json.dumps(ids_in_hex(json_format.MessageToDict(request, use_integers_for_enums=True), rng), **options)


@suite.case()
def forms_are_equal():
    """The same traces are decided alike from JSON lines, JSON over many lines, delimited protobuf, one request, standard input,
    gzip and several files."""
    requests = [shop(number, error=number % 3 == 0) for number in range(1, 41)]
    one = ExportTraceServiceRequest()
    for request in requests:
        one.MergeFrom(request)
    lines = "".join(plain_json(request) + "\n" for request in requests)
    spread = "".join(plain_json(request, indent=2) + "\n" for request in requests)
    with Folder() as folder:
        config = folder.write("errors.yaml", ERRORS)
        want, _ = replay(folder.write("a", delimited(requests)), "--config", config)
        equal(want[2], f"{3:032x} sampled spans=2 policy=errors evidence={301:016x} status ERROR", "a line")
        equal(want[3], f"{4:032x} not_sampled spans=2 policy=- evidence=-", "a line")
        equal(len(want), 40, "traces")
        forms = {
            "JSON lines": lines, "with a byte order mark and blank lines": b"\xef\xbb\xbf" + lines.replace("\n", "\n\n").encode(),
            "without the last line's end": lines[:-1], "with CR LF": lines.replace("\n", "\r\n"),
            "documents over many lines": spread, "one document": plain_json(one), "one document over many lines": plain_json(one, indent=1),
            "one request": one.SerializeToString(), "one request, delimited": delimited([one]),
            "gzip of JSON": gzip.compress(lines.encode()), "gzip of delimited": gzip.compress(delimited(requests)),
        }
        for form, content in forms.items():
            got, errors = replay(folder.write("form", content), "--config", config)
            equal((got, errors), (want, ""), form)
            got, _ = replay("-", "--config", config, stdin=pathlib.Path(folder.scratch.name, "form").read_bytes())
            equal(got, want, f"{form}, from standard input")
        halves = [folder.write("first", delimited(requests[:17])), folder.write("second", lines.split("\n", 17)[17])]
        equal(replay(*halves, "--config", config)[0], want, "two files")
        equal(replay(halves[1], halves[0], "--config", config)[0], want, "two files, the other way round")


@suite.case()
def lengths_that_look_like_something_else():
    """A delimited file whose first length is that of a brace, a blank or a tag is still read as one, and so is a single request."""
    with Folder() as folder:
        config = folder.write("all.yaml", ALL)
        found = set()
        for pad in range(0, 200):
            request = shop(7, spans=1)
            request.resource_spans[0].scope_spans[0].spans[0].name = "n" * pad
            length = len(request.SerializeToString())
            found.add(length)
            if length in (0x7b, 0x22, 0x20, 0x5b, 0x7d, 0x0a, 200, 300):
                for content in (delimited([request]), delimited([request] * 3), request.SerializeToString()):
                    lines, _ = replay(folder.write("x", content), "--config", config)
                    equal(lines, [f"{7:032x} sampled spans=1 policy=all evidence=always_sample"], f"a request of {length} bytes")
        check(0x7b in found, "no request of 123 bytes")
        tiny = b"\x0a\x0a" + b"\x1a\x08" + b"x" * 8  # one request whose form could also be a length of ten
        equal(replay(folder.write("tiny", tiny), "--config", config)[0], [], "a request without spans")
        equal(replay(folder.write("empty", b""), "--config", config)[0], [], "an empty file")
        equal(replay(folder.write("blank", b"\n \n"), "--config", config)[0], [], "blank lines")


@suite.case()
def configurations():
    """The policies may stand in a whole configuration, under processors, under tail_sampling, or alone; --set applies."""
    with Folder() as folder:
        traces = folder.write("traces", delimited([shop(1, error=True), shop(2)]))
        want = [f"{1:032x} sampled spans=2 policy=errors evidence={101:016x} status ERROR",
                f"{2:032x} not_sampled spans=2 policy=- evidence=-"]
        inner = ERRORS.strip()
        for text in (inner, f"tail_sampling: {{{inner}}}", f"tail_sampling/x: {{{inner}}}", f"processors: {{tail_sampling: {{{inner}}}}}",
                     WHOLE % inner):
            equal(replay(traces, "--config", folder.write("config.yaml", text))[0], want, text)
        lines, _ = replay(traces, "--config", folder.write("config.yaml", ERRORS), "--set", "policies=[{name: b, type: always_sample}]")
        check(all("policy=b" in line for line in lines), "--set")
        for text, words in ((WHOLE % inner + "x: 1\n", "x"), ("policies: 1", "list"), ("nothing: 1", "nothing"), ("a: [", "config.yaml"),
                            ("policies: [{name: a, type: nosuch}]", "nosuch")):
            _, errors = replay(traces, "--config", folder.write("config.yaml", text), code=1)
            check("error: " in errors and words in errors, f"{text}: {errors}")
        for arguments in ((), ("--config",), ("--config", "x", "--bogus"), ("--config", "x", "--format", "xml")):
            replay(traces, *arguments, code=1)
        _, errors = replay(traces, "--config", "no-such-file.yaml", code=1)
        check("no-such-file.yaml" in errors, errors)


@suite.case()
def malformed_records():
    """A malformed record is told with file and place and ends the replay, or is skipped and counted when asked to."""
    good = plain_json(shop(1))
    with Folder() as folder:
        config = folder.write("all.yaml", ALL)
        want = [f"{1:032x} sampled spans=2 policy=all evidence=always_sample", f"{2:032x} sampled spans=2 policy=all evidence=always_sample"]
        path = folder.write("bad.jsonl", good + "\n" + good[:50] + "\n" + '{"resourceSpans":[7]}\n' + plain_json(shop(2)) + "\n")
        lines, errors = replay(path, "--config", config, code=2)
        equal(lines, [], "decisions after an error")
        check(f"{path}: line 2, column 5" in errors, errors)
        lines, errors = replay(path, "--config", config, "--skip-malformed")
        equal(lines, want, "decisions with two lines skipped")
        check(f"{path}: line 3, column 19: resourceSpans: " in errors and "2 malformed records" in errors, errors)

        good_bytes = shop(1).SerializeToString()
        broken = b"\x0a\xff\xff\x03"
        path = folder.write("bad.bin", varint(len(good_bytes)) + good_bytes + varint(len(broken)) + broken + delimited([shop(2)]))
        lines, errors = replay(path, "--config", config, code=2)
        check("error: " in errors, errors)

        cut = folder.write("cut.bin", delimited([shop(1)] * 2)[:-5])
        _, errors = replay(cut, "--config", config, code=2)
        check("error: " in errors and str(cut) in errors, errors)
        for content in (b"hello", b"\x28\xb5\x2f\xfd\x00", b"\x1f\x8b\x08broken", b"\xff" * 30, b"\x0a\x7f\x01"):
            path = folder.write("junk", content)
            _, errors = replay(path, "--config", config, code=2)
            check(str(path) in errors, errors)
        _, errors = replay("no-such-file", "--config", config, code=2)
        check("no-such-file" in errors, errors)

        request = shop(1, spans=3)
        request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
        lines, errors = replay(folder.write("ids", delimited([request])), "--config", config)
        check("spans=2" in lines[0] and "1 spans were left out" in errors, f"{lines} {errors}")


def rows_of(lines, kind):
    return [json.loads(line)[kind] for line in lines if kind in json.loads(line)]


@suite.case()
def summary_adds_up():
    """Totals by policy and service and the forecast are those computed by hand."""
    requests = [shop(1, error=True, spans=3), shop(2, "pay", spans=2, start=START + 3 * SECOND), shop(3, "pay", error=True, spans=1, start=START + 9 * SECOND),
                shop(4, spans=4, method="PUT"), shop(5, spans=1, method="GET")]
    other = shop(1, "pay", spans=1, start=START)  # a second service in trace 1
    other.resource_spans[0].scope_spans[0].spans[0].span_id = b"otherone"
    requests += [other, requests[0]]              # and a request sent twice
    config_text = ("policies:\n- {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n"
                   "- {name: puts, type: string_attribute, string_attribute: {key: method, values: [PUT]}}\n"
                   "- {name: no gets, type: drop, drop: {drop_sub_policy: [{name: g, type: string_attribute,"
                   " string_attribute: {key: method, values: [GET]}}]}}\n")

    def size(request):
        return sum(len(span.SerializeToString()) for span in request.resource_spans[0].scope_spans[0].spans)

    bytes_of = [size(request) for request in requests]
    with Folder() as folder:
        traces, config = folder.write("traces", delimited(requests)), folder.write("config.yaml", config_text)
        lines, _ = replay(traces, "--config", config, "--summary", "--format", "json")
        total = rows_of(lines, "summary")[0]
        kept = bytes_of[0] + bytes_of[5] + bytes_of[2] + bytes_of[3]
        equal(total, {"traces": 5, "spans": 12, "bytes": sum(bytes_of[:6]), "sampled": 3, "not_sampled": 1, "dropped": 1, "kept_traces": 3,
                      "kept_spans": 9, "kept_bytes": kept, "too_large_traces": 0, "duplicate_spans": 3, "rejected_spans": 0}, "summary")
        policies = {row["name"]: row for row in rows_of(lines, "policy")}
        equal([(name, row["traces"], row["spans"], row["voted_sampled"], row["voted_dropped"]) for name, row in policies.items()],
              [("errors", 2, 5, 2, 0), ("puts", 1, 4, 1, 0), ("no gets", 1, 1, 0, 1)], "policies")
        services = {row["name"]: row for row in rows_of(lines, "service")}
        equal([(name, row["traces"], row["spans"], row["kept_traces"], row["kept_spans"]) for name, row in services.items()],
              [("cart", 3, 8, 2, 7), ("pay", 3, 4, 2, 2)], "services")
        equal(services["pay"]["kept_bytes"], bytes_of[5] + bytes_of[2], "bytes of a service")
        forecast = rows_of(lines, "forecast")[0]
        equal((forecast["seconds"], forecast["spans_per_s"], forecast["kept_spans_per_s"]), (10.0, 1.2, 0.9), "forecast")
        check(abs(forecast["kept_bytes_per_s"] - kept / 10) < 0.001, "bytes a second")
        text, _ = replay(traces, "--config", config, "--summary")
        check('policy name="no gets" traces=1 spans=1' in "\n".join(text), text)

        rated = folder.write("rate.yaml", "policies: [{name: r, type: rate_limiting, rate_limiting: {spans_per_second: 4}}]\n")
        lines, _ = replay(traces, "--config", rated)
        check(len([line for line in lines if " sampled " in line]) >= 2, "a bucket is filled again by the spans' own time")
        first, _ = replay(folder.write("turned", delimited(reversed(requests))), "--config", rated)
        equal(first, lines, "rates do not depend on the order of the file")


def with_randomness(number, randomness, offset_ms, method=None):
    request = shop(number, start=START + offset_ms * 1_000_000, spans=1, method=method)
    request.resource_spans[0].scope_spans[0].spans[0].trace_state = f"ot=rv:{randomness:014x}"
    return request


@suite.case()
def weighed_under_usetracestate():
    """With the gate usetracestate a limiter keeps, of each second's traces, those of the highest randomness, whenever in that
    second they began; without it those that came first. A probabilistic policy goes by rv."""
    gate = ("--feature-gates", "processor.tailsamplingprocessor.usetracestate")
    first_second = [with_randomness(number, number << 48, 150 * number) for number in range(1, 6)]
    second = [with_randomness(10 + number, (20 - number) << 48, 1300 + 100 * number) for number in range(1, 4)]
    late = [with_randomness(20, 1, 9000)]
    limit = {"name": "r", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 1, "burst_capacity": 3}}
    nested = {"name": "a", "type": "and", "and": {"and_sub_policy": [
        {"name": "puts", "type": "string_attribute", "string_attribute": {"key": "method", "values": ["PUT"]}}, limit]}}
    share = {"name": "p", "type": "probabilistic", "probabilistic": {"sampling_percentage": 50}}

    def kept(policy, requests, *words, **settings):
        with Folder() as folder:
            config = folder.write("c.yaml", json.dumps({"policies": [policy], **settings}))
            lines, errors = replay(folder.write("t", delimited(requests)), "--config", config, "--format", "json", *words)
            equal(errors, "", "standard error")
            return sorted(int(row["trace_id"], 16) for row in map(json.loads, lines) if row["decision"] == "sampled")

    everything = first_second + second + late
    equal(kept(limit, everything, *gate), [3, 4, 5, 11, 20], "by randomness")
    equal(kept(limit, list(reversed(everything)), *gate), [3, 4, 5, 11, 20], "in another order of the file")
    equal(kept(limit, everything), [1, 2, 3, 11, 20], "as they came, without the gate")
    equal(kept(nested, first_second + second, *gate), [], "nothing inside `and` that the other policy does not want")
    puts = [with_randomness(number, number << 48, 10 * number, "PUT" if number % 2 else None) for number in range(1, 10)]
    equal(kept(nested, puts, *gate), [5, 7, 9], "the traces that `and` does not want spend nothing")
    ties = [with_randomness(number, 7 << 48 if number < 4 else 9 << 48, 10 * number) for number in range(1, 6)]
    equal(kept(limit, ties, *gate), [4, 5], "of equal randomness all or none")
    large = first_second + [shop(30, spans=2)]
    equal(kept(limit, large, *gate, maximum_trace_size_bytes=1), [], "what is too large is not weighed")
    halves = [with_randomness(1, (1 << 55) - 1, 0), with_randomness(2, 1 << 55, 0)]
    equal(kept(share, halves, *gate), [2], "rv decides")
    equal(kept(share, halves), kept(share, [shop(1), shop(2)]), "without the gate rv says nothing")
    equal(kept(share, halves, "--feature-gates=processor.tailsamplingprocessor.recordpolicy"), kept(share, halves), "the other gate")


@suite.case()
def differences():
    """Two policy sets on the same traces: each trace that is decided or credited otherwise, and the totals."""
    requests = [shop(1, error=True), shop(2, error=True, method="PUT"), shop(3, method="PUT"), shop(4)]
    puts = "policies: [{name: puts, type: string_attribute, string_attribute: {key: method, values: [PUT]}}]\n"
    with Folder() as folder:
        traces = folder.write("traces", delimited(requests))
        config, other = folder.write("errors.yaml", ERRORS), folder.write("puts.yaml", puts)
        lines, _ = replay(traces, "--config", config, "--diff", other)
        equal(lines[:3], [
            f"{1:032x} sampled->not_sampled spans=2 policy=errors other_policy=- evidence={101:016x} status ERROR",
            f"{2:032x} sampled->sampled spans=2 policy=errors other_policy=puts evidence={201:016x} method = PUT",
            f"{3:032x} not_sampled->sampled spans=2 policy=- other_policy=puts evidence={301:016x} method = PUT"], "changes")
        check(lines[3].startswith("diff traces=4 now_kept=1 no_longer_kept=1 otherwise_not_kept=0 otherwise_credited=1 kept_traces=2 "
                                  "kept_spans=4 "), lines[3])
        equal(len(lines), 4, "lines")
        rows = [json.loads(line) for line in replay(traces, "--config", config, "--diff", other, "--format", "json")[0]]
        equal((rows[0]["decision"], rows[0]["other_decision"], rows[3]["diff"]["other_kept_spans"]), ("sampled", "not_sampled", 4), "JSON")
        equal(len(replay(traces, "--config", config, "--diff", other, "--summary")[0]), 1, "lines of totals alone")
        equal(len(replay(traces, "--config", config, "--diff", config)[0]), 1, "lines when nothing differs")


@suite.case()
def trace_size():
    """A trace over maximum_trace_size_bytes is not kept, whatever its policies say: its header counts once."""
    request = shop(1, spans=2)
    spans = sum(len(span.SerializeToString()) for span in request.resource_spans[0].scope_spans[0].spans)
    header = len(request.resource_spans[0].resource.SerializeToString()) + 2
    with Folder() as folder:
        traces = folder.write("traces", delimited([request, request]))
        for limit, decision in ((spans + header - 1, "not_sampled"), (spans + header, "sampled")):
            lines, _ = replay(traces, "--config", folder.write("c.yaml", ALL + f"maximum_trace_size_bytes: {limit}\n"))
            check(f" {decision} spans=2 " in lines[0], f"{limit}: {lines}")


if __name__ == "__main__":
    sys.exit(suite.main())
