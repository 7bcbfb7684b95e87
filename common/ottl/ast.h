/* What a condition says, as it was written. Nodes live in an arena; `at` is an offset in the source, for messages.
 *
 * Statements will stand on the same nodes: an editor's call is an AST_CALL whose name starts with a small letter.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/ottl/lexer.h"

enum ast_kind {
    AST_NIL,
    AST_BOOL,
    AST_INT,
    AST_FLOAT,
    AST_STRING,
    AST_BYTES,
    AST_ENUM,     /* text: its name */
    AST_LIST,     /* children */
    AST_MAP,      /* children, their keys in `key_text` */
    AST_PATH,     /* fields */
    AST_CALL,     /* text: the function's name; children: arguments, their names in `key_text`; keys */
    AST_FUNCTION, /* a function's bare name as an argument */
    AST_MATH,     /* op, left, right */
    AST_SIGN,     /* op (plus or minus), left */
    AST_COMPARE,  /* op, left, right */
    AST_AND,      /* children */
    AST_OR,       /* children */
    AST_NOT,      /* left */
};

enum ast_key_kind { AST_KEY_STRING, AST_KEY_INT, AST_KEY_VALUE };

struct ast;

struct ast_key { /* […] after a path's field or a call */
    enum ast_key_kind kind;
    uint32_t at;
    struct slice text;
    int64_t integer;
    struct ast *value;
    struct ast_key *next;
};

struct ast_field {
    uint32_t at;
    struct slice name;
    struct ast_key *keys;
    struct ast_field *next;
};

struct ast {
    enum ast_kind kind;
    enum token_kind op;
    uint32_t at;
    bool is_wrapped; /* in parentheses or signed: not a plain literal where an argument must be one */
    struct slice text, key_text;
    uint32_t key_at; /* where key_text stands */
    union {
        int64_t integer; /* also of a bool */
        double number;
    };
    struct ast *left, *right;
    struct ast *children, *next; /* of lists, maps, calls, and, or */
    size_t count;                /* of children */
    struct ast_field *fields;
    struct ast_key *keys;
};
