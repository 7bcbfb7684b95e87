/* The requests of all lanes together hold each span of each trace exactly once, with the values the model gives it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/template.h"
#include "common/otlp/span_walk.h"

struct shape {
    uint32_t spans_per_trace, services, spans_per_request;
};

static const struct shape shapes[] = {
    {1, 1, 1}, {1, 1, 7}, {15, 5, 68}, {15, 5, 500}, {15, 4, 17}, {15, 15, 3}, {100, 7, 64}, {2, 1, 3}, {65, 2, 11},
};

#define TRACES 40

struct field_values { /* of one span on the wire */
    uint64_t start, end, status;
    bool has_parent;
    uint8_t span_id[8], parent_id[8];
};

static struct field_values read_span(struct slice span)
{
    struct field_values values = {0};
    struct wire w = wire_of(span);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(2, WIRE_BYTES) || tag == WIRE_TAG(4, WIRE_BYTES)) {
            struct slice id = wire_bytes(&w);

            assert_int_equal(id.len, 8);
            memcpy(tag == WIRE_TAG(2, WIRE_BYTES) ? values.span_id : values.parent_id, id.at, 8);
            values.has_parent |= tag == WIRE_TAG(4, WIRE_BYTES);
        } else if (tag == WIRE_TAG(7, WIRE_FIXED64)) {
            values.start = wire_fixed64(&w);
        } else if (tag == WIRE_TAG(8, WIRE_FIXED64)) {
            values.end = wire_fixed64(&w);
        } else if (tag == WIRE_TAG(15, WIRE_BYTES)) {
            struct wire status = wire_of(wire_bytes(&w));

            assert_int_equal(wire_tag(&status), WIRE_TAG(3, WIRE_VARINT));
            values.status = wire_varint(&status);
        } else {
            wire_skip(&w, tag);
        }
    }
    assert_false(w.bad);
    return values;
}

static void check_span(const struct model *model, const struct span_ref *span, const struct model_trace *traces,
    uint32_t *seen)
{
    struct field_values values = read_span(span->bytes);
    const struct model_trace *trace = NULL;
    int index = model_span_index(&span->trace_id, values.span_id);
    uint32_t number, parent;

    assert_int_equal(span->fault, SPAN_OK);
    for (number = 0; number < TRACES && !trace; number++) {
        if (trace_id_equal(&traces[number].id, &span->trace_id))
            trace = &traces[number];
    }
    assert_non_null(trace);
    assert_true(index >= 0 && index < (int)model->spans_per_trace);
    seen[(number - 1) * model->spans_per_trace + (uint32_t)index]++;

    parent = model_span_parent(model, (uint32_t)index);
    assert_int_equal(values.has_parent, parent != UINT32_MAX);
    if (values.has_parent)
        assert_int_equal(model_span_index(&span->trace_id, values.parent_id), parent);
    assert_int_equal(values.status, trace->error_span == (uint32_t)index ? 2 : 0);
    assert_true(values.start >= trace->start_unix_ns && values.start <= values.end);
    assert_true(values.end <= trace->start_unix_ns + trace->duration_ns);
    if (index == 0) {
        assert_int_equal(values.start, trace->start_unix_ns);
        assert_int_equal(values.end, trace->start_unix_ns + trace->duration_ns);
    }
}

/* One lane's requests from first to last, as the load generator cuts them. */
static uint64_t send_lane(const struct model *model, uint32_t lane, uint32_t spans_per_request,
    const struct model_trace *traces, uint32_t *seen)
{
    uint64_t cells = (uint64_t)TRACES * lane_spans(model, lane), bytes = 0;

    for (uint64_t cell = 0; cell < cells;) {
        uint32_t count = cells - cell < spans_per_request ? (uint32_t)(cells - cell) : spans_per_request, walked = 0;
        struct template *template =
            template_new(model, lane, (uint32_t)(cell % lane_spans(model, lane)), count, 700);
        struct span_walk walk;
        struct span_ref span;

        template_fill(template, &traces[cell / lane_spans(model, lane)], template->bytes);
        span_walk_init(&walk, slice_make(template->bytes, template->len));
        while (span_walk_next(&walk, &span)) {
            check_span(model, &span, traces, seen);
            bytes += span.bytes.len;
            walked++;
        }
        assert_false(walk.bad);
        assert_int_equal(walked, count);
        for (uint32_t i = 0; i < count; i++) /* patches know where their span is: the ledger hashes it there */
            assert_true(template->patches[i].span_at + template->patches[i].span_len <= template->len);
        cell += count;
        template_free(template);
    }
    return bytes;
}

static void lanes_hold_every_span_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
        struct model model = {.seed = i + 1, .spans_per_trace = shapes[i].spans_per_trace, .services = shapes[i].services,
            .error_percent = 30, .slow_percent = 30, .slow_ms = 1000, .base_unix_ns = 1700000000000000000ull, .step_ns = 1000};
        uint32_t *seen = calloc((size_t)TRACES * model.spans_per_trace, sizeof(*seen));
        struct model_trace traces[TRACES];
        uint64_t bytes = 0;

        assert_non_null(seen);
        for (uint32_t number = 0; number < TRACES; number++)
            traces[number] = model_trace(&model, number);
        for (uint32_t lane = 0; lane < model.services; lane++)
            bytes += send_lane(&model, lane, shapes[i].spans_per_request, traces, seen);
        for (uint32_t span = 0; span < TRACES * model.spans_per_trace; span++) {
            if (seen[span] != 1)
                fail_msg("shape %zu: span %u of trace %u is there %u times", i, span % model.spans_per_trace,
                    span / model.spans_per_trace, seen[span]);
        }
        bytes /= (uint64_t)TRACES * model.spans_per_trace;
        if (shapes[i].spans_per_request > 60 && (bytes < 650 || bytes > 750)) /* many texts: near the mean asked for */
            fail_msg("shape %zu: %u bytes a span", i, (unsigned)bytes);
        free(seen);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lanes_hold_every_span_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
