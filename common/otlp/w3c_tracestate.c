#include "common/otlp/w3c_tracestate.h"

#include <stdint.h>

#define KEY_MAX    256u /* of a key without @ */
#define TENANT_MAX 241u /* before the @ */
#define SYSTEM_MAX 14u  /* behind it */
#define VALUE_MAX  256u

static bool is_lower(uint8_t c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool key_rest_is_fine(struct slice rest)
{
    for (size_t i = 0; i < rest.len; i++) {
        uint8_t c = rest.at[i];

        if (!is_lower(c) && !is_digit(c) && c != '_' && c != '-' && c != '*' && c != '/')
            return false;
    }
    return true;
}

/* A key without @, or one side of it. Only a tenant may begin with a digit. */
static bool key_part_is_fine(struct slice part, size_t most, bool is_tenant)
{
    if (part.len == 0 || part.len > most)
        return false;
    if (!is_lower(part.at[0]) && !(is_tenant && is_digit(part.at[0])))
        return false;
    return key_rest_is_fine(slice_make(part.at + 1, part.len - 1));
}

static bool key_is_fine(struct slice key)
{
    const uint8_t *at = key.len > 0 ? memchr(key.at, '@', key.len) : NULL;
    size_t tenant;

    if (!at)
        return key_part_is_fine(key, KEY_MAX, false);
    tenant = (size_t)(at - key.at);
    return key_part_is_fine(slice_make(key.at, tenant), TENANT_MAX, true) &&
           key_part_is_fine(slice_make(at + 1, key.len - tenant - 1), SYSTEM_MAX, false);
}

static bool value_is_fine(struct slice value)
{
    if (value.len == 0 || value.len > VALUE_MAX)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.at[i];

        if (c < 0x20 || c > 0x7e || c == ',' || c == '=')
            return false;
    }
    return value.at[value.len - 1] != ' '; /* none is left: blanks behind it were cut */
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool member_read(struct slice text, struct w3c_member *out_member)
{
    const uint8_t *equals = memchr(text.at, '=', text.len);
    struct slice key, value;

    if (!equals)
        return false;
    key = slice_make(text.at, (size_t)(equals - text.at));
    value = slice_make(equals + 1, text.len - key.len - 1);
    while (key.len > 0 && is_blank(key.at[0]))
        key = slice_make(key.at + 1, key.len - 1);
    while (value.len > 0 && is_blank(value.at[value.len - 1]))
        value.len--;
    *out_member = (struct w3c_member){key, value};
    return key_is_fine(key) && value_is_fine(value);
}

size_t w3c_tracestate_read(struct slice text, struct w3c_member out_members[W3C_MEMBERS_MAX])
{
    struct w3c_member member;
    size_t count = 0;

    while (text.len > 0) {
        const uint8_t *comma = memchr(text.at, ',', text.len);
        size_t len = comma ? (size_t)(comma - text.at) : text.len;
        size_t step = comma ? len + 1 : len;

        if (len > 0) {
            if (!member_read(slice_make(text.at, len), &member) || count == W3C_MEMBERS_MAX)
                return W3C_MALFORMED;
            for (size_t i = 0; i < count; i++)
                if (slice_equal(out_members[i].key, member.key))
                    return W3C_MALFORMED;
            out_members[count++] = member;
        }
        text = slice_make(text.at + step, text.len - step);
    }
    return count;
}
