/* A plan holds every good span of a request once, under its own header, in a message for the member that the ring names,
 * or, while that one cannot take it, for the next in rank that can. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "lb/route/router.h"
#include "tests/kit/otlp_build.h"

#define LINKS 32u

struct fixture {
    struct router router;
    struct member_link links[LINKS];
    struct otlp_build request;
};

static int setup(void **state)
{
    const struct member_link_events events = {0};
    const struct outbox_owner owner = {0};
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    router_init(&f->router);
    for (unsigned i = 0; i < LINKS; i++) {
        char address[32];

        (void)snprintf(address, sizeof(address), "10.0.0.%u:4317", i);
        member_link_init(&f->links[i], i, address, NULL, &events, &owner, MIB, NS_PER_S);
        atomic_store(&f->links[i].condition, MEMBER_UP);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    router_deinit(&f->router);
    for (unsigned i = 0; i < LINKS; i++)
        member_link_deinit(&f->links[i]);
    otlp_build_deinit(&f->request);
    free(f);
    return 0;
}

/* Members sampler-0 … with `addresses` links each: member i, whose place in the ring is not i, has the links i, i + count, …;
 * first: of the links. */
static struct member_set *set_new(struct fixture *f, unsigned count, unsigned addresses, unsigned first)
{
    struct member_set *set = calloc(1, sizeof(*set) + count * sizeof(set->members[0]));
    struct ring_member members[LINKS];
    char names[LINKS][32];

    assert_non_null(set);
    assert_in_range(first + count * addresses, 1, LINKS);
    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "sampler-%u", i);
        members[i] = (struct ring_member){names[i], 2};
    }
    atomic_init(&set->refs, 1);
    assert_int_equal(ring_new(members, count, &set->ring), 0);
    for (unsigned i = 0; i < count; i++) {
        unsigned number;

        assert_int_equal(sscanf(set->ring->names[i], "sampler-%u", &number), 1);
        for (unsigned k = 0; k < addresses; k++)
            set->members[i].links[set->members[i].link_count++] = &f->links[first + k * count + number];
    }
    return set;
}

static void adopt(struct fixture *f, unsigned count, unsigned addresses)
{
    router_adopt(&f->router, set_new(f, count, addresses, 0));
}

static void set_condition(struct fixture *f, unsigned link, enum member_condition condition)
{
    atomic_store(&f->links[link].condition, (int)condition);
}

/* -- what is planned, and what should be ------------------------------------------------------------------------ */

struct sent { /* one span, as a member would see it */
    uint64_t hash; /* of its bytes and its header's */
    const struct member_link *link;
    bool fallback;
};

struct sents {
    struct sent *items;
    size_t count, fallback_count;
};

static uint64_t part_hash(const struct header_part *part, uint64_t seed)
{
    uint8_t *bytes = malloc(part->len + 1u);
    uint64_t hash;

    assert_non_null(bytes);
    assert_ptr_equal(header_part_write(part, bytes), bytes + part->len);
    hash = hash_seeded(bytes, part->len, seed);
    free(bytes);
    return hash;
}

static uint64_t span_hash(const struct span_ref *span)
{
    return hash_seeded(span->bytes.at, span->bytes.len, part_hash(&span->header->scope, part_hash(&span->header->resource, 1)));
}

static void sents_add(struct sents *sents, struct sent sent)
{
    if ((sents->count & (sents->count - 1)) == 0) { /* full: the room is a power of two */
        sents->items = reallocarray(sents->items, sents->count ? 2 * sents->count : 1, sizeof(sent));
        assert_non_null(sents->items);
    }
    sents->items[sents->count++] = sent;
    sents->fallback_count += sent.fallback;
}

static int sent_order(const void *a, const void *b)
{
    uint64_t x = ((const struct sent *)a)->hash, y = ((const struct sent *)b)->hash;

    return (x > y) - (x < y);
}

