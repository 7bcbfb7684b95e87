/* Law: whatever the bytes, predicates answer as a plain reading of the attributes does, and refuse
 * the same spans.
 *
 * The plain reading knows no key table, no value table and no cache: each question looks through
 * all attributes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/regex_re2.h"
#include "common/otlp/w3c_tracestate.h"
#include "sampler/decide/predicate.h"

static char key_k[] = "k", key_number[] = "n", key_long[] = "http.method", key_empty[] = "", value_a[] = "a",
            value_b[] = "GET", pattern_dot[] = "^a.*b$", pattern_empty[] = "^$",
            pattern_class[] = "[0-9]+\xc3\xa9?";

enum kind { EXACT, REGEX, INT, BOOL };

static const struct {
    char *key, *values[2];
    enum kind kind;
    int64_t min, max;
} questions[] = {
    {key_k, {value_a, value_b}, EXACT, 0, 0},
    {key_k, {pattern_dot, pattern_empty}, REGEX, 0, 0},
    {key_k, {pattern_class, pattern_dot}, REGEX, 0, 0},
    {key_long, {value_b, value_a}, EXACT, 0, 0},
    {key_long, {pattern_class, pattern_class}, REGEX, 0, 0},
    {key_empty, {value_a, pattern_dot}, EXACT, 0, 0},
    {key_k, {NULL, NULL}, INT, 1, 100},
    {key_k, {NULL, NULL}, INT, -5, 5},
    {key_k, {NULL, NULL}, BOOL, 0, 0},
    {key_number, {NULL, NULL}, INT, INT64_MIN, -1},
    {key_number, {NULL, NULL}, BOOL, 1, 1},
};
/* Behind them: the sampled flag, and a tracestate's k=a. */
#define FLAG_BIT        ARRAY_COUNT(questions)
#define TRACE_STATE_BIT (ARRAY_COUNT(questions) + 1)

static char *trace_state_values[] = {value_a};
static struct predicates *predicates;
static struct predicate_scratch *scratch;
static struct regex_set *regexes[ARRAY_COUNT(questions)];

static void set_up(void)
{
    struct predicate_builder *builder = predicate_builder_new();

    ASSERT(builder);
    for (uint32_t i = 0; i < ARRAY_COUNT(questions); i++) {
        const char *error = NULL;
        char *reason = NULL;
        size_t index;
        uint32_t bit = 0;

        switch (questions[i].kind) {
        case EXACT:
            bit = predicate_string_exact(builder, questions[i].key, questions[i].values, 2);
            break;
        case REGEX:
            bit = predicate_string_regex(builder, questions[i].key, questions[i].values, 2, &error);
            ASSERT(regex_set_new(questions[i].values, 2, &regexes[i], &reason, &index) == 0);
            break;
        case INT:
            bit = predicate_int_range(builder, questions[i].key, questions[i].min, questions[i].max);
            break;
        case BOOL:
            bit = predicate_bool(builder, questions[i].key, questions[i].min != 0);
            break;
        }
        ASSERT(bit == i);
    }
    ASSERT(predicate_sampled_flag(builder) == FLAG_BIT);
    ASSERT(predicate_trace_state(builder, key_k, trace_state_values, 1) == TRACE_STATE_BIT);
    ASSERT(predicates_new(builder, &predicates) == 0);
    predicate_builder_free(builder);
    scratch = predicate_scratch_new(predicates);
    ASSERT(scratch);
}

struct looking {
    uint32_t question;
    bool is_resource, seen;
    struct hits *hits;
};

static void look(void *context, struct slice name, struct slice value_bytes)
{
    struct looking *looking = context;
    const char *key = questions[looking->question].key;
    struct value value;
    struct slice text;
    uint64_t found = 0;

    if (looking->seen || !slice_equal(name, slice_text(key)))
        return;
    looking->seen = true;
    value = value_read(value_bytes);
    if (questions[looking->question].kind == INT || questions[looking->question].kind == BOOL) {
        enum value_type own = questions[looking->question].kind == INT ? VALUE_INT : VALUE_BOOL;
        int64_t number = value.type == own ? value.integer : 0;

        if (number >= questions[looking->question].min && number <= questions[looking->question].max)
            hits_set(looking->hits, looking->question);
        return;
    }
    text = value.type == VALUE_STRING ? value.bytes : slice_make("", 0);
    if (text.len == 0 && !looking->is_resource)
        return;
    if (questions[looking->question].kind == REGEX)
        ASSERT(regex_set_match(regexes[looking->question], text.at, text.len, &found) == 0);
    else
        for (size_t i = 0; i < 2; i++)
            found |= slice_equal(text, slice_text(questions[looking->question].values[i]));
    if (found)
        hits_set(looking->hits, looking->question);
}

static bool has_member(struct slice trace_state)
{
    struct w3c_member members[W3C_MEMBERS_MAX];
    size_t count = w3c_tracestate_read(trace_state, members);

    for (size_t i = 0; count != W3C_MALFORMED && i < count; i++)
        if (slice_equal(members[i].key, slice_text(key_k)) && slice_equal(members[i].value, slice_text(value_a)))
            return true;
    return false;
}

static void check_span(struct slice span)
{
    struct span_view view, plain_view;
    struct span_facts facts;
    struct hits plain = {0};
    bool fine = predicates_span(predicates, scratch, NULL, span, &view, &facts);

    for (uint32_t i = 0; i < ARRAY_COUNT(questions); i++) {
        struct looking looking = {.question = i, .hits = &plain};

        ASSERT(span_view_read(span, look, &looking, &plain_view) == fine);
    }
    if (!fine)
        return;
    if (plain_view.flags % 2 == 1)
        hits_set(&plain, FLAG_BIT);
    if (has_member(plain_view.trace_state))
        hits_set(&plain, TRACE_STATE_BIT);
    ASSERT(memcmp(&plain, &facts.hits, sizeof(plain)) == 0);
    ASSERT(facts.start_unix_ns == plain_view.start_unix_ns &&
           facts.end_unix_ns == plain_view.end_unix_ns);
    ASSERT(facts.is_root == !plain_view.has_parent);
}

static void check_header(const struct span_header *header)
{
    uint8_t *fields = malloc((size_t)header->resource.len + header->scope.len + 1);
    struct hits hits, plain = {0};
    bool fine = predicates_header(predicates, scratch, header, &hits);
    bool scope_fine;

    ASSERT(fields);
    (void)header_part_write(&header->scope, fields);
    scope_fine = fine || scope_visit(slice_make(fields, header->scope.len), NULL, NULL);
    if (!scope_fine) { /* the scope is to blame: the resource may be as it likes */
        free(fields);
        return;
    }
    (void)header_part_write(&header->resource, fields);
    for (uint32_t i = 0; i < ARRAY_COUNT(questions); i++) {
        struct looking looking = {.question = i, .hits = &plain, .is_resource = true};

        ASSERT(resource_visit(slice_make(fields, header->resource.len), look, &looking) == fine);
    }
    if (fine) {
        (void)header_part_write(&header->scope, fields);
        ASSERT(scope_visit(slice_make(fields, header->scope.len), NULL, NULL));
    }
    ASSERT(memcmp(&plain, &hits, sizeof(plain)) == 0);
    free(fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t header_index = 0;
    struct span_walk walk;
    struct span_ref span;

    if (!predicates)
        set_up();
    span_walk_init(&walk, slice_make(data, size));
    while (span_walk_next(&walk, &span)) {
        if (span.header_index != header_index) {
            header_index = span.header_index;
            check_header(span.header);
        }
        if (span.fault == SPAN_OK)
            check_span(span.bytes);
    }
    return 0;
}
