/* Every policy decides its cases as stated, in whatever order a trace's spans come.
 *
 *     test_policy_cases                          runs the cases beside the policies
 *     test_policy_cases --emit DIR               and writes them with our decisions, for tests/collector/run.py
 *     test_policy_cases --random SEED COUNT SETS --emit DIR    the same for random policies and traces
 *     test_policy_cases --ottl SEED CONDITIONS --emit DIR      the same for random OTTL conditions
 *
 * DIR/SET/ gets policies.yaml, traces.bin (requests, each after its length as a varint) and expected.txt: a line a trace
 * of ID, decision, policy, place and the reason of a known difference, between tabs; or `refused` and a text. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/otlp/wire.h"
#include "sampler/decide/cases_list.h"
#include "tests/collector/case_set.h"
#include "tests/collector/judge.h"
#include "tests/collector/ottl_random.h"

static const char *const decision_words[] = {
    [CASE_NOT] = "not", [CASE_SAMPLED] = "sampled", [CASE_REJECTED] = "rejected"};

static FILE *open_in(const char *dir, const char *set, const char *name)
{
    char *path = case_text("%s/%s/%s", dir, set, name);
    FILE *file = fopen(path, "wb");

    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    free(path);
    return file;
}

static void close_written(FILE *file)
{
    if (fclose(file) != 0) {
        perror("emit");
        exit(2);
    }
}

struct emitter {
    const char *dir; /* NULL: nothing is written */
    FILE *traces, *expected;
};

