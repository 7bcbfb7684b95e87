/* A look-up takes what its questions were answered, through aliases and search domains; what failed keeps what was known; and
 * no message, however it lies, gives an address that it does not hold.
 *
 * A server stands here as a table of records: it answers as one that recurses would, in real messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cluster/resolve/dns_lookup.h"

#define PORT 4317u
#define MESSAGE_SIZE 4096u

/* -- messages ------------------------------------------------------------------------------------------------- */

struct message {
    uint8_t bytes[MESSAGE_SIZE];
    size_t len;
};

static void put_u16(struct message *m, unsigned value)
{
    m->bytes[m->len++] = (uint8_t)(value >> 8);
    m->bytes[m->len++] = (uint8_t)value;
}

static void put_name(struct message *m, const char *name)
{
    while (*name && strcmp(name, ".") != 0) {
        size_t len = strcspn(name, ".");

        m->bytes[m->len++] = (uint8_t)len;
        memcpy(m->bytes + m->len, name, len);
        m->len += len;
        name += len + (name[len] == '.');
    }
    m->bytes[m->len++] = 0;
}

/* One question and no record yet. */
static struct message message_of(const char *name, unsigned type)
{
    struct message m = {.len = 12};

    m.bytes[2] = 0x81;
    m.bytes[5] = 1;
    put_name(&m, name);
    put_u16(&m, type);
    put_u16(&m, 1);
    return m;
}

/* record: "NAME TTL A 1.2.3.4", "NAME TTL AAAA ::1", "NAME TTL CNAME NAME", "NAME TTL SRV PORT TARGET". */
static void put_record(struct message *m, const char *record, bool additional)
{
    char name[300], type[10], rest[300], target[300];
    unsigned ttl, port;
    size_t len_at;

    assert_int_equal(sscanf(record, "%299s %u %9s %299[^\n]", name, &ttl, type, rest), 4);
    put_name(m, name);
    put_u16(m, strcmp(type, "A") == 0 ? 1 : strcmp(type, "AAAA") == 0 ? 28 : strcmp(type, "SRV") == 0 ? 33 : 5);
    put_u16(m, 1);
    put_u16(m, ttl >> 16);
    put_u16(m, ttl & 0xffff);
    len_at = m->len;
    put_u16(m, 0);
    if (strcmp(type, "A") == 0) {
        assert_int_equal(inet_pton(AF_INET, rest, m->bytes + m->len), 1);
        m->len += 4;
    } else if (strcmp(type, "AAAA") == 0) {
        assert_int_equal(inet_pton(AF_INET6, rest, m->bytes + m->len), 1);
        m->len += 16;
    } else if (strcmp(type, "SRV") == 0) {
        assert_int_equal(sscanf(rest, "%u %299s", &port, target), 2);
        put_u16(m, 10); /* priority, weight */
        put_u16(m, 0);
        put_u16(m, port);
        put_name(m, target);
    } else {
        put_name(m, rest);
    }
    m->bytes[len_at] = (uint8_t)((m->len - len_at - 2) >> 8);
    m->bytes[len_at + 1] = (uint8_t)(m->len - len_at - 2);
    m->bytes[additional ? 11 : 7]++;
}

/* -- a server --------------------------------------------------------------------------------------------------- */

/* records: what it knows, "+" before one that it also puts into the additional section of an SRV answer. "NAME! why" lets a
 * type of a name fail: "x A!" or "x AAAA!" or "x SRV!"; "~" instead of "!" answers rubbish; "-" never answers. */
struct server {
    const char *records[12];
};

static bool record_is(const char *record, const char *name, const char *type, char *out_rest, size_t size)
{
    char owner[300], kind[10];
    unsigned ttl;

    record += *record == '+';
    if (sscanf(record, "%299s %u %9s", owner, &ttl, kind) != 3 || strcmp(owner, name) != 0 || strcmp(kind, type) != 0)
        return false;
    if (out_rest)
        (void)snprintf(out_rest, size, "%s", strrchr(record, ' ') + 1);
    return true;
}

/* '!', '~' or '-' where the question is to fail, else 0. */
static char sabotage(const struct server *server, const char *name, const char *type)
{
    char want[320];

    (void)snprintf(want, sizeof(want), "%s %s", name, type);
    for (size_t i = 0; i < 12 && server->records[i]; i++) {
        size_t len = strlen(want);

        if (strncmp(server->records[i], want, len) == 0 && strchr("!~-", server->records[i][len]) && server->records[i][len])
            return server->records[i][len];
    }
    return 0;
}

