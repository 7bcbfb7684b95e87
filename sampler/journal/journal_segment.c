/* A frame's own sum covers the payload's, so that a search for the next good frame costs a few bytes a step however long
 * payloads are; the two cheap conditions before it keep zeros and text from being hashed at all. */
#include "sampler/journal/journal_segment.h"

#include "common/base/hash.h"

#define HEAD_COPY_AT 512u
#define HEAD_USED 64u
static const char segment_magic[8] = {'T', 'R', 'S', 'E', 'G', 'M', 'N', 'T'};
static const char journal_magic[8] = {'T', 'R', 'J', 'O', 'U', 'R', 'N', 'L'};

static uint8_t *put_u32(uint8_t *out, uint32_t value)
{
    memcpy(out, &value, sizeof(value)); /* little endian, as this machine is: common/otlp/wire.c */
    return out + sizeof(value);
}

static uint8_t *put_u64(uint8_t *out, uint64_t value)
{
    memcpy(out, &value, sizeof(value));
    return out + sizeof(value);
}

static uint32_t get_u32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

/* -- segment heads ------------------------------------------------------------------------------------------------ */

void segment_head_put(const struct segment_head *head, uint8_t out[SEGMENT_HEAD_BYTES])
{
    uint8_t *at = out;

    memset(out, 0, SEGMENT_HEAD_BYTES);
    memcpy(at, segment_magic, sizeof(segment_magic));
    at = put_u32(at + sizeof(segment_magic), JOURNAL_FORMAT_VERSION);
    at = put_u32(at, head->number);
    at = put_u32(at, (uint32_t)head->stream);
    at = put_u32(at, 0);
    at = put_u64(at, head->size_bytes);
    at = put_u64(at, head->journal_id);
    at = put_u64(at, head->first_sequence);
    at = put_u64(at, head->created_unix_ns);
    (void)put_u64(at, hash_bytes(out, HEAD_USED - 8));
    memcpy(out + HEAD_COPY_AT, out, HEAD_USED);
}

static bool head_read_at(const uint8_t *at, struct segment_head *out_head)
{
    if (memcmp(at, segment_magic, sizeof(segment_magic)) != 0 || get_u64(at + HEAD_USED - 8) != hash_bytes(at, HEAD_USED - 8))
        return false;
    if (get_u32(at + 8) != JOURNAL_FORMAT_VERSION || get_u32(at + 12) == 0 || get_u32(at + 16) >= STREAM_COUNT)
        return false;
    *out_head = (struct segment_head){.number = get_u32(at + 12),
        .stream = (enum journal_stream)get_u32(at + 16),
        .size_bytes = get_u64(at + 24),
        .journal_id = get_u64(at + 32),
        .first_sequence = get_u64(at + 40),
        .created_unix_ns = get_u64(at + 48)};
    return true;
}

enum segment_head_result segment_head_read(struct slice bytes, struct segment_head *out_head)
{
    if (bytes.len >= HEAD_USED && head_read_at(bytes.at, out_head))
        return SEGMENT_GOOD;
    if (bytes.len >= HEAD_COPY_AT + HEAD_USED && head_read_at(bytes.at + HEAD_COPY_AT, out_head))
        return SEGMENT_GOOD;
    for (size_t i = 0; i < bytes.len; i++)
        if (bytes.at[i] != 0)
            return SEGMENT_BAD;
    return SEGMENT_FREE;
}

uint64_t segment_seed(uint64_t journal_id, uint32_t number)
{
    return hash_seeded(&number, sizeof(number), journal_id);
}

/* -- frames ---------------------------------------------------------------------------------------------------------- */

uint64_t frame_payload_sum(uint64_t seed, struct slice head, struct slice body)
{
    XXH3_state_t state;

    if (head.len == 0)
        return hash_seeded(body.at, body.len, seed);
    if (body.len == 0)
        return hash_seeded(head.at, head.len, seed);
    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset_withSeed(&state, seed);
    (void)XXH3_64bits_update(&state, head.at, head.len);
    (void)XXH3_64bits_update(&state, body.at, body.len);
    return XXH3_64bits_digest(&state);
}

void frame_put(const struct frame *frame, uint64_t seed, uint8_t out[FRAME_BYTES])
{
    uint8_t *at = put_u64(out + 8, frame->payload_sum);

    at = put_u64(at, frame->sequence);
    at = put_u32(at, frame->len);
    (void)put_u32(at, (uint32_t)frame->kind);
    (void)put_u64(out, hash_seeded(out + 8, FRAME_BYTES - 8, seed));
}

bool frame_read(const uint8_t *at, uint64_t room, uint64_t seed, struct frame *out_frame)
{
    uint32_t kind, len;

    if (room < FRAME_BYTES)
        return false;
    kind = get_u32(at + 28);
    len = get_u32(at + 24);
    if (kind < JOURNAL_REQUEST || kind > JOURNAL_MEMBER || len > room - FRAME_BYTES)
        return false;
    if (get_u64(at) != hash_seeded(at + 8, FRAME_BYTES - 8, seed))
        return false;
    *out_frame = (struct frame){
        .payload_sum = get_u64(at + 8), .sequence = get_u64(at + 16), .len = len, .kind = (enum journal_kind)kind};
    return true;
}

bool frame_belongs(enum journal_kind kind, enum journal_stream stream)
{
    bool is_data = kind == JOURNAL_REQUEST || kind == JOURNAL_TRACES;

    return is_data == (stream != STREAM_VERDICTS);
}

/* -- the head file ----------------------------------------------------------------------------------------------------- */

void journal_head_put(uint64_t journal_id, uint64_t created_unix_ns, uint8_t out[JOURNAL_HEAD_BYTES])
{
    uint8_t *at = out;

    memcpy(at, journal_magic, sizeof(journal_magic));
    at = put_u32(at + sizeof(journal_magic), JOURNAL_FORMAT_VERSION);
    at = put_u32(at, 0);
    at = put_u64(at, journal_id);
    at = put_u64(at, created_unix_ns);
    (void)put_u64(at, hash_bytes(out, JOURNAL_HEAD_BYTES - 8));
}

enum journal_head_result journal_head_read(struct slice bytes, uint64_t *out_journal_id, uint32_t *out_version)
{
    if (bytes.len < 12)
        return JOURNAL_HEAD_DAMAGED;
    if (memcmp(bytes.at, journal_magic, sizeof(journal_magic)) != 0)
        return JOURNAL_HEAD_FOREIGN;
    *out_version = get_u32(bytes.at + 8);
    if (*out_version != JOURNAL_FORMAT_VERSION)
        return JOURNAL_HEAD_OTHER_VERSION;
    if (bytes.len < JOURNAL_HEAD_BYTES || get_u64(bytes.at + JOURNAL_HEAD_BYTES - 8) != hash_bytes(bytes.at, JOURNAL_HEAD_BYTES - 8))
        return JOURNAL_HEAD_DAMAGED;
    *out_journal_id = get_u64(bytes.at + 16);
    return JOURNAL_HEAD_GOOD;
}
