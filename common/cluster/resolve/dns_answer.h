/* What one DNS response says: its records, and the addresses that they give a name. Pure: bytes in, lists out.
 *
 * Nothing of a message that breaks off, points past its end or loops is used. Records of other types and classes are passed
 * over. Names are in lower case, without the last dot; one that no host can have is "" and matches nothing.
 * Source: RFC 1035 section 4, RFC 2782 (SRV), RFC 3596 (AAAA), RFC 2181 section 8 (TTL).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/cluster/resolver.h"

#define DNS_NAME_SIZE 254         /* 253 characters and the end */
#define DNS_TTL_NONE UINT32_MAX
#define DNS_E_GARBAGE 1           /* no DNS message */

enum dns_type { DNS_TYPE_A = 1, DNS_TYPE_CNAME = 5, DNS_TYPE_AAAA = 28, DNS_TYPE_SRV = 33 };

struct dns_record {
    enum dns_type type;
    bool additional;              /* from the additional section, else from the answer */
    uint32_t ttl_s;
    char owner[DNS_NAME_SIZE];
    char target[DNS_NAME_SIZE];   /* CNAME, SRV */
    uint16_t port;                /* SRV */
    uint8_t address[16];          /* A: the first four */
};

struct dns_answer {
    struct dns_record *records;
    size_t count, capacity;
};

/* 0, DNS_E_GARBAGE or -ENOMEM. */
int dns_answer_read(struct slice message, struct dns_answer *out_answer);
void dns_answer_deinit(struct dns_answer *answer);

/* Addresses as a resolver reports them. */
struct dns_list {
    struct resolved_address *items;
    size_t count, capacity;
    uint32_t ttl_s;               /* the shortest of what it is made of; DNS_TTL_NONE: nothing says one */
};

struct dns_list dns_list_empty(void);
void dns_list_deinit(struct dns_list *list);
/* ip: text. hint: the stable name, or "". What is no address is left out. */
void dns_list_add(struct dns_list *list, const char *ip, unsigned port, const char *hint);
void dns_list_append(struct dns_list *list, const struct dns_list *more);
/* Sorted by address, each once. */
void dns_list_settle(struct dns_list *list);
bool dns_list_same(const struct dns_list *a, const struct dns_list *b);

/* Adds the addresses of that type (A, AAAA) which the answer gives the name, through aliases; additional: those which its
 * additional section does, in passing. Returns how many records there were. */
size_t dns_answer_addresses(const struct dns_answer *answer, const char *name, enum dns_type type, bool additional, unsigned port,
    const char *hint, struct dns_list *list);
/* The name in the form that records have here: "" when it is none. */
void dns_name(const char *text, char out_name[DNS_NAME_SIZE]);
/* The name at the end of its aliases in the answer section, the name itself when it has none; ttl is lowered to theirs. */
const char *dns_answer_alias(const struct dns_answer *answer, const char *name, uint32_t *ttl_s);
