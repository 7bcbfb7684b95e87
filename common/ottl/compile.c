/* Trees to nodes. What the Collector checks at load is checked here, and by the same notion of a literal: a converter's
 * argument that is a literal of the wrong type is refused, a computed one errs when it is evaluated. What is the same for
 * every span is computed once, unless it errs: then it errs each time, as there. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/nearest.h"
#include "common/ottl/convert.h"
#include "common/ottl/parser.h"
#include "common/ottl/path.h"
#include "common/ottl/run.h"
#include "common/ottl/utf8.h"

/* Trees and tokens of one condition; given up once it is compiled. */
#define TREE_BYTES (16 << 20)
/* Of all conditions of a configuration. */
#define PROGRAM_BYTES (64 << 20)

struct ottl_compile {
    struct ottl_program *program;
    struct arena tree;
    struct ottl_run *run; /* computes constants; has no span */
    enum ottl_context context;
    struct slice source;
    struct ottl_fault fault;
    int error; /* sticky: OTTL_E_FAULT or -ENOMEM */
};

static struct ottl_node *compile_value(struct ottl_compile *compile, const struct ast *ast);
static struct ottl_node *compile_bool(struct ottl_compile *compile, const struct ast *ast);

/* -- errors and memory -------------------------------------------------------------------------------------- */

int compile_fault(struct ottl_compile *compile, uint32_t at, const char *format, ...)
{
    va_list args;

    if (compile->error)
        return compile->error;
    compile->error = OTTL_E_FAULT;
    compile->fault.at = at;
    va_start(args, format);
    (void)vsnprintf(compile->fault.text, sizeof(compile->fault.text), format, args);
    va_end(args);
    return OTTL_E_FAULT;
}

struct arena *compile_arena(struct ottl_compile *compile)
{
    return &compile->program->arena;
}

static void *compile_alloc(struct ottl_compile *compile, size_t bytes)
{
    void *memory = arena_alloc(&compile->program->arena, bytes);

    if (!memory && !compile->error)
        compile->error = error_raise(-ENOMEM);
    return memory;
}

static struct slice compile_copy(struct ottl_compile *compile, struct slice text)
{
    struct slice copy = slice_make("", 0);

    if (!arena_copy(&compile->program->arena, text, &copy) && !compile->error)
        compile->error = error_raise(-ENOMEM);
    return copy;
}

static struct ottl_node *node_new(struct ottl_compile *compile, const struct ast *ast, node_eval *eval, size_t children)
{
    struct ottl_node *node = compile_alloc(compile, sizeof(*node));

    if (!node)
        return NULL;
    node->eval = eval;
    node->at = ast->at;
    node->memo = MEMO_NONE;
    node->key = KEY_NONE;
    node->regex = UINT32_MAX;
    node->child_count = children;
    if (children > 0)
        node->children = compile_alloc(compile, children * sizeof(struct ottl_node *));
    return children > 0 && !node->children ? NULL : node;
}

/* Whether a node varies is what its parts say. */
static void node_take(struct ottl_node *node, size_t index, const struct ottl_node *child)
{
    node->children[index] = child;
    node->asks_span |= child->asks_span;
}

static bool all_constant(const struct ottl_node *node)
{
    for (size_t i = 0; i < node->child_count; i++)
        if (node->children[i] && !node->children[i]->is_constant)
            return false;
    return true;
}

/* Bytes of a constant outlive the run's arena. */
static bool constant_keep(struct ottl_compile *compile, struct ottl_value *value)
{
    struct ottl_entry *entries;

    if (value->type == OTTL_STRING || value->type == OTTL_BYTES || value->type == OTTL_TRACE_ID ||
        value->type == OTTL_SPAN_ID) {
        value->bytes = compile_copy(compile, value->bytes);
    } else if (ottl_is_list(value) || value->type == OTTL_MAP) {
        ASSERT(value->form == OTTL_OWN);
        entries = compile_alloc(compile, value->own.count * sizeof(*entries));
        if (value->own.count > 0 && !entries)
            return false;
        for (size_t i = 0; i < value->own.count; i++) {
            entries[i] = value->own.entries[i];
            entries[i].key = compile_copy(compile, entries[i].key);
            if (!constant_keep(compile, &entries[i].value))
                return false;
        }
        value->own.entries = entries;
    }
    return compile->error == 0;
}

/* Computes a node whose parts are constants; one that errs stays as it is. */
static struct ottl_node *node_fold(struct ottl_compile *compile, struct ottl_node *node)
{
    struct ottl_value value;

