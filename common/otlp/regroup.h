/* Builds an ExportTraceServiceRequest from spans and their headers: sizes first, then one pass.
 *
 * Shape   spans are grouped by resource, then by scope, in order of first appearance; equal headers
 *         (same bytes) are merged, wherever they came from.
 * Law     walk(regroup(spans)) yields the same spans with equal headers.
 * Memory  the scratch grows to the largest request it built and is reused; nothing per span is allocated.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/extent.h"
#include "common/otlp/span_walk.h"

struct regroup;

struct regroup *regroup_new(void); /* NULL: no memory */
void regroup_free(struct regroup *regroup);
CLEANUP_DEFINE(struct regroup, regroup_free);

/* Forgets all spans; keeps the memory. */
void regroup_reset(struct regroup *regroup);

/* Memory for what is added as something else than it was stored (patch.h): it stays until regroup_reset. NULL: none. */
uint8_t *regroup_lend(struct regroup *regroup, size_t size);

/* Adds a header and returns its number for regroup_span. Equal headers get equal numbers; one without spans is not
 * written. What the header borrows must stay until regroup_write. Costs a hash look-up: call it when the header
 * changes, not per span. Without memory it returns REGROUP_NO_HEADER, which regroup_span answers with -ENOMEM. */
#define REGROUP_NO_HEADER UINT32_MAX
uint32_t regroup_header(struct regroup *regroup, const struct span_header *header);

/* Adds a span under a header. The bytes must stay until regroup_write. -ENOMEM when the scratch cannot grow. */
int regroup_span(struct regroup *regroup, uint32_t header, struct rope bytes);

size_t regroup_span_count(const struct regroup *regroup);
/* An upper bound of what regroup_write will need, kept up to date at each span: cheap. */
size_t regroup_size_bound(const struct regroup *regroup);
/* The exact size; call it after the last span and before regroup_write. */
size_t regroup_size(struct regroup *regroup);
/* Writes exactly regroup_size bytes; returns the end. */
uint8_t *regroup_write(struct regroup *regroup, uint8_t *out);
