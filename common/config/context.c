/* What one load collects: the memory of its tree and structs, its errors, its warnings. All of it goes at once, so nothing
 * below keeps track of single pieces. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/config.h"
#include "common/config/node.h"

/* More mistakes than anybody reads at once; the rest is counted. */
#define MESSAGES_MAX 100u
#define CHUNK_BYTES 16384u

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(max_align_t) unsigned char bytes[];
};

struct message {
    char *text;
    unsigned file, line; /* file: its place in the order of files; 0: of none */
    unsigned number;     /* in the order in which they were found */
};

struct messages {
    char *text; /* all of them, in the order of files and lines, once somebody asked; NULL: to be made */
    size_t len, capacity;
    unsigned count;
    struct message items[MESSAGES_MAX];
};

#define FILES_MAX 64u /* more are ordered as the last */

struct config_context {
    struct chunk *chunks;
    struct messages errors, warnings;
    const char *files[FILES_MAX]; /* in the order in which they were read */
    unsigned file_count;
    unsigned node_count;
    const char *gates; /* NULL: none */
};

static void messages_deinit(struct messages *messages)
{
    for (unsigned i = 0; i < messages->count && i < MESSAGES_MAX; i++)
        free(messages->items[i].text);
    free(messages->text);
}

struct config_context *config_context_new(void)
{
    struct config_context *context = calloc(1, sizeof(*context));

    if (!context)
        abort();
    return context;
}

void config_context_free(struct config_context *context)
{
    if (!context)
        return;
    while (context->chunks) {
        struct chunk *next = context->chunks->next;

        free(context->chunks);
        context->chunks = next;
    }
    messages_deinit(&context->errors);
    messages_deinit(&context->warnings);
    free(context);
}

void config_gates_set(struct config_context *context, const char *list)
{
    context->gates = list;
}

bool config_gate(const struct config_context *context, const char *name)
{
    const char *at = context->gates ? context->gates : "";
    bool on = false;

    while (*at) {
        size_t len = strcspn(at, ",");
        size_t sign = *at == '+' || *at == '-';

        if (len - sign == strlen(name) && memcmp(at + sign, name, len - sign) == 0)
            on = *at != '-';
        at += len;
        at += *at == ',';
    }
    return on;
}

void *config_alloc(struct config_context *context, size_t bytes)
{
    size_t rounded;
    struct chunk *chunk = context->chunks;
    void *at;

    if (!size_add(bytes, _Alignof(max_align_t) - 1, &rounded))
        abort();
    rounded &= ~(_Alignof(max_align_t) - 1);
    if (!chunk || chunk->size - chunk->used < rounded) {
        size_t size = size_max(rounded, CHUNK_BYTES), whole;

        if (!size_add(size, sizeof(*chunk), &whole))
            abort();
        chunk = calloc(1, whole);
        if (!chunk)
            abort();
        chunk->size = size;
        chunk->next = context->chunks;
        context->chunks = chunk;
    }
    at = chunk->bytes + chunk->used;
    chunk->used += rounded;
    return at;
}

char *context_text(struct config_context *context, const char *text, size_t len)
{
    char *copy = config_alloc(context, len + 1);

    if (len)
        memcpy(copy, text, len);
    return copy;
}

static void messages_put(struct messages *messages, const char *at, size_t len)
{
    if (messages->len + len + 1 > messages->capacity) {
        messages->capacity = (messages->len + len + 1) * 2;
        messages->text = realloc(messages->text, messages->capacity);
        if (!messages->text)
            abort();
    }
    memcpy(messages->text + messages->len, at, len);
    messages->len += len;
    messages->text[messages->len] = '\0';
}

/* A line of its own for each message, with indented ones below it where it shows a piece of source: what a file may hold cannot
 * pass for another message, nor colour it. */
static void messages_put_clean(struct messages *messages, const char *text)
{
    for (; *text; text++) {
        bool continues = strncmp(text, "\n    ", 5) == 0;

        if (!continues && ((unsigned char)*text < 0x20 || *text == 0x7f)) {
            char escaped[8];
            int len = snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned)(unsigned char)*text);

            messages_put(messages, escaped, (size_t)len);
        } else {
            messages_put(messages, text, 1);
        }
    }
}

