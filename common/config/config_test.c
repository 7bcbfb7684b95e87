/* YAML becomes what the Collector would make of it, and whatever is wrong is said with file, line and key path, all at once. */
#include "common/config/config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/config/command_line.h"
#include "common/config/endpoint.h"
#include "common/config/otlp_config.h"
#include "common/config/yaml.h"

static const struct config_node *load(struct config_context *context, const char *text)
{
    return config_load_text(context, "a.yaml", text, strlen(text));
}

static void check_text(const char *what, const char *got, const char *wanted)
{
    if (!got || strcmp(got, wanted) != 0)
        fail_msg("%s\ngot:      %s\nexpected: %s", what, got ? got : "(none)", wanted);
}

/* -- the tree ----------------------------------------------------------------------------------- */

/* A plain scalar is what YAML's core schema says, a quoted one a text. */
static void test_kinds(void **state)
{
    static const struct {
        const char *text;
        enum config_node_kind kind;
    } cases[] = {
        {"5", CONFIG_NODE_INTEGER},
        {"-5", CONFIG_NODE_INTEGER},
        {"+5", CONFIG_NODE_INTEGER},
        {"0x1F", CONFIG_NODE_INTEGER},
        {"0o17", CONFIG_NODE_INTEGER},
        {"017", CONFIG_NODE_INTEGER},
        {"0b101", CONFIG_NODE_INTEGER},
        {"1_000", CONFIG_NODE_INTEGER},
        {"0", CONFIG_NODE_INTEGER},
        {"08", CONFIG_NODE_FLOAT},
        {"1.5", CONFIG_NODE_FLOAT},
        {".5", CONFIG_NODE_FLOAT},
        {"5.", CONFIG_NODE_FLOAT},
        {"1e3", CONFIG_NODE_FLOAT},
        {"-1.5E-3", CONFIG_NODE_FLOAT},
        {".inf", CONFIG_NODE_FLOAT},
        {"-.INF", CONFIG_NODE_FLOAT},
        {".nan", CONFIG_NODE_FLOAT},
        {"true", CONFIG_NODE_BOOL},
        {"False", CONFIG_NODE_BOOL},
        {"~", CONFIG_NODE_NULL},
        {"null", CONFIG_NODE_NULL},
        {"", CONFIG_NODE_NULL},
        {"yes", CONFIG_NODE_STRING},
        {"on", CONFIG_NODE_STRING},
        {"tRue", CONFIG_NODE_STRING},
        {"5s", CONFIG_NODE_STRING},
        {"1e", CONFIG_NODE_STRING},
        {".", CONFIG_NODE_STRING},
        {"_5", CONFIG_NODE_STRING},
        {"0x", CONFIG_NODE_STRING},
        {"\"5\"", CONFIG_NODE_STRING},
        {"'true'", CONFIG_NODE_STRING},
        {"\"\"", CONFIG_NODE_STRING},
        {"!!str 5", CONFIG_NODE_STRING},
        {"! 5", CONFIG_NODE_STRING},
        {"!!int \"5\"", CONFIG_NODE_INTEGER},
        {"!!float 5", CONFIG_NODE_FLOAT},
        {"[1]", CONFIG_NODE_SEQUENCE},
        {"{a: 1}", CONFIG_NODE_MAP},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        char text[64];
        const struct config_node *root;

        (void)snprintf(text, sizeof(text), "k: %s\n", cases[i].text);
        root = load(context, text);
        check_text(text, config_errors(context), "");
        if (config_node_kind(config_node_get(root, "k")) != cases[i].kind)
            fail_msg("%s: got kind %d, expected %d", text, config_node_kind(config_node_get(root, "k")), cases[i].kind);
        config_context_free(context);
    }
}

/* Each node knows its line and path; a block stands where its key is. */
static void test_places(void **state)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = load(context,
        "# a comment\n"
        "processors:\n"
        "  tail_sampling/x:\n"
        "    policies:\n"
        "      - name: a\n"
        "        type: b\n"
        "      - { name: c,\n"
        "          type: d }\n");
    const struct config_node *block = config_node_get(config_node_get(root, "processors"), "tail_sampling/x");
    const struct config_node *policies = config_node_get(block, "policies");
    const struct config_node *type = config_node_get(config_node_at(policies, 1), "type");

    (void)state;
    assert_int_equal(config_node_line(block), 3);
    assert_int_equal(config_node_count(policies), 2);
    assert_int_equal(config_node_line(config_node_at(policies, 0)), 5);
    assert_int_equal(config_node_line(type), 8);
    assert_string_equal(config_node_text(type), "d");
    assert_string_equal(config_node_name(type), "type");
    assert_string_equal(config_node_path(type), "processors.tail_sampling/x.policies[1].type");
    assert_string_equal(config_node_file(type), "a.yaml");
    assert_string_equal(config_node_path(root), "");
    assert_string_equal(config_node_key(config_node_at(policies, 0), 1), "type");
    assert_null(config_node_key(config_node_at(policies, 0), 2));
    assert_null(config_node_at(policies, 2));
    assert_null(config_node_get(policies, "name"));
    assert_string_equal(config_node_text(policies), "");
    assert_null(config_node_get(NULL, "name"));
    assert_int_equal(config_node_kind(NULL), CONFIG_NODE_NULL);
    config_context_free(context);
}