static void serve(const struct server *server, struct dns_lookup *lookup, struct dns_question *question)
{
    const char *type = question->type == DNS_TYPE_A ? "A" : question->type == DNS_TYPE_AAAA ? "AAAA" : "SRV";
    struct message m = message_of(question->name, question->type);
    char name[300];
    bool known = false;
    unsigned found = 0;

    (void)snprintf(name, sizeof(name), "%s", question->name);
    switch (sabotage(server, name, type)) {
    case '!':
        dns_lookup_answer(lookup, question, DNS_FAILED, slice_make(NULL, 0), "broken");
        return;
    case '~':
        dns_lookup_answer(lookup, question, DNS_ANSWERED, slice_make("not a DNS message", 17), NULL);
        return;
    case '-':
        return;
    default:
        break;
    }
    for (size_t i = 0; i < 12 && server->records[i]; i++) { /* aliases stand before what they mean */
        const char *record = server->records[i];
        bool alias = record_is(record, name, "CNAME", NULL, 0);

        known = known || strncmp(record + (*record == '+'), name, strlen(name)) == 0;
        if (!alias && !record_is(record, name, type, NULL, 0))
            continue;
        put_record(&m, record + (*record == '+'), false);
        found += !alias;
        if (alias)
            (void)record_is(record, name, "CNAME", name, sizeof(name));
    }
    for (size_t i = 0; question->type == DNS_TYPE_SRV && i < 12 && server->records[i]; i++) {
        if (server->records[i][0] == '+')
            put_record(&m, server->records[i] + 1, true);
    }
    if (m.bytes[7] > 0)
        dns_lookup_answer(lookup, question, DNS_ANSWERED, slice_make(m.bytes, m.len), NULL);
    else
        dns_lookup_answer(lookup, question, known ? DNS_NO_DATA : DNS_NO_NAME, slice_make(NULL, 0), NULL);
    (void)found;
}

/* A whole look-up. Returns how many questions it took. */
static unsigned look_up(const struct server *server, const char *hostname, const char *const *domains, size_t domain_count,
    const struct dns_result *before, struct dns_result *out_result)
{
    struct dns_lookup lookup;
    struct dns_question *question;
    unsigned asked = 0;

    dns_lookup_init(&lookup, hostname, PORT, domains, domain_count, 1, before && before->sure ? before->chosen : "");
    do {
        while ((question = dns_lookup_next(&lookup))) {
            serve(server, &lookup, question);
            asked++;
        }
    } while (dns_lookup_more(&lookup));
    dns_lookup_finish(&lookup, before, out_result);
    dns_lookup_deinit(&lookup);
    return asked;
}

/* "10.0.0.1:4317 [::1]:4317=name " … */
static const char *text_of(const struct dns_list *list)
{
    static char text[4096];
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < list->count; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s%s ", list->items[i].address, list->items[i].name[0] ? "=" : "",
            list->items[i].name);
    return text;
}

/* -- one look-up ------------------------------------------------------------------------------------------------ */

static const char *const domains[] = {"obs.svc", "svc"};

