/* How a span is asked everything at once.
 *
 * All attribute questions hang on their key. While span_view_read passes over a span it calls us for each attribute; one
 * byte of a 256-entry table, picked by the key's length and three of its bytes, says that nobody asks for this key, which
 * is the usual case and costs a few instructions. Otherwise the value is looked up once among all exact values of
 * the key, whoever asked for them, and once in the regex set of the key, whose answers for short texts are remembered.
 * An entry in either gives the bits of all questions it answers, so ten policies cost as much as their distinct keys.
 */
#include "sampler/decide/predicate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/base/regex_re2.h"
#include "common/metrics/text.h"
#include "common/otlp/ot_tracestate.h"
#include "common/otlp/w3c_tracestate.h"

enum question_kind {
    QUESTION_STATUS,
    QUESTION_SAMPLED_FLAG,
    QUESTION_TRACE_STATE,
    QUESTION_EXACT,
    QUESTION_REGEX,
    QUESTION_INT,
    QUESTION_BOOL,
    QUESTION_OTTL,
};

struct question { /* its bit is its place in the builder; what its kind does not use is zero */
    enum question_kind kind;
    uint32_t status_mask;
    int64_t min, max; /* of a bool: itself, twice */
    char *key;
    char **values; /* sorted, each once: equal questions look equal */
    size_t value_count;
};

struct predicate_builder {
    struct question questions[PREDICATES_MAX];
    uint32_t count;
    struct ottl_questions *ottl; /* NULL: none asked; predicates_new takes it */
    bool wants_ot;               /* span_facts.ot */
    bool out_of_memory;          /* sticky; predicates_new reports it */
    char *error;
};

/* -- asking ---------------------------------------------------------------------------------- */

static void question_deinit(struct question *question)
{
    for (size_t i = 0; i < question->value_count; i++)
        free(question->values[i]);
    free(question->values);
    free(question->key);
}

struct predicate_builder *predicate_builder_new(void)
{
    return calloc(1, sizeof(struct predicate_builder));
}

void predicate_ot(struct predicate_builder *builder)
{
    builder->wants_ot = true;
}