/* An alias is a copy, `<<` fills in what is not there. */
static void test_aliases(void **state)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = load(context,
        "a: &a {x: 1, y: 2}\n"
        "b: &b {y: 3, z: 4}\n"
        "c: {<<: *a, x: 5}\n"
        "d: {x: 6, <<: [*a, *b]}\n"
        "e: *a\n");
    char *printed;

    (void)state;
    check_text("aliases", config_errors(context), "");
    printed = config_print(root);
    check_text("aliases", printed,
        "a:\n  x: 1\n  y: 2\n"
        "b:\n  y: 3\n  z: 4\n"
        "c:\n  x: 5\n  y: 2\n"
        "d:\n  x: 6\n  y: 2\n  z: 4\n"
        "e:\n  x: 1\n  y: 2\n");
    free(printed);
    config_context_free(context);
}

/* What is no tree of ours is refused with its line. */
static void test_bad_yaml(void **state)
{
    static const struct {
        const char *text, *errors;
    } cases[] = {
        {"a: 1\nb: 2\na: 3\n", "a.yaml:3: the key `a` is here twice; it is also on line 1\n"},
        {"a: 1\n---\nb: 2\n", "a.yaml:2: a second document starts here; give each its own file and --config, or remove the `---`\n"},
        {"a: *x\n", "a.yaml:1: the alias *x names no anchor\n"},
        {"a: &x [*x]\n", "a.yaml:1: the alias *x stands inside what it names\n"},
        {"a: !lua 5\n", "a.yaml:1: the tag !lua is not known, or does not fit its value\n"},
        {"a: !!int five\n", "a.yaml:1: the tag tag:yaml.org,2002:int is not known, or does not fit its value\n"},
        {"a: !x {b: 1}\n", "a.yaml:1: the tag !x is not known\n"},
        {"? [a]\n: b\n", "a.yaml:1: a key must be a plain word or text\n"},
        {"a: \"x\\0y\"\n", "a.yaml:1: a text with a NUL character in it\n"},
        {"a: {<<: 5}\n", "a.yaml:1: `<<` takes a map or a list of maps\n"},
        {"- a\n- b\n", "a.yaml:1: expected a map with receivers, exporters and service, found a list\n"},
        {"just words\n", "a.yaml:1: expected a map with receivers, exporters and service, found a text\n"},
        {"a:\n\t- b\n", "a.yaml:2: not valid YAML: found character that cannot start any token while scanning for the next token\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();

        assert_null(load(context, cases[i].text));
        check_text(cases[i].text, config_errors(context), cases[i].errors);
        config_context_free(context);
    }
}

/* Neither depth nor aliases of aliases grow past the bounds; the answer is an error, soon. */
static void test_bombs(void **state)
{
    struct config_context *context = config_context_new();
    char text[2048];
    size_t len = 0;

    (void)state;
    memset(text, '[', 1000);
    text[1000] = '\0';
    assert_null(load(context, text));
    check_text("depth", config_errors(context), "a.yaml:1: nested deeper than 64 levels\n");
    config_context_free(context);

    context = config_context_new();
    len += (size_t)snprintf(text + len, sizeof(text) - len, "a0: &a0 x\n");
    for (int i = 1; i < 20; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1);
    assert_null(load(context, text));
    assert_non_null(strstr(config_errors(context), "more than 100000 values"));
    config_context_free(context);
}

static void test_empty(void **state)
{
    struct config_context *context = config_context_new();

    (void)state;
    assert_int_equal(config_node_kind(load(context, "")), CONFIG_NODE_MAP);
    assert_int_equal(config_node_kind(load(context, "# nothing\n")), CONFIG_NODE_MAP);
    check_text("empty", config_errors(context), "");
    config_context_free(context);
}

/* -- variables ------------------------------------------------------------------------------------ */

static void test_env(void **state)
{
    static const struct {
        const char *value;  /* as in the file */
        const char *printed; /* what stands there then */
        const char *errors, *warnings;
    } cases[] = {
        {"${env:T_WORD}", "word", "", ""},
        {"\"${env:T_WORD}\"", "word", "", ""},
        {"${T_WORD}", "word", "", ""},
        {"a-${env:T_WORD}-${env:T_NUMBER}", "a-word-12", "", ""},
        {"${env:T_NUMBER}", "12", "", ""},
        {"\"${env:T_NUMBER}\"", "12", "", ""}, /* quotes do not matter to the Collector either */
        {"${env:T_NUMBER}0", "\"120\"", "", ""}, /* part of a text: a text */
        {"${env:T_BOOL}", "true", "", ""},
        {"${env:T_LIST}", "\n  - a\n  - 2", "", ""},
        {"${env:T_EMPTY}", "null", "", ""},
        {"${env:T_EMPTY:-x}", "null", "", ""}, /* empty counts as set */
        {"${env:T_NONE:-x}", "x", "", ""},
        {"${env:T_NONE:-}", "null", "", ""},
        {"${env:T_NONE:-5}", "5", "", ""},
        {"\"${env:T_NONE:-a:-b}\"", "\"a:-b\"", "", ""},
        {"${env:T_NONE:-${env:T_WORD}}", "word", "", ""},
        {"${env:T_${env:T_WORD_NAME}}", "word", "", ""},
        {"${env:T_OUTER}", "word", "", ""},
        {"${env:T_NONE}", "null", "", "a.yaml:1: k: the environment variable T_NONE is not set: taken as empty\n"},
        {"a${env:T_NONE}b", "ab", "", "a.yaml:1: k: the environment variable T_NONE is not set: taken as empty\n"},
        {"$$", "\"$$\"", "", ""}, /* one $, doubled again when printed */
        {"$${env:T_WORD}", "\"$${env:T_WORD}\"", "", ""},
        {"$$${env:T_WORD}", "\"$$word\"", "", ""},
        {"a$b$", "\"a$$b$$\"", "", ""},
        {"\"^a$\"", "\"^a$$\"", "", ""},
        {"${env:T_WORD", "\"$${env:T_WORD\"", "", ""},
        {"${env:T-X}", NULL, "a.yaml:1: k: `T-X` is no name of an environment variable (letters, digits and _); $$ is a plain $\n", ""},
        {"${env:}", NULL, "a.yaml:1: k: `` is no name of an environment variable (letters, digits and _); $$ is a plain $\n", ""},
        {"${file:/x}", NULL, "a.yaml:1: k: ${file:…} is not supported: only ${env:NAME} and ${env:NAME:-default} are; $$ is a plain $\n", ""},
        {"\"${T_WORD:-x}\"", NULL, "a.yaml:1: k: write ${env:T_WORD:-x} for a variable with a default\n", ""},
        {"${env:T_SELF}", NULL, "a.yaml:1: k: environment variables refer to each other more than 16 deep\n", ""},
        {"${env:T_NOT_YAML}", "\"{ not: yaml\"", "", ""},
    };

    (void)state;
    setenv("T_WORD", "word", 1);
    setenv("T_WORD_NAME", "WORD", 1);
    setenv("T_NUMBER", "12", 1);
    setenv("T_BOOL", "true", 1);
    setenv("T_LIST", "[a, 2]", 1);
    setenv("T_EMPTY", "", 1);
    setenv("T_OUTER", "${env:T_WORD}", 1);
    setenv("T_SELF", "${env:T_SELF}", 1);
    setenv("T_NOT_YAML", "{ not: yaml", 1);
    unsetenv("T_NONE");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        char text[128], wanted[160];
        const struct config_node *root;

        (void)snprintf(text, sizeof(text), "k: %s\n", cases[i].value);
        root = load(context, text);
        check_text(text, config_errors(context), cases[i].errors);
        check_text(text, config_warnings(context), cases[i].warnings);
        if (cases[i].printed) {
            char *printed = config_print(root);

            (void)snprintf(wanted, sizeof(wanted), cases[i].printed[0] == '\n' ? "k:%s\n" : "k: %s\n", cases[i].printed);
            check_text(text, printed, wanted);
            free(printed);
        } else {
            assert_null(root);
        }
        config_context_free(context);
    }
}

