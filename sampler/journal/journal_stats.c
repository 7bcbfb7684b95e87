/* The journal's own account of itself: counters as they are, the rest counted when somebody asks. */
#include <string.h>

#include "common/base/num.h"
#include "common/metrics/metrics.h"
#include "common/metrics/text.h"
#include "sampler/journal/journal_inside.h"

static void count_segment(const struct segment *segment, struct journal_stats *stats)
{
    switch (segment->stream) {
    case STREAM_DATA:
        stats->data_segments++;
        break;
    case STREAM_COPIES:
        stats->copy_segments++;
        break;
    case STREAM_VERDICTS:
        stats->verdict_segments++;
        break;
    }
    if (stats->oldest_segment_unix_ns == 0 || segment->created_unix_ns < stats->oldest_segment_unix_ns)
        stats->oldest_segment_unix_ns = segment->created_unix_ns;
}

void journal_stats(struct journal *journal, struct journal_stats *out_stats)
{
    journal_lock(journal);
    *out_stats = journal->stats;
    for (size_t i = 0; i < journal->segment_count; i++)
        count_segment(journal->segments[i], out_stats);
    out_stats->live_bytes = (uint64_t)journal->live_bytes;
    out_stats->max_bytes = journal->options.max_bytes;
    out_stats->queued_bytes = journal->queued_bytes;
    out_stats->failing = atomic_load(&journal->failing);
    out_stats->recovering = journal->recovering;
    out_stats->retry_in_ns = out_stats->failing ? u64_sub_floor(journal->retry_at_ns, journal->now.ns) : 0;
    if (!out_stats->failing)
        out_stats->failed_since_unix_ns = 0;
    journal_unlock(journal);
}

static uint64_t age_ns(uint64_t since_unix_ns, uint64_t now_unix_ns)
{
    return since_unix_ns ? u64_sub_floor(now_unix_ns, since_unix_ns) : 0;
}

void journal_metrics(const struct journal_stats *stats, uint64_t now_unix_ns, struct metrics_cell *cell)
{
    metric_set(cell, METRIC_JOURNAL_SIZE_BYTES, stats->size_bytes);
    metric_set(cell, METRIC_JOURNAL_LIVE_BYTES, stats->live_bytes);
    metric_set(cell, METRIC_JOURNAL_LIMIT_BYTES, stats->max_bytes);
    metric_set(cell, METRIC_JOURNAL_OLDEST_NS, age_ns(stats->oldest_segment_unix_ns, now_unix_ns));
    metric_set(cell, METRIC_JOURNAL_SEGMENTS_DATA, stats->data_segments);
    metric_set(cell, METRIC_JOURNAL_SEGMENTS_COPIES, stats->copy_segments);
    metric_set(cell, METRIC_JOURNAL_SEGMENTS_VERDICTS, stats->verdict_segments);
    metric_set(cell, METRIC_JOURNAL_SEGMENTS_FREE, stats->free_segments);
    metric_set(cell, METRIC_JOURNAL_QUEUED_BYTES, stats->queued_bytes);
    metric_set(cell, METRIC_JOURNAL_APPENDS, stats->appends);
    metric_set(cell, METRIC_JOURNAL_WRITTEN_RECORDS, stats->records_written);
    metric_set(cell, METRIC_JOURNAL_WRITTEN_BYTES, stats->written_bytes);
    metric_set(cell, METRIC_JOURNAL_BATCHES, stats->batches);
    metric_set(cell, METRIC_JOURNAL_SYNCS, stats->syncs);
    metric_set(cell, METRIC_JOURNAL_ERRORS_WRITE, stats->write_errors);
    metric_set(cell, METRIC_JOURNAL_ERRORS_SYNC, stats->sync_errors);
    metric_set(cell, METRIC_JOURNAL_ERRORS_READ, stats->read_errors);
    metric_set(cell, METRIC_JOURNAL_FAILING, stats->failing);
    metric_set(cell, METRIC_JOURNAL_LOST_RECORDS_FAILED, stats->failed_records);
    metric_set(cell, METRIC_JOURNAL_LOST_RECORDS_MEMORY, stats->memory_records);
    metric_set(cell, METRIC_JOURNAL_REFUSED_FULL, stats->refused_full);
    metric_set(cell, METRIC_JOURNAL_REFUSED_FAILED, stats->refused_failed);
    metric_set(cell, METRIC_JOURNAL_READS, stats->reads);
    metric_set(cell, METRIC_JOURNAL_READ_BYTES, stats->read_bytes);
    metric_set(cell, METRIC_JOURNAL_CLEANED_SEGMENTS, stats->cleaned_segments);
    metric_set(cell, METRIC_JOURNAL_COPIED_BYTES, stats->copied_bytes);
    metric_set(cell, METRIC_JOURNAL_RECYCLED_SEGMENTS, stats->recycled_segments);
    metric_set(cell, METRIC_JOURNAL_RECOVERED_RECORDS, stats->recovered_records);
    metric_set(cell, METRIC_JOURNAL_RECOVERED_BYTES, stats->recovered_bytes);
    metric_set(cell, METRIC_JOURNAL_CORRUPT_RECORDS, stats->corrupt_records);
    metric_set(cell, METRIC_JOURNAL_UNREADABLE_BYTES, stats->unreadable_bytes);
}

static void status_number(struct text *out, const char *name, uint64_t value)
{
    text_append(out, "\"%s\":%llu,", name, (unsigned long long)value);
}

void journal_status(const struct journal_stats *stats, uint64_t now_unix_ns, struct text *out)
{
    const char *state = stats->failing ? "failing" : stats->recovering ? "recovering" : "good";

    text_append(out, "{\"state\":\"%s\",", state);
    status_number(out, "size_bytes", stats->size_bytes);
    status_number(out, "max_bytes", stats->max_bytes);
    status_number(out, "live_bytes", stats->live_bytes);
    status_number(out, "queued_bytes", stats->queued_bytes);
    text_append(out, "\"segments\":{\"data\":%llu,\"copies\":%llu,\"verdicts\":%llu,\"free\":%llu},", (unsigned long long)stats->data_segments,
        (unsigned long long)stats->copy_segments, (unsigned long long)stats->verdict_segments, (unsigned long long)stats->free_segments);
    status_number(out, "oldest_segment_age_ns", age_ns(stats->oldest_segment_unix_ns, now_unix_ns));
    status_number(out, "records_written", stats->records_written);
    status_number(out, "records_failed", stats->failed_records);
    status_number(out, "records_in_memory_only", stats->memory_records);
    status_number(out, "recovered_records", stats->recovered_records);
    status_number(out, "recovered_bytes", stats->recovered_bytes);
    status_number(out, "recovery_total_bytes", stats->recovery_total_bytes);
    status_number(out, "corrupt_records", stats->corrupt_records);
    status_number(out, "unreadable_bytes", stats->unreadable_bytes);
    if (stats->failing) {
        status_number(out, "failing_for_ns", age_ns(stats->failed_since_unix_ns, now_unix_ns));
        status_number(out, "retry_in_ns", stats->retry_in_ns);
    }
    text_append(out, "\"last_error\":");
    if (stats->last_operation) {
        text_append(out, "\"%s: ", stats->last_operation);
        text_append(out, "%s\"}", strerror(stats->last_error)); /* of the C locale: no quotes in it */
    } else {
        text_append(out, "null}");
    }
}
