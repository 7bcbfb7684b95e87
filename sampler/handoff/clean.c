#include "sampler/handoff/clean.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/carry.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/room.h"
#include "sampler/handoff/worker_journal.h"
#include "sampler/journal/journal_record.h"

#define ROOM_BYTES (256u << 10) /* that a copy begins with */
#define TURN_BYTES (4u << 20)   /* copied in one turn: some milliseconds */
#define TRACES_MOST 4096u       /* in one copy */

struct left { /* what is let go of when the copy is written */
    uint32_t segment;
    uint64_t bytes;
};

struct moved { /* a span of the copy: its place in the message, by hash */
    uint64_t hash;
    size_t offset;
};

struct old_place { /* of a span whose place is `offset` in the copy's segment now */
    uint32_t offset;
    struct journal_pos at;
};

/* One TRACES record: being filled, then under way. */
struct clean_copy {
    struct journal_write write;
    struct worker_handoff *handoff;
    struct buffer *bytes;
    struct trace **traces;
    size_t trace_count, trace_capacity;
    struct left left[JOURNAL_CLEAN_MAX];
    size_t left_count;
    struct old_place *places; /* in case that it cannot be written */
    size_t place_count, place_capacity;
    uint32_t refers[JOURNAL_CLEAN_MAX];
};

static void copy_free(struct clean_copy *copy)
{
    if (!copy)
        return;
    buffer_unref(copy->bytes);
    free(copy->traces);
    free(copy->places);
    free(copy);
}

void clean_deinit(struct clean *clean)
{
    copy_free(clean->copy);
    free(clean->found);
    memset(clean, 0, sizeof(*clean));
}

static bool is_wanted(const struct clean *clean, uint32_t segment)
{
    for (uint32_t i = 0; i < clean->wanted.count; i++)
        if (clean->wanted.segments[i] == segment)
            return true;
    return false;
}

/* -- finding --------------------------------------------------------------------------------------------------------------- */

struct looking {
    const struct clean *clean;
    bool found;
};

static void place_look(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct looking *looking = context;

    (void)span_hash;
    (void)len;
    looking->found |= is_wanted(looking->clean, at->segment);
}

static bool lies_there(const struct clean *clean, struct trace *trace)
{
    struct looking looking = {.clean = clean};

    trace_places(trace, place_look, &looking);
    return looking.found && trace_info(trace).spilled_count == 0;
}

static void trace_visit(void *context, struct trace *trace)
{
    struct clean *clean = context;

    if (!lies_there(clean, trace))
        return;
    clean->found = room_for(clean->found, clean->found_count, &clean->found_capacity, sizeof(clean->found[0]));
    clean->found[clean->found_count++] = trace;
}

/* -- copying ----------------------------------------------------------------------------------------------------------------- */

struct marking {
    const struct clean *clean;
    bool *wanted;
    size_t index;
};

static void place_mark(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct marking *marking = context;

    (void)span_hash;
    (void)len;
    marking->wanted[marking->index++] = is_wanted(marking->clean, at->segment);
}

static struct clean_copy *copy_open(struct worker_handoff *handoff)
{
    struct clean_copy *copy = handoff->clean.copy;

    if (copy)
        return copy;
    copy = calloc(1, sizeof(*copy));
    ASSERT(copy != NULL);
    copy->handoff = handoff;
    copy->bytes = buffer_new(ROOM_BYTES);
    ASSERT(copy->bytes != NULL);
    handoff->clean.copy = copy;
    return copy;
}

static void copy_add(struct clean_copy *copy, struct trace *trace)
{
    copy->traces = room_for(copy->traces, copy->trace_count, &copy->trace_capacity, sizeof(copy->traces[0]));
    copy->traces[copy->trace_count++] = trace;
}

/* Those of its spans that lie there: all of them, or as many as one copy may have. */
static void trace_copy(struct worker_handoff *handoff, struct trace *trace, uint64_t most_bytes)
{
    struct clean_copy *copy = copy_open(handoff);
    struct trace_id id = *trace_id_of(trace);
    struct marking marking = {.clean = &handoff->clean};
    struct carried carried;

    marking.wanted = malloc(trace_info(trace).span_count * sizeof(marking.wanted[0]));
    ASSERT(marking.wanted != NULL);
    trace_places(trace, place_mark, &marking);
    (void)carry_trace(handoff, &id, trace, marking.wanted, most_bytes, &copy->bytes, &carried);
    free(marking.wanted);
    copy_add(copy, trace);
}

/* What was added last is too much for this copy: it is the first of the next, which is returned. The traces' bytes before are `len`. */
static struct clean_copy *copy_split(struct worker_handoff *handoff, size_t len)
{
    struct clean_copy *full = handoff->clean.copy, *next;

    handoff->clean.copy = NULL;
    next = copy_open(handoff);
    next->bytes = buffer_grow(next->bytes, size_max(ROOM_BYTES, full->bytes->len - len));
    ASSERT(next->bytes != NULL);
    next->bytes->len = full->bytes->len - len;
    memcpy(next->bytes->bytes, full->bytes->bytes + len, next->bytes->len);
    full->bytes->len = len;
    copy_add(next, full->traces[--full->trace_count]);
    handoff->clean.copy = full;
    return next;
}

