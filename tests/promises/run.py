#!/usr/bin/env python3
"""What a balancer and its members promise each other: dedupe, fallback, end-to-end acknowledgement, retry by piece,
and each caller's own partial_success.

Members here are either real samplers or stand-ins that answer as told. plants.py shows that the cases fail on
programs with the matching defect.
"""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from kit import metrics, otlp, wire
from kit.proc import Stage
from kit.suite import Suite, check, equal, same_once, slowness, until

suite = Suite("promises")

ALWAYS = [{"name": "all", "type": "always_sample"}]
OK = grpc.StatusCode.OK
HOLD_S = 60


class Fakes(Stage):
    """A balancer before stand-in members a and b; owners[trace] says whose each of 64 traces is."""

    def __init__(self, names=("a", "b"), **lb):
        super().__init__()
        self.names = names
        self.lb_options = lb

    def __enter__(self):
        super().__enter__()
        try:
            self.members = {name: self.serve(otlp.Member(f"member-{name}")) for name in self.names}
            self.node = self.lb("lb-0", [member.address for member in self.members.values()], **self.lb_options)
            self.node.wait_ready()
            until(lambda: self.node.metrics().value("otelcol_loadbalancer_num_backends") == len(self.names), "all members in the ring")
            self.client = otlp.Client(self.node.address)
            self.learn_owners()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *details):
        if hasattr(self, "client"):
            self.client.channel.close()
        return super().__exit__(*details)

    def learn_owners(self):
        traces = [otlp.trace_id() for _ in range(64)]

        def all_there():
            for member in self.members.values():
                member.received.clear()
                member.accepted.clear()
            answer = self.client.export(otlp.request_of(traces, 1))
            return answer.code == OK and all(member.spans() for member in self.members.values())

        until(all_there, "every member gets traffic")
        self.owners = {item.span.trace_id: name for name, member in self.members.items() for item in member.spans()}
        equal(set(self.owners), set(traces), "traces that reached a member")
        for member in self.members.values():
            member.received.clear()
            member.accepted.clear()
        self.learned_spans = self.node.metrics().value("otelcol_receiver_accepted_spans_total")

    def of(self, name):
        return [trace for trace, owner in self.owners.items() if owner == name]

    def span_ids(self, name, accepted=True):
        member = self.members[name]
        return [item.span.span_id for item in member.spans(None if accepted else member.calls())]


def ids(*requests):
    return sorted(item.span.span_id for request in requests for item in otlp.flatten(request))


# -- a resend adds nothing ---------------------------------------------------------------------------


@suite.case()
def resend_adds_nothing():
    """Requests sent again after OK, before and after the decision, add no span at the backend; each is counted duplicate."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        samplers = [stage.sampler(f"sampler-{index}", sink.port, ALWAYS, wait="2s") for index in range(3)]
        for sampler in samplers:
            sampler.wait_ready()
        lb = stage.lb("lb-0", [sampler.address for sampler in samplers]).wait_ready()
        until(lambda: lb.metrics().value("otelcol_loadbalancer_num_backends") == len(samplers), "all samplers in the ring")
        requests = [otlp.request_of([otlp.trace_id() for _ in range(6)], 5, service=f"s{index}") for index in range(10)]
        want = ids(*requests)

        def total(word):
            return sum(sampler.metrics().value(f"tailrace_spans_{word}_total") for sampler in samplers)

        with otlp.Client(lb.address) as client:
            def send_all():
                for request in requests:
                    answer = client.export(request)
                    equal((answer.code, answer.rejected), (OK, 0), f"answer ({answer.message})")

            for _ in range(3):  # all before the decision
                send_all()
            until(lambda: total("exported") >= len(want), "exported")
            for _ in range(2):  # all after it, within resend_window
                send_all()
        until(lambda: total("received") == 5 * len(want), "all received")
        until(lambda: all(sampler.metrics().value("tailrace_spans_held") == 0 for sampler in samplers), "nothing held")
        time.sleep(3 * slowness())  # a decision period more: what was wrongly taken as new would come out now
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend, each once")
        equal(total("duplicate"), 4 * len(want), "spans counted as duplicate")
        for sampler in samplers:
            metrics.check_sampler_books(sampler, held=0, dropped=0)


@suite.case()
def lost_answers_add_nothing():
    """When a sampler has the spans and its answer is lost, what is sent again is recognised: each span comes out once."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        sampler = stage.sampler("sampler-0", sink.port, ALWAYS, wait="3s").wait_ready()
        between = stage.serve(otlp.Member("sampler-0"))
        onward = otlp.Client(sampler.address)

        def deliver_then_lose(call):
            equal(onward.export(call.data).code, OK, "the sampler's own answer")
            if call.number % 2 == 0:
                otlp.refuse(grpc.StatusCode.UNAVAILABLE, "answer lost")(call)
            return b""

        between.answer = deliver_then_lose
        lb = stage.lb("lb-0", [between.address]).wait_ready()
        requests = [otlp.request_of([otlp.trace_id() for _ in range(4)], 4) for _ in range(15)]
        with otlp.Client(lb.address) as client:
            for request in requests:
                until(lambda request=request: client.export(request).code == OK, "acknowledged at last")
        want = ids(*requests)
        until(lambda: sampler.metrics().value("tailrace_spans_exported_total") >= len(want), "exported")
        until(lambda: sampler.metrics().value("tailrace_spans_held") == 0, "nothing held")
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend, each once")
        page = metrics.check_sampler_books(sampler, held=0, dropped=0)
        check(page.value("tailrace_spans_duplicate_total") >= 16, "spans that came twice were counted as duplicate")
        onward.channel.close()