    if (!node || !all_constant(node))
        return node;
    arena_reset(&compile->run->arena);
    if (!node->eval(compile->run, node, &value))
        return node;
    if (!constant_keep(compile, &value))
        return NULL;
    node->value = value;
    node->is_constant = true;
    return node;
}

static struct ottl_node *node_literal(struct ottl_compile *compile, const struct ast *ast, struct ottl_value value)
{
    struct ottl_node *node = node_new(compile, ast, NULL, 0);

    if (!node || !constant_keep(compile, &value))
        return NULL;
    node->value = value;
    node->is_constant = node->is_literal = true;
    return node;
}

/* -- paths --------------------------------------------------------------------------------------------------- */

#define PATH_NAME_MAX 96

/* The fields from here on joined by dots. False: keys stand anywhere but at the end, or it is too long. */
static bool path_name(struct ottl_compile *compile, const struct ast_field *field, char name[PATH_NAME_MAX], const struct ast_key **out_keys)
{
    size_t len = 0;

    name[0] = 0;
    for (; field; field = field->next) {
        if (len + field->name.len + 2 > PATH_NAME_MAX) {
            compile_fault(compile, field->at, "no path is so long");
            return false;
        }
        if (len > 0)
            name[len++] = '.';
        memcpy(name + len, field->name.at, field->name.len);
        len += field->name.len;
        name[len] = 0;
        if (field->keys && field->next) {
            compile_fault(compile, field->next->at,
                "nothing can follow a key but another key; a value inside %.*s is reached by [\"key\"]",
                (int)field->name.len, (const char *)field->name.at);
            return false;
        }
        *out_keys = field->keys;
    }
    return true;
}

static bool slice_is(struct slice text, const char *word)
{
    return slice_equal(text, slice_text(word));
}

/* The context a path names, or the condition's own; *fields moves past the name. False: refused. */
static bool path_context(struct ottl_compile *compile, const struct ast_field **fields, enum path_context *out_context)
{
    const struct ast_field *first = *fields;

    *out_context = compile->context == OTTL_CONTEXT_SPAN ? PATH_SPAN : PATH_EVENT;
    if (!first->next || first->keys)
        return true; /* a context has something after its dot */
    if (slice_is(first->name, "span"))
        *out_context = PATH_SPAN;
    else if (slice_is(first->name, "spanevent") && compile->context == OTTL_CONTEXT_SPAN_EVENT)
        *out_context = PATH_EVENT;
    else if (slice_is(first->name, "resource"))
        *out_context = PATH_RESOURCE;
    else if (slice_is(first->name, "scope") || slice_is(first->name, "instrumentation_scope"))
        *out_context = PATH_SCOPE;
    else if (slice_is(first->name, "otelcol")) {
        compile_fault(compile, first->at,
            "the context otelcol is not supported: the request that brought a span is not kept with it");
        return false;
    } else
        return true;
    *fields = first->next;
    return true;
}

static const char *context_name(enum path_context context)
{
    static const char *const names[] = {"span", "spanevent", "resource", "scope"};

    return names[context];
}

static size_t count_keys(const struct ast_key *keys)
{
    size_t count = 0;

    for (; keys; keys = keys->next)
        count++;
    return count;
}

static bool compile_keys(struct ottl_compile *compile, const struct ast_key *keys, struct ottl_node *node)
{
    struct ottl_index *indexes;

    node->index_count = count_keys(keys);
    if (node->index_count == 0)
        return true;
    indexes = compile_alloc(compile, node->index_count * sizeof(*indexes));
    if (!indexes)
        return false;
    node->indexes = indexes;
    for (; keys; keys = keys->next, indexes++) {
        indexes->kind = keys->kind == AST_KEY_STRING ? INDEX_STRING
                        : keys->kind == AST_KEY_INT  ? INDEX_INT
                                                     : INDEX_VALUE;
        indexes->integer = keys->integer;
        if (keys->kind == AST_KEY_STRING)
            indexes->text = compile_copy(compile, keys->text);
        if (keys->kind != AST_KEY_VALUE)
            continue;
        indexes->value = compile_value(compile, keys->value);
        if (!indexes->value)
            return false;
        node->asks_span |= indexes->value->asks_span;
    }
    return compile->error == 0;
}

