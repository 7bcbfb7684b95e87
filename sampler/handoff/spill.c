#include "sampler/handoff/spill.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/base/num.h"
#include "sampler/handoff/held.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/room.h"

#define SPILL_TRACES 256u     /* in one turn, some microseconds each */
#define PASSED_MOST 8u        /* not written yet: those behind came later still */
#define READ_BYTES (4u << 20) /* of one read, about */
#define READS_MOST 2u

struct read_trace { /* its items in the read: the next `item_count` */
    struct spill_want want;
    size_t item_count;
};

struct span_item {
    uint64_t hash;
    size_t index; /* of its bytes, in order of the places told */
    uint32_t len;
};

struct spill_read {
    struct list node;
    struct journal_read read;
    struct worker_handoff *handoff;
    struct read_trace *traces;
    size_t trace_count, trace_capacity;
    struct journal_read_item *items; /* the journal sorts them: found again by `to` */
    struct span_item *spans;         /* as they were told */
    size_t span_count, span_capacity;
    size_t byte_count;
    uint8_t *bytes;
};

void spill_init(struct spill *spill)
{
    memset(spill, 0, sizeof(*spill));
    list_init(&spill->reads);
}

static void read_free(struct spill_read *read)
{
    list_del(&read->node);
    read->handoff->spill.read_count--;
    free(read->traces);
    free(read->items);
    free(read->spans);
    free(read->bytes);
    free(read);
}

void spill_deinit(struct spill *spill)
{
    ASSERT(list_empty(&spill->reads));
    free(spill->wants);
}

/* -- who wants to be whole ------------------------------------------------------------------------------------------------ */

static void want_add(struct worker_handoff *handoff, const struct spill_want *want)
{
    struct spill *spill = &handoff->spill;

    if (spill->count == spill->capacity && spill->next > spill->count / 2) { /* half of it is behind us */
        spill->count -= spill->next;
        memmove(spill->wants, spill->wants + spill->next, spill->count * sizeof(*want));
        spill->next = 0;
    }
    spill->wants = room_for(spill->wants, spill->count, &spill->capacity, sizeof(*want));
    spill->wants[spill->count++] = *want;
}

void spill_read_back(struct worker_handoff *handoff, struct trace *trace)
{
    const struct spill_want want = {.id = *trace_id_of(trace)};

    trace_hold(handoff->home->traces, trace);
    if (trace_ask_read(trace))
        want_add(handoff, &want);
}

void spill_read_for(struct worker_handoff *handoff, struct trace *trace, const struct travel_entry *entry)
{
    const struct spill_want want = {
        .id = *trace_id_of(trace), .travels = true, .ring_no = handoff->travel.ring_no, .entry = *entry};

    want_add(handoff, &want);
}

static struct trace *want_find(const struct worker_handoff *handoff, const struct spill_want *want)
{
    struct trace *traces[TRACES_OF_ID_MOST];
    size_t count = trace_table_find_all(handoff->home->traces, &want->id, hash_trace(&want->id), traces);

    for (size_t i = 0; i < count; i++) /* the others of the ID may be whole */
        if (trace_info(traces[i]).spilled_count > 0)
            return traces[i];
    return NULL;
}

/* Whole again, or gone meanwhile, or never was spilled: what it wanted that for. */
static void want_done(struct worker_handoff *handoff, const struct spill_want *want)
{
    if (!want->travels)
        trace_table_release(handoff->home->traces); /* due once more, now as a whole */
    else if (want->ring_no == handoff->travel.ring_no)
        travel_again(handoff, &want->entry);
}

/* -- reading --------------------------------------------------------------------------------------------------------------- */

static void place_add(void *context, uint64_t span_hash, uint32_t len, struct journal_pos at)
{
    struct spill_read *read = context;

    if (read->span_count == read->span_capacity) {
        read->span_capacity = size_max(256, 2 * read->span_capacity);
        read->spans = realloc(read->spans, read->span_capacity * sizeof(read->spans[0]));
        read->items = realloc(read->items, read->span_capacity * sizeof(read->items[0]));
        ASSERT(read->spans && read->items);
    }
    read->spans[read->span_count] = (struct span_item){span_hash, read->byte_count, len};
    read->items[read->span_count++] = (struct journal_read_item){.at = at, .len = len};
    read->byte_count += len;
    read->traces[read->trace_count].item_count++;
}

static int span_compare(const void *a, const void *b)
{
    const struct span_item *left = a, *right = b;

    return left->hash < right->hash ? -1 : left->hash > right->hash;
}

struct finding {
    const struct spill_read *read;
    const struct span_item *spans; /* of this trace, sorted by hash */
    size_t count;
};

static struct slice bytes_find(void *context, uint64_t span_hash)
{
    const struct finding *finding = context;
    const struct span_item key = {.hash = span_hash};
    const struct span_item *span = bsearch(&key, finding->spans, finding->count, sizeof(key), span_compare);

    if (!span || span->len == UINT32_MAX || hash_bytes(finding->read->bytes + span->index, span->len) != span_hash)
        return (struct slice){NULL, 0}; /* not read, or not what was written */
    return slice_make(finding->read->bytes + span->index, span->len);
}

/* What could not be read is marked; the items were sorted by place, `to` tells which span each is. */
static void failed_mark(struct spill_read *read)
{
    for (size_t i = 0; i < read->span_count; i++) {
        size_t offset = (size_t)(read->items[i].to - read->bytes);
        size_t low = 0, high = read->span_count;

        if (!read->items[i].failed)
            continue;
        while (low + 1 < high) { /* spans lie in order of their bytes */
            size_t middle = low + (high - low) / 2;

            if (read->spans[middle].index <= offset)
                low = middle;
            else
                high = middle;
        }
        read->spans[low].len = UINT32_MAX;
    }
}