static void emit_begin(struct emitter *emitter, const struct case_set *set)
{
    char *path;
    FILE *policies;

    if (!emitter->dir)
        return;
    path = case_text("%s/%s", emitter->dir, set->name);
    if ((mkdir(emitter->dir, 0777) != 0 && errno != EEXIST) ||
        (mkdir(path, 0777) != 0 && errno != EEXIST)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    free(path);
    policies = open_in(emitter->dir, set->name, "policies.yaml");
    fputs(set->settings, policies);
    close_written(policies);
    emitter->traces = open_in(emitter->dir, set->name, "traces.bin");
    emitter->expected = open_in(emitter->dir, set->name, "expected.txt");
    if (set->refused)
        fprintf(emitter->expected, "refused\t%s\t%s\n", set->refused, set->differs ? set->differs : "");
}

static void emit_trace(
    struct emitter *emitter, const struct case_trace *trace, const struct judged *judged)
{
    if (!emitter->dir)
        return;
    for (size_t i = 0; i < sizeof(trace->id.bytes); i++)
        fprintf(emitter->expected, "%02x", trace->id.bytes[i]);
    fprintf(emitter->expected, "\t%s\t%s\t%s\t%s\n", decision_words[judged->decision],
        judged->policy, trace->place, trace->differs ? trace->differs : "");
}

struct piece { /* a request of one trace */
    const uint8_t *at;
    size_t len;
};

static uint64_t shuffle_next(uint64_t *state) /* xorshift64 */
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* All requests of a set, in the order of the traces or shuffled. */
static size_t list_pieces(const struct case_set *set, struct piece *pieces)
{
    uint64_t state = set->shuffle_seed;
    size_t count = 0;

    for (size_t i = 0; i < set->count; i++) {
        const struct case_trace *trace = &set->traces[i];

        for (size_t j = 0; j < trace->end_count; j++) {
            size_t from = j > 0 ? trace->ends[j - 1] : 0;

            pieces[count++] = (struct piece){trace->request + from, trace->ends[j] - from};
        }
    }
    for (size_t i = count; state && i > 1; i--) {
        size_t other = shuffle_next(&state) % i;
        struct piece swap = pieces[i - 1];

        pieces[i - 1] = pieces[other];
        pieces[other] = swap;
    }
    return count;
}

static void emit_requests(struct emitter *emitter, const struct case_set *set)
{
    uint64_t state = set->shuffle_seed;
    size_t most = 1, count, joined;
    struct piece *pieces;

    for (size_t i = 0; i < set->count; i++)
        most += set->traces[i].end_count;
    pieces = calloc(most, sizeof(*pieces));
    if (!pieces)
        abort();
    count = list_pieces(set, pieces);
    for (size_t i = 0; i < count; i += joined) {
        uint8_t length[10];
        size_t len = 0;

        joined = state ? 1 + shuffle_next(&state) % 4 : 1;
        if (joined > count - i)
            joined = count - i;
        for (size_t j = i; j < i + joined; j++)
            len += pieces[j].len;
        fwrite(length, 1, (size_t)(wire_put_varint(length, len) - length), emitter->traces);
        for (size_t j = i; j < i + joined; j++)
            fwrite(pieces[j].at, 1, pieces[j].len, emitter->traces);
    }
    free(pieces);
}

static void emit_end(struct emitter *emitter, const struct case_set *set)
{
    if (!emitter->dir)
        return;
    emit_requests(emitter, set);
    close_written(emitter->traces);
    close_written(emitter->expected);
}

static bool fail(
    const struct case_set *set, const char *place, const char *what, const struct judged *judged)
{
    fprintf(stderr, "FAILED %s, %s: %s, decided %s %s\n%s", set->name, place, what,
        decision_words[judged->decision], judged->policy, set->settings);
    return false;
}

static bool run_trace(struct judge *judge, const struct case_set *set,
    const struct case_trace *trace, struct emitter *emitter)
{
    struct judged judged = judge_trace(judge, trace, false),
                  backward = judge_trace(judge, trace, true);

    emit_trace(emitter, trace, &judged);
    if (judged.decision != backward.decision || strcmp(judged.policy, backward.policy) != 0)
        return fail(set, trace->place, "the order of spans matters", &judged);
    if (!trace->is_stated)
        return true;
    if (judged.decision != trace->decision)
        return fail(set, trace->place, decision_words[trace->decision], &judged);
    if (trace->policy && strcmp(judged.policy, trace->policy) != 0)
        return fail(set, trace->place, trace->policy, &judged);
    return true;
}

static void run_set(
    const struct case_set *set, struct emitter *emitter, size_t *passed, size_t *failed)
{
    char *error = NULL;
    struct judge *judge = judge_new(set->settings, &error);
    const struct judged none = {CASE_REJECTED, ""};
    bool fine = true;

    emit_begin(emitter, set);
    if (set->refused) {
        fine = !judge && strstr(error, set->refused) && set->count == 0;
        if (!fine)
            fprintf(stderr, "FAILED %s: refused: %s; but: %s\n%s", set->name, set->refused,
                judge ? "accepted" : error, set->settings);
        fine ? ++*passed : ++*failed;
    } else if (!judge) {
        fprintf(stderr, "FAILED %s: %s\n%s", set->name, error, set->settings);
        ++*failed;
    }
    for (size_t i = 0; judge && i < set->count; i++) {
        fine = run_trace(judge, set, &set->traces[i], emitter);
        for (size_t j = 0; j < i; j++)
            if (trace_id_equal(&set->traces[i].id, &set->traces[j].id))
                fine = fail(set, set->traces[i].place, "an ID twice in a set", &none);
        fine ? ++*passed : ++*failed;
    }
    emit_end(emitter, set);
    free(error);
    judge_free(judge);
}

static int usage(void)
{
    fputs("usage: test_policy_cases [--random SEED COUNT SETS] [--ottl SEED CONDITIONS] [--emit DIR]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct case_sets sets = {0};
    struct emitter emitter = {0};
    size_t passed = 0, failed = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--emit") == 0 && i + 1 < argc) {
            emitter.dir = argv[++i];
        } else if (strcmp(argv[i], "--random") == 0 && i + 3 < argc) {
            case_sets_random(&sets, strtoull(argv[i + 1], NULL, 10), strtoul(argv[i + 2], NULL, 10),
                strtoul(argv[i + 3], NULL, 10));
            i += 3;
        } else if (strcmp(argv[i], "--ottl") == 0 && i + 2 < argc) {
            case_sets_ottl(&sets, strtoull(argv[i + 1], NULL, 10), strtoul(argv[i + 2], NULL, 10));
            i += 2;
        } else {
            case_sets_deinit(&sets);
            return usage();
        }
    }
    if (sets.count == 0) {
        for (size_t i = 0; cases_files[i]; i++)
            case_sets_read(&sets, cases_files[i]);
        if (!emitter.dir)
            case_sets_random(
                &sets, 1, 400, 10); /* nothing is stated of them but that order does not matter */
        if (!emitter.dir)
            case_sets_ottl(&sets, 1, 100);
    }
    for (size_t i = 0; i < sets.count; i++)
        run_set(&sets.sets[i], &emitter, &passed, &failed);
    case_sets_deinit(&sets);
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