/* Of the links that are UP and not to be avoided the first, but those that drain come last. NULL: none. */
static const struct member_link *want_address(const struct member *member, const struct member_link *avoid)
{
    for (int draining = 0; draining < 2; draining++) {
        for (unsigned i = 0; i < member->link_count; i++) {
            const struct member_link *link = member->links[i];

            if (atomic_load(&link->condition) == MEMBER_UP && link != avoid && atomic_load(&link->draining) == draining)
                return link;
        }
    }
    return NULL;
}

/* By rank: the owner, unless it drains; then whoever is steady; then whoever is there. Who comes after an owner that is away is a
 * fallback, who comes after one that drains is not. NULL: none. */
static const struct member_link *want_link(const struct fixture *f, const struct trace_id *id, const struct member_link *avoid,
    bool *out_fallback)
{
    const struct member_set *set = f->router.set;
    const struct member_link *links[LINKS];
    unsigned count = set->ring->member_count, first = UINT_MAX;
    bool away = false;

    for (unsigned rank = 0; rank < count; rank++) {
        links[rank] = want_address(&set->members[ring_rank(set->ring, ring_slot(id), rank)], avoid);
        if (links[rank] && (atomic_load(&links[rank]->steady) || (rank == 0 && !atomic_load(&links[rank]->draining)))) {
            *out_fallback = away;
            return links[rank];
        }
        if (links[rank] && first == UINT_MAX)
            first = rank;
        away = away || !links[rank];
    }
    *out_fallback = first > 0;
    return first == UINT_MAX ? NULL : links[first];
}

/* False: a span has nowhere to go. */
static bool sents_wanted(const struct fixture *f, struct slice request, const struct member_link *avoid, struct sents *out)
{
    struct span_walk walk;
    struct span_ref span;
    bool all = true;

    *out = (struct sents){0};
    span_walk_init(&walk, request);
    while (span_walk_next(&walk, &span)) {
        struct sent sent = {.hash = 0};

        if (span.fault != SPAN_OK)
            continue;
        sent.hash = span_hash(&span);
        sent.link = want_link(f, &span.trace_id, avoid, &sent.fallback);
        all = all && sent.link;
        sents_add(out, sent);
    }
    assert_false(walk.bad);
    return all;
}

/* Writes each part as lb.c does and reads the messages as members do. */
static struct sents sents_planned(const struct fixture *f)
{
    const struct router *router = &f->router;
    struct sents sents = {0};

    for (size_t i = 0; i < router->part_count; i++) {
        const struct plan_part *part = &router->parts[i];
        uint8_t *bytes = malloc(part->size + 1);
        struct span_walk walk;
        struct span_ref span;
        uint32_t count = 0;

        assert_non_null(bytes);
        assert_ptr_equal(regroup_write(part->regroup, bytes), bytes + part->size);
        assert_true(part->size <= OUTBOX_PIECE_BYTES_MAX || part->span_count == 1);
        span_walk_init(&walk, slice_make(bytes, part->size));
        for (; span_walk_next(&walk, &span); count++) {
            assert_int_equal(span.fault, SPAN_OK);
            sents_add(&sents, (struct sent){span_hash(&span), part->link, part->is_fallback});
        }
        assert_false(walk.bad);
        assert_int_equal(count, part->span_count);
        assert_true(count > 0);
        free(bytes);
    }
    return sents;
}

/* Plans, and holds the plan against the ring, span by span. */
static void check_plan(struct fixture *f, struct slice request, const struct member_link *avoid)
{
    struct sents want, got;

    if (!sents_wanted(f, request, avoid, &want)) {
        assert_int_equal(router_plan(&f->router, request, avoid), PLAN_NO_MEMBER);
        free(want.items);
        return;
    }
    assert_int_equal(router_plan(&f->router, request, avoid), PLAN_OK);
    got = sents_planned(f);
    assert_int_equal(got.count, want.count);
    if (want.count > 0) {
        qsort(want.items, want.count, sizeof(struct sent), sent_order);
        qsort(got.items, got.count, sizeof(struct sent), sent_order);
    }
    for (size_t i = 0; i < want.count; i++) {
        assert_true(got.items[i].hash == want.items[i].hash);
        assert_ptr_equal(got.items[i].link, want.items[i].link);
        if (want.items[i].fallback) /* a part may hold both kinds */
            assert_true(got.items[i].fallback);
    }
    assert_int_equal(f->router.fallback_count, want.fallback_count);
    if (want.fallback_count == 0)
        assert_int_equal(got.fallback_count, 0);
    free(want.items);
    free(got.items);
}