/* Where the value of a literal key is remembered. KEY_NONE: nowhere. */
static uint32_t key_number(struct ottl_program *program, uint8_t part, struct slice name)
{
    struct ottl_keys *keys = part == PART_SPAN       ? &program->span_keys
                             : part == PART_RESOURCE ? &program->resource_keys
                             : part == PART_SCOPE    ? &program->scope_keys
                                                     : NULL;

    if (!keys)
        return KEY_NONE;
    for (uint32_t i = 0; i < keys->count; i++)
        if (slice_equal(keys->names[i], name))
            return i;
    if (keys->count == OTTL_KEYS_MAX)
        return KEY_NONE;
    keys->names[keys->count] = name;
    return keys->count++;
}

static bool check_path_keys(struct ottl_compile *compile, const struct path_leaf *leaf, const struct ast_key *keys)
{
    if (!keys || leaf->kind == PATH_ATTRIBUTES)
        return true;
    if (leaf->kind == PATH_PLAIN)
        compile_fault(compile, keys->at, "%s.%s has no keys", context_name(leaf->context), leaf->name);
    else if (keys->next)
        compile_fault(compile, keys->next->at, "must provide exactly 1 key when accessing trace_state");
    else
        return true;
    return false;
}

static struct ottl_node *refuse_path(struct ottl_compile *compile, uint32_t at, enum path_context context, const char *name)
{
    const char *nearest = path_nearest(context, name);

    if (nearest)
        compile_fault(compile, at, "the %s context has no %s; did you mean %s?", context_name(context), name, nearest);
    else
        compile_fault(compile, at, "the %s context has no %s; docs/ottl.md lists its paths", context_name(context), name);
    return NULL;
}

static struct ottl_node *compile_path(struct ottl_compile *compile, const struct ast *ast)
{
    const struct ast_field *fields = ast->fields;
    const struct ast_key *keys = NULL;
    const struct path_leaf *leaf;
    enum path_context context;
    struct ottl_node *node;
    char name[PATH_NAME_MAX];

    if (!path_context(compile, &fields, &context) || !path_name(compile, fields, name, &keys))
        return NULL;
    leaf = path_find(context, name);
    if (!leaf)
        return refuse_path(compile, fields->at, context, name);
    if (leaf->part == PART_CACHE && (context == PATH_SPAN) != (compile->context == OTTL_CONTEXT_SPAN)) {
        compile_fault(compile, fields->at, "the cache is only to be had in its own context");
        return NULL;
    }
    if (!check_path_keys(compile, leaf, keys))
        return NULL;
    node = node_new(compile, ast, leaf->kind == PATH_ATTRIBUTES ? eval_attributes : leaf->eval, 0);
    if (!node || !compile_keys(compile, keys, node))
        return NULL;
    if (leaf->kind == PATH_STATE && keys)
        node->eval = path_state_key;
    node->part = (uint8_t)leaf->part;
    node->asks_span |= context == PATH_SPAN || context == PATH_EVENT;
    if (leaf->kind == PATH_ATTRIBUTES && keys && node->indexes[0].kind == INDEX_STRING)
        node->key = key_number(compile->program, node->part, node->indexes[0].text);
    return node;
}

/* -- calls ----------------------------------------------------------------------------------------------------- */

static struct ottl_node *refuse_function(struct ottl_compile *compile, const struct ast *ast, const struct ottl_function *found)
{
    char name[64];
    struct nearest nearest;

    (void)snprintf(name, sizeof(name), "%.*s", (int)(ast->text.len < 60 ? ast->text.len : 60), (const char *)ast->text.at);
    if (found && found->eval) {
        compile_fault(compile, ast->at, "the converter %s is for span conditions only", name);
        return NULL;
    }
    if (found) {
        compile_fault(compile, ast->at, "the converter %s is not supported; docs/ottl.md lists those that are", name);
        return NULL;
    }
    nearest = nearest_start(name, true);
    for (const struct ottl_function *function = ottl_functions; function->name; function++)
        nearest_offer(&nearest, function->name);
    if (nearest.found)
        compile_fault(compile, ast->at, "undefined function \"%s\"; did you mean %s?", name, nearest.found);
    else
        compile_fault(compile, ast->at, "undefined function \"%s\"; docs/ottl.md lists what there is", name);
    return NULL;
}

static const struct ottl_function *function_find(struct slice name)
{
    for (const struct ottl_function *function = ottl_functions; function->name; function++)
        if (slice_is(name, function->name))
            return function;
    return NULL;
}

static size_t argument_most(const struct ottl_function *function)
{
    size_t count = 0;

    while (count < OTTL_ARGUMENTS_MAX && function->arguments[count].kind != ARG_NONE)
        count++;
    return count;
}

