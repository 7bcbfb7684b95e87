/* A segment's file of arbitrary bytes, or a good one with arbitrary damage, is read to its end: nothing comes back that was not written,
 * and all that was not touched does.
 *
 * Input: a byte that says which; then the file, or: how many records, a length each, and edits of three bytes (where, what to xor). */
#include <stdlib.h>

#include "common/base/num.h"
#include "sampler/journal/journal_recovery.h"
#include "sampler/journal/journal_segment.h"
#include "tests/kit/memory_disk.h"

#define ID 0x0123456789abcdefull
#define SIZE (64u * 1024)
#define RECORDS_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct written {
    uint64_t begin, payload, end;
    enum journal_kind kind;
    bool touched, back;
};

struct log {
    uint8_t file[SIZE];
    struct written records[RECORDS_MAX];
    size_t count;
    bool any; /* the file is not ours: whatever comes, comes */
};

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* -- a good segment --------------------------------------------------------------------------------------------------- */

static void put_head(struct log *log, enum journal_stream stream)
{
    struct segment_head head = {.number = 7, .stream = stream, .size_bytes = SIZE, .journal_id = ID, .first_sequence = 100, .created_unix_ns = 1};

    segment_head_put(&head, log->file);
}

static void put_record(struct log *log, enum journal_kind kind, size_t len)
{
    struct written *record = &log->records[log->count];
    uint64_t seed = segment_seed(ID, 7);
    uint8_t *payload;
    struct frame frame = {.sequence = 100 + log->count, .len = (uint32_t)len, .kind = kind};

    record->begin = log->count ? log->records[log->count - 1].begin + frame_size(log->records[log->count - 1].end - log->records[log->count - 1].payload)
                               : SEGMENT_HEAD_BYTES;
    record->payload = record->begin + FRAME_BYTES;
    record->end = record->payload + len;
    record->kind = kind;
    if (record->end > SIZE)
        return;
    payload = log->file + record->payload;
    memset(payload, (int)log->count + 1, len);
    frame.payload_sum = frame_payload_sum(seed, (struct slice){NULL, 0}, slice_make(payload, len));
    frame_put(&frame, seed, log->file + record->begin);
    log->count++;
}

static void build(struct log *log, struct slice input)
{
    size_t count = input.len > 0 ? input.at[0] % RECORDS_MAX : 0, at = 1;
    bool verdicts = input.len > 0 && input.at[0] >= 128;

    put_head(log, verdicts ? STREAM_VERDICTS : STREAM_DATA);
    for (size_t i = 0; i < count && at < input.len; i++)
        put_record(log, verdicts ? JOURNAL_EXPORTED : JOURNAL_REQUEST, (size_t)input.at[at++] * 5);
    for (; at + 3 <= input.len; at += 3) {
        uint64_t where = SEGMENT_HEAD_BYTES + ((uint64_t)input.at[at] << 8 | input.at[at + 1]) % (SIZE - SEGMENT_HEAD_BYTES);

        log->file[where] ^= input.at[at + 2];
        for (size_t i = 0; input.at[at + 2] && i < log->count; i++)
            log->records[i].touched |= where >= log->records[i].begin && where < log->records[i].end;
    }
}

/* -- recovery -------------------------------------------------------------------------------------------------------------- */

static void on_record(void *context, const struct journal_record *record)
{
    struct log *log = context;
    uint64_t index = record->sequence - 100;

    if (log->any)
        return;
    must(index < log->count && !log->records[index].back && record->kind == log->records[index].kind);
    must(record->at.segment == 7 && record->at.offset == log->records[index].payload);
    must(record->payload.len == log->records[index].end - log->records[index].payload);
    for (size_t i = 0; i < record->payload.len; i++)
        must(record->payload.at[i] == index + 1);
    log->records[index].back = true;
}

static void recover(struct log *log, size_t size)
{
    static const struct journal_options options = {.directory = "fuzz", .segment_bytes = SIZE, .max_bytes = 4 * SIZE, .new_id = ID};
    struct memory_disk *disk = memory_disk_new("fuzz");
    struct journal_recovery *recovery = NULL;
    struct journal *journal = NULL;
    uint8_t head[JOURNAL_HEAD_BYTES];
    char error[256];

    journal_head_put(ID, 1, head);
    memory_disk_put_head(disk, head, sizeof(head));
    memory_disk_put(disk, 3, log->file, size);
    must(journal_open(&options, (struct journal_now){1, 1}, &journal, error, sizeof(error)) == 0);
    must(journal_recovery_begin(journal, &recovery) == 0);
    while (journal_recovery_step(recovery, 1000, on_record, log))
        ;
    journal_recovery_end(recovery);
    (void)journal_run(journal, (struct journal_now){2 * NS_PER_S, 2});
    journal_close(journal);
    memory_disk_free(disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct log *log = calloc(1, sizeof(*log));

    must(log != NULL);
    if (size > 0 && data[0] % 2 == 0) {
        log->any = true;
        size = size_min(size - 1, SIZE);
        memcpy(log->file, data + 1, size);
        recover(log, size);
    } else {
        build(log, size > 0 ? slice_make(data + 1, size - 1) : (struct slice){NULL, 0});
        recover(log, SIZE);
        for (size_t i = 0; i < log->count; i++)
            must(log->records[i].back || log->records[i].touched);
    }
    free(log);
    return 0;
}