static struct slice realistic(struct fixture *f, uint64_t seed, size_t spans)
{
    otlp_build_reset(&f->request);
    otlp_realistic(&f->request, seed, spans, 15, 6);
    return otlp_slice(&f->request);
}

/* -- tests ---------------------------------------------------------------------------------------------------------- */

static void test_owners(void **state)
{
    static const unsigned counts[] = {1, 2, 3, 10, 32};
    struct fixture *f = *state;

    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        adopt(f, counts[c], 1);
        for (uint64_t seed = 1; seed <= 5; seed++) {
            check_plan(f, realistic(f, seed, 1 + 70 * (seed - 1)), NULL);
            assert_in_range(f->router.part_count, 1, counts[c]); /* nothing is cut that fits */
            assert_int_equal(f->router.fallback_count, 0);
        }
    }
}

/* All conditions of four members, two and one address each: whoever is down or suspect gets nothing, and what it owns goes to
 * the next in rank. */
static void test_conditions(void **state)
{
    struct fixture *f = *state;
    struct slice request = realistic(f, 9, 60);

    for (unsigned addresses = 1; addresses <= 2; addresses++) {
        adopt(f, 4, addresses);
        for (unsigned mask = 0; mask < 1u << (4 * addresses); mask += addresses == 1 ? 1 : 3) {
            for (unsigned i = 0; i < 4 * addresses; i++)
                set_condition(f, i, mask >> i & 1 ? MEMBER_UP : (mask + i) % 2 ? MEMBER_DOWN : MEMBER_SUSPECT);
            check_plan(f, request, NULL);
            for (unsigned i = 0; i < 4 * addresses; i++)
                check_plan(f, request, &f->links[i]);
        }
    }
}

enum says { READY, JOINING, DRAINING };

static void set_says(struct fixture *f, unsigned link, enum says says)
{
    atomic_store(&f->links[link].steady, says == READY);
    atomic_store(&f->links[link].draining, says == DRAINING);
}

/* A member that joins keeps what it owns, and stands in for others only when nobody else does; one that drains owns nothing, and
 * gets only what nobody else is there for. */
static void test_unsteady(void **state)
{
    struct fixture *f = *state;
    struct slice request = realistic(f, 9, 60);

    adopt(f, 4, 1);
    for (unsigned all = 0; all < 3 * 3 * 3 * 3; all++) {
        for (unsigned i = 0, rest = all; i < 4; i++, rest /= 3)
            set_says(f, i, (enum says)(rest % 3));
        for (unsigned down = 0; down < 15; down++) {
            for (unsigned i = 0; i < 4; i++)
                set_condition(f, i, down >> i & 1 ? MEMBER_DOWN : MEMBER_UP);
            check_plan(f, request, NULL);
        }
    }
}

/* The link that drains gets nothing; who takes its spans, in so many parts, is no fallback. */
static void check_passed_over(struct fixture *f, struct slice request, unsigned link, size_t parts)
{
    set_says(f, link, DRAINING);
    check_plan(f, request, NULL);
    assert_int_equal(f->router.part_count, parts);
    for (size_t i = 0; i < f->router.part_count; i++)
        assert_ptr_not_equal(f->router.parts[i].link, &f->links[link]);
    assert_int_equal(f->router.fallback_count, 0);
}

