/* What one sampler writes for another reads back the same, field by field, however little or much there is of it; and bytes that
 * are no such message are refused whole. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/handoff/transfer.h"

static const struct trace_id ID = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

static struct metadata_set *tenant(const char *value)
{
    const struct metadata_entry pairs[] = {
        {slice_text("x-scope-orgid"), slice_text(value)}, {slice_text("x-other"), slice_text("")}};
    struct metadata_set *set;

    assert_int_equal(metadata_set_new(pairs, 2, &set), 0);
    return set;
}

static struct buffer *give_of(const struct transfer_sender *sender, const struct transfer_trace *traces, size_t count)
{
    size_t size = transfer_sender_size(sender);
    struct buffer *give;
    uint8_t *out;

    for (size_t i = 0; i < count; i++)
        size += transfer_trace_size(&traces[i]);
    give = buffer_new(size);
    assert_non_null(give);
    out = transfer_sender_write(sender, give->bytes);
    for (size_t i = 0; i < count; i++)
        out = transfer_trace_write(&traces[i], out);
    assert_int_equal(out - give->bytes, size);
    give->len = size;
    return give;
}

static void assert_slices(struct slice a, struct slice b)
{
    assert_true(slice_equal(a, b));
}

static void assert_same_verdict(const struct transfer_verdict *a, const struct transfer_verdict *b)
{
    assert_int_equal(a->decision, b->decision);
    if (a->decision == DECISION_PENDING)
        return;
    assert_slices(a->policy, b->policy);
    assert_int_equal(a->too_large, b->too_large);
    assert_int_equal(a->span_count, b->span_count);
    assert_int_equal(a->evidence_span_id, b->evidence_span_id);
    assert_int_equal(a->evidence_bit, b->evidence_bit);
    assert_int_equal(a->threshold, b->threshold);
    assert_int_equal(a->age_ms, b->age_ms);
}

static void assert_same_trace(const struct transfer_trace *wrote, const struct transfer_trace *read)
{
    struct wire parts = wire_of(read->body), delivered = wire_of(read->body);
    struct transfer_hashes hashes = transfer_hashes(read);
    struct transfer_part part;
    struct slice exporter;
    uint64_t hash;

    assert_memory_equal(&wrote->id, &read->id, sizeof(wrote->id));
    assert_int_equal(wrote->age_ms, read->age_ms);
    assert_int_equal(wrote->remaining_ms, read->remaining_ms);
    assert_same_verdict(&wrote->verdict, &read->verdict);
    for (size_t i = 0; i < wrote->part_count; i++) {
        struct metadata_set *set;

        assert_true(transfer_part_next(&parts, &part));
        assert_slices(wrote->parts[i].spans, part.spans);
        assert_int_equal(transfer_part_metadata(&part, &set), 0);
        assert_true(metadata_set_equal(wrote->parts[i].metadata, set));
        metadata_set_unref(set);
    }
    assert_false(transfer_part_next(&parts, &part));
    assert_int_equal(wrote->hash_count, read->hash_count);
    for (size_t i = 0; i < wrote->hash_count; i++) {
        assert_true(transfer_hash_next(&hashes, &hash));
        assert_int_equal(hash, wrote->hashes[i]);
    }
    assert_false(transfer_hash_next(&hashes, &hash));
    for (size_t i = 0; i < wrote->delivered_count; i++) {
        assert_true(transfer_delivered_next(&delivered, &exporter));
        assert_slices(exporter, slice_text(wrote->delivered[i]));
    }
    assert_false(transfer_delivered_next(&delivered, &exporter));
}

static void a_give_reads_back(void **state)
{
    struct metadata_set *acme = tenant("acme");
    const struct transfer_part parts[] = {
        {.spans = SLICE_LITERAL("spans of nobody")}, {.spans = SLICE_LITERAL(""), .metadata = acme}};
    const uint64_t hashes[] = {1, UINT64_MAX, 0x8000000000000000u};
    const char *const delivered[] = {"otlp/a", "debug"};
    const struct transfer_trace traces[] = {
        {.id = ID, .verdict = {.evidence_bit = UINT16_MAX}},
        {.id = ID, .age_ms = 10000, .remaining_ms = -5, .parts = parts, .part_count = 2, .verdict = {.evidence_bit = UINT16_MAX}},
        {.id = ID, .age_ms = UINT64_MAX, .remaining_ms = INT64_MAX, .parts = parts, .part_count = 1, .hashes = hashes, .hash_count = 3,
            .delivered = delivered, .delivered_count = 2,
            .verdict = {.decision = DECISION_SAMPLED, .policy = SLICE_LITERAL("errors"), .span_count = 7, .evidence_span_id = 99, .evidence_bit = 0,
                .threshold = 1ull << 55, .age_ms = 1}},
        {.id = ID, .remaining_ms = INT64_MIN, .verdict = {.decision = DECISION_DROPPED, .evidence_bit = UINT16_MAX - 1}},
        {.id = ID, .verdict = {.decision = DECISION_NOT_SAMPLED, .evidence_bit = UINT16_MAX, .too_large = true}},
    };
    const size_t count = sizeof(traces) / sizeof(traces[0]);
    const struct transfer_sender sender = {SLICE_LITERAL("sampler-2"), 77, 3, 12};
    struct buffer *give = give_of(&sender, traces, count);
    struct slice message = buffer_slice(give);
    struct wire w = wire_of(message);
    struct transfer_sender read_sender;
    struct transfer_trace trace;
    size_t read_count, fields = 0;

    (void)state;
    assert_true(transfer_give_read(message, &read_sender, &read_count));
    assert_int_equal(read_count, count);
    assert_slices(read_sender.name, sender.name);
    assert_int_equal(read_sender.incarnation, 77);
    assert_int_equal(read_sender.ring_no, 3);
    assert_int_equal(read_sender.batch_no, 12);
    for (size_t i = 0; i < count; i++) {
        assert_true(transfer_trace_next(&w, &trace));
        assert_same_trace(&traces[i], &trace);
        fields += trace.field.len;
    }
    assert_false(transfer_trace_next(&w, &trace));
    assert_int_equal(fields + transfer_sender_size(&sender), message.len); /* what the fields are cut out of */
    for (size_t len = 0; len < message.len; len++) { /* whatever is cut off: refused, or fewer traces, never a read past the end */
        uint8_t *part = malloc(len + 1);

        assert_non_null(part);
        memcpy(part, message.at, len);
        if (transfer_give_read(slice_make(part, len), &read_sender, &read_count))
            assert_true(read_count < count);
        free(part);
    }
    buffer_unref(give);
    metadata_set_unref(acme);
}