/* A chain of variables that doubles at each step ends in an error, not in an hour. */
static void test_env_bomb(void **state)
{
    struct config_context *context = config_context_new();

    (void)state;
    for (int i = 0; i < 15; i++) {
        char name[16], value[256] = "";

        (void)snprintf(name, sizeof(name), "T_B%d", i);
        for (int j = 0; j < 10; j++)
            (void)snprintf(value + strlen(value), sizeof(value) - strlen(value), "${env:T_B%d}", i + 1);
        setenv(name, value, 1);
    }
    setenv("T_B15", "", 1);
    assert_null(load(context, "k: ${env:T_B0}\n"));
    check_text("bomb", config_errors(context), "a.yaml:1: k: grows past 1048576 bytes when its variables are put in\n");
    config_context_free(context);
}

/* -- tables ---------------------------------------------------------------------------------------- */

struct inner {
    int64_t number;
    bool there;
};

struct outer {
    bool flag;
    int64_t integer;
    uint64_t natural;
    bool natural_set;
    double real;
    char *text;
    int64_t duration;
    int64_t span;
    uint64_t mib;
    struct config_strings list;
    enum { CHOICE_ONE, CHOICE_TWO } choice;
    const struct config_node *node;
    struct inner inner;
    bool inner_set;
    int64_t beside;
    const char *password;
};

static const struct config_key inner_keys[] = {
    CONFIG_KEY(struct inner, number, CONFIG_INT, "A number."),
    {0},
};

static const struct config_key section_keys[] = {
    CONFIG_KEY(struct outer, beside, CONFIG_INT, "A number of the outer struct."),
    {0},
};

static const struct config_key outer_keys[] = {
    CONFIG_KEY(struct outer, flag, CONFIG_BOOL, "A switch."),
    CONFIG_KEY(struct outer, integer, CONFIG_INT, "A number."),
    CONFIG_KEY_SET(struct outer, natural, "natural", CONFIG_UINT, natural_set, "A number of zero or more."),
    CONFIG_KEY(struct outer, real, CONFIG_DOUBLE, "A number."),
    CONFIG_KEY(struct outer, text, CONFIG_STRING, "A text."),
    CONFIG_KEY(struct outer, duration, CONFIG_DURATION, "A duration."),
    CONFIG_KEY(struct outer, span, CONFIG_SPAN, "A duration."),
    CONFIG_KEY(struct outer, mib, CONFIG_MIB, "A size."),
    CONFIG_KEY(struct outer, list, CONFIG_STRINGS, "A list."),
    CONFIG_KEY_CHOICE(struct outer, choice, "choice", "one|two", "A choice."),
    CONFIG_KEY(struct outer, node, CONFIG_NODE, "Anything."),
    {.name = "inner", .type = CONFIG_MAP, .offset = offsetof(struct outer, inner), .nested = inner_keys,
        .set_offset = offsetof(struct outer, inner_set), .help = "A map."},
    CONFIG_SECTION("section", section_keys, "A map."),
    CONFIG_KEY(struct outer, password, CONFIG_STRING, "A text."),
    CONFIG_REFUSE("refused", "the reason; the remedy"),
    CONFIG_REFUSE_UNLESS("refused_unless", "false|0", "the reason"),
    CONFIG_IGNORE("ignored", "the reason"),
    CONFIG_IGNORE_UNLESS("ignored_unless", "5", "the reason"),
    {0},
};

