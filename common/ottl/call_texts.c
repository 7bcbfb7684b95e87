/* Converters of texts. Positions and lengths are bytes, as in Go. */
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/ottl/calls.h"
#include "common/ottl/convert.h"
#include "common/ottl/sha256.h"
#include "common/ottl/unicode_case.h"
#include "common/ottl/utf8.h"

static bool yield_text(struct slice text, struct ottl_value *out_value)
{
    *out_value = ottl_string(text);
    return true;
}

static bool yield_written(struct ottl_run *run, const struct ottl_node *node, const struct text_out *text, struct ottl_value *out_value)
{
    if (text->full)
        return run_fault_bound(run, node);
    return yield_text(text_slice(text), out_value);
}

bool call_concat(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    const struct ottl_node *list = node->children[0];
    struct text_out out = {.arena = &run->arena};
    struct slice delimiter, text;
    bool found;

    if (!arg_string(run, node, 1, &delimiter))
        return false;
    for (size_t i = 0; i < list->child_count; i++) {
        if (!node_text(run, list->children[i], &text, &found))
            return false;
        if (i > 0)
            text_add(&out, delimiter.at, delimiter.len);
        if (found)
            text_add(&out, text.at, text.len);
        else
            text_add_string(&out, "<nil>");
    }
    return yield_written(run, node, &out, out_value);
}

/* Where the piece before the next delimiter ends; with an empty delimiter each character is a piece. */
static size_t piece_end(struct slice text, size_t at, struct slice delimiter)
{
    const uint8_t *found;
    size_t len;

    if (delimiter.len == 0) {
        (void)utf8_read(text.at + at, text.len - at, &len);
        return at + len;
    }
    found = at < text.len ? memmem(text.at + at, text.len - at, delimiter.at, delimiter.len) : NULL;
    return found ? (size_t)(found - text.at) : text.len;
}

static size_t pieces_count(struct slice text, struct slice delimiter)
{
    size_t count = 0;

    if (delimiter.len == 0 && text.len == 0)
        return 0;
    for (size_t at = 0;; count++) {
        size_t end = piece_end(text, at, delimiter);

        if (end == text.len)
            return count + 1;
        at = end + delimiter.len;
    }
}

bool call_split(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text, delimiter;
    struct ottl_entry *entries;
    size_t count, at = 0;

    if (!arg_string(run, node, 0, &text) || !arg_string(run, node, 1, &delimiter))
        return false;
    count = pieces_count(text, delimiter);
    entries = arena_alloc(&run->arena, count * sizeof(*entries));
    if (count > 0 && !entries)
        return run_fault_bound(run, node);
    for (size_t i = 0; i < count; i++) {
        size_t end = piece_end(text, at, delimiter);

        entries[i].value = ottl_string(slice_make(text.len > 0 ? text.at + at : text.at, end - at));
        at = end + delimiter.len;
    }
    *out_value = ottl_own(OTTL_STRINGS, entries, count);
    return true;
}

bool call_substring(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    const bool utf8_safe = node->children[3] && node->children[3]->value.integer;
    int64_t start, length;
    size_t from, to;
    struct slice text;

    if (!arg_int(run, node, 1, &start))
        return false;
    if (start < 0)
        return run_fault(run, node, "invalid start for substring function, it cannot be negative");
    if (!arg_int(run, node, 2, &length))
        return false;
    if (length <= 0)
        return run_fault(run, node, "invalid length for substring function, it cannot be negative or zero");
    if (!arg_string(run, node, 0, &text))
        return false;
    if ((uint64_t)start > text.len || (uint64_t)length > text.len - (uint64_t)start)
        return run_fault(run, node, "invalid range for substring function, it goes past the end of the text");
    from = (size_t)start;
    to = from + (size_t)length;
    if (utf8_safe) {
        while (from < text.len && !utf8_begins(text.at[from]))
            from++;
        while (from < to && to < text.len && !utf8_begins(text.at[to]))
            to--;
        if (to < from)
            to = from;
    }
    return yield_text(slice_make(text.at + from, to - from), out_value);
}

static bool yield_cased(struct ottl_run *run, const struct ottl_node *node, uint32_t (*cased)(uint32_t), struct ottl_value *out_value)
{
    struct text_out out = {.arena = &run->arena};
    struct slice text;
    size_t len;

    if (!arg_string(run, node, 0, &text))
        return false;
    text_reserve(&out, text.len);
    for (size_t at = 0; at < text.len; at += len)
        text_add_rune(&out, cased(utf8_read(text.at + at, text.len - at, &len)));
    return yield_written(run, node, &out, out_value);
}

bool call_to_lower_case(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_cased(run, node, unicode_lower, out_value);
}

bool call_to_upper_case(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_cased(run, node, unicode_upper, out_value);
}

/* -- trimming ------------------------------------------------------------------------------------------------------- */