/* A literal is judged now; what is computed, when it is. */
static bool check_literal(struct ottl_compile *compile, enum ottl_argument_kind kind, const struct ottl_node *node)
{
    struct ottl_node call = {.at = node->at, .children = &node, .child_count = 1};
    struct ottl_function function = {.arguments = {{NULL, kind, false}}};
    struct ottl_value unused;

    if (!node->is_literal || kind == ARG_ANY)
        return true;
    call.function = &function;
    arena_reset(&compile->run->arena);
    if (arg_value(compile->run, &call, 0, &unused))
        return true;
    compile_fault(compile, node->at, "expected %s but got %s", argument_wants(kind), ottl_type_name(node->value.type));
    return false;
}

static enum ottl_argument_kind item_kind(enum ottl_argument_kind kind)
{
    return kind == ARG_LIST_OF_STRING ? ARG_STRING : kind == ARG_LIST_OF_STRING_LIKE ? ARG_STRING_LIKE : ARG_ANY;
}

/* An argument that is written as a list: its items are arguments. */
static struct ottl_node *compile_items(struct ottl_compile *compile, const struct ottl_argument *argument, const struct ast *ast)
{
    struct ottl_node *node;
    size_t i = 0;

    if (ast->kind != AST_LIST) {
        compile_fault(compile, ast->at, "%s must be a list in brackets", argument->name);
        return NULL;
    }
    node = node_new(compile, ast, eval_list, ast->count);
    for (const struct ast *item = ast->children; node && item; item = item->next) {
        struct ottl_node *child = compile_value(compile, item);

        if (!child || !check_literal(compile, item_kind(argument->kind), child))
            return NULL;
        node_take(node, i++, child);
    }
    return node_fold(compile, node);
}

static struct ottl_node *compile_argument(struct ottl_compile *compile, const struct ottl_argument *argument, const struct ast *ast)
{
    struct ottl_node *node;

    if (argument->kind == ARG_LIST_OF_ANY || argument->kind == ARG_LIST_OF_STRING ||
        argument->kind == ARG_LIST_OF_STRING_LIKE)
        return compile_items(compile, argument, ast);
    if ((argument->kind == ARG_LITERAL_STRING && ast->kind != AST_STRING) ||
        (argument->kind == ARG_LITERAL_BOOL && ast->kind != AST_BOOL)) {
        compile_fault(compile, ast->at, "%s must be %s, written out", argument->name, argument_wants(argument->kind));
        return NULL;
    }
    node = compile_value(compile, ast);
    return node && check_literal(compile, argument->kind, node) ? node : NULL;
}

/* The place of a named argument. SIZE_MAX: there is none of that name. */
static size_t argument_place(const struct ottl_function *function, struct slice name)
{
    for (size_t i = 0; i < argument_most(function); i++)
        if (slice_is(name, function->arguments[i].name))
            return i;
    return SIZE_MAX;
}

static bool compile_arguments(struct ottl_compile *compile, const struct ast *ast, struct ottl_node *node)
{
    const struct ottl_function *function = node->function;
    bool seen_named = false;
    size_t position = 0;

    for (const struct ast *argument = ast->children; argument; argument = argument->next, position++) {
        bool named = argument->key_text.at != NULL;
        size_t place = named ? argument_place(function, argument->key_text) : position;
        struct ottl_node *child;

        if (seen_named && !named) {
            compile_fault(compile, argument->at, "unnamed argument used after named argument");
            return false;
        }
        seen_named |= named;
        if (place >= node->child_count || node->children[place]) {
            compile_fault(compile, argument->key_at, place >= node->child_count ? "no such parameter: %.*s" : "given twice: %.*s",
                (int)argument->key_text.len, (const char *)argument->key_text.at);
            return false;
        }
        child = compile_argument(compile, &function->arguments[place], argument);
        if (!child)
            return false;
        node_take(node, place, child);
    }
    for (size_t i = 0; i < node->child_count; i++) {
        if (node->children[i] || function->arguments[i].is_optional)
            continue;
        compile_fault(compile, ast->at, "%s needs the argument %s", function->name, function->arguments[i].name);
        return false;
    }
    return true;
}

/* […] after a call is a node of its own. */
static struct ottl_node *compile_call_keys(struct ottl_compile *compile, const struct ast *ast, struct ottl_node *call)
{
    struct ottl_node *node;

