/* The table of functions, and how their arguments are read. Those without `eval` are known to the Collector and refused by
 * name here. Source: reference OTTL 3.2 and 3.3, argument names included. */
#include <string.h>

#include "common/ottl/calls.h"
#include "common/ottl/convert.h"

/* -- arguments ------------------------------------------------------------------------------------------------ */

bool argument_accepts(enum ottl_argument_kind kind, const struct ottl_value *value)
{
    switch ((int)kind) {
    case ARG_STRING:
    case ARG_LITERAL_STRING:
        return value->type == OTTL_STRING;
    case ARG_INT:
        return value->type == OTTL_INT;
    case ARG_FLOAT:
        return value->type == OTTL_FLOAT;
    case ARG_BOOL:
    case ARG_LITERAL_BOOL:
        return value->type == OTTL_BOOL;
    case ARG_MAP:
        return value->type == OTTL_MAP;
    case ARG_LIST:
        return ottl_is_list(value);
    case ARG_TIME:
        return value->type == OTTL_TIME;
    case ARG_DURATION:
        return value->type == OTTL_DURATION;
    default:
        return true;
    }
}

const char *argument_wants(enum ottl_argument_kind kind)
{
    switch ((int)kind) {
    case ARG_STRING:
    case ARG_LITERAL_STRING:
        return "string";
    case ARG_INT:
        return "int64";
    case ARG_FLOAT:
        return "float64";
    case ARG_BOOL:
    case ARG_LITERAL_BOOL:
        return "bool";
    case ARG_MAP:
        return "a map";
    case ARG_LIST:
        return "a list";
    case ARG_TIME:
        return "time";
    case ARG_DURATION:
        return "duration";
    case ARG_STRING_LIKE:
        return "what has a text";
    case ARG_INT_LIKE:
    case ARG_FLOAT_LIKE:
        return "what can be made a number";
    case ARG_BOOL_LIKE:
        return "what can be made a bool";
    case ARG_BYTES_LIKE:
        return "what can be made bytes";
    default:
        return "a value";
    }
}

static bool like_text(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value)
{
    struct slice text;
    int r = convert_text(&run->arena, value, &text);

    if (r == CONVERT_E_FULL)
        return run_fault_bound(run, node);
    if (r)
        return run_fault_type(run, node, "what has a text", value);
    *value = ottl_string(text);
    return true;
}

static bool like_int(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value)
{
    int64_t integer = value->integer;

    if (value->type == OTTL_FLOAT)
        integer = convert_truncate(value->number);
    else if (value->type == OTTL_STRING) {
        if (!convert_parse_int(value->bytes, &integer))
            return run_fault(run, node, "not the text of an int64");
    } else if (value->type != OTTL_INT && value->type != OTTL_BOOL)
        return run_fault_type(run, node, "what can be made an int64", value);
    *value = ottl_int(integer);
    return true;
}

static bool like_float(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value)
{
    double number = value->type == OTTL_FLOAT ? value->number : (double)value->integer;

    if (value->type == OTTL_STRING) {
        if (!convert_parse_float(value->bytes, &number))
            return run_fault(run, node, "not the text of a float64");
    } else if (value->type != OTTL_INT && value->type != OTTL_BOOL && value->type != OTTL_FLOAT)
        return run_fault_type(run, node, "what can be made a float64", value);
    *value = ottl_float(number);
    return true;
}

static bool like_bool(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value)
{
    bool result = value->type == OTTL_FLOAT ? value->number != 0 : value->integer != 0;

    if (value->type == OTTL_STRING) {
        if (!convert_parse_bool(value->bytes, &result))
            return run_fault(run, node, "not the text of a bool");
    } else if (value->type != OTTL_INT && value->type != OTTL_BOOL && value->type != OTTL_FLOAT)
        return run_fault_type(run, node, "what can be made a bool", value);
    *value = ottl_bool(result);
    return true;
}

static bool like_bytes(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value)
{
    const size_t len = value->type == OTTL_BOOL ? 1 : 8;
    uint64_t bits = (uint64_t)value->integer;
    uint8_t *bytes;

    if (value->type == OTTL_STRING || value->type == OTTL_BYTES) {
        value->type = OTTL_BYTES;
        return true;
    }
    if (value->type == OTTL_FLOAT)
        memcpy(&bits, &value->number, sizeof(bits));
    else if (value->type != OTTL_INT && value->type != OTTL_BOOL)
        return run_fault_type(run, node, "what can be made bytes", value);
    bytes = arena_bytes(&run->arena, len);
    if (!bytes)
        return run_fault_bound(run, node);
    for (size_t i = 0; i < len; i++) /* big endian */
        bytes[i] = (uint8_t)(bits >> 8 * (len - 1 - i));
    *value = ottl_bytes(OTTL_BYTES, slice_make(bytes, len));
    return true;
}