/* All of a member's traces go elsewhere while it drains, and that is no fallback; when it is alone they are its own. */
static void test_draining(void **state)
{
    struct fixture *f = *state;
    struct slice request = realistic(f, 9, 200);

    adopt(f, 3, 1);
    check_passed_over(f, request, 1, 2);
    set_condition(f, 0, MEMBER_DOWN);
    check_plan(f, request, NULL);
    assert_int_equal(f->router.part_count, 1);
    assert_ptr_equal(f->router.parts[0].link, &f->links[2]);
    assert_in_range(f->router.fallback_count, 1, 199); /* what is its own by the draining one's leave is none */
    set_condition(f, 2, MEMBER_DOWN);
    check_plan(f, request, NULL);
    assert_ptr_equal(f->router.parts[0].link, &f->links[1]);
}

/* Two addresses under one name, the old one drains: the new one is used. */
static void test_draining_address(void **state)
{
    struct fixture *f = *state;
    struct slice request = realistic(f, 9, 200);

    adopt(f, 3, 2);
    check_passed_over(f, request, 1, 3);
    set_condition(f, 4, MEMBER_DOWN); /* the new one */
    check_plan(f, request, NULL);
    assert_int_equal(f->router.part_count, 2);
}

/* One address of a member is as good as the other: no fallback. */
static void test_second_address(void **state)
{
    struct fixture *f = *state;
    struct slice request = realistic(f, 3, 200);

    adopt(f, 3, 2);
    check_plan(f, request, &f->links[1]);
    assert_int_equal(f->router.fallback_count, 0);
    for (size_t i = 0; i < f->router.part_count; i++)
        assert_ptr_not_equal(f->router.parts[i].link, &f->links[1]);
    set_condition(f, 4, MEMBER_SUSPECT); /* member 1's other one */
    check_plan(f, request, &f->links[1]);
    assert_true(f->router.fallback_count > 0);
}

static void test_no_member(void **state)
{
    struct fixture *f = *state;
    struct slice request = realistic(f, 3, 20);

    assert_int_equal(router_plan(&f->router, request, NULL), PLAN_NO_MEMBER); /* no ring yet */
    adopt(f, 2, 1);
    set_condition(f, 0, MEMBER_DOWN);
    assert_int_equal(router_plan(&f->router, request, &f->links[1]), PLAN_NO_MEMBER);
    check_plan(f, request, NULL);
    set_condition(f, 1, MEMBER_SUSPECT);
    assert_int_equal(router_plan(&f->router, request, NULL), PLAN_NO_MEMBER);
    set_condition(f, 0, MEMBER_UP);
    check_plan(f, request, NULL);
}

static void test_empty(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(router_plan(&f->router, slice_make("", 0), NULL), PLAN_OK);
    otlp_resource_spans(&f->request);
    otlp_scope_spans(&f->request);
    otlp_end(&f->request);
    otlp_end(&f->request);
    assert_int_equal(router_plan(&f->router, otlp_slice(&f->request), NULL), PLAN_OK);
    adopt(f, 3, 1);
    check_plan(f, realistic(f, 2, 30), NULL);
    assert_int_equal(router_plan(&f->router, slice_make(NULL, 0), NULL), PLAN_OK); /* nothing is left of the plan before */
    assert_int_equal(f->router.part_count, 0);
}

/* -- cuts ------------------------------------------------------------------------------------------------------------- */

static void big_span(struct otlp_build *b, uint64_t number, size_t name_len)
{
    char *name = malloc(name_len + 1);

    assert_non_null(name);
    memset(name, 'n', name_len);
    name[name_len] = '\0';
    otlp_span(b, &(struct otlp_span){.trace_id = otlp_trace_id(number / 3), .span_id = otlp_span_id(number), .name = name});
    free(name);
}

