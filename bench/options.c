#include "bench/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"

static NORETURN void refuse(const char *program, const char *name, const char *why)
{
    fprintf(stderr, "%s: --%s: %s (try --help)\n", program, name, why);
    exit(2);
}

static void help(const char *program, const char *about, const struct option_def *table)
{
    printf("%s: %s\n\n", program, about);
    for (; table->name; table++) {
        static const char *const words[] = {"TEXT", "N", "X", "", "LIST"};
        char left[64];

        (void)snprintf(left, sizeof(left), "--%s %s", table->name, words[table->kind]);
        printf("  %-28s %s", left, table->help);
        switch (table->kind) {
        case OPTION_TEXT:
            if (*(const char **)table->at)
                printf(" [%s]", *(const char **)table->at);
            break;
        case OPTION_U64:
            printf(" [%llu]", (unsigned long long)*(uint64_t *)table->at);
            break;
        case OPTION_DOUBLE:
            printf(" [%g]", *(double *)table->at);
            break;
        case OPTION_FLAG:
        case OPTION_LIST:
            break;
        }
        printf("\n");
    }
    exit(0);
}

static void list_add_word(const char *program, const char *name, struct option_list *list, char *words)
{
    char *save = NULL;

    for (char *word = strtok_r(words, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (list->count == OPTION_LIST_MOST)
            refuse(program, name, "too many values");
        list->items[list->count++] = word;
    }
}

static void store(const char *program, const struct option_def *option, char *value)
{
    char *end = NULL;

    errno = 0;
    switch (option->kind) {
    case OPTION_TEXT:
        *(const char **)option->at = value;
        return;
    case OPTION_U64:
        *(uint64_t *)option->at = strtoull(value, &end, 10);
        if (end == value || *end || errno || *value == '-')
            refuse(program, option->name, "expects a whole number, 0 or more");
        return;
    case OPTION_DOUBLE:
        *(double *)option->at = strtod(value, &end);
        if (end == value || *end || errno || *(double *)option->at < 0)
            refuse(program, option->name, "expects a number, 0 or more");
        return;
    case OPTION_LIST:
        list_add_word(program, option->name, option->at, value);
        return;
    case OPTION_FLAG:
        return;
    }
}

void options_parse(int argc, char **argv, const char *about, const struct option_def *table,
    struct option_list *rest)
{
    const char *program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];

    for (int i = 1; i < argc; i++) {
        char *word = argv[i], *value;
        const struct option_def *option;

        if (strncmp(word, "--", 2) != 0) {
            if (!rest || rest->count == OPTION_LIST_MOST)
                refuse(program, word, "an unexpected word");
            rest->items[rest->count++] = word;
            continue;
        }
        word += 2;
        value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        if (strcmp(word, "help") == 0)
            help(program, about, table);
        for (option = table; option->name; option++) {
            if (strcmp(option->name, word) == 0)
                break;
        }
        if (!option->name)
            refuse(program, word, "no such option");
        if (option->kind == OPTION_FLAG) {
            if (value)
                refuse(program, word, "takes no value");
            *(bool *)option->at = true;
            continue;
        }
        if (!value) {
            if (++i == argc)
                refuse(program, word, "expects a value");
            value = argv[i];
        }
        store(program, option, value);
    }
}
