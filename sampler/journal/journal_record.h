/* What the journal's records say: written with sizes first, read in place with a sticky error.
 *
 * A REQUEST and a TRACES record are a small head of ours in front of bytes that came from outside; all others are ours alone. Numbers are
 * protobuf varints, or little endian. Readers take any bytes: after `bad` nothing more comes. A MEMBER record's payload is the
 * RingRecord of proto/peer.proto, packed and read by sampler/handoff/membership_status.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/metadata.h"
#include "common/base/slice.h"
#include "common/otlp/wire.h"
#include "sampler/decide/policy.h"

/* Encoders return a new buffer, for journal_write.head; NULL: memory is out. */

/* -- REQUEST: head, then the OTLP request as body; TRACES: the same without metadata, then a GiveRequest -------------- */

struct journal_came_in {
    uint64_t received_unix_ns;
    struct metadata_set *metadata; /* one reference, the caller's; NULL: none */
    struct slice body;             /* borrowed from the payload */
};

struct buffer *journal_request_head(uint64_t received_unix_ns, const struct metadata_set *metadata);
struct buffer *journal_traces_head(uint64_t received_unix_ns);
#define JOURNAL_RECORD_E_BAD 1
/* 0, JOURNAL_RECORD_E_BAD or -ENOMEM. */
int journal_request_read(struct slice payload, struct journal_came_in *out_request);
int journal_traces_read(struct slice payload, struct journal_came_in *out_traces);

/* -- VERDICTS ----------------------------------------------------------------------------------------------------- */

struct journal_verdict {
    struct trace_id id;
    enum decision decision;  /* sampled, not sampled or dropped */
    bool too_large;
    struct slice policy;     /* its name; len 0: none. Borrowed */
    uint64_t decided_unix_ns;
    uint32_t span_count;
    uint64_t evidence_span_id; /* 0: none */
    uint16_t evidence_bit;     /* UINT16_MAX: none */
    uint64_t threshold;
};

struct buffer *journal_verdicts_encode(const struct journal_verdict *verdicts, size_t count);

#define JOURNAL_POLICIES_MAX 4096u /* names in one record */
struct journal_verdicts {
    struct wire wire;
    struct slice names; /* each with its length in front */
    uint32_t name_count;
    uint64_t left;
    uint32_t last_index; /* the last name found, and where the next one begins */
    struct slice last_name;
    struct wire next_name;
};

void journal_verdicts_begin(struct journal_verdicts *reader, struct slice payload);
/* False: the end; wire.bad tells whether it was a good one. */
bool journal_verdicts_next(struct journal_verdicts *reader, struct journal_verdict *out_verdict);

/* -- EXPORTED and GIVEN --------------------------------------------------------------------------------------------- */

struct journal_spans {
    struct trace_id id;
    bool also_verdict;   /* GIVEN: the verdict went too */
    uint64_t before;     /* GIVEN: only what records of a lower sequence brought is gone. 0: of a lower one than this record's */
    struct slice exporter; /* EXPORTED: only that one's backend has them. Empty: all have */
    struct slice hashes; /* 8 bytes each, anyhow aligned: journal_hash_at. When encoding: a uint64_t array's bytes */
};

static inline size_t journal_hash_count(const struct journal_spans *spans)
{
    return spans->hashes.len / sizeof(uint64_t);
}

static inline uint64_t journal_hash_at(const struct journal_spans *spans, size_t index)
{
    uint64_t hash;

    memcpy(&hash, spans->hashes.at + index * sizeof(hash), sizeof(hash));
    return hash;
}

struct buffer *journal_spans_encode(const struct journal_spans *spans, size_t count);

struct journal_spans_reader {
    struct wire wire;
    uint64_t left;
};

void journal_spans_begin(struct journal_spans_reader *reader, struct slice payload);
bool journal_spans_next(struct journal_spans_reader *reader, struct journal_spans *out_spans);