/* The items of a list that a converter reads must be such as an attribute can hold. */
static bool list_takes(struct ottl_run *run, const struct ottl_node *node, const struct ottl_value *list)
{
    if (list->type != OTTL_LITERAL_LIST)
        return true;
    for (size_t i = 0; i < list->own.count; i++) {
        const struct ottl_value *item = &list->own.entries[i].value;

        if (item->type == OTTL_LITERAL_LIST ? !list_takes(run, node, item) : item->type > OTTL_BYTES)
            return run_fault_type(run, node, "an item that an attribute's list can hold", item);
    }
    return true;
}

bool arg_value(struct ottl_run *run, const struct ottl_node *node, size_t index, struct ottl_value *out_value)
{
    const enum ottl_argument_kind kind = node->function->arguments[index].kind;

    if (!node_value(run, node->children[index], out_value))
        return false;
    if (!argument_accepts(kind, out_value))
        return run_fault_type(run, node, argument_wants(kind), out_value);
    if (kind == ARG_LIST)
        return list_takes(run, node, out_value);
    if (out_value->type == OTTL_NIL)
        return true;
    switch ((int)kind) {
    case ARG_STRING_LIKE:
        return like_text(run, node, out_value);
    case ARG_INT_LIKE:
        return like_int(run, node, out_value);
    case ARG_FLOAT_LIKE:
        return like_float(run, node, out_value);
    case ARG_BOOL_LIKE:
        return like_bool(run, node, out_value);
    case ARG_BYTES_LIKE:
        return like_bytes(run, node, out_value);
    default:
        return true;
    }
}

bool arg_string(struct ottl_run *run, const struct ottl_node *node, size_t index, struct slice *out_text)
{
    struct ottl_value value;

    if (!arg_value(run, node, index, &value))
        return false;
    *out_text = value.bytes;
    return true;
}

bool arg_int(struct ottl_run *run, const struct ottl_node *node, size_t index, int64_t *out_integer)
{
    struct ottl_value value;

    if (!arg_value(run, node, index, &value))
        return false;
    *out_integer = value.integer;
    return true;
}

bool arg_text(struct ottl_run *run, const struct ottl_node *node, size_t index, struct slice *out_text, bool *out_found)
{
    return node_text(run, node->children[index], out_text, out_found);
}

bool node_text(struct ottl_run *run, const struct ottl_node *node, struct slice *out_text, bool *out_found)
{
    struct ottl_value value;

    if (!node_value(run, node, &value))
        return false;
    *out_found = value.type != OTTL_NIL;
    if (!*out_found)
        return true;
    if (!like_text(run, node, &value))
        return false;
    *out_text = value.bytes;
    return true;
}

/* -- the table -------------------------------------------------------------------------------------------------- */

#define REFUSED(name_) {.name = name_}
#define ONE(name_, argument, kind, eval_) {.name = name_, .arguments = {{argument, kind, false}}, .eval = eval_}
#define TWO(name_, argument1, kind1, argument2, kind2, eval_)                                      \
    {.name = name_, .arguments = {{argument1, kind1, false}, {argument2, kind2, false}}, .eval = eval_}

