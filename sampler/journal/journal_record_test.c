/* What is read from a record is what was written into it, field by field; cut or spoilt bytes end in an error, never in something else. */
#include "sampler/journal/journal_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct trace_id id_of(uint8_t n)
{
    struct trace_id id;

    memset(id.bytes, n, sizeof(id.bytes));
    return id;
}

/* Head and body as the disk joins them. */
static struct buffer *joined(struct buffer *head, struct slice body)
{
    struct buffer *whole = buffer_new(head->len + body.len + 1);

    assert_non_null(whole);
    memcpy(whole->bytes, head->bytes, head->len);
    if (body.len > 0)
        memcpy(whole->bytes + head->len, body.at, body.len);
    whole->len = head->len + body.len;
    buffer_unref(head);
    return whole;
}

static void test_request(void **state)
{
    struct metadata_entry entries[] = {
        {SLICE_LITERAL("x-scope-orgid"), SLICE_LITERAL("tenant 7")},
        {SLICE_LITERAL("a"), {NULL, 0}},
    };
    struct metadata_set *metadata = NULL;

    (void)state;
    assert_int_equal(metadata_set_new(entries, 2, &metadata), 0);
    for (int with = 0; with < 2; with++) {
        struct buffer *record = joined(journal_request_head(12345678901234567ull, with ? metadata : NULL), SLICE_LITERAL("some OTLP"));
        struct journal_came_in read;

        assert_int_equal(journal_request_read(buffer_slice(record), &read), 0);
        assert_true(read.received_unix_ns == 12345678901234567ull);
        assert_true(metadata_set_equal(read.metadata, with ? metadata : NULL));
        assert_true(slice_equal(read.body, SLICE_LITERAL("some OTLP")));
        metadata_set_unref(read.metadata);
        for (size_t len = 0; len < record->len - 9; len++)
            assert_int_equal(journal_request_read(slice_make(record->bytes, len), &read), JOURNAL_RECORD_E_BAD);
        buffer_unref(record);
    }
    metadata_set_unref(metadata);
}

static void test_traces(void **state)
{
    struct buffer *record = joined(journal_traces_head(77), SLICE_LITERAL("give"));
    struct journal_came_in read;

    (void)state;
    assert_int_equal(journal_traces_read(buffer_slice(record), &read), 0);
    assert_true(read.received_unix_ns == 77 && !read.metadata && slice_equal(read.body, SLICE_LITERAL("give")));
    assert_int_equal(journal_traces_read(slice_make(record->bytes, 7), &read), JOURNAL_RECORD_E_BAD);
    buffer_unref(record);
}

static const struct journal_verdict verdicts[] = {
    {{{1}}, DECISION_SAMPLED, false, {(const uint8_t *)"errors", 6}, 1000, 3, 0xfeedull, 7, 0},
    {{{2}}, DECISION_NOT_SAMPLED, false, {NULL, 0}, UINT64_MAX, 0, 0, UINT16_MAX, 0},
    {{{3}}, DECISION_DROPPED, false, {(const uint8_t *)"health", 6}, 0, UINT32_MAX, UINT64_MAX, 65534, (1ull << 56) - 1},
    {{{4}}, DECISION_NOT_SAMPLED, true, {NULL, 0}, 5, 100000, 0, UINT16_MAX, 0},
    {{{5}}, DECISION_SAMPLED, false, {(const uint8_t *)"errors", 6}, 6, 1, 1, 0, 1},
    {{{6}}, DECISION_SAMPLED, false, {(const uint8_t *)"slow", 4}, 6, 1, 0, 9, 1},
    {{{7}}, DECISION_SAMPLED, false, {(const uint8_t *)"health", 6}, 6, 1, 0, 9, 1},
};
#define VERDICT_COUNT (sizeof(verdicts) / sizeof(verdicts[0]))

static bool verdict_equal(const struct journal_verdict *a, const struct journal_verdict *b)
{
    return trace_id_equal(&a->id, &b->id) && a->decision == b->decision && a->too_large == b->too_large &&
           slice_equal(a->policy, b->policy) && a->decided_unix_ns == b->decided_unix_ns && a->span_count == b->span_count &&
           a->evidence_span_id == b->evidence_span_id && a->evidence_bit == b->evidence_bit && a->threshold == b->threshold;
}

