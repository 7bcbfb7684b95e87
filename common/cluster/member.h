/* Who the members are: addresses from a resolver, names from the members themselves.
 *
 * A member's name, state and protocol version come from its Hello, kept per address: a pod that comes back with another
 * address is the same member, two addresses with one name are one member. Pure: no I/O, time is passed in.
 * An empty or failed answer of the resolver never empties it.
 *
 * An address keeps its index from the answer that brings it until member_book_forget, which whoever holds something for
 * that address calls when it is no longer listed and nothing is held for it. The index is then taken by another.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cluster/resolver.h"
#include "common/cluster/ring.h"

#define MEMBER_HELLO_WAIT_NS 3000000000ull /* how long the first ring waits for addresses that have not said Hello */

struct member_address {
    char address[264];     /* "": nobody's; all else is zero then */
    char hint[264];        /* the resolver's name for it; "": none */
    bool listed;           /* in the resolver's last good answer, and ready there */
    bool named;            /* has said Hello, in this life or an earlier one */
    bool refused;          /* places traces by another hash version: shown, never used */
    char name[264];
    char software[128];
    unsigned state;        /* as in peer.proto */
    unsigned hash_version;
    bool hands_over;
};

struct member_book {
    struct member_address *addresses;
    size_t count, capacity; /* count: of indices in use or given back */
    uint64_t started_ns;
    bool formed;           /* a first ring was made */
    uint64_t failures;
    char last_failure[256];
};

void member_book_init(struct member_book *book, uint64_t now_ns);
void member_book_deinit(struct member_book *book);
/* The resolver's whole list. Returns true when an address was added. */
bool member_book_resolved(struct member_book *book, const struct resolved_address *addresses, size_t count);
void member_book_failed(struct member_book *book, const char *reason);
/* Takes an address that is not listed out of the book; what it said of itself is forgotten. */
void member_book_forget(struct member_book *book, size_t index);
/* How many addresses are in the book; how many of them are listed. */
size_t member_book_used(const struct member_book *book);
size_t member_book_listed(const struct member_book *book);
/* index: of the address. Empty name: not a Tailrace node, the resolver's name for it or else its address is its name. */
void member_book_hello(struct member_book *book, size_t index, const char *name, const char *software, unsigned hash_version,
    unsigned state, bool hands_over);
/* Is there enough to make a ring: all listed addresses have said Hello, or the wait is over and one has. After the first: always. */
bool member_book_ready(const struct member_book *book, uint64_t now_ns);
/* The ring's members, distinct names of listed, named, not refused addresses. out must hold book->count; returns how many. */
size_t member_book_members(const struct member_book *book, struct ring_member *out_members);