static void a_forward_reads_back(void **state)
{
    struct metadata_set *acme = tenant("acme");
    const struct metadata_set *const sets[] = {NULL, acme};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct transfer_forward forward = {
            .sender = {SLICE_LITERAL("lb"), 5, 9, 0}, .metadata = sets[i], .spans = SLICE_LITERAL("any bytes")};
        size_t head = transfer_forward_head_size(&forward);
        struct transfer_forward read;
        struct metadata_set *set;
        uint8_t bytes[256];

        assert_true(head + forward.spans.len <= sizeof(bytes));
        assert_ptr_equal(transfer_forward_head_write(&forward, bytes), bytes + head);
        memcpy(bytes + head, forward.spans.at, forward.spans.len);
        assert_true(transfer_forward_read(slice_make(bytes, head + forward.spans.len), &read));
        assert_slices(read.sender.name, forward.sender.name);
        assert_int_equal(read.sender.incarnation, 5);
        assert_int_equal(read.sender.ring_no, 9);
        assert_slices(read.spans, forward.spans);
        assert_int_equal(transfer_forward_metadata(&read, &set), 0);
        assert_true(metadata_set_equal(set, sets[i]));
        metadata_set_unref(set);
        assert_false(transfer_forward_read(slice_make(bytes, head + 1), &read));
    }
    metadata_set_unref(acme);
}