    if (!ast->keys || !call)
        return call;
    node = node_new(compile, ast, eval_index, 1);
    if (!node)
        return NULL;
    node_take(node, 0, call);
    return compile_keys(compile, ast->keys, node) ? node : NULL;
}

static struct ottl_node *compile_call(struct ottl_compile *compile, const struct ast *ast)
{
    const struct ottl_function *function = function_find(ast->text);
    struct ottl_node *node;
    size_t most;

    if (!function || !function->eval ||
        (function->is_span_only && compile->context != OTTL_CONTEXT_SPAN))
        return refuse_function(compile, ast, function);
    most = argument_most(function);
    node = node_new(compile, ast, function->eval, most);
    if (!node)
        return NULL;
    node->function = function;
    node->name = function->name;
    if (ast->count > most) {
        compile_fault(compile, ast->at, "incorrect number of arguments. Expected: %zu Received: %zu", most, ast->count);
        return NULL;
    }
    if (!compile_arguments(compile, ast, node))
        return NULL;
    node->asks_span |= function->is_impure || function->is_span_only;
    if (function->prepare && function->prepare(compile, node))
        return NULL;
    /* A literal pattern is compiled by each worker for itself. */
    if (!node->asks_span && node->regex == UINT32_MAX)
        node = node_fold(compile, node);
    return compile_call_keys(compile, ast, node);
}

int compile_pattern(struct ottl_compile *compile, struct ottl_node *node, const struct ottl_node *pattern)
{
    struct ottl_program *program = compile->program;
    struct regex_groups *groups = NULL;
    struct slice text;
    char **patterns, *reason = NULL;
    int r;

    if (!pattern->is_literal)
        return 0;
    arena_reset(&compile->run->arena);
    if (!run_pattern(compile->run, node, pattern, &text))
        return compile_fault(compile, pattern->at, "the pattern has more than %d bytes", PATTERN_BYTES_MAX);
    r = regex_groups_new((const char *)text.at, &groups, &reason);
    if (r < 0)
        return compile->error = error_pass(r);
    if (r > 0) {
        compile_fault(compile, pattern->at, "the regex pattern supplied to %s is not a valid pattern: error parsing regexp: %s",
            node->name, reason);
        free(reason);
        return compile->error;
    }
    regex_groups_free(groups);
    for (uint32_t i = 0; i < program->pattern_count; i++) {
        if (strcmp(program->patterns[i], (const char *)text.at) == 0) {
            node->regex = i;
            return 0;
        }
    }
    patterns = reallocarray(program->patterns, program->pattern_count + 1, sizeof(char *));
    if (!patterns)
        return compile->error = error_raise(-ENOMEM);
    program->patterns = patterns;
    patterns[program->pattern_count] = strdup((const char *)text.at);
    if (!patterns[program->pattern_count])
        return compile->error = error_raise(-ENOMEM);
    node->regex = program->pattern_count++;
    return 0;
}

/* -- values ------------------------------------------------------------------------------------------------------ */

static struct ottl_node *compile_enum(struct ottl_compile *compile, const struct ast *ast)
{
    static const struct {
        const char *name;
        int64_t value;
    } enums[] = {{"SPAN_KIND_UNSPECIFIED", 0}, {"SPAN_KIND_INTERNAL", 1}, {"SPAN_KIND_SERVER", 2},
        {"SPAN_KIND_CLIENT", 3}, {"SPAN_KIND_PRODUCER", 4}, {"SPAN_KIND_CONSUMER", 5},
        {"STATUS_CODE_UNSET", 0}, {"STATUS_CODE_OK", 1}, {"STATUS_CODE_ERROR", 2}};
    char name[48];
    struct nearest nearest;

    for (size_t i = 0; i < ARRAY_COUNT(enums); i++)
        if (slice_is(ast->text, enums[i].name))
            return node_literal(compile, ast, ottl_int(enums[i].value));
    (void)snprintf(name, sizeof(name), "%.*s", (int)(ast->text.len < 47 ? ast->text.len : 47), (const char *)ast->text.at);
    nearest = nearest_start(name, true);
    for (size_t i = 0; i < ARRAY_COUNT(enums); i++)
        nearest_offer(&nearest, enums[i].name);
    compile_fault(compile, ast->at, "enum symbol, %s, not found%s%s%s", name, nearest.found ? "; did you mean " : "",
        nearest.found ? nearest.found : "", nearest.found ? "?" : "");
    return NULL;
}

static struct ottl_node *compile_list(struct ottl_compile *compile, const struct ast *ast)
{
    struct ottl_node *node = node_new(compile, ast, eval_list, ast->count);
    bool is_literal = true;
    size_t i = 0;

