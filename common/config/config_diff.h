/* Where two configurations differ, and which keys a running program takes over (live reload).
 *
 * Paths   of keys in the merged tree, "service.telemetry.logs.level". A list that differs is named as a whole.
 * Live    patterns of the same form: each part may have wildcards (fnmatch), and a pattern holds for all below it:
 *         "exporters" is every exporter's every key, "processors.tail_sampling*.policies" the policies of whatever name.
 */
#pragma once

#include <stdbool.h>

#include "common/config/config.h"

/* Same values, wherever they stand and however they are ordered in maps. */
bool config_node_equal(const struct config_node *a, const struct config_node *b);
/* Visits the path of each key that is not the same; path: good during the call. */
void config_diff(const struct config_node *before, const struct config_node *after,
    void (*visit)(void *context, const char *path), void *context);
/* patterns: ends with NULL. */
bool config_path_matches(const char *const *patterns, const char *path);
