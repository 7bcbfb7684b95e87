/* Reading JSON into values: an object or an array, as the Collector's ParseJSON takes it. The library behind that one is
 * laxer than the standard in three places, which are kept: control characters in strings, any run of digits and signs that
 * Go reads as a number (00, 1.), and null for a name. Nesting is bounded by JSON_DEPTH_MAX. */
#include <string.h>

#include "common/ottl/convert.h"
#include "common/ottl/utf8.h"

#define JSON_DEPTH_MAX 256 /* our stack; the Collector's bound is 10000 */

struct json {
    struct arena *arena;
    struct slice text;
    size_t at;
    unsigned depth;
};

static int json_read(struct json *json, struct ottl_value *out_value);

static uint8_t json_peek(const struct json *json)
{
    return json->at < json->text.len ? json->text.at[json->at] : 0;
}

static void json_blanks(struct json *json)
{
    while (json_peek(json) == ' ' || json_peek(json) == '\n' || json_peek(json) == '\t' ||
           json_peek(json) == '\r')
        json->at++;
}

static bool json_word(struct json *json, const char *word)
{
    size_t len = strlen(word);

    if (json->text.len - json->at < len || memcmp(json->text.at + json->at, word, len) != 0)
        return false;
    json->at += len;
    return true;
}

/* Four hexadecimal digits at `at`. */
static bool json_hex(const struct json *json, size_t at, uint32_t *out_code)
{
    *out_code = 0;
    for (size_t i = at; i < at + 4; i++) {
        uint8_t c = i < json->text.len ? json->text.at[i] : 0;
        uint8_t lower = c | 0x20;

        if (c >= '0' && c <= '9')
            *out_code = *out_code << 4 | (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            *out_code = *out_code << 4 | (lower - 'a' + 10u);
        else
            return false;
    }
    return true;
}

/* After a backslash. */
static bool json_escape_read(struct json *json, uint8_t **out)
{
    static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    uint8_t c = json_peek(json);
    const char *found = c ? strchr(plain, c) : NULL;
    uint32_t code, low;

    if (found) {
        *(*out)++ = (uint8_t)meant[found - plain];
        json->at++;
        return true;
    }
    if (c != 'u' || !json_hex(json, json->at + 1, &code))
        return false;
    json->at += 5;
    if (code >= 0xd800 && code < 0xdc00 && json->text.len - json->at >= 6 &&
        json->text.at[json->at] == '\\' && json->text.at[json->at + 1] == 'u' &&
        json_hex(json, json->at + 2, &low) && low >= 0xdc00 && low < 0xe000) {
        code = ((code - 0xd800) << 10 | (low - 0xdc00)) + 0x10000;
        json->at += 6;
    }
    *out += utf8_write(*out, code);
    return true;
}

static int json_read_string(struct json *json, struct slice *out_text)
{
    size_t end = ++json->at;
    uint8_t *text, *out;

    while (end < json->text.len && json->text.at[end] != '"' && json->text.at[end] != 0)
        end += json->text.at[end] == '\\' ? 2 : 1;
    if (end >= json->text.len || json->text.at[end] == 0)
        return CONVERT_E_TYPE;
    text = out = arena_bytes(json->arena, end - json->at + RUNE_BYTES_MAX);
    if (!text)
        return CONVERT_E_FULL;
    while (json->at < end) {
        uint8_t c = json->text.at[json->at++];

        if (c != '\\')
            *out++ = c;
        else if (!json_escape_read(json, &out))
            return CONVERT_E_TYPE;
    }
    json->at = end + 1;
    *out_text = slice_make(text, (size_t)(out - text));
    return 0;
}

static int json_read_number(struct json *json, struct ottl_value *out_value)
{
    size_t start = json->at++;

    while (json_peek(json) && strchr("0123456789.eE+-", json_peek(json)))
        json->at++;
    out_value->type = OTTL_FLOAT;
    return convert_parse_float(slice_make(json->text.at + start, json->at - start), &out_value->number)
               ? 0
               : CONVERT_E_TYPE;
}

/* Entries in blocks while they come, then in one piece. */
struct json_entries {
    struct ottl_entry *at;
    size_t count, capacity;
};

static int json_entry_add(struct json *json, struct json_entries *entries, struct slice key, const struct ottl_value *value)
{
    if (entries->count == entries->capacity) {
        size_t capacity = entries->capacity * 2 + 4;
        struct ottl_entry *more = arena_alloc(json->arena, capacity * sizeof(*more));

        if (!more)
            return CONVERT_E_FULL;
        if (entries->count > 0)
            memcpy(more, entries->at, entries->count * sizeof(*more));
        entries->at = more;
        entries->capacity = capacity;
    }
    entries->at[entries->count++] = (struct ottl_entry){key, *value, 0};
    return 0;
}

/* Of equal names the last counts: the first entry, which is the one that is found, is overwritten. Small objects are
 * searched; large ones (hostile ones) are left to the bound on entries. */
#define JSON_NAMES_MAX 4096
static int json_member_add(struct json *json, struct json_entries *entries, struct slice key, const struct ottl_value *value)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (!slice_equal(entries->at[i].key, key))
            continue;
        entries->at[i].value = *value;
        return 0;
    }
    return entries->count < JSON_NAMES_MAX ? json_entry_add(json, entries, key, value) : CONVERT_E_FULL;
}

