/* Law: a text is a tracestate exactly when each of its members matches the grammar of the specification, no key comes
 * twice and there are not too many; and the members are those that the commas part. */
#include <stdint.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/regex_re2.h"
#include "common/otlp/w3c_tracestate.h"

static char member_pattern[] = "(?-s)\\A[ \\t]*([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})="
                               "[\\x20-\\x2b\\x2d-\\x3c\\x3e-\\x7e]{0,255}[\\x21-\\x2b\\x2d-\\x3c\\x3e-\\x7e][ \\t]*\\z";

static bool member_matches(struct slice text)
{
    static struct regex_set *set;
    uint64_t found = 0;

    if (!set) {
        char *patterns[1] = {member_pattern}, *reason = NULL;
        size_t index;

        ASSERT(regex_set_new(patterns, 1, &set, &reason, &index) == 0);
    }
    ASSERT(regex_set_match(set, text.at, text.len, &found) == 0);
    return found == 1;
}

/* Whether all pieces between commas are members or empty; how many there are. */
static bool plain_read(const uint8_t *data, size_t size, size_t *out_count)
{
    size_t from = 0;

    *out_count = 0;
    for (size_t i = 0; i <= size; i++) {
        if (i < size && data[i] != ',')
            continue;
        if (i > from) {
            if (!member_matches(slice_make(data + from, i - from)))
                return false;
            ++*out_count;
        }
        from = i + 1;
    }
    return *out_count <= W3C_MEMBERS_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct w3c_member members[W3C_MEMBERS_MAX];
    size_t count = w3c_tracestate_read(slice_make(data, size), members), plain;
    bool fine = plain_read(data, size, &plain);

    if (count == W3C_MALFORMED) {
        /* Then the grammar says so too, or a key comes twice: leaving the last member out changes nothing of that. */
        ASSERT(!fine || plain > 1);
        return 0;
    }
    ASSERT(fine && count == plain);
    for (size_t i = 0; i < count; i++) {
        ASSERT(members[i].key.at >= data && members[i].value.at + members[i].value.len <= data + size);
        for (size_t j = 0; j < i; j++)
            ASSERT(!slice_equal(members[i].key, members[j].key));
    }
    return 0;
}