static const struct {
    const char *what;
    struct server server;
    const char *hostname;
    const char *list;   /* "": none */
    uint32_t ttl_s;
    const char *reason; /* "": no failure */
    unsigned asked;     /* with search domains obs.svc and svc, and ndots 1 */
} cases[] = {
    {"both families", {{"s.x 30 A 10.0.0.2", "s.x 30 A 10.0.0.1", "s.x 20 AAAA 2001:db8::1"}}, "s.x",
        "10.0.0.1:4317 10.0.0.2:4317 [2001:db8::1]:4317 ", 20, "", 6},
    {"one family alone", {{"s.x 5 AAAA ::1"}}, "s.x.", "[::1]:4317 ", 5, "", 2},
    {"the same twice", {{"s.x 5 A 10.0.0.1", "s.x 5 A 10.0.0.1"}}, "s.x.", "10.0.0.1:4317 ", 5, "", 2},
    {"case does not matter", {{"s.x 5 A 10.0.0.1"}}, "S.X.", "10.0.0.1:4317 ", 5, "", 2},
    {"aliases, and their TTL", {{"s.x 3 CNAME t.x", "t.x 9 CNAME u.x", "u.x 7 A 10.0.0.1"}}, "s.x.", "10.0.0.1:4317 ", 3, "", 2},
    {"an alias that leads nowhere", {{"s.x 3 CNAME t.x"}}, "s.x.", "", DNS_TTL_NONE, "A s.x: no such record", 2},
    {"an alias of itself", {{"s.x 3 CNAME s.x", "s.x 3 CNAME s.x"}}, "s.x.", "", DNS_TTL_NONE, "A s.x: no such record", 2},
    {"no such name", {{"other 3 A 10.0.0.1"}}, "s.x.", "", DNS_TTL_NONE, "A s.x: no such name", 2},
    {"no address", {{"s.x 3 SRV 1 t"}}, "s.x.", "", DNS_TTL_NONE, "A s.x: no such record", 2},
    {"one family fails, nothing was known", {{"s.x 3 A 10.0.0.1", "s.x AAAA!"}}, "s.x.", "10.0.0.1:4317 ", 3, "", 2},
    {"one family has no such record, the other fails", {{"s.x 3 TXT -", "s.x AAAA!"}}, "s.x.", "", DNS_TTL_NONE, "AAAA s.x: broken", 2},
    {"rubbish", {{"s.x A~", "s.x AAAA~"}}, "s.x.", "", DNS_TTL_NONE, "A s.x: an answer that is no DNS message", 2},
    {"never an answer", {{"s.x A-", "s.x AAAA-"}}, "s.x.", "", DNS_TTL_NONE, "A s.x: no answer in time", 2},
    {"a search domain, in order", {{"s.obs.svc 5 A 10.0.0.1", "s.svc 5 A 10.0.0.2", "s 5 A 10.0.0.3"}}, "s", "10.0.0.1:4317 ", 5, "", 6},
    {"the next search domain", {{"s.svc 5 A 10.0.0.2", "s 5 A 10.0.0.3"}}, "s", "10.0.0.2:4317 ", 5, "", 6},
    {"as it stands, last", {{"s 5 A 10.0.0.3"}}, "s", "10.0.0.3:4317 ", 5, "", 6},
    {"families are not mixed over domains", {{"s.obs.svc 5 A 10.0.0.1", "s.svc 5 AAAA ::1"}}, "s", "10.0.0.1:4317 ", 5, "", 6},
    {"enough dots: as it stands, first", {{"s.x 5 A 10.0.0.1", "s.x.svc 5 A 10.0.0.2"}}, "s.x", "10.0.0.1:4317 ", 5, "", 6},
    {"services", {{"_o._t.s 5 SRV 4317 a.s", "_o._t.s 5 SRV 4318 b.s", "a.s 4 A 10.0.0.1", "b.s 9 AAAA ::1"}}, "_o._t.s.",
        "10.0.0.1:4317=a.s:4317 [::1]:4318=b.s:4318 ", 4, "", 5},
    {"services with addresses in passing", {{"_o._t.s 5 SRV 4317 a.s", "_o._t.s 5 SRV 1 b.s", "+a.s 4 A 10.0.0.1", "b.s 9 A 10.0.0.2"}},
        "_o._t.s.", "10.0.0.1:4317=a.s:4317 10.0.0.2:1=b.s:1 ", 4, "", 3},
    {"one target, two ports", {{"_o._t.s 5 SRV 1 a.s", "_o._t.s 5 SRV 2 a.s", "+a.s 6 A 10.0.0.1"}}, "_o._t.s.",
        "10.0.0.1:1=a.s:1 10.0.0.1:2=a.s:2 ", 5, "", 1},
    {"a service that is not offered", {{"_o._t.s 5 SRV 1 ."}}, "_o._t.s.", "", DNS_TTL_NONE, "SRV _o._t.s: its targets have no address", 1},
    {"a service at port 0", {{"_o._t.s 5 SRV 0 a.s", "+a.s 5 A 10.0.0.1"}}, "_o._t.s.", "", DNS_TTL_NONE,
        "SRV _o._t.s: its targets have no address", 1},
    {"no such service", {{"s 5 A 10.0.0.1"}}, "_o._t.s.", "", DNS_TTL_NONE, "SRV _o._t.s: no such name", 1},
    {"the service by an alias", {{"_o._t.s 2 CNAME _p._t.s", "_p._t.s 5 SRV 7 a.s", "+a.s 5 A 10.0.0.1"}}, "_o._t.s.",
        "10.0.0.1:7=a.s:7 ", 2, "", 1},
    {"a service in a search domain", {{"_o._t.s.svc 5 SRV 7 a.s", "a.s 5 A 10.0.0.1"}}, "_o._t.s", "10.0.0.1:7=a.s:7 ", 5, "", 5},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dns_result result;
        unsigned asked = look_up(&cases[i].server, cases[i].hostname, domains, 2, NULL, &result);
        const char *got = text_of(&result.list);

        if (strcmp(got, cases[i].list) != 0 || result.list.ttl_s != cases[i].ttl_s || asked != cases[i].asked ||
            strcmp(result.reason, cases[i].reason) != 0 || result.failed != (cases[i].reason[0] != '\0') ||
            result.confirmed != (cases[i].list[0] != '\0'))
            fail_msg("%s: got \"%s\" ttl %u, \"%s\", after %u questions", cases[i].what, got, result.list.ttl_s, result.reason, asked);
        dns_list_deinit(&result.list);
    }
}