void predicate_builder_free(struct predicate_builder *builder)
{
    if (!builder)
        return;
    for (uint32_t i = 0; i < builder->count; i++)
        question_deinit(&builder->questions[i]);
    ottl_questions_free(builder->ottl);
    free(builder->error);
    free(builder);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool question_equal(const struct question *a, const struct question *b)
{
    if (a->kind != b->kind || a->status_mask != b->status_mask || a->min != b->min ||
        a->max != b->max || a->value_count != b->value_count)
        return false;
    if (a->key && strcmp(a->key, b->key) != 0) /* only some kinds have one */
        return false;
    for (size_t i = 0; i < a->value_count; i++)
        if (strcmp(a->values[i], b->values[i]) != 0)
            return false;
    return true;
}

/* Takes the question over, or finds its equal. */
static uint32_t builder_adopt(struct predicate_builder *builder, struct question *question)
{
    for (uint32_t bit = 0; bit < builder->count; bit++) {
        if (question_equal(&builder->questions[bit], question)) {
            question_deinit(question);
            return bit;
        }
    }
    if (builder->count == PREDICATES_MAX) {
        question_deinit(question);
        return PREDICATE_NONE;
    }
    builder->questions[builder->count] = *question;
    return builder->count++;
}

uint32_t predicate_status(struct predicate_builder *builder, uint32_t status_mask)
{
    struct question question = {.kind = QUESTION_STATUS, .status_mask = status_mask};

    return builder_adopt(builder, &question);
}

uint32_t predicate_sampled_flag(struct predicate_builder *builder)
{
    struct question question = {.kind = QUESTION_SAMPLED_FLAG};

    return builder_adopt(builder, &question);
}

static uint32_t builder_ask_range(struct predicate_builder *builder, enum question_kind kind,
    const char *key, int64_t min, int64_t max)
{
    struct question question = {.kind = kind, .min = min, .max = max, .key = strdup(key)};

    if (!question.key) {
        builder->out_of_memory = true;
        return 0;
    }
    return builder_adopt(builder, &question);
}

uint32_t predicate_int_range(
    struct predicate_builder *builder, const char *key, int64_t min, int64_t max)
{
    return builder_ask_range(builder, QUESTION_INT, key, min, max);
}

uint32_t predicate_bool(struct predicate_builder *builder, const char *key, bool value)
{
    return builder_ask_range(builder, QUESTION_BOOL, key, value, value);
}

/* Whether a value can ever match. */
static bool value_counts(enum question_kind kind, const char *key, const char *value)
{
    if (kind == QUESTION_EXACT)
        return value[0] != '\0';
    if (kind == QUESTION_TRACE_STATE)
        return value[0] != '\0' && strlen(key) + strlen(value) < 256;
    return true;
}

static uint32_t builder_ask_string(struct predicate_builder *builder, enum question_kind kind,
    const char *key, char *const *values, size_t count)
{
    struct question question = {
        .kind = kind, .key = strdup(key), .values = calloc(count + 1, sizeof(char *))};
    size_t kept = 0;

    if (!question.key || !question.values)
        goto no_memory;
    for (size_t i = 0; i < count; i++) {
        if (!value_counts(kind, key, values[i]))
            continue;
        question.values[question.value_count] = strdup(values[i]);
        if (!question.values[question.value_count])
            goto no_memory;
        question.value_count++;
    }
    qsort(question.values, question.value_count, sizeof(char *), compare_texts);
    for (size_t i = 0; i < question.value_count; i++) {
        if (kept > 0 && strcmp(question.values[i], question.values[kept - 1]) == 0)
            free(question.values[i]);
        else
            question.values[kept++] = question.values[i];
    }
    question.value_count = kept;
    return builder_adopt(builder, &question);

no_memory:
    question_deinit(&question);
    builder->out_of_memory = true;
    return 0;
}

uint32_t predicate_string_exact(
    struct predicate_builder *builder, const char *key, char *const *values, size_t count)
{
    return builder_ask_string(builder, QUESTION_EXACT, key, values, count);
}

uint32_t predicate_trace_state(
    struct predicate_builder *builder, const char *key, char *const *values, size_t count)
{
    return builder_ask_string(builder, QUESTION_TRACE_STATE, key, values, count);
}

uint32_t predicate_string_regex(struct predicate_builder *builder, const char *key,
    char *const *patterns, size_t count, const char **out_error)
{
    *out_error = NULL;
    for (size_t i = 0; i < count; i++) {
        char *pattern[1] = {patterns[i]}, *reason = NULL;
        struct regex_set *set = NULL;
        size_t index = 0;
        int r = regex_set_new(pattern, 1, &set, &reason, &index);

        regex_set_free(set);
        if (r < 0) {
            builder->out_of_memory = true;
            return 0;
        }
        if (r > 0) {
            char *error = NULL;

            if (asprintf(&error, "invalid regex `%s`: error parsing regexp: %s", patterns[i],
                    reason) < 0)
                error = NULL;
            free(reason);
            free(builder->error);
            builder->error = error;
            *out_error = error ? error : "invalid regex";
            return PREDICATE_NONE;
        }
    }
    return builder_ask_string(builder, QUESTION_REGEX, key, patterns, count);
}

uint32_t predicate_ottl(struct predicate_builder *builder, const struct ottl_ask *ask, uint32_t *out_ordered, char **out_error)
{
    struct question *question = &builder->questions[builder->count];
    int r;

    *out_error = NULL;
    *out_ordered = UINT32_MAX;
    if (builder->count == PREDICATES_MAX)
        return PREDICATE_NONE;
    if (!builder->ottl)
        builder->ottl = ottl_questions_new();
    *question = (struct question){.kind = QUESTION_OTTL, .key = strdup(ask->name)};
    r = builder->ottl && question->key ? ottl_questions_add(builder->ottl, ask, builder->count, out_ordered, out_error)
                                       : -ENOMEM;
    if (r == 0)
        return builder->count++;
    question_deinit(question);
    builder->out_of_memory |= r < 0;
    return r < 0 ? 0 : PREDICATE_NONE;
}

/* -- the program ------------------------------------------------------------------------------- */

struct text_answer { /* an exact value or a pattern, and what it answers */
    char *text;
    size_t len;
    struct hits hits;
};

struct int_answer { /* a range of whole numbers, and what it answers */
    int64_t min, max;
    struct hits hits;
};

/* Up to so many exact values are compared one by one; with more, the text is hashed. */
#define LINEAR_MAX 8

struct predicate_key {
    char *name;
    size_t len;
    uint16_t next; /* 1 + the next key of its bucket; 0: none */
    struct text_answer *exact;
    size_t exact_count;
    uint64_t exact_lengths; /* bit i: some value is i bytes long; 63: or longer */
    uint32_t *slots;        /* 1 + index into exact; NULL up to LINEAR_MAX */
    size_t slot_mask;
    struct text_answer *regex;
    size_t regex_count;
    struct int_answer *ints;
    size_t int_count;
    struct hits bools[2];
    bool asks_text, asks_bool;
    uint16_t ottl; /* 1 + its number among the keys of OTTL conditions; 0: none asks */
};

struct trace_state_key {
    char *name;
    struct text_answer *values;
    size_t value_count;
};

struct predicates {
    uint16_t buckets[256]; /* 1 + the first key of the bucket; 0: nobody asks */
    struct hits status_hits[SPAN_STATUS_ERROR + 1];
    struct hits sampled_flag_hits;
    struct trace_state_key *trace_state_keys;
    size_t trace_state_key_count;
    struct predicate_key *keys;
    uint32_t key_count;
    uint32_t count;
    bool wants_ot;
    char *descriptions[PREDICATES_MAX]; /* a bit each, for people */
    struct ottl_questions *ottl;        /* NULL: none */
    bool ottl_keys_shared;              /* each of their keys is among `keys` */
};

HOT_INLINE uint8_t key_bucket(const uint8_t *at, size_t len)
{
    if (len == 0)
        return 0;
    return (uint8_t)(len * 7 + at[0] + at[len / 2] * 3u + at[len - 1] * 17u);
}

static struct predicate_key *predicates_key(struct predicates *predicates, const char *name)
{
    size_t len = strlen(name);
    uint8_t bucket = key_bucket((const uint8_t *)name, len);
    struct predicate_key *key;

    for (uint32_t i = 0; i < predicates->key_count; i++)
        if (strcmp(predicates->keys[i].name, name) == 0)
            return &predicates->keys[i];

    ASSERT(predicates->key_count < PREDICATES_MAX);
    key = &predicates->keys[predicates->key_count];
    key->name = strdup(name);
    if (!key->name)
        return NULL;
    key->len = len;
    key->next = predicates->buckets[bucket];
    predicates->buckets[bucket] = (uint16_t)++predicates->key_count;
    return key;
}

/* Adds a bit to the answer of a text, which may be there already. */
static int answers_add(struct text_answer **answers, size_t *count, const char *text, uint32_t bit)
{
    struct text_answer *more;

    for (size_t i = 0; i < *count; i++) {
        if (strcmp((*answers)[i].text, text) == 0) {
            hits_set(&(*answers)[i].hits, bit);
            return 0;
        }
    }
    more = reallocarray(*answers, *count + 1, sizeof(**answers));
    if (!more)
        return -ENOMEM;
    *answers = more;
    more[*count] = (struct text_answer){.text = strdup(text), .len = strlen(text)};
    if (!more[*count].text)
        return -ENOMEM;
    hits_set(&more[(*count)++].hits, bit);
    return 0;
}

static int key_index_values(struct predicate_key *key)
{
    size_t slot_count = 32;

    for (size_t i = 0; i < key->exact_count; i++)
        key->exact_lengths |= 1ull << (key->exact[i].len < 63 ? key->exact[i].len : 63);
    if (key->exact_count <= LINEAR_MAX)
        return 0;
    while (slot_count < key->exact_count * 2)
        slot_count *= 2;
    key->slots = calloc(slot_count, sizeof(*key->slots));
    if (!key->slots)
        return -ENOMEM;
    key->slot_mask = slot_count - 1;
    for (size_t i = 0; i < key->exact_count; i++) {
        size_t slot = hash_bytes(key->exact[i].text, key->exact[i].len) & key->slot_mask;

        while (key->slots[slot])
            slot = (slot + 1) & key->slot_mask;
        key->slots[slot] = (uint32_t)i + 1;
    }
    return 0;
}

static int add_texts(
    struct predicates *predicates, const struct question *question, uint32_t bit)
{
    struct predicate_key *key;

    if (question->value_count == 0)
        return 0; /* never matches: nobody needs to look the key up */
    key = predicates_key(predicates, question->key);
    if (!key)
        return -ENOMEM;
    key->asks_text = true;
    for (size_t i = 0; i < question->value_count; i++) {
        int r = question->kind == QUESTION_EXACT
                    ? answers_add(&key->exact, &key->exact_count, question->values[i], bit)
                    : answers_add(&key->regex, &key->regex_count, question->values[i], bit);

        if (r)
            return r;
    }
    return 0;
}

static int add_range(
    struct predicates *predicates, const struct question *question, uint32_t bit)
{
    struct predicate_key *key = predicates_key(predicates, question->key);
    struct int_answer *more;

    if (!key)
        return -ENOMEM;
    more = reallocarray(key->ints, key->int_count + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    key->ints = more;
    more[key->int_count] = (struct int_answer){.min = question->min, .max = question->max};
    hits_set(&more[key->int_count++].hits, bit);
    return 0;
}

static int add_bool(
    struct predicates *predicates, const struct question *question, uint32_t bit)
{
    struct predicate_key *key = predicates_key(predicates, question->key);

    if (!key)
        return -ENOMEM;
    key->asks_bool = true;
    hits_set(&key->bools[question->min != 0], bit);
    return 0;
}

static struct trace_state_key *predicates_trace_state_key(
    struct predicates *predicates, const char *name)
{
    struct trace_state_key *more;

    for (size_t i = 0; i < predicates->trace_state_key_count; i++)
        if (strcmp(predicates->trace_state_keys[i].name, name) == 0)
            return &predicates->trace_state_keys[i];
    more = reallocarray(
        predicates->trace_state_keys, predicates->trace_state_key_count + 1, sizeof(*more));
    if (!more)
        return NULL;
    predicates->trace_state_keys = more;
    more += predicates->trace_state_key_count;
    *more = (struct trace_state_key){.name = strdup(name)};
    if (!more->name)
        return NULL;
    predicates->trace_state_key_count++;
    return more;
}

static int add_trace_state(
    struct predicates *predicates, const struct question *question, uint32_t bit)
{
    struct trace_state_key *key;
    int r = 0;

    if (question->value_count == 0)
        return 0;
    key = predicates_trace_state_key(predicates, question->key);
    if (!key)
        return -ENOMEM;
    for (size_t i = 0; i < question->value_count && r == 0; i++)
        r = answers_add(&key->values, &key->value_count, question->values[i], bit);
    return r;
}

static int predicates_add(
    struct predicates *predicates, const struct question *question, uint32_t bit)
{
    switch (question->kind) {
    case QUESTION_STATUS:
        for (uint32_t status = 0; status <= SPAN_STATUS_ERROR; status++)
            if (question->status_mask & (1u << status))
                hits_set(&predicates->status_hits[status], bit);
        return 0;
    case QUESTION_SAMPLED_FLAG:
        hits_set(&predicates->sampled_flag_hits, bit);
        return 0;
    case QUESTION_TRACE_STATE:
        return add_trace_state(predicates, question, bit);
    case QUESTION_EXACT:
    case QUESTION_REGEX:
        return add_texts(predicates, question, bit);
    case QUESTION_INT:
        return add_range(predicates, question, bit);
    case QUESTION_BOOL:
        return add_bool(predicates, question, bit);
    case QUESTION_OTTL:
        break; /* asked once the span was read */
    }
    return 0;
}

/* OTTL conditions have their attributes found in the same pass as everybody's, if there is room for all their keys. */
static int predicates_add_ottl(struct predicates *predicates, struct ottl_questions *ottl)
{
    const uint32_t count = ottl_questions_key_count(ottl);

    predicates->ottl = ottl;
    if (predicates->key_count + count > PREDICATES_MAX)
        return 0;
    predicates->ottl_keys_shared = true;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name = ottl_questions_key(ottl, i); /* ends with a zero byte */
        struct predicate_key *key;

        if (strlen((const char *)name.at) != name.len) {
            predicates->ottl_keys_shared = false; /* names of the table are texts */
            continue;
        }
        key = predicates_key(predicates, (const char *)name.at);
        if (!key)
            return -ENOMEM;
        key->ottl = (uint16_t)(i + 1);
    }
    return 0;
}

/* -- in words ------------------------------------------------------------------------------------ */

#define SHOWN_VALUES 8

static void describe_texts(const struct question *question, const char *relation, struct text *out)
{
    text_append(out, "%s %s ", question->key, relation);
    if (question->value_count != 1)
        text_append(out, "one of [");
    for (size_t i = 0; i < question->value_count && i < SHOWN_VALUES; i++)
        text_append(out, "%s%s", i > 0 ? ", " : "", question->values[i]);
    if (question->value_count != 1)
        text_append(out, question->value_count > SHOWN_VALUES ? ", ...]" : "]");
}

static void describe_status(uint32_t mask, struct text *out)
{
    static const char *const names[] = {"UNSET", "OK", "ERROR"};
    const char *between = "";

    text_append(out, "status ");
    for (uint32_t status = 0; status <= SPAN_STATUS_ERROR; status++) {
        if (!(mask & (1u << status)))
            continue;
        text_append(out, "%s%s", between, names[status]);
        between = " or ";
    }
}

static void describe_question(const struct question *question, struct text *out)
{
    switch (question->kind) {
    case QUESTION_STATUS:
        describe_status(question->status_mask, out);
        break;
    case QUESTION_SAMPLED_FLAG:
        text_append(out, "sampled flag");
        break;
    case QUESTION_TRACE_STATE:
        text_append(out, "tracestate ");
        describe_texts(question, "=", out);
        break;
    case QUESTION_EXACT:
        describe_texts(question, "=", out);
        break;
    case QUESTION_REGEX:
        describe_texts(question, "~", out);
        break;
    case QUESTION_INT:
        text_append(out, "%s in [%lld, %lld]", question->key, (long long)question->min, (long long)question->max);
        break;
    case QUESTION_BOOL:
        text_append(out, "%s = %s", question->key, question->min ? "true" : "false");
        break;
    case QUESTION_OTTL:
        text_append(out, "an OTTL condition of %s", question->key);
        break;
    }
}

static int predicates_describe(struct predicates *predicates, const struct question *question, uint32_t bit)
{
    struct text text = {0};

    describe_question(question, &text);
    predicates->descriptions[bit] = text.at; /* freed with the rest, also when it is cut */
    return text.failed ? -ENOMEM : 0;
}

const char *predicate_description(const struct predicates *predicates, uint32_t bit)
{
    return bit < predicates->count && predicates->descriptions[bit] ? predicates->descriptions[bit] : "";
}

CLEANUP_DEFINE(struct predicates, predicates_free);

int predicates_new(struct predicate_builder *builder, struct predicates **out_predicates)
{
    CLEANUP(predicates_free) struct predicates *predicates = NULL;

    if (builder->out_of_memory)
        return error_raise(-ENOMEM);
    predicates = calloc(1, sizeof(*predicates));
    if (!predicates)
        return error_raise(-ENOMEM);
    predicates->keys = calloc(PREDICATES_MAX, sizeof(*predicates->keys));
    if (!predicates->keys)
        return error_raise(-ENOMEM);
    predicates->count = builder->count;
    predicates->wants_ot = builder->wants_ot;
    for (uint32_t bit = 0; bit < builder->count; bit++)
        if (predicates_add(predicates, &builder->questions[bit], bit) ||
            predicates_describe(predicates, &builder->questions[bit], bit))
            return error_raise(-ENOMEM);
    if (builder->ottl && predicates_add_ottl(predicates, steal(&builder->ottl)))
        return error_raise(-ENOMEM);
    for (uint32_t i = 0; i < predicates->key_count; i++)
        if (key_index_values(&predicates->keys[i]))
            return error_raise(-ENOMEM);
    *out_predicates = steal(&predicates);
    return 0;
}

static void answers_free(struct text_answer *answers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(answers[i].text);
    free(answers);
}

void predicates_free(struct predicates *predicates)
{
    if (!predicates)
        return;
    for (uint32_t i = 0; predicates->keys && i < predicates->key_count; i++) {
        struct predicate_key *key = &predicates->keys[i];

        answers_free(key->exact, key->exact_count);
        answers_free(key->regex, key->regex_count);
        free(key->ints);
        free(key->slots);
        free(key->name);
    }
    for (size_t i = 0; i < predicates->trace_state_key_count; i++) {
        answers_free(
            predicates->trace_state_keys[i].values, predicates->trace_state_keys[i].value_count);
        free(predicates->trace_state_keys[i].name);
    }
    free(predicates->trace_state_keys);
    for (uint32_t bit = 0; bit < predicates->count; bit++)
        free(predicates->descriptions[bit]);
    ottl_questions_free(predicates->ottl);
    free(predicates->keys);
    free(predicates);
}

uint32_t predicates_count(const struct predicates *predicates)
{
    return predicates->count;
}

/* -- a worker's regexes --------------------------------------------------------------------------- */

/* 1024 texts of up to 212 bytes: routes, hosts and most URLs, in 256 KiB a key that is asked by regex. Whole texts are
 * kept and compared, as a hash alone could be made to collide from outside and so to turn a decision. */
#define REGEX_CACHE_SLOTS 1024
#define REGEX_CACHE_TEXT  212
#define REGEX_CACHE_EMPTY UINT32_MAX

struct regex_cached {
    struct hits hits;
    uint32_t len; /* REGEX_CACHE_EMPTY: nothing here yet */
    uint8_t text[REGEX_CACHE_TEXT];
};

struct key_regex {
    struct regex_set *set; /* NULL: this key is not asked by regex */
    struct regex_cached *cache;
    uint64_t *found; /* a bit a pattern */
};

struct predicate_scratch {
    uint32_t key_count;
    uint8_t *header_bytes; /* for a header that is not in one piece */
    size_t header_capacity;
    struct ottl_asker *asker;     /* NULL: no OTTL */
    struct slice *ottl_values;    /* of the span at hand, by their keys' numbers */
    uint32_t ottl_value_count;
    struct key_regex keys[];
};

CLEANUP_DEFINE(struct predicate_scratch, predicate_scratch_free);

static int key_regex_init(struct key_regex *regex, const struct predicate_key *key)
{
    char **patterns = calloc(key->regex_count, sizeof(*patterns));
    char *reason = NULL;
    size_t index = 0;
    int r;

    if (!patterns)
        return -ENOMEM;
    for (size_t i = 0; i < key->regex_count; i++)
        patterns[i] = key->regex[i].text;
    r = regex_set_new(patterns, key->regex_count, &regex->set, &reason, &index);
    free(patterns);
    free(reason);
    if (r)
        return -ENOMEM; /* each pattern was compiled before: only memory can be lacking */
    regex->found = calloc(key->regex_count / 64 + 1, sizeof(*regex->found));
    regex->cache = calloc(REGEX_CACHE_SLOTS, sizeof(*regex->cache));
    if (!regex->found || !regex->cache)
        return -ENOMEM;
    for (size_t i = 0; i < REGEX_CACHE_SLOTS; i++)
        regex->cache[i].len = REGEX_CACHE_EMPTY;
    return 0;
}

struct predicate_scratch *predicate_scratch_new(const struct predicates *predicates)
{
    CLEANUP(predicate_scratch_free) struct predicate_scratch *scratch = NULL;

    scratch = calloc(1, sizeof(*scratch) + predicates->key_count * sizeof(scratch->keys[0]));
    if (!scratch)
        return NULL;
    scratch->key_count = predicates->key_count;
    for (uint32_t i = 0; i < predicates->key_count; i++)
        if (predicates->keys[i].regex_count > 0 &&
            key_regex_init(&scratch->keys[i], &predicates->keys[i]))
            return NULL;
    if (predicates->ottl) {
        scratch->asker = ottl_asker_new(predicates->ottl);
        scratch->ottl_value_count = ottl_questions_key_count(predicates->ottl);
        scratch->ottl_values = calloc(scratch->ottl_value_count + 1, sizeof(*scratch->ottl_values));
        if (!scratch->asker || !scratch->ottl_values)
            return NULL;
    }
    return steal(&scratch);
}

void predicate_scratch_free(struct predicate_scratch *scratch)
{
    if (!scratch)
        return;
    for (uint32_t i = 0; i < scratch->key_count; i++) {
        regex_set_free(scratch->keys[i].set);
        free(scratch->keys[i].cache);
        free(scratch->keys[i].found);
    }
    ottl_asker_free(scratch->asker);
    free(scratch->ottl_values);
    free(scratch->header_bytes);
    free(scratch);
}

/* -- answering -------------------------------------------------------------------------------------- */

static inline void hits_add(struct hits *hits, const struct hits *more)
{
    for (uint32_t word = 0; word < HIT_WORDS; word++)
        hits->words[word] |= more->words[word];
}

static const struct hits *key_find_exact(const struct predicate_key *key, struct slice text)
{
    if (!(key->exact_lengths & (1ull << (text.len < 63 ? text.len : 63))))
        return NULL;
    if (!key->slots) {
        for (size_t i = 0; i < key->exact_count; i++)
            if (key->exact[i].len == text.len && memcmp(key->exact[i].text, text.at, text.len) == 0)
                return &key->exact[i].hits;
        return NULL;
    }
    for (size_t slot = hash_bytes(text.at, text.len) & key->slot_mask; key->slots[slot];
         slot = (slot + 1) & key->slot_mask) {
        const struct text_answer *answer = &key->exact[key->slots[slot] - 1];

        if (answer->len == text.len && memcmp(answer->text, text.at, text.len) == 0)
            return &answer->hits;
    }
    return NULL;
}

static void key_search(const struct predicate_key *key, struct key_regex *regex, struct slice text,
    struct hits *out_hits)
{
    /* Memory that is out here leaves the answer unknown, and a guess would be a wrong decision. */
    ASSERT(regex_set_match(regex->set, text.at, text.len, regex->found) == 0);
    *out_hits = (struct hits){0};
    for (size_t i = 0; i < key->regex_count; i++)
        if ((regex->found[i / 64] >> (i % 64)) & 1)
            hits_add(out_hits, &key->regex[i].hits);
}

static void key_match_regex(
    const struct predicate_key *key, struct key_regex *regex, struct slice text, struct hits *hits)
{
    struct regex_cached *cached;
    struct hits found;

    if (text.len > REGEX_CACHE_TEXT) {
        key_search(key, regex, text, &found);
        hits_add(hits, &found);
        return;
    }
    cached = &regex->cache[hash_bytes(text.at, text.len) & (REGEX_CACHE_SLOTS - 1)];
    if (cached->len != text.len || (text.len > 0 && memcmp(cached->text, text.at, text.len) != 0)) {
        key_search(key, regex, text, &cached->hits);
        cached->len = (uint32_t)text.len;
        if (text.len > 0)
            memcpy(cached->text, text.at, text.len);
    }
    hits_add(hits, &cached->hits);
}

struct answering { /* one pass over the attributes of a span or a resource */
    const struct predicates *predicates;
    struct predicate_scratch *scratch;
    struct hits *hits;
    struct hits keys_seen; /* a bit a key: the first entry with it counts */
    bool is_resource;
};

/* Names are short and nearly always equal once they got here: compared in line. */
HOT_INLINE bool name_equal(const char *name, const uint8_t *at, size_t len)
{
    const uint8_t *own = (const uint8_t *)name;
    uint64_t a, b;

    if (len < sizeof(a)) {
        for (size_t i = 0; i < len; i++)
            if (own[i] != at[i])
                return false;
        return true;
    }
    for (size_t i = 0; i + sizeof(a) <= len; i += sizeof(a)) {
        memcpy(&a, own + i, sizeof(a));
        memcpy(&b, at + i, sizeof(b));
        if (a != b)
            return false;
    }
    memcpy(&a, own + len - sizeof(a), sizeof(a)); /* the rest, overlapping */
    memcpy(&b, at + len - sizeof(b), sizeof(b));
    return a == b;
}

/* The text of a value; "" when it is none. */
HOT_INLINE struct slice value_text(struct slice bytes)
{
    struct value value;

    /* 0a len text, and nothing after it: one string member of less than 128 bytes, as encoders write it */
    if (LIKELY(bytes.len >= 2 && bytes.at[0] == WIRE_TAG(1, WIRE_BYTES) &&
               (size_t)bytes.at[1] + 2 == bytes.len && bytes.at[1] < 0x80))
        return slice_make(bytes.at + 2, bytes.len - 2);
    value = value_read(bytes);
    return value.type == VALUE_STRING ? value.bytes : slice_make("", 0);
}

/* What is no whole number is 0, and what is no bool is false: also a text, and no value at all. */
static void key_answer_number(
    const struct predicate_key *key, struct slice bytes, struct hits *hits)
{
    struct value value = value_read(bytes);
    int64_t number = value.type == VALUE_INT ? value.integer : 0;

    for (size_t i = 0; i < key->int_count; i++)
        if (number >= key->ints[i].min && number <= key->ints[i].max)
            hits_add(hits, &key->ints[i].hits);
    if (key->asks_bool)
        hits_add(hits, &key->bools[value.type == VALUE_BOOL && value.integer != 0]);
}

/* Somebody asks for a key of this bucket. Apart from the filter before it, which then needs no stack. */
static __attribute__((noinline)) void answer_bucket(
    struct answering *answering, struct slice name, struct slice value, uint32_t next)
{
    const struct predicates *predicates = answering->predicates;
    const struct predicate_key *key;
    const struct hits *exact;
    struct slice text;

    for (;; next = key->next) {
        if (next == 0)
            return;
        key = &predicates->keys[next - 1];
        if (key->len == name.len && name_equal(key->name, name.at, name.len))
            break;
    }
    if (hits_has(&answering->keys_seen, next - 1))
        return;
    hits_set(&answering->keys_seen, next - 1);

    if (key->ottl && !answering->is_resource)
        answering->scratch->ottl_values[key->ottl - 1] = value;
    if (key->int_count > 0 || key->asks_bool)
        key_answer_number(key, value, answering->hits);
    if (!key->asks_text)
        return;

    /* An empty or foreign value of a span is passed over; of a resource it reads as "", which a regex may match. */
    text = value_text(value);
    if (text.len == 0 && !answering->is_resource)
        return;
    exact = key_find_exact(key, text);
    if (exact)
        hits_add(answering->hits, exact);
    if (key->regex_count > 0)
        key_match_regex(key, &answering->scratch->keys[next - 1], text, answering->hits);
}

static void answer_attribute(void *context, struct slice name, struct slice value)
{
    struct answering *answering = context;
    uint32_t first = answering->predicates->buckets[key_bucket(name.at, name.len)];

    if (UNLIKELY(first))
        answer_bucket(answering, name, value, first);
}

/* The part's fields in one piece: its own when they are, else a copy. */
static struct slice scratch_header_fields(
    struct predicate_scratch *scratch, const struct header_part *part)
{
    if (part->len == 0)
        return slice_make("", 0);
    if (part->fragment_count == 1)
        return part->fragments[0];
    if (part->len > scratch->header_capacity) {
        free(scratch->header_bytes);
        scratch->header_bytes = malloc(part->len);
        ASSERT(scratch->header_bytes);
        scratch->header_capacity = part->len;
    }
    (void)header_part_write(part, scratch->header_bytes);
    return slice_make(scratch->header_bytes, part->len);
}

/* -- a span's own fields ------------------------------------------------------------------------------ */

static __attribute__((noinline)) void answer_trace_state(
    const struct predicates *predicates, struct slice trace_state, struct hits *hits)
{
    struct w3c_member members[W3C_MEMBERS_MAX];
    size_t count = w3c_tracestate_read(trace_state, members);

    if (count == W3C_MALFORMED)
        return;
    for (size_t i = 0; i < predicates->trace_state_key_count; i++) {
        const struct trace_state_key *key = &predicates->trace_state_keys[i];
        size_t at = 0;

        while (at < count && !slice_equal(members[at].key, slice_text(key->name)))
            at++;
        for (size_t j = 0; at < count && j < key->value_count; j++)
            if (slice_equal(
                    members[at].value, slice_make(key->values[j].text, key->values[j].len)))
                hits_add(hits, &key->values[j].hits);
    }
}

static void answer_fields(
    const struct predicates *predicates, const struct span_view *view, struct hits *hits)
{
    if (view->status <= SPAN_STATUS_ERROR)
        hits_add(hits, &predicates->status_hits[view->status]);
    if (view->flags & 1)
        hits_add(hits, &predicates->sampled_flag_hits);
    if (UNLIKELY(predicates->trace_state_key_count > 0 && view->trace_state.len > 0))
        answer_trace_state(predicates, view->trace_state, hits);
}

bool predicates_header(const struct predicates *predicates, struct predicate_scratch *scratch,
    const struct span_header *header, struct hits *out_hits)
{
    struct answering answering = {
        .predicates = predicates, .scratch = scratch, .hits = out_hits, .is_resource = true};

    *out_hits = (struct hits){0};
    if (!resource_visit(
            scratch_header_fields(scratch, &header->resource), answer_attribute, &answering))
        return false;
    /* No policy asks about a scope, but what goes on to the backend must be well-formed. */
    return scope_visit(scratch_header_fields(scratch, &header->scope), NULL, NULL);
}

static struct ot_facts read_ot(struct slice trace_state)
{
    struct ot_tracestate state;

    (void)ot_tracestate_read(trace_state, &state); /* what cannot be read says nothing */
    return (struct ot_facts){.randomness = state.randomness & (OT_RANDOMNESS_COUNT - 1),
        .has_randomness = state.has_randomness,
        .has_info = state.has_randomness || state.has_threshold};
}

bool predicates_span(const struct predicates *predicates, struct predicate_scratch *scratch,
    const struct span_header *header, struct slice span, struct span_view *out_view,
    struct span_facts *out_facts)
{
    struct answering answering = {.predicates = predicates,
        .scratch = scratch,
        .hits = &out_facts->hits,
        .is_resource = false};

    out_facts->hits = (struct hits){0};
    out_facts->first_true = out_facts->first_error = 0;
    for (uint32_t i = 0; i < scratch->ottl_value_count; i++)
        scratch->ottl_values[i].at = NULL;
    if (!span_view_read(
            span, predicates->key_count > 0 ? answer_attribute : NULL, &answering, out_view))
        return false;
    answer_fields(predicates, out_view, &out_facts->hits);
    if (scratch->asker)
        ottl_asker_span(scratch->asker, header, span, out_view, predicates->ottl_keys_shared ? scratch->ottl_values : NULL,
            out_facts);
    out_facts->start_unix_ns = out_view->start_unix_ns;
    out_facts->end_unix_ns = out_view->end_unix_ns;
    memcpy(&out_facts->span_id, out_view->span_id, sizeof(out_facts->span_id));
    out_facts->is_root = !out_view->has_parent;
    out_facts->ot = (struct ot_facts){0};
    if (UNLIKELY(predicates->wants_ot) && out_view->trace_state.len > 0)
        out_facts->ot = read_ot(out_view->trace_state);
    return true;
}

bool predicates_take_error(struct predicate_scratch *scratch, struct ottl_noted_error *out_error)
{
    return scratch->asker && ottl_asker_take_error(scratch->asker, out_error);
}