static void test_cut(void **state)
{
    static const struct {
        size_t spans, name_len, parts_least, parts_most; /* with one member */
    } cases[] = {
        {1, 3 * MIB, 1, 1},            /* larger than a piece: alone */
        {3, 2 * MIB, 3, 3},
        {2, 600 * KIB, 2, 2},
        {2, 500 * KIB, 1, 1},
        {900, 10000, 9, 10},           /* 8.6 MiB */
        {40000, 100, 5, 8},
    };
    struct fixture *f = *state;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct otlp_build *b = &f->request;

        otlp_build_reset(b);
        for (size_t r = 0, i = 0; r < 2; r++) { /* over two resources */
            otlp_resource_spans(b);
            otlp_resource(b, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", r ? "cart" : "shop")});
            otlp_scope_spans(b);
            otlp_scope(b, "lib", "1.0");
            for (; i < (r + 1) * cases[c].spans / 2; i++)
                big_span(b, i, cases[c].name_len);
            otlp_end(b);
            otlp_end(b);
        }
        adopt(f, 1, 1);
        check_plan(f, otlp_slice(b), NULL);
        assert_in_range(f->router.part_count, cases[c].parts_least, cases[c].parts_most);
        adopt(f, 3, 1);
        check_plan(f, otlp_slice(b), NULL);
    }
}

/* Many resources: what headers take counts too. */
static void test_cut_headers(void **state)
{
    static const struct {
        size_t headers, value_len, parts_least, parts_most; /* with one member */
    } cases[] = {
        {1500, 2000, 3, 4}, /* 2.9 MiB */
        {4, 300 * KIB, 2, 2},
        {7, 600 * KIB, 7, 7},
        {3, 2 * MIB, 3, 3}, /* larger than a piece: with one span each */
    };
    struct fixture *f = *state;
    struct otlp_build *b = &f->request;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        char *value = malloc(cases[c].value_len + 1);

        assert_non_null(value);
        memset(value, 'v', cases[c].value_len);
        value[cases[c].value_len] = '\0';
        otlp_build_reset(b);
        for (size_t i = 0; i < cases[c].headers; i++) {
            otlp_resource_spans(b);
            otlp_resource(b, 2, (struct otlp_attribute[]){OTLP_TEXT("a", value), OTLP_INT("number", (int64_t)i)});
            otlp_scope_spans(b);
            big_span(b, i, 10);
            otlp_end(b);
            otlp_end(b);
        }
        free(value);
        adopt(f, 1, 1);
        check_plan(f, otlp_slice(b), NULL);
        assert_in_range(f->router.part_count, cases[c].parts_least, cases[c].parts_most);
        adopt(f, 2, 1);
        check_plan(f, otlp_slice(b), NULL);
    }
}

/* -- bad input ---------------------------------------------------------------------------------------------------------- */

/* Cut anywhere, the request is refused exactly when the walk says that its framing is broken, and whoever is away. */
static void test_malformed(void **state)
{
    struct fixture *f = *state;
    struct slice request = realistic(f, 4, 4);
    size_t refused = 0;

    adopt(f, 3, 1);
    for (size_t cut = 0; cut < request.len; cut++) {
        struct span_walk walk;
        struct span_ref span;
        enum plan_result result;

        span_walk_init(&walk, slice_make(request.at, cut));
        while (span_walk_next(&walk, &span)) {
        }
        set_condition(f, 0, cut % 2 ? MEMBER_UP : MEMBER_DOWN);
        result = router_plan(&f->router, slice_make(request.at, cut), cut % 2 ? NULL : &f->links[cut % 3]);
        assert_int_equal(result == PLAN_MALFORMED, walk.bad);
        refused += walk.bad;
    }
    assert_true(refused > request.len / 2);
    for (unsigned i = 0; i < 3; i++)
        set_condition(f, i, MEMBER_DOWN);
    assert_int_equal(router_plan(&f->router, slice_make(request.at, request.len - 1), NULL), PLAN_MALFORMED);
    assert_int_equal(router_plan(&f->router, request, NULL), PLAN_NO_MEMBER);
}

