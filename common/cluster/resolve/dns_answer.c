/* A reader over the message that remembers that it went wrong; names are c-ares' to take apart, which knows how compressed
 * names can lie. */
#include "common/cluster/resolve/dns_answer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ares.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"

#define HEADER_BYTES 12
#define CLASS_IN 1
#define ALIASES_MAX 16 /* of one name, one after the other: more is a loop, or as good as one */

struct reader {
    struct slice message;
    size_t at;
    bool bad;
};

static bool reader_room(struct reader *r, size_t len)
{
    if (r->bad || len > r->message.len - r->at)
        r->bad = true;
    return !r->bad;
}

static unsigned read_u16(struct reader *r)
{
    const uint8_t *at = r->message.at + r->at;

    if (!reader_room(r, 2))
        return 0;
    r->at += 2;
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t read_u32(struct reader *r)
{
    uint32_t high = read_u16(r);

    return high << 16 | read_u16(r);
}

void dns_name(const char *text, char out_name[DNS_NAME_SIZE])
{
    size_t len = strlen(text);

    if (len > 0 && text[len - 1] == '.')
        len--;
    out_name[0] = '\0';
    if (len >= DNS_NAME_SIZE || memchr(text, '\\', len)) /* c-ares writes what no host name has as \046 */
        return;
    for (size_t i = 0; i < len; i++)
        out_name[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
    out_name[len] = '\0';
}

static void read_name(struct reader *r, char out_name[DNS_NAME_SIZE])
{
    char *text;
    long len;

    out_name[0] = '\0';
    if (!reader_room(r, 1))
        return;
    if (ares_expand_name(r->message.at + r->at, r->message.at, (int)r->message.len, &text, &len) != ARES_SUCCESS) {
        r->bad = true;
        return;
    }
    dns_name(text, out_name);
    ares_free_string(text);
    if (reader_room(r, (size_t)len))
        r->at += (size_t)len;
}

static struct dns_record *record_new(struct dns_answer *answer)
{
    if (answer->count == answer->capacity) {
        size_t capacity = size_max(answer->capacity * 2, 8);
        struct dns_record *more = realloc(answer->records, capacity * sizeof(*more));

        ASSERT(more != NULL);
        answer->records = more;
        answer->capacity = capacity;
    }
    memset(&answer->records[answer->count], 0, sizeof(answer->records[0]));
    return &answer->records[answer->count];
}

/* What follows the fixed part of a record, up to `end`. False: nothing for us. */
static bool read_data(struct reader *r, unsigned type, size_t end, struct dns_record *record)
{
    size_t address_len = type == DNS_TYPE_A ? 4 : 16;

    switch (type) {
    case DNS_TYPE_A:
    case DNS_TYPE_AAAA:
        if (end - r->at != address_len)
            r->bad = true;
        else
            memcpy(record->address, r->message.at + r->at, address_len);
        break;
    case DNS_TYPE_CNAME:
        read_name(r, record->target);
        break;
    case DNS_TYPE_SRV:
        (void)read_u16(r); /* priority and weight: a ring uses every member (note 0013) */
        (void)read_u16(r);
        record->port = (uint16_t)read_u16(r);
        read_name(r, record->target);
        break;
    default:
        return false;
    }
    if (r->at > end)
        r->bad = true;
    return !r->bad;
}

static void read_record(struct reader *r, bool authority, bool additional, struct dns_answer *answer)
{
    struct dns_record *record = record_new(answer);
    unsigned type, class;
    uint32_t ttl_s;
    size_t len;

    read_name(r, record->owner);
    type = read_u16(r);
    class = read_u16(r);
    ttl_s = read_u32(r);
    len = read_u16(r);
    if (!reader_room(r, len))
        return;
    len += r->at; /* its end */
    record->additional = additional;
    record->ttl_s = ttl_s > INT32_MAX ? 0 : ttl_s;
    if (class == CLASS_IN && !authority && read_data(r, type, len, record)) {
        record->type = (enum dns_type)type;
        answer->count++;
    }
    r->at = len;
}

int dns_answer_read(struct slice message, struct dns_answer *out_answer)
{
    struct reader r = {.message = message, .at = 4};
    struct dns_answer answer = {0};
    unsigned questions, sections[3];

    if (message.len < HEADER_BYTES || message.len > INT32_MAX)
        return DNS_E_GARBAGE;
    questions = read_u16(&r);
    for (unsigned i = 0; i < 3; i++)
        sections[i] = read_u16(&r);
    for (; questions > 0 && !r.bad; questions--) {
        char name[DNS_NAME_SIZE];

        read_name(&r, name);
        (void)read_u32(&r); /* type and class */
    }
    for (unsigned i = 0; i < 3; i++) {
        for (; sections[i] > 0 && !r.bad; sections[i]--)
            read_record(&r, i == 1, i == 2, &answer);
    }
    if (r.bad) {
        dns_answer_deinit(&answer);
        return DNS_E_GARBAGE;
    }
    *out_answer = answer;
    return 0;
}

void dns_answer_deinit(struct dns_answer *answer)
{
    free(answer->records);
    *answer = (struct dns_answer){0};
}

/* -- lists --------------------------------------------------------------------------------------------------- */

struct dns_list dns_list_empty(void)
{
    return (struct dns_list){.ttl_s = DNS_TTL_NONE};
}

void dns_list_deinit(struct dns_list *list)
{
    free(list->items);
    *list = dns_list_empty();
}

static struct resolved_address *list_grow(struct dns_list *list)
{
    if (list->count == list->capacity) {
        size_t capacity = size_max(list->capacity * 2, 8);
        struct resolved_address *more = realloc(list->items, capacity * sizeof(*more));

        ASSERT(more != NULL);
        list->items = more;
        list->capacity = capacity;
    }
    memset(&list->items[list->count], 0, sizeof(list->items[0]));
    return &list->items[list->count];
}

void dns_list_add(struct dns_list *list, const char *ip, unsigned port, const char *hint)
{
    struct resolved_address *item = list_grow(list);

    if (port == 0 || port > 65535 || !resolver_address(ip, port, item->address, sizeof(item->address)))
        return;
    item->ready = true;
    (void)snprintf(item->name, sizeof(item->name), "%s", hint);
    list->count++;
}

void dns_list_append(struct dns_list *list, const struct dns_list *more)
{
    for (size_t i = 0; i < more->count; i++) {
        *list_grow(list) = more->items[i];
        list->count++;
    }
    if (more->ttl_s < list->ttl_s)
        list->ttl_s = more->ttl_s;
}

/* By address, then by name: of two names for one address it is always the same one that stays. */
static int by_address(const void *a, const void *b)
{
    const struct resolved_address *left = a, *right = b;
    int order = strcmp(left->address, right->address);

    return order ? order : strcmp(left->name, right->name);
}

void dns_list_settle(struct dns_list *list)
{
    size_t kept = 0;

    if (list->count == 0)
        return;
    qsort(list->items, list->count, sizeof(list->items[0]), by_address);
    for (size_t i = 0; i < list->count; i++) {
        if (kept == 0 || strcmp(list->items[kept - 1].address, list->items[i].address) != 0)
            list->items[kept++] = list->items[i];
    }
    list->count = kept;
}

bool dns_list_same(const struct dns_list *a, const struct dns_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (by_address(&a->items[i], &b->items[i]) != 0)
            return false;
    }
    return true;
}

/* -- what an answer says of a name ------------------------------------------------------------------------------ */

const char *dns_answer_alias(const struct dns_answer *answer, const char *name, uint32_t *ttl_s)
{
    for (unsigned hops = 0; hops < ALIASES_MAX; hops++) {
        const struct dns_record *next = NULL;

        for (size_t i = 0; i < answer->count && !next; i++) {
            const struct dns_record *record = &answer->records[i];

            if (record->type == DNS_TYPE_CNAME && !record->additional && record->target[0] && strcmp(record->owner, name) == 0)
                next = record;
        }
        if (!next)
            return name;
        name = next->target;
        if (next->ttl_s < *ttl_s)
            *ttl_s = next->ttl_s;
    }
    return name;
}

size_t dns_answer_addresses(const struct dns_answer *answer, const char *name, enum dns_type type, bool additional, unsigned port,
    const char *hint, struct dns_list *list)
{
    uint32_t ttl_s = list->ttl_s;
    size_t found = 0;

    ASSERT(type == DNS_TYPE_A || type == DNS_TYPE_AAAA);
    if (!additional)
        name = dns_answer_alias(answer, name, &ttl_s);
    for (size_t i = 0; i < answer->count; i++) {
        const struct dns_record *record = &answer->records[i];
        char ip[INET6_ADDRSTRLEN];

        if (record->type != type || record->additional != additional || strcmp(record->owner, name) != 0 || name[0] == '\0')
            continue;
        ASSERT(inet_ntop(type == DNS_TYPE_A ? AF_INET : AF_INET6, record->address, ip, sizeof(ip)) != NULL);
        dns_list_add(list, ip, port, hint);
        if (record->ttl_s < ttl_s)
            ttl_s = record->ttl_s;
        found++;
    }
    if (found > 0)
        list->ttl_s = ttl_s;
    return found;
}
