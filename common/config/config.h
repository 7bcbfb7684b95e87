/* From the user's YAML to structs, with line numbers all the way.
 *
 * A file becomes a tree (yaml.h) of nodes that know file, line and key path; ${env:NAME} is expanded in it; trees of
 * several files and --set are merged; then key tables turn it into structs. The tables are parser, schema and docs at once.
 * Unknown keys are refused with the nearest known one; keys of the Collector that are not supported are refused by name with
 * the reason. Nothing is silently ignored.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config/yaml.h"

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,       /* int64_t; a fraction is truncated as in the Collector */
    CONFIG_UINT,      /* uint64_t */
    CONFIG_DOUBLE,
    CONFIG_STRING,    /* char *, owned by the struct's arena */
    CONFIG_DURATION,  /* int64_t ns; Go syntax, a bare integer is nanoseconds */
    CONFIG_SPAN,      /* the same, but below zero is refused; int64_t or uint64_t ns */
    CONFIG_MIB,       /* uint64_t bytes from a number of MiB */
    CONFIG_STRINGS,   /* struct config_strings; a scalar becomes a list of one */
    CONFIG_CHOICE,    /* an enum from 0: the place of the text in `choices` */
    CONFIG_NODE,      /* const struct config_node *: the node itself, read by others later */
    CONFIG_MAP,       /* a nested struct at offset, with keys `nested` */
    CONFIG_CUSTOM,    /* read by `custom` */
    CONFIG_REFUSED,   /* a Collector key that we do not support: refused with `help` as reason and remedy, unless its value is
                         one of `choices`, which mean the same as no key (a pasted file may spell a default out) */
    CONFIG_IGNORED,   /* accepted without effect: `help` says why that is right (a warning at start, unless in `choices`) */
};

struct config_strings {
    char **items;
    size_t count;
};

struct config_context; /* collects memory, errors and warnings of one load */

struct config_key {
    const char *name;
    enum config_type type;
    size_t offset;                     /* in the struct */
    const char *help;                  /* meaning with unit and default; refused: reason and remedy */
    const struct config_key *nested;   /* CONFIG_MAP */
    int (*custom)(struct config_context *context, const struct config_node *node, void *out_field);
    bool secret;                       /* never shown in messages; config_print hides by name */
    size_t set_offset;                 /* CONFIG_SET: offset of a bool that says the key was there; SIZE_MAX: none */
    const char *choices;               /* "a|b|c" */
};