static int moved_compare(const void *a, const void *b)
{
    const struct moved *left = a, *right = b;

    return left->hash < right->hash ? -1 : left->hash > right->hash;
}

/* Where each span of one carried trace lies in the message; sorted by hash. */
static struct moved *moved_find(const struct buffer *message, const struct transfer_trace *trace, size_t *out_count, uint64_t *out_bytes)
{
    struct wire parts = wire_of(trace->body);
    struct moved *moved = NULL;
    struct transfer_part part;
    size_t count = 0, capacity = 0;

    while (transfer_part_next(&parts, &part)) {
        struct span_walk walk;
        struct span_ref span;

        span_walk_init(&walk, part.spans);
        while (span_walk_next(&walk, &span)) {
            moved = room_for(moved, count, &capacity, sizeof(moved[0]));
            moved[count++] = (struct moved){hash_bytes(span.bytes.at, span.bytes.len), (size_t)(span.bytes.at - message->bytes)};
            *out_bytes += span.bytes.len;
        }
    }
    if (count > 1)
        qsort(moved, count, sizeof(moved[0]), moved_compare);
    *out_count = count;
    return moved;
}

struct moving {
    struct clean_copy *copy;
    const struct moved *moved;
    size_t moved_count;
    struct journal_pos base; /* of the message */
};

static void left_add(struct clean_copy *copy, uint32_t segment, uint64_t bytes)
{
    for (size_t i = 0; i < copy->left_count; i++) {
        if (copy->left[i].segment == segment) {
            copy->left[i].bytes += bytes;
            return;
        }
    }
    ASSERT(copy->left_count < JOURNAL_CLEAN_MAX); /* only segments of the set */
    copy->left[copy->left_count++] = (struct left){segment, bytes};
}

static void place_keep(struct clean_copy *copy, uint32_t offset, struct journal_pos at)
{
    copy->places = room_for(copy->places, copy->place_count, &copy->place_capacity, sizeof(copy->places[0]));
    copy->places[copy->place_count++] = (struct old_place){offset, at};
}

static void place_move(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct moving *moving = context;
    const struct moved key = {.hash = span_hash};
    const struct moved *moved;

    if (!is_wanted(&moving->copy->handoff->clean, at->segment) || moving->moved_count == 0)
        return;
    moved = bsearch(&key, moving->moved, moving->moved_count, sizeof(key), moved_compare);
    if (!moved)
        return;
    left_add(moving->copy, at->segment, len);
    place_keep(moving->copy, moving->base.offset + (uint32_t)moved->offset, *at);
    *at = (struct journal_pos){moving->base.segment, moving->base.offset + (uint32_t)moved->offset};
}

static uint64_t span_bytes(const struct buffer *message)
{
    struct wire w = wire_of(buffer_slice(message));
    struct transfer_trace trace;
    uint64_t bytes = 0;
    size_t count;

    while (transfer_trace_next(&w, &trace))
        free(moved_find(message, &trace, &count, &bytes));
    return bytes;
}

static void places_move(struct clean_copy *copy, struct journal_pos base)
{
    struct wire w = wire_of(buffer_slice(copy->bytes));
    struct transfer_trace trace;
    uint64_t bytes = 0;

    for (size_t i = 0; transfer_trace_next(&w, &trace); i++) {
        struct moving moving = {.copy = copy, .base = base};
        struct moved *moved = moved_find(copy->bytes, &trace, &moving.moved_count, &bytes);

        moving.moved = moved;
        trace_places(copy->traces[i], place_move, &moving);
        free(moved);
    }
}

/* -- a copy that could not be written --------------------------------------------------------------------------------------- */

static int place_compare(const void *a, const void *b)
{
    const struct old_place *left = a, *right = b;

    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* Whoever still has a place in the copy has the old one again. */
static void place_back(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct clean_copy *copy = context;
    const struct old_place key = {.offset = at->offset};
    const struct old_place *old;

    (void)span_hash;
    if (at->segment != copy->write.at.segment)
        return;
    old = bsearch(&key, copy->places, copy->place_count, sizeof(key), place_compare);
    if (!old)
        return;
    worker_journal_let_go(copy->handoff->home->journal, at->segment, len);
    for (size_t i = 0; i < copy->left_count; i++)
        copy->left[i].bytes -= copy->left[i].segment == old->at.segment ? len : 0;
    *at = old->at;
}

static void trace_back(void *context, struct trace *trace)
{
    trace_places(trace, place_back, context);
}

/* They are looked for wherever traces are: some moved on, some are gone. */
static void places_back(struct clean_copy *copy)
{
    struct sampler_worker *home = copy->handoff->home;
    uint64_t cursor = 0;

    if (copy->place_count > 1)
        qsort(copy->places, copy->place_count, sizeof(copy->places[0]), place_compare);
    while (trace_table_step(home->traces, &cursor, trace_back, copy)) {
    }
    survivors_each(home, trace_back, copy);
    worker_journal_each_leaving(home->journal, trace_back, copy);
}

static void worker_on_copied(struct mail *mail, void *receiver)
{
    struct clean_copy *copy = container_of(container_of(mail, struct journal_write, mail), struct clean_copy, write);

    (void)receiver;
    if (copy->write.error)
        places_back(copy); /* what is left then was let go of meanwhile, of the copy */
    for (size_t i = 0; i < copy->left_count; i++)
        worker_journal_let_go(copy->handoff->home->journal, copy->left[i].segment, copy->left[i].bytes);
    copy_free(copy);
}

static uint64_t left_bytes(const struct clean_copy *copy)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < copy->left_count; i++)
        bytes += copy->left[i].bytes;
    return bytes;
}