@suite.case()
def resend_after_refusal():
    """A request of which one member took its piece and another refused is refused; sent again whole, every span comes out once."""
    with Stage() as stage:
        sink = stage.serve(otlp.Sink())
        samplers = [stage.sampler(f"sampler-{index}", sink.port, ALWAYS, wait="3s").wait_ready() for index in range(2)]
        clients = [otlp.Client(sampler.address) for sampler in samplers]
        between = [stage.serve(otlp.Member(sampler.name)) for sampler in samplers]
        refusals = [0]

        def pass_on(index, refuse_first):
            def answer(call):
                if refuse_first and refusals[0] < 3:
                    refusals[0] += 1
                    otlp.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", 0.1)(call)
                equal(clients[index].export(call.data).code, OK, "the sampler's own answer")
                return b""
            return answer

        between[0].answer = pass_on(0, False)
        between[1].answer = pass_on(1, True)
        lb = stage.lb("lb-0", [member.address for member in between]).wait_ready()
        until(lambda: lb.metrics().value("otelcol_loadbalancer_num_backends") == 2, "both members in the ring")
        request = otlp.request_of([otlp.trace_id() for _ in range(40)], 3)
        codes = []
        with otlp.Client(lb.address) as client:
            def acknowledged():
                answer = client.export(request)
                codes.append(answer.code)
                return answer.code == OK
            until(acknowledged, "acknowledged at last")
        check(grpc.StatusCode.RESOURCE_EXHAUSTED in codes, f"the refusal reached the client: {codes}")
        want = ids(request)
        until(lambda: sum(sampler.metrics().value("tailrace_spans_exported_total") for sampler in samplers) >= len(want), "exported")
        until(lambda: all(sampler.metrics().value("tailrace_spans_held") == 0 for sampler in samplers), "nothing held")
        same_once((item.span.span_id for item in sink.spans()), want, "spans at the backend, each once")
        for sampler in samplers:
            metrics.check_sampler_books(sampler, held=0, dropped=0)
        for client in clients:
            client.channel.close()


# -- whom a piece goes to ----------------------------------------------------------------------------


@suite.case()
def dead_member_falls_back():
    """Traces of a member that is gone go to their fallback without the client noticing, and back when it returns."""
    with Fakes() as stage:
        mine = stage.of("a")
        stage.members["a"].stop()
        request = otlp.request_of(list(stage.owners), 2)
        answer = stage.client.export(request)
        equal(answer.code, OK, f"answer with a member gone ({answer.message})")
        for _ in range(10):
            equal(stage.client.export(otlp.request_of(mine, 1)).code, OK, "answer for traces of the member that is gone")
        got = {item.span.trace_id for item in stage.members["b"].spans()}
        equal(got, set(stage.owners), "traces at the member that is left")
        page = metrics.check_lb_books(stage.node)
        check(page.value("tailrace_lb_fallback_spans_total") >= 10 * len(mine), "spans counted as fallback")

        stage.members["a"].start()
        stage.members["a"].received.clear()

        def owner_again():
            equal(stage.client.export(otlp.request_of(mine[:1], 1)).code, OK, "answer while the member returns")
            return stage.members["a"].calls()

        until(owner_again, "the owner gets its traces again")