const struct ottl_function ottl_functions[] = {
    {.name = "IsMatch",
        .arguments = {{"target", ARG_STRING_LIKE, false}, {"pattern", ARG_STRING, false}},
        .eval = call_is_match,
        .prepare = prepare_is_match},
    {.name = "IsRootSpan", .eval = call_is_root_span, .is_span_only = true},
    ONE("IsString", "target", ARG_STRING, call_is_string),
    ONE("IsInt", "target", ARG_INT, call_is_int),
    ONE("IsDouble", "target", ARG_FLOAT, call_is_double),
    ONE("IsBool", "target", ARG_BOOL, call_is_bool),
    ONE("IsMap", "target", ARG_MAP, call_is_map),
    ONE("IsList", "target", ARG_ANY, call_is_list),
    ONE("IsEmpty", "target", ARG_ANY, call_is_empty),
    TWO("HasPrefix", "target", ARG_STRING, "prefix", ARG_STRING, call_has_prefix),
    TWO("HasSuffix", "target", ARG_STRING, "suffix", ARG_STRING, call_has_suffix),
    TWO("ContainsValue", "target", ARG_LIST, "item", ARG_ANY, call_contains_value),
    {.name = "IsInCIDR",
        .arguments = {{"target", ARG_STRING, false}, {"networks", ARG_LIST_OF_STRING, false}},
        .eval = call_is_in_cidr,
        .prepare = prepare_is_in_cidr},
    ONE("Int", "target", ARG_INT_LIKE, call_convert),
    ONE("Double", "target", ARG_FLOAT_LIKE, call_convert),
    ONE("String", "target", ARG_STRING_LIKE, call_convert),
    ONE("Bool", "target", ARG_BOOL_LIKE, call_convert),
    {.name = "TraceID", .arguments = {{"target", ARG_BYTES_LIKE, false}}, .eval = call_trace_id, .prepare = prepare_trace_id},
    {.name = "SpanID", .arguments = {{"target", ARG_BYTES_LIKE, false}}, .eval = call_span_id, .prepare = prepare_span_id},
    TWO("Concat", "vals", ARG_LIST_OF_STRING_LIKE, "delimiter", ARG_STRING, call_concat),
    TWO("Split", "target", ARG_STRING, "delimiter", ARG_STRING, call_split),
    {.name = "Substring",
        .arguments = {{"target", ARG_STRING, false}, {"start", ARG_INT, false}, {"length", ARG_INT, false},
            {"utf8_safe", ARG_LITERAL_BOOL, true}},
        .eval = call_substring},
    ONE("ToLowerCase", "target", ARG_STRING, call_to_lower_case),
    ONE("ToUpperCase", "target", ARG_STRING, call_to_upper_case),
    {.name = "Trim",
        .arguments = {{"target", ARG_STRING, false}, {"replacement", ARG_LITERAL_STRING, true}},
        .eval = call_trim},
    TWO("TrimPrefix", "target", ARG_STRING, "prefix", ARG_STRING, call_trim_prefix),
    TWO("TrimSuffix", "target", ARG_STRING, "suffix", ARG_STRING, call_trim_suffix),
    {.name = "ExtractPatterns",
        .arguments = {{"target", ARG_STRING, false}, {"pattern", ARG_STRING, false}},
        .eval = call_extract_patterns,
        .prepare = prepare_extract_patterns},
    ONE("Len", "target", ARG_ANY, call_len),
    ONE("Keys", "target", ARG_MAP, call_keys),
    ONE("Values", "target", ARG_MAP, call_values),
    {.name = "Coalesce", .arguments = {{"values", ARG_LIST_OF_ANY, false}}, .eval = call_coalesce, .prepare = prepare_coalesce},
    ONE("ParseJSON", "target", ARG_STRING, call_parse_json),
    {.name = "Now", .eval = call_now, .is_impure = true},
    ONE("Duration", "duration", ARG_STRING, call_duration),
    {.name = "Unix", .arguments = {{"seconds", ARG_INT, false}, {"nanoseconds", ARG_INT, true}}, .eval = call_unix},
    {.name = "Time",
        .arguments = {{"time", ARG_STRING, false}, {"format", ARG_LITERAL_STRING, false},
            {"location", ARG_LITERAL_STRING, true}, {"locale", ARG_LITERAL_STRING, true}},
        .eval = call_time,
        .prepare = prepare_time},
    ONE("Nanoseconds", "duration", ARG_DURATION, call_nanoseconds),
    ONE("Microseconds", "duration", ARG_DURATION, call_microseconds),
    ONE("Milliseconds", "duration", ARG_DURATION, call_milliseconds),
    ONE("Seconds", "duration", ARG_DURATION, call_seconds),
    ONE("Minutes", "duration", ARG_DURATION, call_minutes),
    ONE("Hours", "duration", ARG_DURATION, call_hours),
    ONE("UnixSeconds", "time", ARG_TIME, call_unix_seconds),
    ONE("UnixMilli", "time", ARG_TIME, call_unix_milli),
    ONE("UnixMicro", "time", ARG_TIME, call_unix_micro),
    ONE("UnixNano", "time", ARG_TIME, call_unix_nano),
    ONE("SHA256", "target", ARG_STRING, call_sha256),
    ONE("FNV", "target", ARG_STRING, call_fnv),
    REFUSED("Base64Encode"),
    REFUSED("CommunityID"),
    REFUSED("ConvertAttributesToElementsXML"),
    REFUSED("ConvertCase"),
    REFUSED("ConvertTextToElementsXML"),
    REFUSED("Day"),
    REFUSED("Decode"),
    REFUSED("ExtractGrokPatterns"),
    REFUSED("Format"),
    REFUSED("FormatTime"),
    REFUSED("GetXML"),
    REFUSED("Hex"),
    REFUSED("Hour"),
    REFUSED("Index"),
    REFUSED("InsertXML"),
    REFUSED("IsValidLuhn"),
    REFUSED("Log"),
    REFUSED("MD5"),
    REFUSED("Minute"),
    REFUSED("Month"),
    REFUSED("Murmur3Hash"),
    REFUSED("Murmur3Hash128"),
    REFUSED("Nanosecond"),
    REFUSED("ParseCSV"),
    REFUSED("ParseInt"),
    REFUSED("ParseKeyValue"),
    REFUSED("ParseSeverity"),
    REFUSED("ParseSimplifiedXML"),
    REFUSED("ParseXML"),
    REFUSED("RemoveXML"),
    REFUSED("SHA1"),
    REFUSED("SHA512"),
    REFUSED("Second"),
    REFUSED("SliceToMap"),
    REFUSED("Sort"),
    REFUSED("ToCamelCase"),
    REFUSED("ToKeyValueString"),
    REFUSED("ToSnakeCase"),
    REFUSED("TruncateTime"),
    REFUSED("URL"),
    REFUSED("UUID"),
    REFUSED("UUIDv7"),
    REFUSED("UserAgent"),
    REFUSED("Weekday"),
    REFUSED("XXH128"),
    REFUSED("XXH3"),
    REFUSED("Year"),
    REFUSED("Append"),
    REFUSED("DeleteIndex"),
    {.name = NULL},
};