/* -- one after the other ----------------------------------------------------------------------------------------- */

static const struct {
    const char *what;
    const char *hostname;
    struct server first, second;
    const char *list; /* after the second look-up */
    bool failed, confirmed;
    unsigned asked;   /* by the second */
} pairs[] = {
    {"what fails keeps what it gave", "s.x.", {{"s.x 3 A 10.0.0.1", "s.x 3 AAAA ::1"}}, {{"s.x 3 A 10.0.0.2", "s.x AAAA!"}},
        "10.0.0.2:4317 [::1]:4317 ", true, true, 2},
    {"rubbish too", "s.x.", {{"s.x 3 A 10.0.0.1", "s.x 3 AAAA ::1"}}, {{"s.x A~", "s.x 3 AAAA ::2"}},
        "10.0.0.1:4317 [::2]:4317 ", true, true, 2},
    {"no data is an answer", "s.x.", {{"s.x 3 A 10.0.0.1", "s.x 3 AAAA ::1"}}, {{"s.x 3 A 10.0.0.2"}}, "10.0.0.2:4317 ", false, true, 2},
    {"all fails: not confirmed", "s.x.", {{"s.x 3 A 10.0.0.1"}}, {{"s.x A!", "s.x AAAA!"}}, "10.0.0.1:4317 ", true, false, 2},
    {"gone: nothing, and no list of before", "s.x.", {{"s.x 3 A 10.0.0.1"}}, {{"t 3 A 10.0.0.1"}}, "", true, false, 2},
    {"who answered for sure is asked alone", "s", {{"s.svc 3 A 10.0.0.1"}}, {{"s.svc 3 A 10.0.0.2", "s.obs.svc 3 A 10.9.9.9"}},
        "10.0.0.2:4317 ", false, true, 2},
    {"and the others once it is gone", "s", {{"s.svc 3 A 10.0.0.1"}}, {{"s 3 A 10.0.0.3"}}, "10.0.0.3:4317 ", false, true, 6},
    {"but not while it fails", "s", {{"s.svc 3 A 10.0.0.1"}}, {{"s.svc A!", "s.svc AAAA!", "s 3 A 10.0.0.3"}}, "10.0.0.1:4317 ", true,
        false, 2},
    {"unsure: the one before failed, and is asked again", "s", {{"s.obs.svc A!", "s.obs.svc AAAA!", "s.svc 3 A 10.0.0.1"}},
        {{"s.obs.svc 3 A 10.0.0.9", "s.svc 3 A 10.0.0.1"}}, "10.0.0.9:4317 ", false, true, 6},
    {"a target that fails keeps its addresses", "_o._t.s.", {{"_o._t.s 3 SRV 1 a", "_o._t.s 3 SRV 2 b", "a 3 A 10.0.0.1", "b 3 A 10.0.0.2"}},
        {{"_o._t.s 3 SRV 1 a", "_o._t.s 3 SRV 2 b", "a A!", "a AAAA-", "b 3 A 10.0.0.3"}}, "10.0.0.1:1=a:1 10.0.0.3:2=b:2 ", true, true, 5},
    {"also if they came in passing", "_o._t.s.", {{"_o._t.s 3 SRV 1 a", "+a 3 A 10.0.0.1"}}, {{"_o._t.s 3 SRV 1 a", "a A!"}},
        "10.0.0.1:1=a:1 ", true, true, 3},
    {"a target that is no longer one does not", "_o._t.s.", {{"_o._t.s 3 SRV 1 a", "_o._t.s 3 SRV 2 b", "a 3 A 10.0.0.1", "b 3 A 10.0.0.2"}},
        {{"_o._t.s 3 SRV 1 a", "a 3 A 10.0.0.1", "b A!"}}, "10.0.0.1:1=a:1 ", false, true, 3},
    {"the service fails", "_o._t.s.", {{"_o._t.s 3 SRV 1 a", "+a 3 A 10.0.0.1"}}, {{"_o._t.s SRV!"}}, "", true, false, 1},
};