    for (const struct ast *item = ast->children; node && item; item = item->next) {
        struct ottl_node *child = compile_value(compile, item);

        if (!child)
            return NULL;
        is_literal &= child->is_literal;
        node_take(node, i++, child);
    }
    node = node_fold(compile, node);
    if (node)
        node->is_literal = is_literal;
    return node;
}

/* Of equal keys the last counts. */
static size_t map_place(const struct slice *keys, size_t count, struct slice key)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal(keys[i], key))
            return i;
    return count;
}

static struct ottl_node *compile_map(struct ottl_compile *compile, const struct ast *ast)
{
    struct ottl_node *node = node_new(compile, ast, eval_map, ast->count);
    struct slice *keys = compile_alloc(compile, ast->count * sizeof(*keys));
    bool is_literal = true;
    size_t count = 0;

    if (!node || (ast->count > 0 && !keys))
        return NULL;
    for (const struct ast *item = ast->children; item; item = item->next) {
        struct ottl_node *child = compile_value(compile, item);
        size_t place = map_place(keys, count, item->key_text);

        if (!child)
            return NULL;
        if (place == count)
            keys[count++] = compile_copy(compile, item->key_text);
        node_take(node, place, child);
    }
    node->keys = keys;
    node->child_count = count;
    for (size_t i = 0; i < count; i++)
        is_literal &= node->children[i]->is_literal;
    node = node_fold(compile, node);
    if (!node || !is_literal)
        return node;
    if (!node->is_constant) {
        char text[160];

        compile_fault(compile, ast->at, "%s", ottl_run_error(compile->run, text, sizeof(text)));
        return NULL;
    }
    node->is_literal = true;
    return node;
}

static char math_sign(enum token_kind op)
{
    return op == TOKEN_PLUS ? '+' : op == TOKEN_MINUS ? '-' : op == TOKEN_TIMES ? '*' : '/';
}

static struct ottl_node *compile_math(struct ottl_compile *compile, const struct ast *ast)
{
    struct ottl_node *left = compile_value(compile, ast->left);
    struct ottl_node *right = left ? compile_value(compile, ast->right) : NULL;
    struct ottl_node *node = right ? node_new(compile, ast, eval_math, 2) : NULL;

    if (!node)
        return NULL;
    node->op = (uint8_t)math_sign(ast->op);
    node_take(node, 0, left);
    node_take(node, 1, right);
    return node_fold(compile, node);
}

static struct ottl_node *compile_sign(struct ottl_compile *compile, const struct ast *ast)
{
    const struct ast *operand = ast->left;
    struct ottl_node *inner, *node;

    if (ast->op == TOKEN_MINUS && !operand->is_wrapped && operand->kind == AST_INT)
        return node_literal(compile, ast, ottl_int(-operand->integer));
    if (ast->op == TOKEN_MINUS && !operand->is_wrapped && operand->kind == AST_FLOAT)
        return node_literal(compile, ast, ottl_float(-operand->number));
    inner = compile_value(compile, operand);
    if (!inner || ast->op == TOKEN_PLUS)
        return inner;
    node = node_new(compile, ast, eval_negate, 1);
    if (!node)
        return NULL;
    node_take(node, 0, inner);
    return node_fold(compile, node);
}

static struct ottl_node *compile_value(struct ottl_compile *compile, const struct ast *ast)
{
    switch (ast->kind) {
    case AST_NIL:
        return node_literal(compile, ast, ottl_nil());
    case AST_BOOL:
        return node_literal(compile, ast, ottl_bool(ast->integer != 0));
    case AST_INT:
        return node_literal(compile, ast, ottl_int(ast->integer));
    case AST_FLOAT:
        return node_literal(compile, ast, ottl_float(ast->number));
    case AST_STRING:
        return node_literal(compile, ast, ottl_string(ast->text));
    case AST_BYTES:
        return node_literal(compile, ast, ottl_bytes(OTTL_BYTES, ast->text));
    case AST_ENUM:
        return compile_enum(compile, ast);
    case AST_LIST:
        return compile_list(compile, ast);
    case AST_MAP:
        return compile_map(compile, ast);
    case AST_PATH:
        return compile_path(compile, ast);
    case AST_CALL:
        return compile_call(compile, ast);
    case AST_MATH:
        return compile_math(compile, ast);
    case AST_SIGN:
        return compile_sign(compile, ast);
    case AST_FUNCTION:
    case AST_COMPARE:
    case AST_AND:
    case AST_OR:
    case AST_NOT:
        break;
    }
    compile_fault(compile, ast->at, "expected a value, found the name of a function without its call");
    return NULL;
}

