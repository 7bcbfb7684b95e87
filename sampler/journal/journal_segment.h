/* A segment's bytes: what its file begins with, and the frame of each record.
 *
 *   0     1024                                                       size
 *   | head | frame payload pad | frame payload pad | ... free space ... |
 *
 * Head    twice (offsets 0 and 512), so that one bad sector does not cost the segment. All zero: a free file.
 * Frame   32 bytes at a multiple of 8. Both of its sums are seeded by the journal's id and the segment's number: what a recycled file
 *         held before never passes, nor what somebody puts into a payload.
 * Numbers are little endian.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "sampler/journal/journal.h"

enum journal_stream { STREAM_DATA, STREAM_COPIES, STREAM_VERDICTS };
#define STREAM_COUNT 3u

#define JOURNAL_FORMAT_VERSION 1u
#define SEGMENT_HEAD_BYTES 1024u
#define FRAME_BYTES 32u
#define FRAME_ALIGN 8u

struct segment_head {
    uint32_t number; /* from 1 up, of all streams together */
    enum journal_stream stream;
    uint64_t size_bytes, journal_id, first_sequence, created_unix_ns;
};

void segment_head_put(const struct segment_head *head, uint8_t out[SEGMENT_HEAD_BYTES]);
enum segment_head_result { SEGMENT_GOOD, SEGMENT_FREE, SEGMENT_BAD };
/* bytes: as many of the first SEGMENT_HEAD_BYTES as there are. */
enum segment_head_result segment_head_read(struct slice bytes, struct segment_head *out_head);
uint64_t segment_seed(uint64_t journal_id, uint32_t number);

struct frame {
    uint64_t payload_sum, sequence;
    uint32_t len; /* of the payload */
    enum journal_kind kind;
};

/* File bytes of a record with such a payload. */
static inline uint64_t frame_size(uint64_t payload_len)
{
    return (FRAME_BYTES + payload_len + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
}

uint64_t frame_payload_sum(uint64_t seed, struct slice head, struct slice body);
void frame_put(const struct frame *frame, uint64_t seed, uint8_t out[FRAME_BYTES]);
/* room: file bytes from the frame on. False: none begins here. */
bool frame_read(const uint8_t *at, uint64_t room, uint64_t seed, struct frame *out_frame);
/* Of which stream's kind it is; a data record may be a copy. */
bool frame_belongs(enum journal_kind kind, enum journal_stream stream);

/* -- the head file of a directory --------------------------------------------------------------------------------- */

#define JOURNAL_HEAD_BYTES 40u
void journal_head_put(uint64_t journal_id, uint64_t created_unix_ns, uint8_t out[JOURNAL_HEAD_BYTES]);
enum journal_head_result { JOURNAL_HEAD_GOOD, JOURNAL_HEAD_DAMAGED, JOURNAL_HEAD_FOREIGN, JOURNAL_HEAD_OTHER_VERSION };
enum journal_head_result journal_head_read(struct slice bytes, uint64_t *out_journal_id, uint32_t *out_version);
