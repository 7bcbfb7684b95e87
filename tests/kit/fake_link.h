/* A link for tests: records what is sent, and the test says how and in which order the calls end.
 *
 * Holds each message as one run of bytes, as the peer would receive it. Aborts when a call ends twice,
 * and fake_link_deinit when one never ended: the promise of link.h both ways.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/export/link.h"

struct fake_message {
    char method[96];
    struct buffer *bytes; /* all pieces joined */
    size_t piece_count;
    uint64_t deadline_ns, ring;
    struct metadata_set *metadata;
    enum export_compression encoding;
    struct link_call *call; /* NULL: ended */
    bool cancelled;         /* link_cancel was called: end it with CANCELLED, or with what came first */
};

struct fake_link {
    struct link link;
    struct fake_message **messages; /* all that were sent, in order */
    size_t count, capacity;
    size_t pending; /* not ended yet */
};

void fake_link_init(struct fake_link *fake, enum link_state state);
/* All calls must have ended (fake_link_end_all). link_free does the same. */
void fake_link_deinit(struct fake_link *fake);

/* Changes the state and tells link.on_state, if there is one. */
void fake_link_set_state(struct fake_link *fake, enum link_state state);

/* The n-th of the pending messages in the order they were sent; NULL: there are no more than n. */
struct fake_message *fake_link_pending(struct fake_link *fake, size_t n);
/* Ends a call. The message stays readable until fake_link_deinit. */
void fake_link_end(struct fake_link *fake, struct fake_message *message, const struct link_result *result);
/* ... with nothing but a code. */
void fake_link_end_code(struct fake_link *fake, struct fake_message *message, int code);
/* Ends all that are pending now, oldest first. */
void fake_link_end_all(struct fake_link *fake, int code);