static void answers_read_back(void **state)
{
    static const uint8_t outcomes[] = {TRANSFER_ACCEPTED, TRANSFER_BUSY, TRANSFER_NOT_OWNER};
    const struct transfer_answer wrote = {
        .fingerprint = 0xfedcba9876543210u, .retry_ms = 1500, .outcomes = {outcomes, 3}, .outcome = TRANSFER_BUSY};
    struct buffer *give = transfer_give_answer(&wrote), *forward = transfer_forward_answer(&wrote);
    struct transfer_answer read;

    (void)state;
    assert_true(transfer_give_answer_read(buffer_slice(give), &read));
    assert_slices(read.outcomes, wrote.outcomes);
    assert_int_equal(read.fingerprint, wrote.fingerprint);
    assert_int_equal(read.retry_ms, 1500);
    assert_true(transfer_forward_answer_read(buffer_slice(forward), &read));
    assert_int_equal(read.outcome, TRANSFER_BUSY);
    assert_int_equal(read.fingerprint, wrote.fingerprint);
    buffer_unref(give);
    buffer_unref(forward);
}

static void what_is_no_message_is_refused(void **state)
{
    const struct {
        const char *what;
        struct slice bytes;
        enum { GIVE, FORWARD, GIVE_ANSWER, FORWARD_ANSWER } kind;
    } cases[] = {
        {"a trace without an ID", SLICE_LITERAL("\x2a\x02\x18\x05"), GIVE},
        {"an ID of 15 bytes", SLICE_LITERAL("\x2a\x11\x0a\x0f" "123456789012345"), GIVE},
        {"an ID of zeros", SLICE_LITERAL("\x2a\x12\x0a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), GIVE},
        {"a verdict of no meaning", SLICE_LITERAL("\x2a\x14\x0a\x10" "1234567890123456" "\x28\x04"), GIVE},
        {"hashes of 7 bytes", SLICE_LITERAL("\x2a\x1b\x0a\x10" "1234567890123456" "\x4a\x07" "1234567"), GIVE},
        {"a group", SLICE_LITERAL("\x33"), GIVE},
        {"traces as a number", SLICE_LITERAL("\x28\x01"), GIVE},
        {"a ring number of 33 bits", SLICE_LITERAL("\x18\x80\x80\x80\x80\x10"), GIVE},
        {"spans as a number", SLICE_LITERAL("\x28\x01"), FORWARD},
        {"a pair without a key", SLICE_LITERAL("\x22\x00"), FORWARD},
        {"outcome 0", SLICE_LITERAL("\x0a\x01\x00"), GIVE_ANSWER},
        {"outcome 4", SLICE_LITERAL("\x0a\x01\x04"), GIVE_ANSWER},
        {"no outcome", SLICE_LITERAL(""), FORWARD_ANSWER},
        {"outcome 4", SLICE_LITERAL("\x08\x04"), FORWARD_ANSWER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct transfer_sender sender;
        struct transfer_forward forward;
        struct transfer_answer answer;
        size_t count;
        bool read = false;

        switch (cases[i].kind) {
        case GIVE:
            read = transfer_give_read(cases[i].bytes, &sender, &count);
            break;
        case FORWARD:
            read = transfer_forward_read(cases[i].bytes, &forward);
            break;
        case GIVE_ANSWER:
            read = transfer_give_answer_read(cases[i].bytes, &answer);
            break;
        case FORWARD_ANSWER:
            read = transfer_forward_answer_read(cases[i].bytes, &answer);
            break;
        }
        if (read)
            fail_msg("%s was read", cases[i].what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_give_reads_back),
        cmocka_unit_test(a_forward_reads_back),
        cmocka_unit_test(answers_read_back),
        cmocka_unit_test(what_is_no_message_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