static int compare_messages(const void *left, const void *right)
{
    const struct message *a = left, *b = right;

    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static const char *messages_text(struct messages *messages)
{
    unsigned count = messages->count < MESSAGES_MAX ? messages->count : MESSAGES_MAX;

    if (messages->text || count == 0)
        return messages->text ? messages->text : "";
    qsort(messages->items, count, sizeof(*messages->items), compare_messages);
    for (unsigned i = 0; i < count; i++)
        messages_put(messages, messages->items[i].text, strlen(messages->items[i].text));
    if (messages->count > MESSAGES_MAX)
        messages_put(messages, "and more\n", 9);
    return messages->text;
}

/* Its place among the files, from 1; a file that was not read (it cannot be opened) takes the next. */
static unsigned file_rank(struct config_context *context, const char *file)
{
    if (!*file)
        return 0;
    for (unsigned i = 0; i < context->file_count; i++) {
        if (strcmp(context->files[i], file) == 0)
            return i + 1;
    }
    context_file(context, file);
    return context->file_count;
}

void context_file(struct config_context *context, const char *file)
{
    if (context->file_count < FILES_MAX)
        context->files[context->file_count++] = context_text(context, file, strlen(file));
}

/* FILE:LINE: KEY.PATH: message, as one line. */
static char *message_format(const char *file, unsigned line, const char *path, const char *message)
{
    struct messages whole = {0};
    char number[24];

    if (*file) {
        messages_put_clean(&whole, file);
        if (line > 0) {
            int len = snprintf(number, sizeof(number), ":%u", line);

            messages_put(&whole, number, (size_t)len);
        }
        messages_put(&whole, ": ", 2);
    }
    if (*path) {
        messages_put_clean(&whole, path);
        messages_put(&whole, ": ", 2);
    }
    messages_put_clean(&whole, message);
    messages_put(&whole, "\n", 1);
    return whole.text;
}

__attribute__((format(printf, 6, 0))) static void messages_add(struct config_context *context, struct messages *messages,
    const char *file, unsigned line, const char *path, const char *format, va_list arguments)
{
    struct message *message;
    char *text = NULL;

    free(messages->text);
    messages->text = NULL;
    messages->len = messages->capacity = 0;
    messages->count++;
    if (messages->count > MESSAGES_MAX)
        return;
    if (vasprintf(&text, format, arguments) < 0)
        abort();
    message = &messages->items[messages->count - 1];
    *message = (struct message){message_format(file, line, path, text), file_rank(context, file), line, messages->count};
    free(text);
}

void config_error_at(
    struct config_context *context, const char *file, unsigned line, const char *path, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    messages_add(context, &context->errors, file, line, path, format, arguments);
    va_end(arguments);
}

int config_error(struct config_context *context, const struct config_node *node, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    messages_add(context, &context->errors, config_node_file(node), config_node_line(node), config_node_path(node), format, arguments);
    va_end(arguments);
    return CONFIG_E_INVALID;
}

void config_warn(struct config_context *context, const struct config_node *node, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    messages_add(context, &context->warnings, config_node_file(node), config_node_line(node), config_node_path(node), format, arguments);
    va_end(arguments);
}

const char *config_errors(struct config_context *context)
{
    return messages_text(&context->errors);
}

const char *config_warnings(struct config_context *context)
{
    return messages_text(&context->warnings);
}

bool context_count_node(struct config_context *context)
{
    if (context->node_count < CONFIG_NODES_MAX) {
        context->node_count++;
        return true;
    }
    if (context->node_count == CONFIG_NODES_MAX) { /* said once */
        context->node_count++;
        config_error_at(context, "", 0, "", "the configuration has more than %u values, aliases counted as what they stand for",
            CONFIG_NODES_MAX);
    }
    return false;
}

unsigned context_error_count(const struct config_context *context)
{
    return context->errors.count;
}
