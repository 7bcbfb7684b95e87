/* Recursive descent. The grammar is read by two rules that look alike up to a late token: after `(` may come a boolean or
 * a number, so a comparison is tried first and given up when no comparison sign follows. The fault that is shown is the
 * one found farthest in the text. A fault is sticky: functions return NULL, and who has nothing else to try passes it on. */
#include "common/ottl/parser.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/error.h"

struct parser {
    struct arena *arena;
    const struct token *tokens;
    size_t at; /* token */
    unsigned depth;
    struct ottl_fault *fault;
    size_t fault_token; /* 1 + where the fault was found; 0: none yet */
    bool is_final;      /* nothing else can be tried: too deep, out of memory */
    bool out_of_memory;
};

static struct ast *parse_or(struct parser *p);
static struct ast *parse_value(struct parser *p);
static struct ast *parse_math(struct parser *p);

static enum token_kind peek(const struct parser *p)
{
    return p->tokens[p->at].kind;
}

static enum token_kind peek_after(const struct parser *p, size_t ahead)
{
    for (size_t i = 0; i < ahead; i++)
        if (p->tokens[p->at + i].kind == TOKEN_END)
            return TOKEN_END;
    return p->tokens[p->at + ahead].kind;
}

static bool accept(struct parser *p, enum token_kind kind)
{
    if (peek(p) != kind)
        return false;
    p->at++;
    return true;
}