static const struct outer outer_defaults = {
    .integer = -7, .natural = 7, .real = 0.5, .duration = 1, .span = 2, .mib = 3, .choice = CHOICE_TWO};

/* Coercions: every accepted value and what it becomes, as text. */
static void test_values(void **state)
{
    static const struct {
        const char *yaml, *got;
    } cases[] = {
        {"", "integer=-7 natural=7 real=0.5 duration=1 span=2 mib=3 choice=1"},
        {"integer: 5", "integer=5"},
        {"integer: -5", "integer=-5"},
        {"integer: 1.5", "integer=1"}, /* cut off */
        {"integer: -1.9", "integer=-1"},
        {"integer: 0x1f", "integer=31"},
        {"integer: 017", "integer=15"},
        {"integer: 0o17", "integer=15"},
        {"integer: 0b11", "integer=3"},
        {"integer: 1_000", "integer=1000"},
        {"integer: 0", "integer=0"},
        {"integer: -9223372036854775808", "integer=-9223372036854775808"},
        {"integer: ~", "integer=-7"}, /* the default stays */
        {"natural: 18446744073709551615", "natural=18446744073709551615 set"},
        {"natural: 0", "natural=0 set"},
        {"natural: -0", "natural=0 set"},
        {"natural: 2.9", "natural=2 set"},
        {"natural:", "natural=7"},
        {"real: 5", "real=5"},
        {"real: -1.25e2", "real=-125"},
        {"real: .inf", "real=inf"},
        {"real: .nan", "real=nan"},
        {"flag: true", "flag"},
        {"flag: FALSE", ""},
        {"text: word", "text=word"},
        {"text: \"5\"", "text=5"},
        {"text: \"\"", "text="},
        {"text: ${env:T_DIGITS}", "text=0077"}, /* as it is, not as a number */
        {"integer: ${env:T_DIGITS}", "integer=63"},
        {"duration: 1m30s", "duration=90000000000"},
        {"duration: -5s", "duration=-5000000000"},
        {"duration: \"0\"", "duration=0"},
        {"duration: 10000000", "duration=10000000"}, /* nanoseconds */
        {"duration: 2000000.9", "duration=2000000"},
        {"span: 0s", "span=0"},
        {"mib: 4", "mib=4194304"},
        {"list: [a, b]", "list=a,b"},
        {"list: a", "list=a"},
        {"list: []", "list="},
        {"list: [a, ~]", "list=a,"},
        {"list: [\"5\"]", "list=5"},
        {"choice: one", "choice=0"},
        {"node: {x: 1}", "node"},
        {"inner:", "inner"},
        {"inner: {}", "inner"},
        {"inner: {number: 4}", "inner=4"},
        {"section: {beside: 4}", "beside=4"},
        {"refused: ~", ""},
        {"refused_unless: false", ""},
        {"refused_unless: 0", ""},
        {"ignored_unless: 5", ""},
    };

    (void)state;
    setenv("T_DIGITS", "0077", 1);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        struct outer outer = outer_defaults;
        char got[256] = "";
        const struct config_node *root = load(context, cases[i].yaml);
        bool all = cases[i].yaml[0] == '\0';

        if (config_read(context, root, outer_keys, &outer) != 0 || *config_errors(context) || *config_warnings(context))
            fail_msg("%s: %s%s", cases[i].yaml, config_errors(context), config_warnings(context));
#define GOT(...) (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), __VA_ARGS__)
#define HAS(key) (all || strncmp(cases[i].yaml, key ":", sizeof(key)) == 0)
        if (outer.flag)
            GOT(" flag");
        if (HAS("integer"))
            GOT(" integer=%lld", (long long)outer.integer);
        if (HAS("natural"))
            GOT(" natural=%llu%s", (unsigned long long)outer.natural, outer.natural_set ? " set" : "");
        if (HAS("real"))
            GOT(" real=%g", isnan(outer.real) ? (double)NAN : outer.real);
        if (outer.text)
            GOT(" text=%s", outer.text);
        if (HAS("duration"))
            GOT(" duration=%lld", (long long)outer.duration);
        if (HAS("span"))
            GOT(" span=%lld", (long long)outer.span);
        if (HAS("mib"))
            GOT(" mib=%llu", (unsigned long long)outer.mib);
        if (HAS("list")) {
            if (!all)
                GOT(" list=");
            for (size_t j = 0; j < outer.list.count; j++)
                GOT("%s%s", j ? "," : "", outer.list.items[j]);
        }
        if (HAS("choice"))
            GOT(" choice=%d", (int)outer.choice);
        if (outer.node)
            GOT(" node");
        if (outer.inner_set)
            GOT(" inner");
        if (outer.inner.number)
            GOT("=%lld", (long long)outer.inner.number);
        if (outer.beside)
            GOT(" beside=%lld", (long long)outer.beside);
        check_text(cases[i].yaml, *got ? got + 1 : got, cases[i].got);
        config_context_free(context);
    }
}

