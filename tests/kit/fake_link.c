#include "tests/kit/fake_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"

#define CODE_CANCELLED 1

static void fake_send(struct link *link, const struct link_message *sent, struct link_call *call)
{
    struct fake_link *fake = container_of(link, struct fake_link, link);
    struct fake_message *message = calloc(1, sizeof(*message));
    size_t len = 0, at = 0;

    ASSERT(message);
    for (size_t i = 0; i < sent->piece_count; i++)
        len += sent->pieces[i]->len;
    message->bytes = buffer_new(len);
    ASSERT(message->bytes);
    for (size_t i = 0; i < sent->piece_count; i++) {
        memcpy(message->bytes->bytes + at, sent->pieces[i]->bytes, sent->pieces[i]->len);
        at += sent->pieces[i]->len;
    }
    message->bytes->len = len;
    (void)snprintf(message->method, sizeof(message->method), "%s", sent->method);
    message->piece_count = sent->piece_count;
    message->deadline_ns = sent->deadline_ns;
    message->ring = sent->ring;
    message->encoding = sent->encoding;
    message->metadata = metadata_set_ref(sent->metadata);
    message->call = call;
    call->transport = message;

    if (fake->count == fake->capacity) {
        fake->capacity = fake->capacity ? 2 * fake->capacity : 16;
        fake->messages = reallocarray(fake->messages, fake->capacity, sizeof(*fake->messages));
        ASSERT(fake->messages);
    }
    fake->messages[fake->count++] = message;
    fake->pending++;
}

static void fake_cancel(struct link *link, struct link_call *call)
{
    struct fake_message *message = call->transport;

    (void)link;
    ASSERT(message->call == call);
    message->cancelled = true;
}

static void fake_free(struct link *link)
{
    fake_link_deinit(container_of(link, struct fake_link, link));
}

static const struct link_ops fake_ops = {fake_send, fake_cancel, fake_free};

void fake_link_init(struct fake_link *fake, enum link_state state)
{
    *fake = (struct fake_link){.link = {.ops = &fake_ops, .state = state}};
}

void fake_link_deinit(struct fake_link *fake)
{
    ASSERT(fake->pending == 0);
    for (size_t i = 0; i < fake->count; i++) {
        buffer_unref(fake->messages[i]->bytes);
        metadata_set_unref(fake->messages[i]->metadata);
        free(fake->messages[i]);
    }
    free(fake->messages);
    fake->messages = NULL;
    fake->count = fake->capacity = 0;
}

void fake_link_set_state(struct fake_link *fake, enum link_state state)
{
    if (fake->link.state == state)
        return;
    fake->link.state = state;
    if (fake->link.on_state)
        fake->link.on_state(&fake->link, fake->link.context, state);
}

struct fake_message *fake_link_pending(struct fake_link *fake, size_t n)
{
    for (size_t i = 0; i < fake->count; i++) {
        if (fake->messages[i]->call && n-- == 0)
            return fake->messages[i];
    }
    return NULL;
}

void fake_link_end(struct fake_link *fake, struct fake_message *message, const struct link_result *result)
{
    struct link_call *call;

    ASSERT(message && message->call);
    call = steal(&message->call);
    call->transport = NULL;
    fake->pending--;
    call->done(call, result);
}

void fake_link_end_code(struct fake_link *fake, struct fake_message *message, int code)
{
    struct link_result result = {.code = code};

    fake_link_end(fake, message, &result);
}

void fake_link_end_all(struct fake_link *fake, int code)
{
    /* What the ends start is not pending now. */
    for (size_t count = fake->count, i = 0; i < count; i++) {
        struct fake_message *message = fake->messages[i];

        if (message->call)
            fake_link_end_code(fake, message, message->cancelled ? CODE_CANCELLED : code);
    }
}