/* Remembers the fault when none lies farther. Returns NULL, so that callers can pass it on. */
static struct ast *fail(struct parser *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static struct ast *fail(struct parser *p, const char *format, ...)
{
    va_list args;

    if (p->is_final || p->at + 1 < p->fault_token)
        return NULL;
    p->fault_token = p->at + 1;
    p->fault->at = p->tokens[p->at].at;
    va_start(args, format);
    (void)vsnprintf(p->fault->text, sizeof(p->fault->text), format, args);
    va_end(args);
    return NULL;
}

static struct ast *fail_expected(struct parser *p, const char *what)
{
    return fail(p, "expected %s, found %s", what, token_name(peek(p)));
}

static bool expect(struct parser *p, enum token_kind kind)
{
    if (accept(p, kind))
        return true;
    fail_expected(p, token_name(kind));
    return false;
}

static void *parser_alloc(struct parser *p, size_t bytes)
{
    void *memory = arena_alloc(p->arena, bytes);

    if (!memory)
        p->out_of_memory = p->is_final = true;
    return memory;
}

static struct ast *node_new(struct parser *p, enum ast_kind kind)
{
    struct ast *node = parser_alloc(p, sizeof(*node));

    if (node) {
        node->kind = kind;
        node->at = p->tokens[p->at].at;
        node->op = peek(p);
        node->text = p->tokens[p->at].text;
    }
    return node;
}

static bool deeper(struct parser *p)
{
    if (++p->depth <= OTTL_DEPTH_MAX)
        return true;
    fail(p, "more than %d brackets inside each other", OTTL_DEPTH_MAX);
    p->is_final = true;
    return false;
}

/* -- names, paths, calls ----------------------------------------------------------------------------------- */

/* A function's name is cut into pieces at capitals: as many as there are from here on. 0: none. */
static size_t name_pieces(const struct parser *p, enum token_kind first)
{
    size_t count = 1;

    if (peek(p) != first)
        return 0;
    while (peek_after(p, count) == TOKEN_UPPER || peek_after(p, count) == TOKEN_LOWER)
        count++;
    return count;
}

static bool name_take(struct parser *p, size_t pieces, struct slice *out_name)
{
    size_t len = 0;
    uint8_t *name;

    for (size_t i = 0; i < pieces; i++)
        len += p->tokens[p->at + i].text.len;
    name = arena_bytes(p->arena, len);
    if (!name) {
        p->out_of_memory = p->is_final = true;
        return false;
    }
    *out_name = slice_make(name, len);
    for (size_t i = 0; i < pieces; i++) {
        struct slice piece = p->tokens[p->at++].text;

        memcpy(name, piece.at, piece.len);
        name += piece.len;
    }
    return true;
}

static struct ast_key *parse_key(struct parser *p)
{
    struct ast_key *key = parser_alloc(p, sizeof(*key));

    if (!key || !deeper(p))
        return NULL;
    key->at = p->tokens[p->at++].at;
    if (peek(p) == TOKEN_STRING) {
        key->kind = AST_KEY_STRING;
        key->text = p->tokens[p->at++].text;
    } else if (peek(p) == TOKEN_INT) {
        key->kind = AST_KEY_INT;
        key->integer = p->tokens[p->at++].integer;
    } else {
        key->kind = AST_KEY_VALUE;
        key->value = parse_math(p);
        if (!key->value)
            return NULL;
    }
    p->depth--;
    return expect(p, TOKEN_RBRACKET) ? key : NULL;
}

static bool parse_keys(struct parser *p, struct ast_key **link)
{
    while (peek(p) == TOKEN_LBRACKET) {
        *link = parse_key(p);
        if (!*link)
            return false;
        link = &(*link)->next;
    }
    return true;
}

static struct ast *parse_path(struct parser *p)
{
    struct ast *path = node_new(p, AST_PATH);
    struct ast_field **link;

    if (!path)
        return NULL;
    link = &path->fields;
    do {
        struct ast_field *field;

        if (peek(p) != TOKEN_LOWER)
            return fail_expected(p, "the name of a field");
        field = parser_alloc(p, sizeof(*field));
        if (!field)
            return NULL;
        field->at = p->tokens[p->at].at;
        field->name = p->tokens[p->at++].text;
        *link = field;
        link = &field->next;
        if (!parse_keys(p, &field->keys))
            return NULL;
    } while (accept(p, TOKEN_DOT));
    return path;
}

static struct ast *parse_argument(struct parser *p)
{
    size_t pieces = name_pieces(p, TOKEN_LOWER);
    const uint32_t name_at = p->tokens[p->at].at;
    struct slice name = {NULL, 0};
    struct ast *value;

    if (pieces > 0 && peek_after(p, pieces) == TOKEN_ASSIGN) {
        if (!name_take(p, pieces, &name))
            return NULL;
        p->at++;
    }
    pieces = name_pieces(p, TOKEN_UPPER);
    if (pieces > 1 && peek_after(p, pieces) != TOKEN_LPAREN) {
        value = node_new(p, AST_FUNCTION);
        if (!value || !name_take(p, pieces, &value->text))
            return NULL;
    } else {
        value = parse_value(p);
    }
    if (value) {
        value->key_text = name;
        value->key_at = name_at;
    }
    return value;
}

static struct ast *parse_call(struct parser *p, size_t pieces)
{
    struct ast *call = node_new(p, AST_CALL), **link;

    if (!call || !deeper(p) || !name_take(p, pieces, &call->text))
        return NULL;
    p->at++; /* ( */
    link = &call->children;
    if (peek(p) != TOKEN_RPAREN) {
        do {
            *link = parse_argument(p);
            if (!*link)
                return NULL;
            link = &(*link)->next;
            call->count++;
        } while (accept(p, TOKEN_COMMA));
    }
    p->depth--;
    if (!expect(p, TOKEN_RPAREN) || !parse_keys(p, &call->keys))
        return NULL;
    return call;
}

/* -- values ------------------------------------------------------------------------------------------------ */

static struct ast *parse_number(struct parser *p)
{
    struct ast *node = node_new(p, peek(p) == TOKEN_INT ? AST_INT : AST_FLOAT);

    if (!node)
        return NULL;
    if (node->kind == AST_INT)
        node->integer = p->tokens[p->at].integer;
    else
        node->number = p->tokens[p->at].number;
    p->at++;
    return node;
}

static struct ast *parse_operand(struct parser *p)
{
    size_t pieces = name_pieces(p, TOKEN_UPPER);

    if (peek(p) == TOKEN_INT || peek(p) == TOKEN_FLOAT)
        return parse_number(p);
    if (pieces > 0) {
        if (peek_after(p, pieces) == TOKEN_LPAREN)
            return parse_call(p, pieces);
        return fail(p, "expected a number, a path or a converter's call, found a name");
    }
    pieces = name_pieces(p, TOKEN_LOWER);
    if (pieces > 0 && peek_after(p, pieces) == TOKEN_LPAREN)
        return fail(p, "a converter's name starts with a capital letter; editors such as set() do "
                       "not belong into a condition");
    if (pieces > 0)
        return parse_path(p);
    return fail_expected(p, "a value");
}

static struct ast *parse_signed(struct parser *p)
{
    struct ast *sign = NULL, *operand;

    if (peek(p) == TOKEN_PLUS || peek(p) == TOKEN_MINUS) {
        sign = node_new(p, AST_SIGN);
        if (!sign)
            return NULL;
        p->at++;
    }
    if (accept(p, TOKEN_LPAREN)) {
        if (!deeper(p))
            return NULL;
        operand = parse_math(p);
        if (!operand || !expect(p, TOKEN_RPAREN))
            return NULL;
        p->depth--;
        operand->is_wrapped = true;
    } else {
        operand = parse_operand(p);
        if (!operand)
            return NULL;
    }
    if (!sign)
        return operand;
    sign->left = operand;
    sign->is_wrapped = true;
    return sign;
}

/* Operands joined by signs of one strength, from the left. */
static struct ast *parse_joined(struct parser *p, enum token_kind one, enum token_kind other,
    struct ast *(*parse_part)(struct parser *))
{
    struct ast *left = parse_part(p);

    while (left && (peek(p) == one || peek(p) == other)) {
        struct ast *math = node_new(p, AST_MATH);

        if (!math)
            return NULL;
        p->at++;
        math->left = left;
        math->right = parse_part(p);
        left = math->right ? math : NULL;
    }
    return left;
}

static struct ast *parse_product(struct parser *p)
{
    return parse_joined(p, TOKEN_TIMES, TOKEN_DIVIDE, parse_signed);
}

static struct ast *parse_math(struct parser *p)
{
    return parse_joined(p, TOKEN_PLUS, TOKEN_MINUS, parse_product);
}

static struct ast *parse_list(struct parser *p)
{
    struct ast *list = node_new(p, AST_LIST), **link;

    if (!list || !deeper(p))
        return NULL;
    p->at++;
    link = &list->children;
    if (peek(p) != TOKEN_RBRACKET) {
        do {
            *link = parse_value(p);
            if (!*link)
                return NULL;
            link = &(*link)->next;
            list->count++;
        } while (accept(p, TOKEN_COMMA));
    }
    p->depth--;
    return expect(p, TOKEN_RBRACKET) ? list : NULL;
}

static struct ast *parse_map(struct parser *p)
{
    struct ast *map = node_new(p, AST_MAP), **link;

    if (!map || !deeper(p))
        return NULL;
    p->at++;
    link = &map->children;
    while (peek(p) == TOKEN_STRING) {
        struct slice key = p->tokens[p->at++].text;

        if (!expect(p, TOKEN_COLON))
            return NULL;
        *link = parse_value(p);
        if (!*link)
            return NULL;
        (*link)->key_text = key;
        link = &(*link)->next;
        map->count++;
        (void)accept(p, TOKEN_COMMA);
    }
    p->depth--;
    return expect(p, TOKEN_RBRACE) ? map : NULL;
}

static bool is_lambda(const struct parser *p)
{
    size_t ahead = 1;

    if (peek(p) != TOKEN_LPAREN)
        return false;
    while (peek_after(p, ahead) == TOKEN_LOWER || peek_after(p, ahead) == TOKEN_UNDERSCORE ||
           peek_after(p, ahead) == TOKEN_COMMA)
        ahead++;
    return peek_after(p, ahead) == TOKEN_RPAREN && peek_after(p, ahead + 1) == TOKEN_ARROW;
}

static struct ast *parse_simple(struct parser *p, enum ast_kind kind)
{
    struct ast *node = node_new(p, kind);

    if (node) {
        node->integer = peek(p) == TOKEN_TRUE;
        p->at++;
    }
    return node;
}

static struct ast *parse_value(struct parser *p)
{
    switch ((int)peek(p)) {
    case TOKEN_NIL:
        return parse_simple(p, AST_NIL);
    case TOKEN_TRUE:
    case TOKEN_FALSE:
        return parse_simple(p, AST_BOOL);
    case TOKEN_STRING:
        return parse_simple(p, AST_STRING);
    case TOKEN_BYTES:
        return parse_simple(p, AST_BYTES);
    case TOKEN_LBRACE:
        return parse_map(p);
    case TOKEN_LBRACKET:
        return parse_list(p);
    case TOKEN_UPPER:
        if (peek_after(p, name_pieces(p, TOKEN_UPPER)) == TOKEN_LPAREN)
            break;
        if (peek_after(p, 1) == TOKEN_LOWER || peek_after(p, 1) == TOKEN_UPPER)
            return fail(p, "expected a value, found a name that is neither an enum (in capitals) "
                           "nor a converter's call");
        return parse_simple(p, AST_ENUM);
    default:
        break;
    }
    if (is_lambda(p)) {
        (void)fail(p, "lambda expressions are not supported");
        p->is_final = true;
        return NULL;
    }
    return parse_math(p);
}

/* -- booleans ------------------------------------------------------------------------------------------------ */

static bool is_comparison(enum token_kind kind)
{
    return kind == TOKEN_EQ || kind == TOKEN_NE || kind == TOKEN_LT || kind == TOKEN_LE ||
           kind == TOKEN_GT || kind == TOKEN_GE;
}

/* A comparison, or true, false or a call alone. */
static struct ast *parse_comparison(struct parser *p)
{
    struct ast *left = parse_value(p), *compare;

    if (!left)
        return NULL;
    if (!is_comparison(peek(p))) {
        if (left->kind == AST_BOOL || (left->kind == AST_CALL && !left->is_wrapped))
            return left;
        return fail(p, "expected a comparison (== != < <= > >=), found %s", token_name(peek(p)));
    }
    compare = node_new(p, AST_COMPARE);
    if (!compare)
        return NULL;
    p->at++;
    compare->left = left;
    compare->right = parse_value(p);
    return compare->right ? compare : NULL;
}

static struct ast *parse_factor(struct parser *p)
{
    struct ast *negation = NULL, *inner;
    const unsigned depth = p->depth;
    size_t start;

    if (peek(p) == TOKEN_NOT) {
        negation = node_new(p, AST_NOT);
        if (!negation)
            return NULL;
        p->at++;
    }
    start = p->at;
    inner = parse_comparison(p);
    if (!inner && !p->is_final && p->tokens[start].kind == TOKEN_LPAREN) {
        p->at = start + 1;
        p->depth = depth;
        if (!deeper(p))
            return NULL;
        inner = parse_or(p);
        if (!inner || !expect(p, TOKEN_RPAREN))
            return NULL;
        p->depth = depth;
    }
    if (!inner || !negation)
        return inner;
    negation->left = inner;
    return negation;
}

/* One part alone stays itself; several become the children of an `and` or `or`. */
static struct ast *parse_chain(struct parser *p, enum ast_kind kind, enum token_kind word,
    struct ast *(*parse_part)(struct parser *))
{
    struct ast *chain = node_new(p, kind), *first = parse_part(p), *last = first;

    if (!chain || !first)
        return NULL;
    chain->children = first;
    chain->count = 1;
    while (accept(p, word)) {
        last->next = parse_part(p);
        if (!last->next)
            return NULL;
        last = last->next;
        chain->count++;
    }
    return chain->count == 1 ? first : chain;
}

static struct ast *parse_and(struct parser *p)
{
    return parse_chain(p, AST_AND, TOKEN_AND, parse_factor);
}

static struct ast *parse_or(struct parser *p)
{
    return parse_chain(p, AST_OR, TOKEN_OR, parse_and);
}

int ottl_parse_condition(struct arena *arena, struct slice source, struct ast **out_condition,
    struct ottl_fault *out_fault)
{
    struct parser p = {.arena = arena, .fault = out_fault};
    struct tokens tokens;
    struct ast *condition;
    int r;

    if (source.len > OTTL_SOURCE_MAX)
        return ottl_fault_set(out_fault, 0, "a condition has at most %d bytes", OTTL_SOURCE_MAX);
    r = ottl_lex(arena, source, &tokens, out_fault);
    if (r)
        return r;
    p.tokens = tokens.items;
    condition = parse_or(&p);
    if (condition && peek(&p) != TOKEN_END)
        condition = fail_expected(&p, "`and`, `or` or the end");
    if (p.out_of_memory)
        return ottl_fault_set(out_fault, 0, "the condition is too long for how deep its brackets go");
    if (!condition)
        return OTTL_E_FAULT;
    *out_condition = condition;
    return 0;
}