/* Mistakes: each with its line, path and what was expected. */
static void test_mistakes(void **state)
{
    static const struct {
        const char *yaml, *errors;
    } cases[] = {
        {"integer: five", "integer: expected a whole number, found a text \"five\""},
        {"integer: \"5\"", "integer: expected a whole number, found a text \"5\""},
        {"integer: true", "integer: expected a whole number, found true or false (true)"},
        {"integer: [5]", "integer: expected a whole number, found a list"},
        {"integer: 9223372036854775808", "integer: 9223372036854775808 does not fit in 64 bits"},
        {"integer: 1e30", "integer: 1e30 does not fit in 64 bits"},
        {"integer: .nan", "integer: .nan does not fit in 64 bits"},
        {"natural: -1", "natural: expected a number of zero or more, found -1"},
        {"natural: -0.5", "natural: expected a number of zero or more, found -0.5"},
        {"natural: 18446744073709551616", "natural: 18446744073709551616 does not fit in 64 bits"},
        {"natural: .inf", "natural: .inf does not fit in 64 bits"},
        {"real: \"1.5\"", "real: expected a number, found a text \"1.5\""},
        {"flag: \"true\"", "flag: expected true or false, found a text \"true\""},
        {"flag: yes", "flag: expected true or false, found a text \"yes\""},
        {"flag: 1", "flag: expected true or false, found a whole number (1)"},
        {"text: 5", "text: expected a text, found a whole number (5); put it in quotes"},
        {"text: true", "text: expected a text, found true or false (true); put it in quotes"},
        {"text: {a: b}", "text: expected a text, found a map"},
        {"duration: \"10\"", "duration: the duration \"10\" lacks a unit: one of h, m, s, ms, us, ns"},
        {"duration: 10 s", "duration: expected a duration such as 10s or 1m30s, found a text \"10 s\""},
        {"duration: 9999999h", "duration: the duration \"9999999h\" is longer than 292 years"},
        {"duration: true", "duration: expected a duration such as 10s or 1m30s, found true or false (true)"},
        {"span: -5s", "span: expected a duration of zero or more, found -5s"},
        {"mib: -1", "mib: expected a number of zero or more, found -1"},
        {"mib: 17592186044416", "mib: 17592186044416 MiB does not fit in 64 bits of bytes"},
        {"list: [a, 5]", "list[1]: expected a text, found a whole number (5); put it in quotes"},
        {"list: {a: b}", "list: expected a text, found a map"},
        {"choice: three", "choice: expected one of: one two; found \"three\""},
        {"inner: 5", "inner: expected a map of keys, found a whole number (5)"},
        {"inner: {numbre: 5}", "inner.numbre: unknown key; did you mean `number`?"},
        {"inner: {other: 5}", "inner.other: unknown key; known here: number"},
        {"intger: 5", "intger: unknown key; did you mean `integer`?"},
        {"refuesd: 5", "refuesd: unknown key; did you mean `refused`?"},
        {"section: {Beside: 4}", "section.Beside: unknown key; did you mean `beside`?"}, /* case matters */
        {"refused: 5", "refused: not supported: the reason; the remedy"},
        {"refused: {}", "refused: not supported: the reason; the remedy"},
        {"refused_unless: true", "refused_unless: not supported: the reason"},
        {"password: 5", "password: expected a text, found a whole number; put it in quotes"}, /* is not shown */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        struct outer outer = outer_defaults;
        char text[128], wanted[256];

        (void)snprintf(text, sizeof(text), "\n%s\n", cases[i].yaml);
        (void)snprintf(wanted, sizeof(wanted), "a.yaml:2: %s\n", cases[i].errors);
        assert_int_equal(config_read(context, load(context, text), outer_keys, &outer), CONFIG_E_INVALID);
        check_text(cases[i].yaml, config_errors(context), wanted);
        config_context_free(context);
    }
}

/* All mistakes of a file are told at once, warnings apart from them. */
static void test_collects(void **state)
{
    struct config_context *context = config_context_new();
    struct outer outer = outer_defaults;
    const struct config_node *root = load(context,
        "flag: 1\n"
        "integer: 5\n"
        "duration: 10\n"
        "ignored: x\n"
        "inner:\n"
        "  nubmer: 5\n"
        "text: 5\n");

    (void)state;
    assert_int_equal(config_read(context, root, outer_keys, &outer), CONFIG_E_INVALID);
    assert_int_equal(outer.integer, 5);
    assert_int_equal(outer.duration, 10);
    check_text("errors", config_errors(context),
        "a.yaml:1: flag: expected true or false, found a whole number (1)\n"
        "a.yaml:6: inner.nubmer: unknown key; did you mean `number`?\n"
        "a.yaml:7: text: expected a text, found a whole number (5); put it in quotes\n");
    check_text("warnings", config_warnings(context),
        "a.yaml:3: duration: a number without unit is nanoseconds; did you mean 10s?\n"
        "a.yaml:4: ignored: accepted without effect: the reason\n");
    config_context_free(context);
}

/* Messages stay on their line whatever the file holds, and there are at most a hundred. */
static void test_messages(void **state)
{
    struct config_context *context = config_context_new();

    (void)state;
    (void)config_error(context, load(context, "\"a\\nb\\e\": 1\n"), "x\ny");
    check_text("clean", config_errors(context), "a.yaml:1: x\\x0ay\n");
    for (int i = 0; i < 200; i++)
        (void)config_error(context, NULL, "again");
    assert_non_null(strstr(config_errors(context), "again\nagain\n"));
    assert_non_null(strstr(config_errors(context), "y\nand more\n")); /* of a file, so behind those of none */
    assert_true(strlen(config_errors(context)) < 1000);
    config_context_free(context);
}