static bool holds_rune(struct slice set, uint32_t rune)
{
    size_t len;

    for (size_t at = 0; at < set.len; at += len)
        if (utf8_read(set.at + at, set.len - at, &len) == rune)
            return true;
    return false;
}

/* Bytes of the last character, read backwards as Go does. */
static size_t last_rune(struct slice text, uint32_t *out_rune)
{
    for (size_t back = RUNE_BYTES_MAX < text.len ? RUNE_BYTES_MAX : text.len; back > 1; back--) {
        size_t len;

        *out_rune = utf8_read(text.at + text.len - back, back, &len);
        if (len == back)
            return back;
    }
    *out_rune = text.at[text.len - 1] < 0x80 ? text.at[text.len - 1] : RUNE_ERROR;
    return 1;
}

bool call_trim(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text, set = node->children[1] ? node->children[1]->value.bytes : SLICE_LITERAL(" ");
    uint32_t rune;
    size_t len;

    if (!arg_string(run, node, 0, &text))
        return false;
    while (text.len > 0 && holds_rune(set, utf8_read(text.at, text.len, &len)))
        text = slice_make(text.at + len, text.len - len);
    while (text.len > 0) {
        len = last_rune(text, &rune);
        if (!holds_rune(set, rune))
            break;
        text.len -= len;
    }
    return yield_text(text, out_value);
}

bool call_trim_prefix(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text, prefix;

    if (!arg_string(run, node, 0, &text) || !arg_string(run, node, 1, &prefix))
        return false;
    if (prefix.len > 0 && text.len >= prefix.len && memcmp(text.at, prefix.at, prefix.len) == 0)
        text = slice_make(text.at + prefix.len, text.len - prefix.len);
    return yield_text(text, out_value);
}

bool call_trim_suffix(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text, suffix;

    if (!arg_string(run, node, 0, &text) || !arg_string(run, node, 1, &suffix))
        return false;
    if (suffix.len > 0 && text.len >= suffix.len &&
        memcmp(text.at + (text.len - suffix.len), suffix.at, suffix.len) == 0)
        text.len -= suffix.len;
    return yield_text(text, out_value);
}

/* -- patterns ------------------------------------------------------------------------------------------------------- */

int prepare_extract_patterns(struct ottl_compile *compile, struct ottl_node *node)
{
    return compile_pattern(compile, node, node->children[1]);
}

static size_t named_groups(const struct regex_groups *groups)
{
    size_t count = 0;

    for (size_t i = 0; i < regex_groups_count(groups); i++)
        count += regex_groups_name(groups, i)[0] != 0;
    return count;
}

static bool yield_groups(struct ottl_run *run, const struct ottl_node *node, struct regex_groups *groups, struct slice text,
    struct ottl_value *out_value)
{
    const size_t all = regex_groups_count(groups);
    struct ottl_entry *entries = arena_alloc(&run->arena, all * sizeof(*entries));
    struct regex_range *ranges = arena_alloc(&run->arena, all * sizeof(*ranges));
    size_t count = 0;
    int r;

    if (!entries || !ranges)
        return run_fault_bound(run, node);
    r = regex_groups_find(groups, text.at, text.len, ranges);
    ASSERT(r >= 0);
    for (size_t i = 0; r == 0 && i < all; i++) {
        struct slice name;

        if (regex_groups_name(groups, i)[0] == 0)
            continue;
        if (!arena_copy(&run->arena, slice_text(regex_groups_name(groups, i)), &name))
            return run_fault_bound(run, node);
        entries[count].key = name;
        entries[count++].value =
            ottl_string(ranges[i].len > 0 ? slice_make(text.at + ranges[i].at, ranges[i].len) : slice_make("", 0));
    }
    *out_value = ottl_own(OTTL_MAP, entries, count);
    return true;
}

bool call_extract_patterns(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct regex_groups *groups = run_groups(run, node, node->children[1]);
    struct slice text;

    if (!groups)
        return false;
    if (named_groups(groups) == 0)
        return run_fault(run, node, "at least 1 named capture group must be supplied in the given regex");
    if (!arg_string(run, node, 0, &text))
        return false;
    return yield_groups(run, node, groups, text, out_value);
}

/* -- hashes --------------------------------------------------------------------------------------------------------- */

bool call_sha256(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct text_out out = {.arena = &run->arena};
    uint8_t digest[32];
    struct slice text;

    if (!arg_string(run, node, 0, &text))
        return false;
    sha256(text, digest);
    text_add_hex(&out, slice_make(digest, sizeof(digest)));
    return yield_written(run, node, &out, out_value);
}

bool call_fnv(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text;

    if (!arg_string(run, node, 0, &text))
        return false;
    *out_value = ottl_int((int64_t)hash_fnv1a(FNV1A_64_START, text.at, text.len));
    return true;
}
