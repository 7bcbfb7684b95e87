/* OTTL's tokens. Source: OTTL grammar (reference: pkg/ottl lexer rules); words are `nil true false and or not` as whole words. */
#pragma once

#include <stdint.h>

#include "common/ottl/arena.h"

enum token_kind {
    TOKEN_END,
    TOKEN_BYTES,      /* 0x… ; text: decoded */
    TOKEN_FLOAT,
    TOKEN_INT,
    TOKEN_STRING,     /* text: unescaped */
    TOKEN_NIL,
    TOKEN_TRUE,
    TOKEN_FALSE,
    TOKEN_AND,
    TOKEN_OR,
    TOKEN_NOT,
    TOKEN_EQ,
    TOKEN_NE,
    TOKEN_LT,
    TOKEN_LE,
    TOKEN_GT,
    TOKEN_GE,
    TOKEN_PLUS,
    TOKEN_MINUS,
    TOKEN_TIMES,
    TOKEN_DIVIDE,
    TOKEN_ARROW,      /* => */
    TOKEN_ASSIGN,     /* = */
    TOKEN_LPAREN,
    TOKEN_RPAREN,
    TOKEN_LBRACE,
    TOKEN_RBRACE,
    TOKEN_LBRACKET,
    TOKEN_RBRACKET,
    TOKEN_COLON,
    TOKEN_COMMA,
    TOKEN_DOT,
    TOKEN_UPPER,      /* [A-Z][A-Z0-9_]* : an enum, or a piece of a function's name */
    TOKEN_LOWER,      /* [a-z][a-z0-9_]* */
    TOKEN_UNDERSCORE,
};

struct token {
    enum token_kind kind;
    uint32_t at; /* offset in the source */
    struct slice text;
    union {
        int64_t integer;
        double number;
    };
};

struct tokens {
    struct token *items; /* the last is TOKEN_END */
    size_t count;
};

struct ottl_fault { /* what is wrong with a source, and where */
    uint32_t at;
    char text[240];
};

#define OTTL_E_FAULT 1
/* Cuts the source into tokens, which live in the arena as long as the source does. 0; OTTL_E_FAULT; or -ENOMEM. */
int ottl_lex(struct arena *arena, struct slice source, struct tokens *out_tokens, struct ottl_fault *out_fault);

/* How a token reads in a message: "`and`", "a string". */
const char *token_name(enum token_kind kind);

/* Sets the fault and returns OTTL_E_FAULT. */
int ottl_fault_set(struct ottl_fault *fault, uint32_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