/* -- files, --set, printing ------------------------------------------------------------------------ */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* Later files lie over earlier ones, --set over all: maps merge, anything else is replaced. */
static void test_merge(void **state)
{
    char directory[] = P_tmpdir "/config_test.XXXXXX", one[128], two[128];
    struct config_context *context = config_context_new();
    char *printed;

    (void)state;
    assert_non_null(mkdtemp(directory));
    (void)snprintf(one, sizeof(one), "%s/one.yaml", directory);
    (void)snprintf(two, sizeof(two), "file:%s/two.yaml", directory);
    write_file(one, "a: {b: 1, c: [1, 2], d: {e: 1}}\nf: 1\ng: {h: 1}\n");
    write_file(two + 5, "a:\n  c: [3]\n  d: {i: 2}\ng: 5\nj: 6\n");
    {
        const char *files[] = {one, two};
        const char *sets[] = {"a.d.e=9", "k::l.m::n=[x, y]", "f=", "g={o: 1}"};
        const struct config_command_line line = {.files = files, .file_count = 2, .sets = sets, .set_count = 4};
        const struct config_node *root = config_load(context, &line);

        check_text("merge", config_errors(context), "");
        printed = config_print(root);
        check_text("merge", printed,
            "a:\n  b: 1\n  c:\n    - 3\n  d:\n    e: 9\n    i: 2\n"
            "f: null\ng:\n  o: 1\nj: 6\nk:\n  l.m:\n    n:\n      - x\n      - y\n");
    }
    free(printed);
    config_context_free(context);
    (void)unlink(one);
    (void)unlink(two + 5);
    (void)rmdir(directory);
}

static void test_load_mistakes(void **state)
{
    const char *files[] = {"/nonexistent/a.yaml", "/"};
    const char *sets[] = {"a", "=5", "a..b=5", "a=[", "a=5"};
    const struct config_command_line line = {.files = files, .file_count = 2, .sets = sets, .set_count = 5};
    struct config_context *context = config_context_new();

    (void)state;
    assert_null(config_load(context, &line));
    check_text("load", config_errors(context),
        "/nonexistent/a.yaml: cannot be opened: No such file or directory\n"
        "/: cannot be read: Is a directory\n"
        "--set number 1: expected KEY=VALUE, such as processors.tail_sampling.decision_wait=10s\n"
        "--set number 2: expected KEY=VALUE, such as processors.tail_sampling.decision_wait=10s\n"
        "--set number 3: a part of the key `a..b` is empty\n"
        "--set number 4:2: not valid YAML: did not find expected node content while parsing a flow node\n");
    config_context_free(context);
}

/* What is printed can be read in again, and shows no secret. */
static void test_print(void **state)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = load(context,
        "exporters: {otlp: {headers: {Authorization: Bearer x, other: [y, {z: w}]}, tls: {key_pem: z, key_file: /k}}}\n"
        "token_file: /t\nmy_api_key: k\npassword: p\nnothing: ~\n"
        "list: [[a, [b]], {}, [], {c: d, e: [f]}]\n"
        "text: \"a\\\"b\\\\c\\n\\x85\\u2028\\ufeff\\U0001f600 \\xe4$x\"\n"
        "float: !!float 5\n");
    char *printed = config_print(root), *again;

    (void)state;
    check_text("print", printed,
        "exporters:\n"
        "  otlp:\n"
        "    headers:\n"
        "      Authorization: \"[REDACTED]\"\n"
        "      other:\n"
        "        - \"[REDACTED]\"\n"
        "        - z: \"[REDACTED]\"\n"
        "    tls:\n"
        "      key_pem: \"[REDACTED]\"\n"
        "      key_file: \"/k\"\n"
        "token_file: \"/t\"\n"
        "my_api_key: \"[REDACTED]\"\n"
        "password: \"[REDACTED]\"\n"
        "nothing: null\n"
        "list:\n"
        "  -\n"
        "    - a\n"
        "    -\n"
        "      - b\n"
        "  - {}\n"
        "  - []\n"
        "  - c: d\n"
        "    e:\n"
        "      - f\n"
        "text: \"a\\\"b\\\\c\\x0a\\u0085\\u2028\\uFEFF\xf0\x9f\x98\x80 \xc3\xa4$$x\"\n"
        "float: !!float 5\n");
    root = load(context, printed);
    check_text("print", config_errors(context), "");
    again = config_print(root);
    check_text("again", again, printed);
    free(again);
    free(printed);
    again = config_print(NULL);
    check_text("empty", again, "{}\n");
    free(again);
    config_context_free(context);
}