static void trace_whole(struct spill_read *read, const struct read_trace *entry, struct span_item *spans)
{
    struct worker_handoff *handoff = read->handoff;
    struct sampler_worker *home = handoff->home;
    struct trace *trace = want_find(handoff, &entry->want);
    struct finding finding = {.read = read, .spans = spans, .count = entry->item_count};
    uint32_t lost;

    if (trace) {
        if (entry->item_count > 1)
            qsort(spans, entry->item_count, sizeof(spans[0]), span_compare);
        lost = trace_unspill(home->traces, trace, bytes_find, &finding);
        book(home, BOOK_DROPPED_EXPORT, lost);
        count(home, METRIC_SPILL_LOST, lost);
        count(home, METRIC_UNSPILLED_TRACES, 1);
        if (trace_info(trace).span_count == 0)
            trace_free(home->traces, trace);
    }
    want_done(handoff, &entry->want);
}

static void worker_on_read(struct mail *mail, void *receiver)
{
    struct spill_read *read = container_of(container_of(mail, struct journal_read, mail), struct spill_read, read);
    size_t next = 0;

    (void)receiver;
    failed_mark(read);
    for (size_t i = 0; i < read->trace_count; i++) {
        trace_whole(read, &read->traces[i], read->spans + next);
        next += read->traces[i].item_count;
    }
    read_free(read);
}

static void read_send(struct spill_read *read)
{
    struct sampler_worker *home = read->handoff->home;

    read->bytes = malloc(size_max(read->byte_count, 1));
    ASSERT(read->bytes != NULL);
    for (size_t i = 0; i < read->span_count; i++)
        read->items[i].to = read->bytes + read->spans[i].index;
    read->read = (struct journal_read){.mail = {.deliver = worker_on_read},
        .done = journal_read_done_at_worker,
        .to = &home->worker,
        .items = read->items,
        .count = read->span_count};
    journal_read(home->sampler->journal, &read->read);
}

static struct spill_read *read_new(struct worker_handoff *handoff)
{
    struct spill_read *read = calloc(1, sizeof(*read));

    ASSERT(read != NULL);
    read->handoff = handoff;
    list_add_tail(&handoff->spill.reads, &read->node);
    handoff->spill.read_count++;
    return read;
}

/* True: there is more. */
static bool wants_read(struct worker_handoff *handoff)
{
    struct spill *spill = &handoff->spill;
    struct spill_read *read;

    if (spill->next == spill->count)
        return false;
    if (spill->read_count >= READS_MOST)
        return false; /* their mail wakes us */
    read = read_new(handoff);
    while (spill->next < spill->count && read->byte_count < READ_BYTES) {
        const struct spill_want want = spill->wants[spill->next++];
        struct trace *trace = want_find(handoff, &want);

        if (!trace) {
            want_done(handoff, &want);
            continue;
        }
        read->traces = room_for(read->traces, read->trace_count, &read->trace_capacity, sizeof(read->traces[0]));
        read->traces[read->trace_count] = (struct read_trace){.want = want};
        trace_spilled(trace, place_add, read);
        read->trace_count++;
    }
    if (read->trace_count > 0)
        read_send(read);
    else
        read_free(read);
    return spill->next < spill->count;
}

/* -- spilling ---------------------------------------------------------------------------------------------------------------- */

struct lying {
    const struct journal *journal;
    enum journal_written worst;
};

static void place_ask(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct lying *lying = context;

    (void)span_hash;
    if (lying->worst != JOURNAL_NOT_WRITTEN && at->segment != 0) {
        enum journal_written written = journal_written(lying->journal, *at, len);

        lying->worst = written == JOURNAL_WRITTEN ? lying->worst : written;
    }
}

/* Memory is let go of only for what is on disk: a write may be under way, and one that failed stays undone. */
static bool trace_is_written(struct sampler_worker *home, struct trace *trace)
{
    struct lying lying = {home->sampler->journal, JOURNAL_WRITTEN};

    trace_places(trace, place_ask, &lying);
    if (lying.worst == JOURNAL_WRITTEN)
        return true;
    trace_spill_pass(home->traces, trace, lying.worst == JOURNAL_NOT_WRITTEN);
    return false;
}

/* True: the budget asks for more, and there is more. */
static bool traces_spill(struct worker_handoff *handoff)
{
    struct sampler_worker *home = handoff->home;
    struct budget *budget = &home->sampler->budget;
    struct trace *trace;
    bool any = false;
    unsigned passed = 0;

    if (!budget_spilling(budget) || journal_failing(home->sampler->journal))
        return false;
    for (unsigned i = 0; i < SPILL_TRACES && passed < PASSED_MOST && budget_spilling(budget); i++) {
        uint64_t bytes;

        trace = trace_table_spillable(home->traces);
        if (!trace)
            return false;
        bytes = trace_info(trace).bytes;
        if (!trace_is_written(home, trace)) {
            passed++;
        } else if (trace_spill(home->traces, trace)) {
            count(home, METRIC_SPILLED_TRACES, 1);
            count(home, METRIC_SPILLED_BYTES, bytes);
            any = true;
        }
        if (i % 16 == 15)
            (void)budget_rung(budget);
    }
    return any && budget_spilling(budget) && trace_table_spillable(home->traces) != NULL;
}

bool spill_run(struct worker_handoff *handoff, uint64_t now_ns)
{
    bool more = traces_spill(handoff);

    (void)now_ns;
    atomic_store_explicit(&handoff->spill.more, more, memory_order_relaxed);
    return wants_read(handoff) || more;
}
