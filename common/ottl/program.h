/* Inside the engine: what a program is made of, and what a run knows. For the files of this folder only. */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/regex_re2.h"
#include "common/ottl/ottl.h"
#include "common/ottl/value.h"

struct ottl_node;
struct ottl_function;

/* Evaluates a node. False: an error, noted in the run. */
typedef bool node_eval(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value);

/* Where a path's attributes are. */
enum ottl_part { PART_SPAN, PART_EVENT, PART_RESOURCE, PART_SCOPE, PART_CACHE };
#define KEY_NONE UINT32_MAX /* not a literal key, or too many of them */
#define MEMO_NONE UINT32_MAX

/* Literal keys that are remembered for a span or a header; more are looked up each time. */
#define OTTL_KEYS_MAX 128

struct ottl_index { /* [key] */
    enum { INDEX_STRING, INDEX_INT, INDEX_VALUE } kind;
    struct slice text;
    int64_t integer;
    const struct ottl_node *value;
};

struct ottl_node {
    node_eval *eval;
    uint32_t at;         /* column in the condition, for messages */
    uint32_t memo;       /* of a boolean that only the header answers */
    uint8_t op;          /* enum ottl_compare, or the sign of an arithmetic operation */
    bool is_literal;     /* what the Collector takes for a literal: arguments are checked at load */
    bool is_constant;    /* the same for every span; value holds it */
    bool asks_span;      /* it, or a part of it, depends on the span or event, or on the time */
    uint8_t part;        /* enum ottl_part, of attributes */
    uint32_t key;        /* of attributes: where the first key's value is remembered */
    const char *name;    /* a map's or call's, for messages */
    struct ottl_value value;
    const struct ottl_node **children; /* operands, items, arguments (NULL: an optional one not given) */
    size_t child_count;
    const struct slice *keys; /* of a map literal's children */
    const struct ottl_index *indexes;
    size_t index_count;
    const struct ottl_function *function;
    uint32_t regex;      /* of a call with a literal pattern: its number; else UINT32_MAX */
    const void *data;    /* what a function prepared at load */
};

struct ottl_condition {
    const struct ottl_node *root;
    enum ottl_context context;
    const char *text;
};

struct ottl_keys {
    struct slice names[OTTL_KEYS_MAX];
    uint32_t count;
};

struct ottl_program {
    struct arena arena;
    struct ottl_condition *conditions;
    uint32_t count;
    struct ottl_keys span_keys, resource_keys, scope_keys;
    char **patterns; /* literal ones */
    uint32_t pattern_count;
    uint32_t memo_count;
};

/* -- the run ------------------------------------------------------------------------------------------- */

enum ottl_fault_kind {
    FAULT_NONE,
    FAULT_TYPE,       /* expected WANT, found a value of type FOUND */
    FAULT_TEXT,       /* a fixed text */
    FAULT_BOUND,      /* past OTTL_EVALUATION_BYTES */
};

struct pattern_cached { /* a pattern that came out of the span */
    char *text;
    size_t len;
    struct regex_set *set;
    struct regex_groups *groups;
};
#define PATTERNS_CACHED 4
/* Longer computed patterns are an error: their automata would not fit anyhow. */
#define PATTERN_BYTES_MAX (8 << 10)

struct ottl_run {
    const struct ottl_program *program;
    struct arena arena; /* reset before each condition */
    uint64_t (*unix_ns)(void);

    /* The header at hand. */
    bool has_header;
    uint64_t header_hash;
    struct slice header_bodies[2];
    const uint8_t *header_firsts[2];
    struct slice resource, scope; /* their fields in one piece each */
    uint8_t *header_bytes;        /* of parts that lay in several pieces */
    size_t header_capacity;
    struct slice resource_values[OTTL_KEYS_MAX], scope_values[OTTL_KEYS_MAX];
    bool resource_known, scope_known;
    uint8_t *memos; /* of header-only booleans: enum ottl_result + 1, 0: not known */

    /* The span at hand. */
    struct slice span;
    const struct span_view *view;
    const struct slice *span_values; /* of the program's keys; NULL: not looked up yet */
    struct slice own_values[OTTL_KEYS_MAX];
    struct slice event;

    uint32_t pattern_count;
    struct regex_set **sets; /* by pattern; compiled when first needed */
    struct regex_groups **groups;
    struct regex_answer *answers; /* remembered results */
    struct pattern_cached patterns[PATTERNS_CACHED];
    uint32_t next_pattern;