/* URLs of OTLP/HTTP backends: the path is added, what may hold a password is never shown. */
static void test_urls(void **state)
{
    static const struct {
        const char *text, *path, *got, *error;
    } cases[] = {
        {"https://tempo:4318", "/v1/traces", "https://tempo:4318/v1/traces", ""},
        {"http://tempo:4318/", "/v1/traces", "http://tempo:4318/v1/traces", ""},
        {"https://api.example.com/otlp//", "/v1/traces", "https://api.example.com/otlp/v1/traces", ""},
        {"https://api.example.com/traces?x=1", "", "https://api.example.com/traces?x=1", ""},
        {"http://[::1]:4318", "/v1/traces", "http://[::1]:4318/v1/traces", ""},
        {"tempo:4318", "/v1/traces", NULL, "expected a URL that begins with http:// or https://\n"},
        {"https://", "/v1/traces", NULL, "\"https://\" is no URL such as https://tempo:4318\n"},
        {"https://a?b=c", "/v1/traces", NULL, "\"https://a?b=c\" is no URL such as https://tempo:4318\n"},
        {"https://a b", "", NULL, "\"https://a b\" is no URL such as https://tempo:4318\n"},
        {"https://a:99999", "", NULL,
            "\"https://a:99999\" is no address of the form host:port: the port is no number from 1 to 65535\n"},
        {"https://user:hunter2@a", "", NULL, "not supported: credentials in a URL; use `auth` with the extension basicauth\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        const char *got = endpoint_url(context, NULL, cases[i].text, cases[i].path);

        check_text(cases[i].text, config_errors(context), cases[i].error);
        check_text(cases[i].text, got ? got : "(none)", cases[i].got ? cases[i].got : "(none)");
        config_context_free(context);
    }
}

/* Neither the printed tree nor a message shows what only its owner should know. */
static void test_secrets(void **state)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = load(context,
        "extensions:\n"
        "  basicauth: {htpasswd: {file: /h, inline: hunter2}, client_auth: {username: u, password: hunter2}}\n"
        "  bearertokenauth: {scheme: Bearer, token: hunter2, tokens: [hunter2], filename: /t}\n"
        "  headers_setter: {headers: [{key: a, value: hunter2}]}\n"
        "receivers: {otlp: {protocols: {http: {response_headers: {a: hunter2}, tls: {key_pem: hunter2}}}}}\n"
        "exporters: {otlp_http: {proxy_url: \"http://u:hunter2@proxy:1\", headers: {a: hunter2}}}\n");
    char *printed = config_print(root);
    const struct config_node *endpoint = config_node_near(root, "exporters.otlp_http.proxy_url");

    (void)state;
    assert_null(strstr(printed, "hunter2"));
    assert_non_null(strstr(printed, "scheme: Bearer"));
    assert_non_null(strstr(printed, "filename: \"/t\""));
    assert_non_null(strstr(printed, "http://[REDACTED]@proxy:1"));
    free(printed);
    assert_null(endpoint_call(context, endpoint, "u:hunter2@tempo", NULL));
    assert_null(strstr(config_errors(context), "hunter2"));
    config_context_free(context);
}

/* Messages come in the order of files and lines, whatever the order of reading. */
static void test_order(void **state)
{
    struct config_context *context = config_context_new();
    const struct config_node *first = load(context, "a: 1\nb: 2\nc: 3\n");
    const struct config_node *second = config_load_text(context, "b.yaml", "d: 4\n", 5);

    (void)state;
    (void)config_error(context, config_node_get(second, "d"), "fourth");
    (void)config_error(context, config_node_get(first, "c"), "third");
    (void)config_error(context, config_node_get(first, "a"), "first");
    (void)config_error(context, config_node_get(first, "a"), "second");
    check_text("order", config_errors(context), "a.yaml:1: a: first\na.yaml:1: a: second\na.yaml:3: c: third\nb.yaml:1: d: fourth\n");
    config_context_free(context);
}

/* -- endpoints ---------------------------------------------------------------------------------------- */

static void test_endpoints(void **state)
{
    static const struct {
        char way; /* l: listen, c: call, d: call with default port */
        const char *text, *got, *why;
    } cases[] = {
        {'l', "localhost:4317", "localhost:4317", NULL},
        {'l', "0.0.0.0:0", "0.0.0.0:0", NULL},
        {'l', ":4317", "[::]:4317", NULL},
        {'l', "[::1]:4317", "[::1]:4317", NULL},
        {'l', "localhost", NULL, "the port is missing"},
        {'l', "http://localhost:1", NULL, "put an IPv6 address in brackets, as in [::1]:4317"},
        {'c', "tempo:4317", "tempo:4317", NULL},
        {'c', "http://tempo:4317", "tempo:4317", NULL},
        {'c', "dns:///tempo.obs.svc:4317", "tempo.obs.svc:4317", NULL},
        {'c', "[fe80::1%eth0]:4317", "[fe80::1%eth0]:4317", NULL},
        {'c', "tempo", NULL, "the port is missing"},
        {'c', "tempo:", NULL, "the port is no number from 1 to 65535"},
        {'c', "tempo:0", NULL, "the port is no number from 1 to 65535"},
        {'c', "tempo:65536", NULL, "the port is no number from 1 to 65535"},
        {'c', "tempo:43 17", NULL, "the port is no number from 1 to 65535"},
        {'c', ":4317", NULL, "the host is missing"},
        {'c', "", NULL, "the host is missing"},
        {'c', "a b:1", NULL, "the host has characters that no host name has"},
        {'c', "tempo:4317/v1", NULL, "the port is no number from 1 to 65535"},
        {'c', "::1:4317", NULL, "put an IPv6 address in brackets, as in [::1]:4317"},
        {'c', "[::1", NULL, "the bracket is not closed"},
        {'c', "[::1]4317", NULL, "after the bracket a port is expected, as in [::1]:4317"},
        {'c', "[tempo]:4317", NULL, "what stands in brackets is no IP address"},
        {'c', "[10.1.2.3]:4317", "10.1.2.3:4317", NULL},
        {'l', "[0.0.0.0]:4317", "0.0.0.0:4317", NULL},
        {'c', "[10.1.2.3.4]:4317", NULL, "what stands in brackets is no IP address"},
        {'c', "[10.1.2.3]", NULL, "the port is missing"},
        {'c', "unix:///run/x", NULL, "of schemes only http://, https:// and dns:/// are understood"},
        {'c', "https://tempo:4317", "tempo:4317", NULL},
        {'d', "sampler-0", "sampler-0:4317", NULL},
        {'d', "[::1]", "[::1]:4317", NULL},
        {'d', "sampler-0:1", "sampler-0:1", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        const char *text = cases[i].text;
        const char *got = cases[i].way == 'l' ? endpoint_listen(context, NULL, text)
                                              : endpoint_call(context, NULL, text, cases[i].way == 'd' ? "4317" : NULL);
        char wanted[256] = "";

        if (cases[i].why)
            (void)snprintf(wanted, sizeof(wanted), "\"%s\" is no address of the form host:port: %s\n", text, cases[i].why);
        check_text(text, config_errors(context), wanted);
        check_text(text, got ? got : "(none)", cases[i].got ? cases[i].got : "(none)");
        config_context_free(context);
    }
}

/* -- the command line ------------------------------------------------------------------------------------ */

/* The last word on a gate counts. */
static void test_gates(void **state)
{
    static const struct {
        const char *list;
        bool on;
    } cases[] = {
        {NULL, false}, {"", false}, {GATE_RECORD_POLICY, true}, {"+" GATE_RECORD_POLICY, true}, {"-" GATE_RECORD_POLICY, false},
        {"a," GATE_RECORD_POLICY ",b", true}, {GATE_RECORD_POLICY ",-" GATE_RECORD_POLICY, false},
        {"-" GATE_RECORD_POLICY "," GATE_RECORD_POLICY, true}, {GATE_RECORD_POLICY "x", false}, {GATE_USE_TRACESTATE, false},
    };
    struct config_context *context = config_context_new();

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        config_gates_set(context, cases[i].list);
        assert_int_equal(config_gate(context, GATE_RECORD_POLICY), cases[i].on);
    }
    config_context_free(context);
}