static void test_pairs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct dns_result before, result;
        unsigned asked;

        (void)look_up(&pairs[i].first, pairs[i].hostname, domains, 2, NULL, &before);
        assert_true(before.list.count > 0);
        asked = look_up(&pairs[i].second, pairs[i].hostname, domains, 2, &before, &result);
        if (strcmp(text_of(&result.list), pairs[i].list) != 0 || result.failed != pairs[i].failed ||
            result.confirmed != pairs[i].confirmed || asked != pairs[i].asked)
            fail_msg("%s: got \"%s\", failed %d (%s), confirmed %d, after %u questions", pairs[i].what, text_of(&result.list),
                result.failed, result.reason, result.confirmed, asked);
        dns_list_deinit(&before.list);
        dns_list_deinit(&result.list);
    }
}

/* -- messages that lie --------------------------------------------------------------------------------------------- */

/* A message cut anywhere is rubbish, or says no more than before. */
static void test_cut(void **state)
{
    struct message m = message_of("s.x", DNS_TYPE_A);

    (void)state;
    put_record(&m, "s.x 5 CNAME t.x", false);
    put_record(&m, "t.x 5 A 10.0.0.1", false);
    put_record(&m, "t.x 5 AAAA ::1", true);
    for (size_t len = 0; len <= m.len; len++) {
        struct dns_answer answer;
        uint8_t *exact = malloc(len + 1); /* so that a read past its end shows */
        int r;

        assert_non_null(exact);
        memcpy(exact, m.bytes, len);
        r = dns_answer_read(slice_make(exact, len), &answer);
        assert_int_equal(r, len == m.len ? 0 : DNS_E_GARBAGE);
        if (r == 0) {
            assert_int_equal(answer.count, 3);
            dns_answer_deinit(&answer);
        }
        free(exact);
    }
}

/* A name that points at itself, an address of the wrong length, a TTL with its top bit set. */
static void test_lies(void **state)
{
    struct message m = message_of("s.x", DNS_TYPE_A);
    struct dns_answer answer;

    (void)state;
    m.bytes[12] = 0xc0;
    m.bytes[13] = 12;
    assert_int_equal(dns_answer_read(slice_make(m.bytes, m.len), &answer), DNS_E_GARBAGE);

    m = message_of("s.x", DNS_TYPE_A);
    put_record(&m, "s.x 5 A 10.0.0.1", false);
    m.bytes[m.len - 5] = 3;
    assert_int_equal(dns_answer_read(slice_make(m.bytes, m.len - 1), &answer), DNS_E_GARBAGE);

    m = message_of("s.x", DNS_TYPE_A);
    put_record(&m, "s.x 4000000000 A 10.0.0.1", false);
    assert_int_equal(dns_answer_read(slice_make(m.bytes, m.len), &answer), 0);
    assert_int_equal(answer.records[0].ttl_s, 0); /* RFC 2181 section 8 */
    dns_answer_deinit(&answer);
}

static void test_is_service(void **state)
{
    static const struct {
        const char *hostname;
        bool is;
    } names[] = {{"_otlp._tcp.sampler", true}, {"_a._b.c.d", true}, {"sampler", false}, {"_otlp.tcp.sampler", false}, {"_._tcp.s", false},
        {"_otlp._.s", false}, {"_otlp._tcp", false}, {"_otlp._tcp.", false}, {"_", false}, {"", false}};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (dns_is_service(names[i].hostname) != names[i].is)
            fail_msg("%s", names[i].hostname);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_is_service),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
