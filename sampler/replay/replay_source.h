/* Recorded traces from a file, one export request after another, in protobuf whatever they were written in.
 *
 * Forms   told by content: OTLP/JSON documents (one a line, or one or more over many lines), varint-length-delimited protobuf
 *         requests, one protobuf request; any of them gzipped. "-" is standard input.
 * Memory  one record, or the whole file when it is one request or gzipped.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/slice.h"

#define REPLAY_E_END       1
#define REPLAY_E_MALFORMED 2 /* this record; the next one can be read. replay_source_error says what and where */
#define REPLAY_E_FAILED    3 /* nothing more can be read of this file: likewise */

struct replay_source;

/* Opens and looks at the beginning. 0 or REPLAY_E_FAILED; *out_source is set either way, to be closed. */
int replay_source_open(const char *path, struct replay_source **out_source);
/* Accepts NULL. */
void replay_source_close(struct replay_source *source);
CLEANUP_DEFINE(struct replay_source, replay_source_close);
/* The next request, borrowed until the next call; or an outcome above. */
int replay_source_next(struct replay_source *source, struct slice *out_request);
/* "traces.jsonl: line 3, column 17: spans: …" */
const char *replay_source_error(const struct replay_source *source);
/* Says where the last request stood, for what is found wrong in it later. */
const char *replay_source_blame(struct replay_source *source, const char *reason);
uint64_t replay_source_bytes(const struct replay_source *source); /* read so far */