@suite.case("RESOURCE_EXHAUSTED", "UNAVAILABLE")
def overload_goes_to_client(word):
    """A member that says it is overloaded is heard: the client gets its status and retry time, no other member gets its spans."""
    with Fakes() as stage:
        code = grpc.StatusCode[word]
        mine, others = stage.of("a"), stage.of("b")
        stage.members["a"].answer = otlp.refuse(code, "too much", 3)
        for _ in range(5):
            answer = stage.client.export(otlp.request_of(mine, 2))
            strays = {item.span.trace_id for item in stage.members["b"].spans(stage.members["b"].calls())} & set(mine)
            check(not strays, f"the member that does not own them got {len(strays)} traces of the overloaded one")
            equal(answer.code, code, f"answer ({answer.message})")
            check(answer.retry_s is not None and 2.9 <= answer.retry_s <= 6, f"the member's retry time of 3 s: {answer.retry_s}")
        equal(len(stage.span_ids("a", accepted=False)), 5 * 2 * len(mine), "spans tried at the overloaded member: once each")
        equal(stage.client.export(otlp.request_of(others, 2)).code, OK, "traces of the other member")
        page = metrics.check_lb_books(stage.node)
        equal(page.value("tailrace_lb_fallback_spans_total"), 0, "spans counted as fallback")
        equal(page.value("tailrace_requests_refused_total", reason="delivery"), 5, "refusals counted")


@suite.case("UNAVAILABLE", "CANCELLED")
def going_member_falls_back(word):
    """UNAVAILABLE without RetryInfo, or CANCELLED (a server in the moment of its stop), sends the piece to the fallback."""
    with Fakes() as stage:
        mine = stage.of("a")
        stage.members["a"].answer = otlp.refuse(grpc.StatusCode[word], "going away")
        request = otlp.request_of(mine, 2)
        answer = stage.client.export(request)
        equal(answer.code, OK, f"answer ({answer.message})")
        same_once(stage.span_ids("b"), ids(request), "spans at the fallback")


@suite.case()
def silent_member_falls_back():
    """A member that takes a piece and does not answer within the timeout loses it to the fallback, within the client's deadline."""
    # A balancer gives a request up after 10 s: what is left of them is for the fallback to answer.
    with Fakes(timeout=f"{int(min(4 * slowness(), 6))}s") as stage:
        mine = stage.of("a")
        stage.members["a"].answer = hold(stage, threading.Event())
        request = otlp.request_of(mine, 2)
        answer = stage.client.export(request, timeout_s=20)
        equal(answer.code, OK, f"answer ({answer.message})")
        same_once(stage.span_ids("b"), ids(request), "spans at the fallback")


@suite.case()
def hello_not_implemented():
    """A member that knows no Hello (a Collector behind our balancer) is served under its address."""
    with Stage() as stage:
        member = stage.serve(otlp.Member("unused", hello=False))
        lb = stage.lb("lb-0", [member.address]).wait_ready()
        request = otlp.request_of([otlp.trace_id() for _ in range(5)], 2)
        with otlp.Client(lb.address) as client:
            until(lambda: client.export(request).code == OK, "served")
        until(lambda: {item.span.span_id for item in member.spans()} == set(ids(request)), "the spans are at the member")
        metrics.check_lb_books(lb)  # at rest


# -- when a client hears OK --------------------------------------------------------------------------


def hold(stage, event):
    """An answer that waits for the event, or until the call is over."""
    def answer(call):
        end = time.monotonic() + HOLD_S * slowness()
        while not event.wait(0.05) and call.context.is_active() and time.monotonic() < end:
            pass
        return b""
    return answer