/* -- booleans -------------------------------------------------------------------------------------------------------- */

/* A boolean that only the header answers is remembered until the header changes. */
static struct ottl_node *node_memorable(struct ottl_compile *compile, struct ottl_node *node)
{
    if (node && !node->is_constant && !node->asks_span)
        node->memo = compile->program->memo_count++;
    return node;
}

static struct ottl_node *compile_compare(struct ottl_compile *compile, const struct ast *ast)
{
    struct ottl_node *left = compile_value(compile, ast->left);
    struct ottl_node *right = left ? compile_value(compile, ast->right) : NULL;
    struct ottl_node *node = right ? node_new(compile, ast, eval_compare, 2) : NULL;

    if (!node)
        return NULL;
    node->op = ast->op == TOKEN_EQ   ? OTTL_EQ
               : ast->op == TOKEN_NE ? OTTL_NE
               : ast->op == TOKEN_LT ? OTTL_LT
               : ast->op == TOKEN_LE ? OTTL_LE
               : ast->op == TOKEN_GT ? OTTL_GT
                                     : OTTL_GE;
    node_take(node, 0, left);
    node_take(node, 1, right);
    node = node_fold(compile, node);
    if (node)
        node->is_literal = left->is_literal && right->is_literal;
    return node_memorable(compile, node);
}

static struct ottl_node *compile_condition_call(struct ottl_compile *compile, const struct ast *ast)
{
    struct ottl_node *call = compile_call(compile, ast);
    struct ottl_node *node = call ? node_new(compile, ast, eval_condition_call, 1) : NULL;

    if (!node)
        return NULL;
    node_take(node, 0, call);
    return node_memorable(compile, node_fold(compile, node));
}

static struct ottl_node *compile_not(struct ottl_compile *compile, const struct ast *ast)
{
    struct ottl_node *inner = compile_bool(compile, ast->left);
    struct ottl_node *node = inner ? node_new(compile, ast, eval_not, 1) : NULL;

    if (!node)
        return NULL;
    node_take(node, 0, inner);
    node = node_fold(compile, node);
    if (node)
        node->is_literal = inner->is_literal;
    return node;
}

/* A literal that decides the chain decides it at once, whatever stands before; one that does not is left out. */
static struct ottl_node *compile_chain(struct ottl_compile *compile, const struct ast *ast)
{
    const bool decisive = ast->kind == AST_OR;
    struct ottl_node *node = node_new(compile, ast, decisive ? eval_or : eval_and, ast->count);
    bool is_decided = false;
    size_t count = 0;

    for (const struct ast *part = ast->children; node && part; part = part->next) {
        struct ottl_node *child = compile_bool(compile, part);

        if (!child)
            return NULL;
        if (child->is_literal)
            is_decided |= (child->value.integer != 0) == decisive;
        else
            node_take(node, count++, child);
    }
    if (!node)
        return NULL;
    if (is_decided || count == 0)
        return node_literal(compile, ast, ottl_bool(is_decided == decisive));
    node->child_count = count;
    return node;
}

static struct ottl_node *compile_bool(struct ottl_compile *compile, const struct ast *ast)
{
    switch ((int)ast->kind) {
    case AST_COMPARE:
        return compile_compare(compile, ast);
    case AST_AND:
    case AST_OR:
        return compile_chain(compile, ast);
    case AST_NOT:
        return compile_not(compile, ast);
    case AST_CALL:
        return compile_condition_call(compile, ast);
    default:
        ASSERT(ast->kind == AST_BOOL);
        return compile_value(compile, ast);
    }
}

/* -- programs -------------------------------------------------------------------------------------------------------- */

struct ottl_program *ottl_program_new(void)
{
    struct ottl_program *program = calloc(1, sizeof(*program));

    if (program)
        arena_init(&program->arena, PROGRAM_BYTES);
    return program;
}

void ottl_program_free(struct ottl_program *program)
{
    if (!program)
        return;
    for (uint32_t i = 0; i < program->pattern_count; i++)
        free(program->patterns[i]);
    free(program->patterns);
    free(program->conditions);
    arena_deinit(&program->arena);
    free(program);
}