#define CONFIG_KEY(type_, field, config_type_, help_)                                              \
    {.name = #field, .type = config_type_, .offset = offsetof(type_, field), .help = help_, .set_offset = SIZE_MAX}
#define CONFIG_KEY_NAMED(type_, field, name_, config_type_, help_)                                 \
    {.name = name_, .type = config_type_, .offset = offsetof(type_, field), .help = help_, .set_offset = SIZE_MAX}
#define CONFIG_NESTED(type_, field, name_, nested_, help_)                                         \
    {.name = name_, .type = CONFIG_MAP, .offset = offsetof(type_, field), .help = help_, .nested = nested_, .set_offset = SIZE_MAX}
#define CONFIG_READ_BY(type_, field, name_, custom_, help_)                                        \
    {.name = name_, .type = CONFIG_CUSTOM, .offset = offsetof(type_, field), .help = help_, .custom = custom_, .set_offset = SIZE_MAX}
/* As CONFIG_KEY_NAMED, and set_field_ becomes true when the key is there with a value (a map: also without). */
#define CONFIG_KEY_SET(type_, field, name_, config_type_, set_field_, help_)                       \
    {.name = name_, .type = config_type_, .offset = offsetof(type_, field), .help = help_, .set_offset = offsetof(type_, set_field_)}
#define CONFIG_KEY_CHOICE(type_, field, name_, choices_, help_)                                    \
    {.name = name_, .type = CONFIG_CHOICE, .offset = offsetof(type_, field), .help = help_, .choices = choices_, .set_offset = SIZE_MAX}
/* A map in the file whose keys are fields of the same struct as the keys around it. */
#define CONFIG_SECTION(name_, nested_, help_)                                                      \
    {.name = name_, .type = CONFIG_MAP, .help = help_, .nested = nested_, .set_offset = SIZE_MAX}
#define CONFIG_SECTION_SET(type_, name_, nested_, set_field_, help_)                               \
    {.name = name_, .type = CONFIG_MAP, .help = help_, .nested = nested_, .set_offset = offsetof(type_, set_field_)}
#define CONFIG_REFUSE_UNLESS(name_, choices_, reason_)                                             \
    {.name = name_, .type = CONFIG_REFUSED, .help = reason_, .choices = choices_, .set_offset = SIZE_MAX}
#define CONFIG_IGNORE_UNLESS(name_, choices_, reason_)                                             \
    {.name = name_, .type = CONFIG_IGNORED, .help = reason_, .choices = choices_, .set_offset = SIZE_MAX}
#define CONFIG_REFUSE(name_, reason_) {.name = name_, .type = CONFIG_REFUSED, .help = reason_, .set_offset = SIZE_MAX}
#define CONFIG_IGNORE(name_, reason_) {.name = name_, .type = CONFIG_IGNORED, .help = reason_, .set_offset = SIZE_MAX}

/* Reads a map node into a struct by a table that ends with name NULL. Fields whose key is absent keep what is in the struct
 * (defaults). 0, or CONFIG_E_INVALID with the reason in the context. A NULL or null node: all defaults. */
#define CONFIG_E_INVALID 1
int config_read(struct config_context *context, const struct config_node *node, const struct config_key *keys, void *out_struct);

/* Reads one text; secret: no message shows what was found. 0 or CONFIG_E_INVALID. For custom readers. */
int config_read_text(struct config_context *context, const struct config_node *node, bool secret, char **out_text);

/* Likewise a whole number. */
int config_read_int(struct config_context *context, const struct config_node *node, int64_t *out_value);

/* Reports an error at a node: "FILE:LINE: KEY.PATH: message". Returns CONFIG_E_INVALID. Later errors of a load are kept too. */
int config_error(struct config_context *context, const struct config_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_warn(struct config_context *context, const struct config_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Memory that lives as long as the context: strings and arrays of the structs. Zeroed. Never NULL (aborts at start when memory
 * is out). */
void *config_alloc(struct config_context *context, size_t bytes);

/* What the command line asked for; both programs share it. */
struct config_command_line {
    const char **files;       /* --config, in order */
    size_t file_count;
    const char **sets;        /* --set KEY=VALUE (dots or :: between keys), in order */
    size_t set_count;
    const char *feature_gates;
    bool check, print_config, version, help;
};

/* The Collector's feature gates that mean something here. */
#define GATE_RECORD_POLICY "processor.tailsamplingprocessor.recordpolicy"
#define GATE_USE_TRACESTATE "processor.tailsamplingprocessor.usetracestate"
/* list: as --feature-gates takes it, borrowed as long as the context lives; config_load sets the command line's. */
void config_gates_set(struct config_context *context, const char *list);
/* Whether the list turns the gate on: by its last word on it. */
bool config_gate(const struct config_context *context, const char *name);

struct config_context *config_context_new(void);
void config_context_free(struct config_context *context);
/* Loads, expands and merges. NULL on error (see config_errors). */
const struct config_node *config_load(struct config_context *context, const struct config_command_line *line);
/* From memory, for tests and fuzzing. name: shown as the file's. */
const struct config_node *config_load_text(struct config_context *context, const char *name, const char *text, size_t len);
/* All errors, a line each, in the order of files and lines, or ""; all warnings likewise. Good until the next message. */
const char *config_errors(struct config_context *context);
const char *config_warnings(struct config_context *context);
/* The merged tree as YAML with secrets hidden (keys that look like secrets: headers' values, passwords, tokens, keys). malloc'd. */
char *config_print(const struct config_node *root);