static void test_command_line(void **state)
{
    static const struct {
        const char *words[8];
        const char *message; /* NULL: good */
    } cases[] = {
        {{"--config", "a"}, NULL},
        {{"--config=a", "--config", "b", "--set", "x=1", "--set=y=2", "--check", "--print-config"}, NULL},
        {{"--help"}, NULL},
        {{"--version"}, NULL},
        {{"--config", "a", "--feature-gates", "-processor.tailsamplingprocessor.recordpolicy"}, NULL},
        {{"--config", "a", "--feature-gates", "processor.tailsamplingprocessor.recordpolicy,+processor.tailsamplingprocessor.usetracestate"}, NULL},
        {{"--config", "a", "--feature-gates", "processor.tailsamplingprocessor.tailstorageextension"},
            "--feature-gates: processor.tailsamplingprocessor.tailstorageextension: extensions are Go code, which is not run here; leave it out"},
        {{"--config", "a", "--feature-gates", "recordpolicy"},
            "--feature-gates: no gate is called \"recordpolicy\"; did you mean processor.tailsamplingprocessor.recordpolicy?"},
        {{"--config", "a", "--feature-gates", "processor.tailsampling.useTraceStates"},
            "--feature-gates: no gate is called \"processor.tailsampling.useTraceStates\"; did you mean "
            "processor.tailsamplingprocessor.usetracestate?"},
        {{"--config", "a", "--feature-gates", "a."}, "--feature-gates: no gate is called \"a.\""},
        {{"--config", "a", "--feature-gates", "+x"}, "--feature-gates: no gate is called \"x\""},
        {{NULL}, "no configuration: give --config FILE"},
        {{"--check"}, "no configuration: give --config FILE"},
        {{"--config"}, "--config needs a value"},
        {{"--confg", "a"}, "unknown option --confg; --help lists the options"},
        {{"--check=1"}, "--check=1 takes no value"},
        {{"-c", "a"}, "unknown option -c; --help lists the options"},
        {{"-config", "a"}, "unknown option -config; did you mean --config?"},
        {{"-config=a"}, "unknown option -config=a; did you mean --config=a?"},
        {{"a.yaml"}, "\"a.yaml\" is no option; a configuration file is given by --config FILE"},
        {{"--config", "a", "--", "b"}, "\"b\" is no option; a configuration file is given by --config FILE"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char program[] = "tailrace-lb", words[8][128];
        char *argv[10] = {program};
        int argc = 1;
        struct config_command_line line = {0};
        char message[256] = "";
        int r;

        for (size_t j = 0; j < ARRAY_COUNT(cases[i].words) && cases[i].words[j]; j++) {
            (void)snprintf(words[j], sizeof(words[j]), "%s", cases[i].words[j]);
            argv[argc++] = words[j];
        }
        r = command_line_parse(argc, argv, &line, message, sizeof(message));
        check_text(cases[i].words[0] ? cases[i].words[0] : "no words", message, cases[i].message ? cases[i].message : "");
        assert_int_equal(r, cases[i].message ? CONFIG_E_INVALID : 0);
        if (i == 1) {
            assert_int_equal(line.file_count, 2);
            assert_string_equal(line.files[1], "b");
            assert_int_equal(line.set_count, 2);
            assert_string_equal(line.sets[1], "y=2");
            assert_true(line.check && line.print_config && !line.help && !line.version);
        }
        command_line_deinit(&line);
        assert_null(line.files);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_bad_yaml),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_env),
        cmocka_unit_test(test_env_bomb),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_collects),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_load_mistakes),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_gates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
