/* What reading OTLP/JSON costs: the reader alone, in ns a span and MB a second; and files of such requests for --replay.
 *
 * usage: micro_json                                     measure
 *        micro_json --write FILE json|delimited [N]     write N requests (default 3000) of 240 spans, 16 traces each
 *
 * The spans are otlp_realistic's, with a few services; as JSON they are written by protobuf's names, IDs in hex.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/json_print.h"
#include "common/otlp/otlp_json.h"
#include "common/otlp/wire.h"
#include "proto/otlp_trace.pb-c.h"
#include "tests/kit/otlp_build.h"

#define SPANS 240
#define SPANS_PER_TRACE 15
#define ROUNDS 9 /* the best counts: the machine's other work only ever adds */
#define ROUND_NS 100000000ull
#define OUT_BYTES_MAX (64u << 20)

static void must(bool fine, const char *what)
{
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* One request, in both forms. */
struct sample {
    struct otlp_build build;
    struct slice protobuf;
    struct buffer *json;
};

static void sample_init(struct sample *sample, uint64_t seed)
{
    Otlp__ExportTraceServiceRequest *message;

    *sample = (struct sample){0};
    otlp_realistic(&sample->build, seed, SPANS, SPANS_PER_TRACE, 5);
    sample->protobuf = otlp_slice(&sample->build);
    message = otlp__export_trace_service_request__unpack(NULL, sample->protobuf.len, sample->protobuf.at);
    must(message != NULL, "unpack");
    sample->json = json_print(&message->base);
    otlp__export_trace_service_request__free_unpacked(message, NULL);
}

static void sample_deinit(struct sample *sample)
{
    buffer_unref(sample->json);
    otlp_build_deinit(&sample->build);
}

static void read_once(struct otlp_json *reader, const struct sample *sample)
{
    struct buffer *request = NULL;
    char error[200] = "";

    if (otlp_json_read(reader, buffer_slice(sample->json), OUT_BYTES_MAX, &request, error, sizeof(error))) {
        fprintf(stderr, "micro_json: %s\n", error);
        exit(1);
    }
    buffer_unref(request);
}

static void measure(void)
{
    struct otlp_json *reader = otlp_json_new();
    struct sample sample;
    double best = 0;

    must(reader != NULL, "reader");
    sample_init(&sample, 1);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t start = cpu_ns(), elapsed, count = 0;
        double ns;

        do {
            read_once(reader, &sample);
            count++;
            elapsed = cpu_ns() - start;
        } while (elapsed < ROUND_NS);
        ns = (double)elapsed / (double)count;
        if (round == 0 || ns < best)
            best = ns;
    }
    printf("json: %.0f ns a span, %.0f MB/s, %.0f spans a CPU-second; %zu bytes a span, %zu as protobuf\n", best / SPANS,
        (double)sample.json->len / best * 1e3, SPANS / best * 1e9, sample.json->len / SPANS, sample.protobuf.len / SPANS);
    sample_deinit(&sample);
    otlp_json_free(reader);
}

static void write_one(FILE *file, const struct sample *sample, bool json)
{
    uint8_t length[10], *end = wire_put_varint(length, sample->protobuf.len);

    if (json) {
        must(fwrite(sample->json->bytes, 1, sample->json->len, file) == sample->json->len && fputc('\n', file) != EOF, "write");
        return;
    }
    must(fwrite(length, 1, (size_t)(end - length), file) > 0, "write");
    must(fwrite(sample->protobuf.at, 1, sample->protobuf.len, file) == sample->protobuf.len, "write");
}

static void write_file(const char *path, bool json, unsigned long requests)
{
    FILE *file = fopen(path, "wbe");

    must(file != NULL, path);
    for (unsigned long i = 0; i < requests; i++) {
        struct sample sample;

        sample_init(&sample, i + 1);
        write_one(file, &sample, json);
        sample_deinit(&sample);
    }
    must(fclose(file) == 0, path);
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        measure();
        return 0;
    }
    if ((argc == 4 || argc == 5) && strcmp(argv[1], "--write") == 0 &&
        (strcmp(argv[3], "json") == 0 || strcmp(argv[3], "delimited") == 0)) {
        write_file(argv[2], strcmp(argv[3], "json") == 0, argc == 5 ? strtoul(argv[4], NULL, 10) : 3000);
        return 0;
    }
    fputs("usage: micro_json [--write FILE json|delimited [REQUESTS]]\n", stderr);
    return 2;
}