/* Spans nobody can take are named by their place in the request, and the others go their way. */
static void test_rejected(void **state)
{
    static const uint32_t bad[] = {0, 3, 4, 11, 12, 13, 29};
    static const enum span_fault faults[] = {SPAN_NO_TRACE_ID, SPAN_NO_SPAN_ID, SPAN_MALFORMED, SPAN_NO_TRACE_ID, SPAN_NO_TRACE_ID,
        SPAN_MALFORMED, SPAN_NO_SPAN_ID};
    static const uint32_t counts[3][3] = {{3, 2, 2}, {30, 0, 0}, {0, 0, 0}};
    const size_t bad_count = sizeof(bad) / sizeof(bad[0]);
    struct fixture *f = *state;
    struct otlp_build *b = &f->request;

    for (unsigned round = 0; round < 3; round++) { /* some bad; all bad; all good */
        uint32_t index = 0, left = 0;
        size_t k = 0;

        otlp_build_reset(b);
        for (unsigned r = 0; r < 3; r++) {
            otlp_resource_spans(b);
            otlp_resource(b, 1, (struct otlp_attribute[]){OTLP_INT("r", r)});
            otlp_scope_spans(b);
            for (unsigned i = 0; i < 10; i++, index++) {
                struct otlp_span span = {.trace_id = otlp_trace_id(index), .span_id = otlp_span_id(index), .name = "n"};
                enum span_fault fault = SPAN_OK;

                if (round == 1)
                    fault = SPAN_NO_TRACE_ID;
                else if (round == 0 && k < bad_count && bad[k] == index)
                    fault = faults[k++];
                left += fault == SPAN_OK;
                if (fault == SPAN_NO_TRACE_ID)
                    memset(&span.trace_id, 0, sizeof(span.trace_id));
                if (fault == SPAN_NO_SPAN_ID)
                    memset(&span.span_id, 0, sizeof(span.span_id));
                if (fault == SPAN_MALFORMED)
                    span.unknown = slice_make("\x38\x01", 2); /* start time as a varint */
                otlp_span(b, &span);
            }
            otlp_end(b);
            otlp_end(b);
        }
        adopt(f, 3, 1);
        check_plan(f, otlp_slice(b), NULL);
        assert_int_equal(f->router.rejected_count, 30 - left);
        for (size_t i = 0; i < f->router.rejected_count; i++)
            assert_int_equal(f->router.rejected[i], round == 1 ? i : bad[i]);
        assert_int_equal(f->router.fault_counts[SPAN_NO_TRACE_ID], counts[round][0]);
        assert_int_equal(f->router.fault_counts[SPAN_NO_SPAN_ID], counts[round][1]);
        assert_int_equal(f->router.fault_counts[SPAN_MALFORMED], counts[round][2]);
        if (round == 1) { /* nothing to send: nobody needs to be there */
            assert_int_equal(f->router.part_count, 0);
            for (unsigned i = 0; i < 3; i++)
                set_condition(f, i, MEMBER_DOWN);
            assert_int_equal(router_plan(&f->router, otlp_slice(b), NULL), PLAN_OK);
            for (unsigned i = 0; i < 3; i++)
                set_condition(f, i, MEMBER_UP);
        }
    }
}

/* -- snapshots -------------------------------------------------------------------------------------------------------- */

/* A ring that changes between two plans: larger, smaller, with links whose numbers are higher; each set is let go of. */
static void test_sets(void **state)
{
    static const struct {
        unsigned count, addresses, first;
    } cases[] = {{1, 1, 0}, {3, 1, 0}, {2, 2, 25}, {3, 1, 29}, {1, 1, 3}, {8, 4, 0}, {2, 1, 1}};
    struct fixture *f = *state;
    struct slice request = realistic(f, 5, 100);
    struct member_set *kept = NULL;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct member_set *set = set_new(f, cases[c].count, cases[c].addresses, cases[c].first);

        router_adopt(&f->router, member_set_ref(set));
        assert_int_equal(atomic_load(&set->refs), 2);
        check_plan(f, request, NULL);
        if (kept)
            assert_int_equal(atomic_load(&kept->refs), 1); /* the router gave it back */
        member_set_unref(kept);
        kept = set;
    }
    member_set_unref(kept);
    member_set_unref(NULL);
    check_plan(f, request, NULL); /* the router's own reference holds it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unsteady, setup, teardown),
        cmocka_unit_test_setup_teardown(test_draining, setup, teardown),
        cmocka_unit_test_setup_teardown(test_draining_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_member, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rejected, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sets, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