/* How much of the source is shown around the place, in characters of at most so many bytes: it need not be UTF-8. */
#define SHOWN_BEFORE 40
#define SHOWN_AFTER 36
#define BYTES_BEFORE (SHOWN_BEFORE * RUNE_BYTES_MAX)
#define BYTES_AFTER (SHOWN_AFTER * RUNE_BYTES_MAX)

/* "1:17: what is wrong", the line around the place, and a caret below it. */
static char *fault_text(struct slice source, const struct ottl_fault *fault)
{
    char shown[BYTES_BEFORE + BYTES_AFTER + 1];
    size_t at = fault->at < source.len ? fault->at : source.len, line = 1, start = 0, end = at, len = 0;
    unsigned column = 1, before = 0;
    char *text = NULL;

    for (size_t i = 0; i < at; i++) {
        column = source.at[i] == '\n' ? 1 : column + utf8_begins(source.at[i]);
        line += source.at[i] == '\n';
    }
    for (start = at; start > 0 && at - start < BYTES_BEFORE && before < SHOWN_BEFORE && source.at[start - 1] != '\n'; start--)
        before += utf8_begins(source.at[start - 1]);
    while (start < at && !utf8_begins(source.at[start]))
        start++;
    for (unsigned after = 0; end < source.len && end - at < BYTES_AFTER && source.at[end] != '\n'; end++) {
        after += utf8_begins(source.at[end]);
        if (after > SHOWN_AFTER)
            break;
    }
    before = 0;
    for (size_t i = start; i < end; i++) {
        before += i < at && utf8_begins(source.at[i]);
        shown[len++] = source.at[i] < 0x20 || source.at[i] == 0x7f ? ' ' : (char)source.at[i];
    }
    shown[len] = 0;
    if (asprintf(&text, "%zu:%u: %s\n    %s\n    %*s^", line, column, fault->text, shown, (int)before, "") < 0)
        return NULL;
    return text;
}

static uint32_t program_find(const struct ottl_program *program, enum ottl_context context, const char *text)
{
    for (uint32_t i = 0; i < program->count; i++)
        if (program->conditions[i].context == context && strcmp(program->conditions[i].text, text) == 0)
            return i;
    return UINT32_MAX;
}

static int program_append(struct ottl_compile *compile, const struct ottl_node *root, uint32_t *out_condition)
{
    struct ottl_program *program = compile->program;
    struct ottl_condition *more = reallocarray(program->conditions, program->count + 1, sizeof(*more));
    struct slice text = compile_copy(compile, compile->source);

    if (!more)
        return error_raise(-ENOMEM);
    program->conditions = more;
    if (compile->error)
        return compile->error;
    more[program->count] = (struct ottl_condition){root, compile->context, (const char *)text.at};
    *out_condition = program->count++;
    return 0;
}

static int compile_condition(struct ottl_compile *compile, uint32_t *out_condition)
{
    struct ast *ast;
    const struct ottl_node *root;
    int r;

    r = ottl_parse_condition(&compile->tree, compile->source, &ast, &compile->fault);
    if (r)
        return r;
    root = compile_bool(compile, ast);
    if (!root) {
        ASSERT(compile->error);
        return compile->error;
    }
    return program_append(compile, root, out_condition);
}

int ottl_program_add(struct ottl_program *program, enum ottl_context context, const char *text, uint32_t *out_condition,
    char **out_error)
{
    struct ottl_compile compile = {.program = program, .context = context, .source = slice_text(text)};
    uint32_t found = program_find(program, context, text);
    int r;

    if (found != UINT32_MAX) {
        *out_condition = found;
        return 0;
    }
    arena_init(&compile.tree, TREE_BYTES);
    compile.run = ottl_run_new(program, NULL);
    if (!compile.run)
        return error_raise(-ENOMEM);
    r = compile_condition(&compile, out_condition);
    ottl_run_free(compile.run);
    arena_deinit(&compile.tree);
    if (r == OTTL_E_FAULT) {
        *out_error = fault_text(compile.source, &compile.fault);
        return *out_error ? OTTL_E_INVALID : error_raise(-ENOMEM);
    }
    return error_pass(r);
}

const char *ottl_program_text(const struct ottl_program *program, uint32_t condition)
{
    ASSERT(condition < program->count);
    return program->conditions[condition].text;
}

uint32_t ottl_program_key_count(const struct ottl_program *program)
{
    return program->span_keys.count;
}

struct slice ottl_program_key(const struct ottl_program *program, uint32_t key)
{
    ASSERT(key < program->span_keys.count);
    return program->span_keys.names[key];
}
