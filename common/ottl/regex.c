/* Patterns: literal ones are compiled once a worker, when first needed; computed ones are kept by their text, a few at a
 * time. Answers about short texts are remembered, whichever pattern asked. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/ottl/program.h"
#include "common/ottl/run.h"

bool run_pattern(struct ottl_run *run, const struct ottl_node *node, const struct ottl_node *pattern, struct slice *out_pattern)
{
    struct ottl_value value;
    size_t zeros = 0;
    uint8_t *escaped;

    if (!node_value(run, pattern, &value))
        return false;
    if (value.type != OTTL_STRING)
        return run_fault_type(run, node, "string as a pattern", &value);
    if (value.bytes.len > PATTERN_BYTES_MAX)
        return run_fault(run, node, "the pattern is too long");
    for (size_t i = 0; i < value.bytes.len; i++)
        zeros += value.bytes.at[i] == 0;
    escaped = arena_bytes(&run->arena, value.bytes.len + zeros * 3 + 1);
    if (!escaped)
        return run_fault_bound(run, node);
    out_pattern->at = escaped;
    for (size_t i = 0; i < value.bytes.len; i++) {
        if (value.bytes.at[i] == 0) { /* patterns end with a zero byte, and one inside is written \x00 */
            memcpy(escaped, "\\x00", 4);
            escaped += 4;
        } else {
            *escaped++ = value.bytes.at[i];
        }
    }
    *escaped = 0;
    out_pattern->len = (size_t)(escaped - out_pattern->at);
    return true;
}

/* The place of a computed pattern among those that are kept. */
static struct pattern_cached *run_cached(struct ottl_run *run, struct slice pattern)
{
    struct pattern_cached *cached;

    for (size_t i = 0; i < PATTERNS_CACHED; i++) {
        cached = &run->patterns[i];
        if (cached->text && slice_equal(slice_make(cached->text, cached->len), pattern))
            return cached;
    }
    cached = &run->patterns[run->next_pattern++ % PATTERNS_CACHED];
    pattern_cached_deinit(cached);
    cached->text = strdup((const char *)pattern.at);
    ASSERT(cached->text);
    cached->len = pattern.len;
    return cached;
}

/* With a literal pattern, where its regex is; else NULL. */
static bool compile_set(struct ottl_run *run, const struct ottl_node *node, char *pattern, struct regex_set **set)
{
    char *one[] = {pattern}, *reason = NULL;
    size_t index;
    int r = regex_set_new(one, 1, set, &reason, &index);

    free(reason);
    ASSERT(r >= 0); /* without memory the answer would be a guess */
    return r == 0 || run_fault(run, node, "the pattern is not valid");
}

static bool search(struct regex_set *set, struct slice text)
{
    uint64_t found;

    ASSERT(regex_set_match(set, text.at, text.len, &found) == 0);
    return found & 1;
}

static bool search_remembered(struct ottl_run *run, uint32_t number, struct slice text)
{
    struct regex_answer *answer;

    if (text.len > ANSWER_TEXT)
        return search(run->sets[number], text);
    answer = &run->answers[hash_seeded(text.at, text.len, number) & (ANSWER_SLOTS - 1)];
    if (answer->pattern != number + 1 || answer->len != text.len ||
        (text.len > 0 && memcmp(answer->text, text.at, text.len) != 0)) {
        answer->found = search(run->sets[number], text);
        answer->pattern = number + 1;
        answer->len = (uint8_t)text.len;
        if (text.len > 0)
            memcpy(answer->text, text.at, text.len);
    }
    return answer->found;
}

bool run_match(struct ottl_run *run, const struct ottl_node *node, const struct ottl_node *pattern, struct slice text, bool *out_found)
{
    struct pattern_cached *cached;
    struct slice computed;

    if (node->regex != UINT32_MAX) {
        if (!run->sets[node->regex] &&
            !compile_set(run, node, run->program->patterns[node->regex], &run->sets[node->regex]))
            return false;
        *out_found = search_remembered(run, node->regex, text);
        return true;
    }
    if (!run_pattern(run, node, pattern, &computed))
        return false;
    cached = run_cached(run, computed);
    if (!cached->set && !compile_set(run, node, cached->text, &cached->set))
        return false;
    *out_found = search(cached->set, text);
    return true;
}

static bool compile_groups(struct ottl_run *run, const struct ottl_node *node, const char *pattern, struct regex_groups **groups)
{
    char *reason = NULL;
    int r = regex_groups_new(pattern, groups, &reason);

    free(reason);
    ASSERT(r >= 0);
    return r == 0 || run_fault(run, node, "the pattern is not valid");
}

struct regex_groups *run_groups(struct ottl_run *run, const struct ottl_node *node, const struct ottl_node *pattern)
{
    struct pattern_cached *cached;
    struct slice computed;

    if (node->regex != UINT32_MAX) {
        struct regex_groups **own = &run->groups[node->regex];

        if (!*own && !compile_groups(run, node, run->program->patterns[node->regex], own))
            return NULL;
        return *own;
    }
    if (!run_pattern(run, node, pattern, &computed))
        return NULL;
    cached = run_cached(run, computed);
    if (!cached->groups && !compile_groups(run, node, cached->text, &cached->groups))
        return NULL;
    return cached->groups;
}