static void test_verdicts(void **state)
{
    struct buffer *record = journal_verdicts_encode(verdicts, VERDICT_COUNT);
    struct journal_verdicts reader;
    struct journal_verdict read;

    (void)state;
    journal_verdicts_begin(&reader, buffer_slice(record));
    for (size_t i = 0; i < VERDICT_COUNT; i++) {
        assert_true(journal_verdicts_next(&reader, &read));
        if (!verdict_equal(&read, &verdicts[i]))
            fail_msg("verdict %zu came back another", i);
    }
    assert_false(journal_verdicts_next(&reader, &read));
    assert_false(reader.wire.bad);
    for (size_t len = 0; len < record->len; len++) {
        size_t count = 0;

        journal_verdicts_begin(&reader, slice_make(record->bytes, len));
        while (journal_verdicts_next(&reader, &read)) {
            assert_true(verdict_equal(&read, &verdicts[count]));
            count++;
        }
        if (!reader.wire.bad || count >= VERDICT_COUNT)
            fail_msg("cut at %zu of %zu: read as good", len, record->len);
    }
    buffer_unref(record);
    record = journal_verdicts_encode(NULL, 0);
    journal_verdicts_begin(&reader, buffer_slice(record));
    assert_false(journal_verdicts_next(&reader, &read));
    assert_false(reader.wire.bad);
    buffer_unref(record);
}

/* A record that claims more, names no policy of its table, or goes on after its end is bad. */
static void test_verdicts_bad(void **state)
{
    static const struct {
        const char *what;
        uint8_t bytes[64];
        size_t len;
    } cases[] = {
        {"no decision", {0, 0, 1, [19] = 0}, 3 + 16 + 1 + 8 + 1},
        {"an unknown flag", {0, 0, 1, [19] = 128 + 1}, 3 + 16 + 1 + 8 + 1},
        {"a policy that is not there", {0, 0, 1, [19] = 8 + 1}, 3 + 16 + 1 + 8 + 1 + 1},
        {"a name that ends outside the table", {1, 1, 5, 1, [20] = 8 + 1}, 4 + 16 + 1 + 8 + 1 + 1},
        {"bytes behind the last", {0, 0, 1, [19] = 1}, 3 + 16 + 1 + 8 + 1 + 1},
        {"too many names", {0xff, 0xff, 0x7f, 0, 0}, 5},
    };
    struct journal_verdicts reader;
    struct journal_verdict read;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        journal_verdicts_begin(&reader, slice_make(cases[i].bytes, cases[i].len));
        while (journal_verdicts_next(&reader, &read))
            ;
        if (!reader.wire.bad)
            fail_msg("%s: read as good", cases[i].what);
    }
}

static void test_spans(void **state)
{
    static const uint64_t hashes[] = {1, UINT64_MAX, 0x1234};
    struct journal_spans spans[] = {
        {id_of(1), false, 0, {NULL, 0}, slice_make(hashes, sizeof(hashes))},
        {id_of(2), true, UINT64_MAX, {NULL, 0}, {NULL, 0}},
        {id_of(3), true, 0, {NULL, 0}, slice_make(hashes, 8)},
        {id_of(4), false, 1, {NULL, 0}, slice_make(hashes, 8)},
        {id_of(5), false, 0, slice_text("otlp/second"), slice_make(hashes, sizeof(hashes))},
    };
    struct buffer *record = journal_spans_encode(spans, 5);
    struct journal_spans_reader reader;
    struct journal_spans read;

    (void)state;
    journal_spans_begin(&reader, buffer_slice(record));
    for (size_t i = 0; i < 5; i++) {
        assert_true(journal_spans_next(&reader, &read));
        assert_true(trace_id_equal(&read.id, &spans[i].id) && read.also_verdict == spans[i].also_verdict);
        assert_true(read.before == spans[i].before && slice_equal(read.exporter, spans[i].exporter));
        assert_int_equal(journal_hash_count(&read), journal_hash_count(&spans[i]));
        for (size_t j = 0; j < journal_hash_count(&read); j++)
            assert_true(journal_hash_at(&read, j) == hashes[j]);
    }
    assert_false(journal_spans_next(&reader, &read));
    assert_false(reader.wire.bad);
    for (size_t len = 0; len < record->len; len++) {
        journal_spans_begin(&reader, slice_make(record->bytes, len));
        while (journal_spans_next(&reader, &read))
            ;
        assert_true(reader.wire.bad);
    }
    buffer_unref(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_traces),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_verdicts_bad),
        cmocka_unit_test(test_spans),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