static int json_read_key(struct json *json, struct slice *out_key)
{
    json_blanks(json);
    if (json_peek(json) == '"')
        return json_read_string(json, out_key);
    *out_key = slice_make("", 0);
    return json_word(json, "null") ? 0 : CONVERT_E_TYPE;
}

static int json_read_member(struct json *json, bool is_object, struct json_entries *entries)
{
    struct slice key = slice_make("", 0);
    struct ottl_value value;
    int r;

    if (is_object) {
        r = json_read_key(json, &key);
        if (r)
            return r;
        json_blanks(json);
        if (json_peek(json) != ':')
            return CONVERT_E_TYPE;
        json->at++;
    }
    r = json_read(json, &value);
    if (r)
        return r;
    return is_object ? json_member_add(json, entries, key, &value) : json_entry_add(json, entries, key, &value);
}

/* An object or an array, by its bracket. */
static int json_read_members(struct json *json, struct ottl_value *out_value)
{
    struct json_entries entries = {0};
    bool is_object = json_peek(json) == '{';
    const char end = is_object ? '}' : ']';
    int r;

    json->at++;
    json_blanks(json);
    if (json_peek(json) != end) {
        for (;;) {
            r = json_read_member(json, is_object, &entries);
            if (r)
                return r;
            json_blanks(json);
            if (json_peek(json) != ',')
                break;
            json->at++;
        }
    }
    if (json_peek(json) != end)
        return CONVERT_E_TYPE;
    json->at++;
    *out_value = ottl_own(is_object ? OTTL_MAP : OTTL_LIST, entries.at, entries.count);
    return 0;
}

static int json_read(struct json *json, struct ottl_value *out_value)
{
    int r = CONVERT_E_TYPE;

    json_blanks(json);
    *out_value = ottl_nil();
    switch (json_peek(json)) {
    case '{':
    case '[':
        if (++json->depth > JSON_DEPTH_MAX)
            return CONVERT_E_FULL;
        r = json_read_members(json, out_value);
        json->depth--;
        return r;
    case '"':
        r = json_read_string(json, &out_value->bytes);
        out_value->type = OTTL_STRING;
        return r;
    case 't':
        *out_value = ottl_bool(true);
        return json_word(json, "true") ? 0 : r;
    case 'f':
        *out_value = ottl_bool(false);
        return json_word(json, "false") ? 0 : r;
    case 'n':
        return json_word(json, "null") ? 0 : r;
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return json_read_number(json, out_value);
    default:
        return r;
    }
}

int convert_parse_json(struct arena *arena, struct slice text, struct ottl_value *out_value)
{
    struct json json = {arena, text, 0, 0};
    int r = json_read(&json, out_value);

    if (r)
        return r;
    json_blanks(&json);
    if (json.at < text.len || (out_value->type != OTTL_MAP && out_value->type != OTTL_LIST))
        return CONVERT_E_TYPE;
    return 0;
}
