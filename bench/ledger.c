#include "bench/ledger.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"

#define LEDGER_MAGIC 0x3152474445434c54ull /* "TLCEDGR1" */

struct ledger_header {
    uint64_t magic, trace_count;
    struct model model;
};

void ledger_init(struct ledger *ledger, const struct model *model)
{
    *ledger = (struct ledger){.model = *model, .words = (model->spans_per_trace + 63) / 64};
}

void ledger_deinit(struct ledger *ledger)
{
    free(ledger->content);
    free(ledger->acknowledged);
    free(ledger->unknown);
    *ledger = (struct ledger){0};
}

static void grow(uint64_t **array, uint64_t from, uint64_t to)
{
    *array = realloc(*array, to * 8);
    ASSERT(*array);
    memset(*array + from, 0, (to - from) * 8);
}

void ledger_reach(struct ledger *ledger, uint64_t count)
{
    if (count > ledger->capacity) {
        uint64_t to = u64_max(count, ledger->capacity * 2 + 65536);

        grow(&ledger->content, ledger->capacity, to);
        grow(&ledger->acknowledged, ledger->capacity * ledger->words, to * ledger->words);
        grow(&ledger->unknown, ledger->capacity * ledger->words, to * ledger->words);
        ledger->capacity = to;
    }
    if (count > ledger->trace_count)
        ledger->trace_count = count;
}

int ledger_write(const struct ledger *ledger, const char *path)
{
    struct ledger_header header = {LEDGER_MAGIC, ledger->trace_count, ledger->model};
    FILE *file = fopen(path, "wb");
    int r = 0;

    if (!file)
        return -errno;
    (void)fwrite(&header, sizeof(header), 1, file);
    for (uint64_t i = 0; i < ledger->trace_count; i++) {
        (void)fwrite(&ledger->content[i], 8, 1, file);
        (void)fwrite(&ledger->acknowledged[i * ledger->words], 8, ledger->words, file);
        (void)fwrite(&ledger->unknown[i * ledger->words], 8, ledger->words, file);
    }
    if (ferror(file))
        r = -EIO;
    if (fclose(file) != 0 && r == 0)
        r = -errno;
    return r;
}

int ledger_read(struct ledger *ledger, const char *path)
{
    struct ledger_header header;
    FILE *file = fopen(path, "rb");
    bool whole = true;

    *ledger = (struct ledger){0};
    if (!file)
        return -errno;
    if (fread(&header, sizeof(header), 1, file) != 1 || header.magic != LEDGER_MAGIC ||
        header.model.spans_per_trace == 0 || header.model.spans_per_trace > MODEL_SPANS_MOST ||
        header.trace_count > 1ull << 32) {
        fclose(file);
        return -EINVAL;
    }
    ledger_init(ledger, &header.model);
    ledger_reach(ledger, header.trace_count);
    for (uint64_t i = 0; i < header.trace_count && whole; i++) {
        whole = fread(&ledger->content[i], 8, 1, file) == 1 &&
                fread(&ledger->acknowledged[i * ledger->words], 8, ledger->words, file) == ledger->words &&
                fread(&ledger->unknown[i * ledger->words], 8, ledger->words, file) == ledger->words;
    }
    fclose(file);
    if (!whole) {
        ledger_deinit(ledger);
        return -EINVAL;
    }
    return 0;
}
