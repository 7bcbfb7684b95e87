/* Any text as a condition: it is accepted or refused with a place inside it, in bounded time, and what is accepted once is
 * accepted again. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/ottl/ottl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compile(const char *text, enum ottl_context context)
{
    struct ottl_program *program = ottl_program_new();
    uint32_t condition, again;
    char *error = NULL;
    int r;

    ASSERT(program);
    r = ottl_program_add(program, context, text, &condition, &error);
    ASSERT(r == 0 || r == OTTL_E_INVALID);
    ASSERT((r == 0) == (error == NULL));
    if (r == 0) {
        ASSERT(ottl_program_add(program, context, text, &again, &error) == 0);
        ASSERT(again == condition);
        ASSERT(strcmp(ottl_program_text(program, condition), text) == 0);
    } else {
        ASSERT(strchr(error, '^'));
    }
    free(error);
    ottl_program_free(program);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    ASSERT(text);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = 0;
    compile(text, OTTL_CONTEXT_SPAN);
    compile(text, OTTL_CONTEXT_SPAN_EVENT);
    free(text);
    return 0;
}
