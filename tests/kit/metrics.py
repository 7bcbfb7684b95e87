"""A node's /metrics page, and the books on it (the equation of spans that must balance on every sampler)."""
import re
import time

from kit.suite import slowness

LINE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    def __init__(self, text):
        self.cells = []
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            found = LINE.match(line)
            if not found:
                raise AssertionError(f"/metrics: not a sample: {line!r}")
            self.cells.append((found[1], dict(LABEL.findall(found[2] or "")), float(found[3])))

    def value(self, name, **labels):
        """The sum of the cells of this name that carry these labels. A name that is not there is a failure."""
        matching = [value for cell_name, cell_labels, value in self.cells
                    if cell_name == name and labels.items() <= cell_labels.items()]
        if not matching:
            raise AssertionError(f"/metrics has no {name} {labels or ''}")
        return int(sum(matching))

    def sampler_books(self):
        """(spans that came in, what became of them)."""
        came = {word: self.value(f"tailrace_spans_{word}_total") for word in ("received", "recovered", "taken_over")}
        went = {word: self.value(f"tailrace_spans_{word}_total")
                for word in ("exported", "dropped", "duplicate", "handed_over")}
        went["held"] = self.value("tailrace_spans_held")
        return came, went


def at_rest(check):
    """Runs check() until it holds: gauges are written once a worker's turn, so the last words may take a moment."""
    end = time.monotonic() + 5 + 5 * slowness()  # also on a machine that stops a process for seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def check_sampler_books(node, **expected):
    """The equation holds, and each named entry has its value (exported=3, held=0, ...). Returns the page."""
    def check():
        page = node.metrics()
        came, went = page.sampler_books()
        if sum(came.values()) != sum(went.values()):
            raise AssertionError(f"{node.name}: the books do not balance: {came} against {went}")
        for word, want in expected.items():
            got = {**came, **went}[word]
            if got != want:
                raise AssertionError(f"{node.name}: books: {word} is {got}, want {want} ({came}, {went})")
        return page
    return at_rest(check)


def check_lb_books(node):
    """A balancer at rest holds nothing, and told no client OK for more than its members have. Returns the page."""
    def check():
        page = node.metrics()
        accepted = page.value("otelcol_receiver_accepted_spans_total")
        delivered = page.value("tailrace_lb_delivered_spans_total")
        entries = (f"accepted {accepted}, routed {page.value('tailrace_lb_routed_spans_total')}, delivered {delivered}, "
                   f"in flight {page.value('tailrace_requests_in_flight')} requests, "
                   f"outbox {page.value('tailrace_lb_outbox_bytes')} bytes")
        if page.value("tailrace_requests_in_flight") or page.value("tailrace_lb_outbox_bytes"):
            raise AssertionError(f"{node.name}: not at rest: {entries}")
        if accepted > delivered:
            raise AssertionError(f"{node.name}: acknowledged more than was delivered: {entries}")
        return page
    return at_rest(check)