    struct {
        enum ottl_fault_kind kind;
        uint32_t at;
        const char *text;
        uint8_t found;
    } fault;
};

/* Notes an error and returns false. */
bool run_fault(struct ottl_run *run, const struct ottl_node *node, const char *text);
bool run_fault_type(struct ottl_run *run, const struct ottl_node *node, const char *want, const struct ottl_value *found);
bool run_fault_bound(struct ottl_run *run, const struct ottl_node *node);

HOT_INLINE bool node_value(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    if (node->is_constant) {
        *out_value = node->value;
        return true;
    }
    return node->eval(run, node, out_value);
}

/* eval.c: how nodes are evaluated. */
node_eval eval_compare, eval_and, eval_or, eval_not, eval_condition_call, eval_math, eval_negate, eval_list, eval_map,
    eval_index, eval_attributes;
/* Resolves […] after a converter: strings in maps, numbers in lists; what is missing is an error. */
bool eval_indexes(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *value);

/* -- functions ------------------------------------------------------------------------------------------- */

enum ottl_argument_kind {
    ARG_NONE,
    ARG_ANY,
    ARG_STRING,
    ARG_INT,
    ARG_FLOAT,
    ARG_BOOL,
    ARG_MAP,
    ARG_LIST,
    ARG_STRING_LIKE,
    ARG_INT_LIKE,
    ARG_FLOAT_LIKE,
    ARG_BOOL_LIKE,
    ARG_BYTES_LIKE,
    ARG_TIME,
    ARG_DURATION,
    ARG_LITERAL_STRING,
    ARG_LITERAL_BOOL,
    ARG_LIST_OF_ANY,         /* written as a list; each item an argument of its own */
    ARG_LIST_OF_STRING,
    ARG_LIST_OF_STRING_LIKE,
};

#define OTTL_ARGUMENTS_MAX 4

struct ottl_argument {
    const char *name;
    enum ottl_argument_kind kind;
    bool is_optional;
};

struct ottl_compile;

struct ottl_function {
    const char *name;
    struct ottl_argument arguments[OTTL_ARGUMENTS_MAX];
    node_eval *eval;      /* NULL: the Collector has it, we do not */
    /* Checks what it can at load (patterns, networks). 0, OTTL_E_FAULT or -ENOMEM. May be NULL. */
    int (*prepare)(struct ottl_compile *compile, struct ottl_node *node);
    bool is_impure;       /* another value each time: never folded */
    bool is_span_only;    /* not in the spanevent context */
};

extern const struct ottl_function ottl_functions[]; /* ends with name NULL */

/* Arguments at run time, converted or checked as their kind says. False: an error, noted. */
bool arg_value(struct ottl_run *run, const struct ottl_node *node, size_t index, struct ottl_value *out_value);
bool arg_string(struct ottl_run *run, const struct ottl_node *node, size_t index, struct slice *out_text);
bool arg_int(struct ottl_run *run, const struct ottl_node *node, size_t index, int64_t *out_integer);
/* *out_found: false when the value is nil. */
bool arg_text(struct ottl_run *run, const struct ottl_node *node, size_t index, struct slice *out_text, bool *out_found);
bool node_text(struct ottl_run *run, const struct ottl_node *node, struct slice *out_text, bool *out_found);
/* Is the value what the kind accepts (strict ones)? */
bool argument_accepts(enum ottl_argument_kind kind, const struct ottl_value *value);
const char *argument_wants(enum ottl_argument_kind kind);

/* compile.c, for prepare: reports what is wrong. */
int compile_fault(struct ottl_compile *compile, uint32_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
struct arena *compile_arena(struct ottl_compile *compile);
/* A literal pattern: gets a number and is checked. */
int compile_pattern(struct ottl_compile *compile, struct ottl_node *node, const struct ottl_node *pattern);

/* regex.c: searching. False: an error, noted. */
bool run_match(struct ottl_run *run, const struct ottl_node *node, const struct ottl_node *pattern, struct slice text, bool *out_found);
struct regex_groups *run_groups(struct ottl_run *run, const struct ottl_node *node, const struct ottl_node *pattern);
/* A pattern at run time is compiled before its text is known; checks it. */
bool run_pattern(struct ottl_run *run, const struct ottl_node *node, const struct ottl_node *pattern, struct slice *out_pattern);
