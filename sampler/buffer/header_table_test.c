/* A header is copied once, found again by its bytes alone, and kept while it is referred to and a while after. */
#include "sampler/buffer/header_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/hash.h"
#include "common/base/num.h"

/* A part in one piece. */
static struct header_part part_of(const char *text)
{
    return (struct header_part){
        .body = slice_text(text),
        .fragments = {slice_text(text)},
        .fragment_count = text[0] ? 1 : 0,
        .len = (uint32_t)strlen(text),
        .hash = hash_bytes(text, strlen(text)),
    };
}

static struct span_header header_of(const char *resource, const char *scope)
{
    struct span_header header = {part_of(resource), part_of(scope), 0};

    header.hash = header.resource.hash * 31 + header.scope.hash;
    return header;
}

static void check_text(const struct header_part *part, const char *text)
{
    uint8_t out[256];

    assert_int_equal(part->len, strlen(text));
    assert_ptr_equal(header_part_write(part, out), out + part->len);
    assert_memory_equal(out, text, part->len);
}

static void test_one_copy(void **state)
{
    static const char *const texts[][2] = {
        {"resource a", "scope a"}, {"resource a", "scope b"}, {"resource a", ""}, {"", "resource a"},
        {"", ""},                  {"resource as", "cope a"}, {"a", "b"},
    };
    struct header_table *table = header_table_new();
    struct header *headers[ARRAY_COUNT(texts)];
    (void)state;

    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
            char resource[32], scope[32]; /* elsewhere in memory than last time */
            struct span_header view;
            struct header *header;

            snprintf(resource, sizeof(resource), "%s", texts[i][0]);
            snprintf(scope, sizeof(scope), "%s", texts[i][1]);
            view = header_of(resource, scope);
            header = header_table_get(table, &view, NULL);
            assert_non_null(header);
            memset(resource, 'x', sizeof(resource));
            memset(scope, 'x', sizeof(scope));
            check_text(&header->view.resource, texts[i][0]);
            check_text(&header->view.scope, texts[i][1]);
            assert_int_equal(header->view.hash, view.hash);
            assert_ptr_equal(header_at(table, header->index), header);
            assert_int_equal(header->refs, round + 1);
            if (round == 0)
                headers[i] = header;
            assert_ptr_equal(header, headers[i]);
        }
        assert_int_equal(header_table_count(table), ARRAY_COUNT(texts));
    }
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        header_unref(table, headers[i], 3);
    header_table_free(table);
    header_table_free(NULL);
}

/* However it is cut into fragments, also more than are kept apart, it is the same header. */
static void test_fragments(void **state)
{
    /* A ResourceSpans of many fields (schema_url again and again, 0x1a is its tag) without children: found again
     * by scanning the body. */
    static const uint8_t body[] = "\x1a\x01" "a\x1a\x01" "b\x1a\x01" "c\x1a\x01" "d\x1a\x01" "e\x1a\x01" "f";
    struct header_table *table = header_table_new();
    struct header *first = NULL;
    const size_t len = sizeof(body) - 1;
    (void)state;

    for (uint32_t fragments = 1; fragments <= HEADER_FRAGMENTS + 1; fragments++) {
        struct span_header view = header_of("", "scope");
        struct header *header;

        view.resource = (struct header_part){
            .body = slice_make(body, len), .fragment_count = fragments, .len = (uint32_t)len, .hash = 99};
        for (uint32_t i = 0; i < HEADER_FRAGMENTS && i < fragments; i++) {
            size_t at = 3 * i;
            size_t end = i + 1 == fragments ? len : at + 3;

            view.resource.fragments[i] = slice_make(body + at, end - at);
        }
        view.hash = 77;
        header = header_table_get(table, &view, NULL);
        assert_non_null(header);
        if (!first)
            first = header;
        assert_ptr_equal(header, first);
    }
    assert_int_equal(header_table_count(table), 1);
    header_unref(table, first, HEADER_FRAGMENTS + 1);
    header_table_free(table);
}

/* Equal hashes are no proof: bytes are compared. */
static void test_collision(void **state)
{
    struct header_table *table = header_table_new();
    struct span_header a = header_of("left", "scope"), b = header_of("rght", "scope");
    struct header *first, *second;
    (void)state;

    b.resource.hash = a.resource.hash;
    b.hash = a.hash;
    first = header_table_get(table, &a, NULL);
    second = header_table_get(table, &b, NULL);
    assert_ptr_not_equal(first, second);
    assert_ptr_equal(header_table_get(table, &b, NULL), second);
    check_text(&second->view.resource, "rght");
    header_unref(table, first, 1);
    header_unref(table, second, 2);
    header_table_free(table);
}

/* The metadata that spans came with is part of the header; equal sets are one, whichever set they are. */
static void test_metadata(void **state)
{
    const struct metadata_entry entries[] = {
        {SLICE_LITERAL("tenant"), SLICE_LITERAL("a")}, {SLICE_LITERAL("tenant"), SLICE_LITERAL("b")}};
    struct header_table *table = header_table_new();
    struct span_header view = header_of("resource", "scope");
    struct metadata_set *sets[2];
    struct header *none, *headers[2];
    (void)state;

    none = header_table_get(table, &view, NULL);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 2; i++) {
            struct header *header;

            assert_int_equal(metadata_set_new(&entries[i], 1, &sets[i]), 0);
            header = header_table_get(table, &view, sets[i]);
            assert_non_null(header);
            if (round == 0)
                headers[i] = header;
            assert_ptr_equal(header, headers[i]);
            assert_true(metadata_set_equal(header->metadata, sets[i]));
            metadata_set_unref(sets[i]); /* the table keeps its own */
        }
    }
    assert_ptr_not_equal(headers[0], headers[1]);
    assert_ptr_not_equal(headers[0], none);
    assert_ptr_equal(header_table_get(table, &view, NULL), none);
    header_unref(table, headers[0], 2);
    header_unref(table, headers[1], 2);
    header_unref(table, none, 2);
    header_table_free(table);
}

/* A header nobody refers to stays for its next user; of many such only the last stay, and never more than 1 MiB. */
static void test_unused(void **state)
{
    struct header_table *table = header_table_new();
    struct span_header view = header_of("kept", "");
    struct header *kept = header_table_get(table, &view, NULL);
    struct header *used;
    char text[32];
    char *large = malloc(300000);
    (void)state;

    kept->hits_generation = 5;
    header_unref(table, kept, 1);
    kept = header_table_get(table, &view, NULL);
    assert_int_equal(kept->hits_generation, 5);

    view = header_of("used", "");
    used = header_table_get(table, &view, NULL);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(text, sizeof(text), "resource %u", i);
        view = header_of(text, "");
        header_unref(table, header_table_get(table, &view, NULL), 1);
        assert_true(header_table_count(table) <= 1024 + 2);
    }
    assert_int_equal(header_table_count(table), 1024 + 2);
    assert_int_equal(kept->refs, 1);
    check_text(&used->view.resource, "used");

    memset(large, 'l', 300000);
    for (size_t len = 290000; len < 290010; len++) {
        struct header *header;

        large[len] = 0;
        view = header_of(large, "");
        header = header_table_get(table, &view, NULL);
        header_unref(table, header, 1);
        large[len] = 'l';
    }
    assert_true(header_table_count(table) <= 5 + 2);
    assert_true(header_table_bytes(table) < 2 * MIB);
    assert_true(header_table_bytes(table) > 3 * 290000);
    header_unref(table, kept, 1);
    header_unref(table, used, 1);
    header_table_free(table);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_copy),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_collision),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_unused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
