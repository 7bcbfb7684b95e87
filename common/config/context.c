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

struct messages {
    char *text;
    size_t len, capacity;
    unsigned count;
};

struct config_context {
    struct chunk *chunks;
    struct messages errors, warnings;
    unsigned node_count;
};

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
    free(context->errors.text);
    free(context->warnings.text);
    free(context);
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

/* A line of its own for each message: what a file may hold cannot break or colour it. */
static void messages_put_clean(struct messages *messages, const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            char escaped[8];
            int len = snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned)(unsigned char)*text);

            messages_put(messages, escaped, (size_t)len);
        } else {
            messages_put(messages, text, 1);
        }
    }
}

__attribute__((format(printf, 5, 0))) static void messages_add(
    struct messages *messages, const char *file, unsigned line, const char *path, const char *format, va_list arguments)
{
    char number[24];
    char *message = NULL;

    messages->count++;
    if (messages->count > MESSAGES_MAX) {
        if (messages->count == MESSAGES_MAX + 1)
            messages_put(messages, "and more\n", 9);
        return;
    }
    if (*file) {
        messages_put_clean(messages, file);
        if (line > 0) {
            int len = snprintf(number, sizeof(number), ":%u", line);

            messages_put(messages, number, (size_t)len);
        }
        messages_put(messages, ": ", 2);
    }
    if (*path) {
        messages_put_clean(messages, path);
        messages_put(messages, ": ", 2);
    }
    if (vasprintf(&message, format, arguments) < 0)
        abort();
    messages_put_clean(messages, message);
    messages_put(messages, "\n", 1);
    free(message);
}

void config_error_at(
    struct config_context *context, const char *file, unsigned line, const char *path, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    messages_add(&context->errors, file, line, path, format, arguments);
    va_end(arguments);
}

int config_error(struct config_context *context, const struct config_node *node, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    messages_add(&context->errors, config_node_file(node), config_node_line(node), config_node_path(node), format, arguments);
    va_end(arguments);
    return CONFIG_E_INVALID;
}

void config_warn(struct config_context *context, const struct config_node *node, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    messages_add(&context->warnings, config_node_file(node), config_node_line(node), config_node_path(node), format, arguments);
    va_end(arguments);
}

const char *config_errors(const struct config_context *context)
{
    return context->errors.text ? context->errors.text : "";
}

const char *config_warnings(const struct config_context *context)
{
    return context->warnings.text ? context->warnings.text : "";
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