@suite.case()
def acknowledged_end_to_end():
    """A client hears OK only when every member that got a piece of its request has answered OK."""
    with Fakes(timeout="30s") as stage:
        request = otlp.request_of(list(stage.owners), 2)
        # Both have it and one says nothing yet.
        let_go = threading.Event()
        stage.members["a"].answer = hold(stage, let_go)
        call = stage.client.begin(request, timeout_s=30)
        until(lambda: stage.members["a"].calls() and stage.members["b"].spans(), "both members have their pieces")
        time.sleep(1 * slowness())
        check(not call.done(), "the client was answered before the member that holds its answer")
        equal(stage.node.metrics().value("otelcol_receiver_accepted_spans_total"), stage.learned_spans, "spans acknowledged so far")
        let_go.set()
        equal(otlp.answer_of(call).code, OK, "answer after the member's")
        # One has it and the other refuses for good.
        stage.members["a"].answer = otlp.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", 1)
        equal(stage.client.export(request).code, grpc.StatusCode.RESOURCE_EXHAUSTED, "answer when one piece was refused")
        metrics.check_lb_books(stage.node)


@suite.case()
def only_the_failed_piece_again():
    """When one member fails, only its piece is sent again; the other member's piece is not."""
    with Fakes() as stage:
        failed = []

        def fail_once(call):
            if not failed:
                failed.append(call)
                otlp.refuse(grpc.StatusCode.UNAVAILABLE, "once")(call)
            return b""

        stage.members["a"].answer = fail_once
        request = otlp.request_of(list(stage.owners), 3)
        answer = stage.client.export(request)
        equal(answer.code, OK, f"answer ({answer.message})")
        equal(len(failed), 1, "failures")
        a, b = stage.span_ids("a"), stage.span_ids("b")
        same_once(a + b, ids(request), "spans accepted, each once")
        mine = set(stage.of("b"))
        tried = [item.span.span_id for item in stage.members["b"].spans(stage.members["b"].calls()) if item.span.trace_id in mine]
        equal(len(tried), 3 * len(mine), "spans of the healthy member's own traces that it was sent")
        page = metrics.check_lb_books(stage.node)
        check(page.value("tailrace_lb_retried_pieces_total") >= 1, "the retry was counted")


@suite.case()
def rejected_spans_reach_their_callers():
    """A member's list of rejected spans, by their place in a coalesced message, becomes each caller's own count."""
    with Fakes(names=("a",), timeout="30s") as stage:
        member = stage.members["a"]
        let_go = threading.Event()

        def reject_bad(call):
            if call.number < 2:  # two calls under way: what comes meanwhile is coalesced
                let_go.wait(HOLD_S * slowness())
            names = [item.span.name for item in otlp.flatten(call.request)]
            bad = [index for index, name in enumerate(names) if name == "bad"]
            response = ExportTraceServiceResponse()
            if bad:
                call.context.set_trailing_metadata((("tailrace-rejected-bin", b"".join(wire.varint(index) for index in bad)),))
                response.partial_success.rejected_spans = len(bad)
                response.partial_success.error_message = "span is malformed"
            return response

        member.answer = reject_bad
        prepared, calls = [], []
        for number in range(30):
            request = otlp.request_of([otlp.trace_id() for _ in range(3)], 10, service=f"caller-{number}")
            bad = sum(1 for place, item in enumerate(otlp.flatten(request)) if (place * 7 + number) % 11 < number % 4)
            for place, item in enumerate(otlp.flatten(request)):
                if (place * 7 + number) % 11 < number % 4:
                    item.span.name = "bad"
            prepared.append((number, bad, request.SerializeToString()))
        for number, bad, request in prepared:  # one right after the other: what comes within 5 ms goes together
            calls.append((number, bad, stage.client.begin(request, timeout_s=30)))
            if number < 2:
                until(lambda number=number: len(member.calls()) == number + 1, "two calls under way")
        until(lambda: len(member.spans(member.calls())) == 30 * 30, "all spans at the member")
        let_go.set()
        for number, bad, call in calls:
            answer = otlp.answer_of(call)
            equal((answer.code, answer.rejected), (OK, bad), f"answer to caller {number} ({answer.message})")
            equal(bool(answer.rejected_message), bad > 0, f"caller {number} is told why")
        together = max(len({item.resource.attributes[0].value.string_value for item in otlp.flatten(call.request)})
                       for call in member.calls())
        check(together > 1, "no message carried spans of two callers: nothing was coalesced")
        total = sum(bad for _, bad, _ in calls)
        page = metrics.check_lb_books(stage.node)
        equal(page.value("tailrace_spans_rejected_total", reason="member"), total, "spans counted as rejected by a member")
        equal(page.value("otelcol_receiver_accepted_spans_total"), stage.learned_spans + 30 * 30 - total, "spans acknowledged")


if __name__ == "__main__":
    sys.exit(suite.main())
