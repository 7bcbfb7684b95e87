/* The functions, a file a kind: call_tests.c, call_texts.c, call_values.c, call_times.c. */
#pragma once

#include "common/ottl/program.h"

typedef int node_prepare(struct ottl_compile *compile, struct ottl_node *node);

/* call_tests.c */
node_eval call_is_match, call_is_root_span, call_is_string, call_is_int, call_is_double, call_is_bool, call_is_map,
    call_is_list, call_is_empty, call_has_prefix, call_has_suffix, call_contains_value, call_is_in_cidr;
node_prepare prepare_is_match, prepare_is_in_cidr;

/* call_texts.c */
node_eval call_concat, call_split, call_substring, call_to_lower_case, call_to_upper_case, call_trim, call_trim_prefix,
    call_trim_suffix, call_extract_patterns, call_sha256, call_fnv;
node_prepare prepare_extract_patterns;

/* call_values.c */
node_eval call_convert, call_trace_id, call_span_id, call_len, call_keys, call_values, call_coalesce, call_parse_json;
node_prepare prepare_trace_id, prepare_span_id, prepare_coalesce;

/* call_times.c */
node_eval call_now, call_duration, call_unix, call_time, call_nanoseconds, call_microseconds, call_milliseconds, call_seconds,
    call_minutes, call_hours, call_unix_seconds, call_unix_milli, call_unix_micro, call_unix_nano;
node_prepare prepare_time;
