/* Nothing is looked for as long as the journal has lost nothing: then the first place is as good as the second. Afterwards all survivors
 * are walked over, once a second at most; until then both places are held, which costs nothing but space on disk. */
#include "sampler/handoff/repeats.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/room.h"
#include "sampler/handoff/worker_journal.h"

#define LOOK_NS (1 * NS_PER_S)
#define ENTRIES_MANY 65536u /* 3 MiB of them: looked for at once */

void repeats_deinit(struct repeats *repeats)
{
    free(repeats->entries);
    memset(repeats, 0, sizeof(*repeats));
}

void repeats_add(struct worker_handoff *handoff, const struct repeat *repeat)
{
    struct repeats *repeats = &handoff->repeats;

    repeats->entries = room_for(repeats->entries, repeats->count, &repeats->capacity, sizeof(repeats->entries[0]));
    repeats->entries[repeats->count++] = *repeat;
}

/* -- looking --------------------------------------------------------------------------------------------------------------- */

struct looking {
    const struct journal *journal;
    struct repeat *entries; /* sorted */
    size_t count;
    struct repeat *of_trace; /* those of the trace that is looked at */
    size_t of_trace_count;
    bool under_way; /* a copy of some: nothing is known of it yet */
};

static int repeat_compare(const void *a, const void *b)
{
    const struct repeat *left = a, *right = b;
    int order = memcmp(left->id.bytes, right->id.bytes, sizeof(left->id.bytes));

    if (order != 0)
        return order;
    return left->span_hash < right->span_hash ? -1 : left->span_hash > right->span_hash;
}

/* Index of the first that is not below. */
static size_t lower_bound(const struct repeat *entries, size_t count, const struct repeat *key)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (repeat_compare(&entries[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_written(const struct journal *journal, struct journal_pos at, uint32_t len)
{
    return at.segment != 0 && journal_written(journal, at, len) == JOURNAL_WRITTEN;
}

static void place_look(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct looking *looking = context;
    struct repeat key = {.id = looking->of_trace->id, .span_hash = span_hash};
    size_t i = lower_bound(looking->of_trace, looking->of_trace_count, &key);

    if (i == looking->of_trace_count || looking->of_trace[i].span_hash != span_hash || is_written(looking->journal, *at, len))
        return;
    if (at->segment != 0 && journal_written(looking->journal, *at, len) == JOURNAL_UNDER_WAY) {
        looking->under_way = true;
        return;
    }
    for (; i < looking->of_trace_count && looking->of_trace[i].span_hash == span_hash; i++) {
        struct repeat *repeat = &looking->of_trace[i];

        if (is_written(looking->journal, repeat->at, len)) {
            key.at = repeat->at;
            repeat->at = *at;
            *at = key.at;
            return;
        }
    }
}

static void trace_look(void *context, struct trace *trace)
{
    struct looking *looking = context;
    struct repeat key = {.id = *trace_id_of(trace)};
    size_t first = lower_bound(looking->entries, looking->count, &key), end = first;

    while (end < looking->count && trace_id_equal(&looking->entries[end].id, &key.id))
        end++;
    if (end == first)
        return;
    looking->of_trace = looking->entries + first;
    looking->of_trace_count = end - first;
    trace_places(trace, place_look, looking);
}

/* Wherever a trace may be: undecided or waiting in the table, waiting for its verdict to be written, on its way to a backend. */
static void look_everywhere(struct sampler_worker *home, struct looking *looking)
{
    struct trace *traces[TRACES_OF_ID_MOST];

    for (size_t i = 0; i < looking->count; i++) {
        const struct trace_id *id = &looking->entries[i].id;
        size_t count;

        if (i > 0 && trace_id_equal(id, &looking->entries[i - 1].id))
            continue;
        count = trace_table_find_all(home->traces, id, hash_trace(id), traces);
        for (size_t k = 0; k < count; k++)
            trace_look(looking, traces[k]);
    }
    worker_journal_each_leaving(home->journal, trace_look, looking);
    survivors_each(home, trace_look, looking);
}

/* -- settling -------------------------------------------------------------------------------------------------------------- */

static void due_let_go(struct worker_handoff *handoff)
{
    struct repeats *repeats = &handoff->repeats;

    for (size_t i = 0; i < repeats->due_count; i++)
        worker_journal_let_go(handoff->home->journal, repeats->entries[i].at.segment, repeats->entries[i].len);
    repeats->count -= repeats->due_count;
    memmove(repeats->entries, repeats->entries + repeats->due_count, repeats->count * sizeof(repeats->entries[0]));
    repeats->due_count = 0;
}

static void due_settle(struct worker_handoff *handoff, uint64_t now_ns)
{
    struct repeats *repeats = &handoff->repeats;
    struct looking looking = {.journal = handoff->home->sampler->journal, .entries = repeats->entries, .count = repeats->due_count};

    if (!journal_lost_some(looking.journal)) {
        due_let_go(handoff);
        return;
    }
    if (now_ns < repeats->next_ns && repeats->count < ENTRIES_MANY)
        return;
    repeats->next_ns = now_ns + LOOK_NS;
    qsort(repeats->entries, repeats->due_count, sizeof(repeats->entries[0]), repeat_compare);
    look_everywhere(handoff->home, &looking);
    if (!looking.under_way) /* else all of them once more: what was settled is found to be */
        due_let_go(handoff);
}

void repeats_run(struct worker_handoff *handoff, uint64_t now_ns)
{
    struct repeats *repeats = &handoff->repeats;
    struct journal *journal = handoff->home->sampler->journal;

    if (LIKELY(repeats->count == 0))
        return;
    if (repeats->due_count == 0) {
        repeats->due_count = repeats->count;
        repeats->before = journal_sequence(journal);
    }
    if (journal_done_before(journal, repeats->before))
        due_settle(handoff, now_ns);
}