/* False: the journal does not take it now. */
static bool copy_close(struct worker_handoff *handoff)
{
    struct clean_copy *copy = handoff->clean.copy;
    struct sampler_worker *home = handoff->home;
    struct buffer *head;
    size_t head_len;

    if (!copy)
        return true;
    handoff->clean.copy = NULL;
    head = journal_traces_head(clock_now_unix_ns());
    ASSERT(head != NULL);
    head_len = head->len;
    memcpy(copy->refers, handoff->clean.wanted.segments, sizeof(copy->refers));
    copy->write = (struct journal_write){.mail = {.deliver = worker_on_copied},
        .done = journal_done_at_worker,
        .to = &home->worker,
        .kind = JOURNAL_TRACES,
        .copy = true,
        .head = head,
        .body = buffer_slice(copy->bytes),
        .hold_bytes = (uint32_t)span_bytes(copy->bytes),
        .refers = copy->refers,
        .refer_count = handoff->clean.wanted.count};
    if (journal_append(home->sampler->journal, &copy->write) != 0) {
        buffer_unref(head);
        copy_free(copy);
        return false;
    }
    places_move(copy, (struct journal_pos){copy->write.at.segment, copy->write.at.offset + (uint32_t)head_len});
    /* One found twice, of several exporters, was copied twice: nobody will let go of the second. */
    worker_journal_let_go(home->journal, copy->write.at.segment, copy->write.hold_bytes - left_bytes(copy));
    return true;
}

/* Adds a trace, and closes copies that are full. False: the journal does not take it now. */
static bool found_add(struct worker_handoff *handoff, struct trace *trace, uint64_t most_bytes)
{
    struct clean *clean = &handoff->clean;
    size_t len = clean->copy ? clean->copy->bytes->len : 0;

    trace_copy(handoff, trace, most_bytes);
    if (len > 0 && clean->copy->bytes->len > most_bytes) {
        struct clean_copy *next = copy_split(handoff, len);

        if (!copy_close(handoff)) {
            copy_free(next);
            return false;
        }
        clean->copy = next;
    }
    return (clean->copy->bytes->len < most_bytes && clean->copy->trace_count < TRACES_MOST) || copy_close(handoff);
}

/* In one copy; or in several, each of them a copy's worth of its spans. Each takes one at least. */
static bool found_add_all(struct worker_handoff *handoff, struct trace *trace, uint64_t most_bytes)
{
    const struct trace_info info = trace_info(trace);

    if (info.bytes <= most_bytes)
        return found_add(handoff, trace, most_bytes);
    for (uint64_t i = 0; i < info.span_count && lies_there(&handoff->clean, trace); i++)
        if (!found_add(handoff, trace, most_bytes) || !copy_close(handoff))
            return false;
    return true;
}

/* Copies what was found, as far as a turn goes. True: some is left for the next. */
static bool found_copy(struct worker_handoff *handoff)
{
    struct clean *clean = &handoff->clean;
    uint64_t copied = 0, most_bytes = journal_copy_bytes(handoff->home->sampler->journal);

    for (size_t i = 0; i < clean->found_count && most_bytes > 0; i++) {
        struct trace *trace = clean->found[i];

        if (!lies_there(clean, trace))
            continue; /* found twice */
        if (copied >= TURN_BYTES)
            return copy_close(handoff);
        copied += trace_info(trace).bytes;
        if (!found_add_all(handoff, trace, most_bytes))
            return false;
    }
    (void)copy_close(handoff); /* a journal in trouble asks again */
    return false;
}

bool clean_run(struct worker_handoff *handoff)
{
    struct clean *clean = &handoff->clean;
    struct sampler_worker *home = handoff->home;

    if (clean->stage == CLEAN_IDLE) {
        if (handoff->recovering || !journal_clean_wanted(home->sampler->journal, &clean->wanted))
            return false;
        clean->stage = CLEAN_TABLE;
        clean->cursor = 0;
    }
    clean->found_count = 0;
    if (clean->stage == CLEAN_TABLE) {
        bool more = trace_table_step(home->traces, &clean->cursor, trace_visit, clean);

        (void)found_copy(handoff); /* what is left over is asked for again */
        if (!more)
            clean->stage = CLEAN_SURVIVORS;
        return true;
    }
    survivors_each(home, trace_visit, clean);
    if (found_copy(handoff))
        return true;
    clean->stage = CLEAN_IDLE;
    return false;
}
