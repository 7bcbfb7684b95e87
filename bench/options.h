/* Command lines of the bench tools: --name VALUE or --name=VALUE, from one table that is parser and help. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum option_kind { OPTION_TEXT, OPTION_U64, OPTION_DOUBLE, OPTION_FLAG, OPTION_LIST };

#define OPTION_LIST_MOST 64

struct option_list { /* each use of the option adds one; so does each comma */
    char *items[OPTION_LIST_MOST];
    unsigned count;
};

struct option_def { /* a table ends with name NULL */
    const char *name; /* without dashes */
    enum option_kind kind;
    void *at; /* const char *, uint64_t, double, bool or struct option_list, holding the default */
    const char *help;
};

/* Fills what the table points at and collects other words in rest (may be NULL: then they are errors).
 * Prints help and exits 0 on --help; prints what is wrong and exits 2 on anything it cannot read. */
void options_parse(int argc, char **argv, const char *about, const struct option_def *table,
    struct option_list *rest);
