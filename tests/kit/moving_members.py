"""Members that come and go behind a resolver, and spans that flow meanwhile."""
import threading

import grpc

from kit import otlp
from kit.proc import free_port
from kit.suite import check, equal, until


def start_members(stage, count, port=None, **options):
    """Members sampler-0 … at 127.0.0.10 and on, all at one port; [::1] is nobody's."""
    port = port or free_port()
    return [stage.serve(otlp.Member(f"sampler-{i}", port, host=f"127.0.0.{10 + i}", **options)) for i in range(count)], port


def ips(members):
    return [member.host for member in members]


def listed(lb):
    return sorted(entry["address"] for entry in lb.status()["members"] if entry["listed"])


def ring_names(lb):
    return sorted(entry["name"] for entry in lb.status()["members"] if entry["slots"] > 0)


def failing(lb, words):
    """What /status says of the resolver, once its last look-up failed with these words."""
    about = lb.status()["resolver"]
    return about["failing"] and words in about["last_failure"] and about


def wait_ring(lb, names):
    until(lambda: ring_names(lb) == sorted(names), f"a ring of {sorted(names)}")


class Load:
    """Clients that send without pause; remembers what was acknowledged. A refusal is sent again, as an SDK does."""

    def __init__(self, lb, clients=3):
        self.lb = lb
        self.acknowledged = []
        self.refused = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.send, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def send(self):
        with otlp.Client(self.lb.address) as client:
            while not self.over.is_set():
                request = otlp.request_of([otlp.trace_id() for _ in range(20)], 2)
                answer = client.export(request)
                with self.lock:
                    if answer.code == grpc.StatusCode.OK:
                        self.acknowledged += [item.span.span_id for item in otlp.flatten(request)]
                    else:
                        self.refused.append((answer.code, answer.message))

    def count(self):
        with self.lock:
            return len(self.acknowledged)

    def more(self, spans=2000):
        """Waits until so many more were acknowledged."""
        want = self.count() + spans
        until(lambda: self.count() >= want, f"{spans} more spans acknowledged", timeout_s=60)


def expect_nothing_lost(load, members, doubled=0):
    """Each acknowledged span is with a member; once, unless a connection was lost (doubled: how many may be there twice)."""
    held = [item.span.span_id for member in members for item in member.spans()]
    missing = set(load.acknowledged) - set(held)
    check(not missing, f"{len(missing)} of {len(load.acknowledged)} acknowledged spans are nowhere")
    check(len(held) - len(set(held)) <= doubled, f"{len(held) - len(set(held))} spans are there twice, {doubled} may be")
    equal(load.refused, [], "refusals")


def expect_balance(lb, members):
    """New traces go to these members alone, each about its share."""
    traces = [otlp.trace_id() for _ in range(3000)]
    with otlp.Client(lb.address) as client:
        # The ring that /status shows is on its way to the workers; this one has it when it has answered.
        client.export(otlp.request_of(traces[:1]))
        before = [len(member.calls()) for member in members]
        equal(client.export(otlp.request_of(traces)).code, grpc.StatusCode.OK, "answer")
    got = [len(member.spans(member.calls()[start:])) for member, start in zip(members, before)]
    equal(sum(got), len(traces), "spans with these members")
    share = len(traces) / len(members)
    check(all(0.8 * share < count < 1.2 * share for count in got), f"spans by member: {got}")
