#include "common/base/nearest.h"

#include <stdint.h>
#include <string.h>

#define WORD_MAX 48

static bool letters_equal(char a, char b, bool any_case)
{
    return any_case ? (a | 0x20) == (b | 0x20) : a == b;
}

/* Levenshtein's distance; longer words are far from everything. */
static size_t word_distance(const char *a, const char *b, bool any_case)
{
    size_t row[WORD_MAX + 1], a_len = strlen(a), b_len = strlen(b);

    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + !letters_equal(a[i - 1], b[j - 1], any_case);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_len];
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
