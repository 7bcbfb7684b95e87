#include "common/base/nearest.h"

#include <stdint.h>
#include <string.h>

#include "common/base/num.h"

#define WORD_MAX 64

static bool letters_equal(char a, char b, bool any_case)
{
    return any_case ? (a | 0x20) == (b | 0x20) : a == b;
}

size_t word_distance(const char *a, const char *b, bool any_case)
{
    size_t rows[3][WORD_MAX + 1];
    size_t a_len = strlen(a), b_len = strlen(b);
    size_t *before = rows[0], *last = rows[1], *now = rows[2];

    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++) {
        before[j] = 0;
        last[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t *oldest = before;

        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = last[j - 1] + !letters_equal(a[i - 1], b[j - 1], any_case);

            best = size_min(best, size_min(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && letters_equal(a[i - 1], b[j - 2], any_case) && letters_equal(a[i - 2], b[j - 1], any_case))
                best = size_min(best, before[j - 2] + 1);
            now[j] = best;
        }
        before = last;
        last = now;
        now = oldest;
    }
    return last[b_len];
}

struct nearest nearest_start(const char *word, bool any_case)
{
    return (struct nearest){word, NULL, strlen(word) / 3 + 2, any_case};
}

void nearest_offer(struct nearest *nearest, const char *known)
{
    size_t distance = word_distance(nearest->word, known, nearest->any_case);

    if (distance < nearest->least) {
        nearest->least = distance;
        nearest->found = known;
    }
}
