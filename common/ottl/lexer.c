/* One pass; the rules are tried in the order that the Collector's lexer tries them: `0x1f` before `0`, a float before an
 * integer, words before names. A word inside a name is a word only where a name starts anew (`for` is a name, and so is
 * `or_else`, but the `or` of `For` is a word), because there the Collector's sees it alone. */
#include "common/ottl/lexer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/ottl/utf8.h"

struct lexer {
    struct arena *arena;
    struct slice source;
    size_t at;
    struct ottl_fault *fault;
};

int ottl_fault_set(struct ottl_fault *fault, uint32_t at, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    fault->at = at;
    return OTTL_E_FAULT;
}

const char *token_name(enum token_kind kind)
{
    static const char *const names[] = {
        [TOKEN_END] = "the end",
        [TOKEN_BYTES] = "bytes",
        [TOKEN_FLOAT] = "a number",
        [TOKEN_INT] = "a number",
        [TOKEN_STRING] = "a string",
        [TOKEN_NIL] = "`nil`",
        [TOKEN_TRUE] = "`true`",
        [TOKEN_FALSE] = "`false`",
        [TOKEN_AND] = "`and`",
        [TOKEN_OR] = "`or`",
        [TOKEN_NOT] = "`not`",
        [TOKEN_EQ] = "`==`",
        [TOKEN_NE] = "`!=`",
        [TOKEN_LT] = "`<`",
        [TOKEN_LE] = "`<=`",
        [TOKEN_GT] = "`>`",
        [TOKEN_GE] = "`>=`",
        [TOKEN_PLUS] = "`+`",
        [TOKEN_MINUS] = "`-`",
        [TOKEN_TIMES] = "`*`",
        [TOKEN_DIVIDE] = "`/`",
        [TOKEN_ARROW] = "`=>`",
        [TOKEN_ASSIGN] = "`=` (a comparison is `==`)",
        [TOKEN_LPAREN] = "`(`",
        [TOKEN_RPAREN] = "`)`",
        [TOKEN_LBRACE] = "`{`",
        [TOKEN_RBRACE] = "`}`",
        [TOKEN_LBRACKET] = "`[`",
        [TOKEN_RBRACKET] = "`]`",
        [TOKEN_COLON] = "`:`",
        [TOKEN_COMMA] = "`,`",
        [TOKEN_DOT] = "`.`",
        [TOKEN_UPPER] = "a name",
        [TOKEN_LOWER] = "a name",
        [TOKEN_UNDERSCORE] = "`_`",
    };

    return names[kind];
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(uint8_t c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(uint8_t c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_word(uint8_t c)
{
    return is_digit(c) || is_lower(c) || is_upper(c) || c == '_';
}

static int hex_digit(uint8_t c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte so far ahead; 0 past the end. */
static uint8_t ahead(const struct lexer *lexer, size_t offset)
{
    return lexer->at + offset < lexer->source.len ? lexer->source.at[lexer->at + offset] : 0;
}

/* -- numbers ------------------------------------------------------------------------------------------- */

static int lex_bytes(struct lexer *lexer, struct token *token)
{
    size_t digits = 0;
    uint8_t *bytes;

    while (hex_digit(ahead(lexer, 2 + digits)) >= 0)
        digits++;
    if (digits % 2)
        return ottl_fault_set(lexer->fault, token->at,
            "bytes are an even number of hexadecimal digits, here are %zu", digits);
    bytes = arena_bytes(lexer->arena, digits / 2);
    if (!bytes)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < digits / 2; i++)
        bytes[i] = (uint8_t)(hex_digit(ahead(lexer, 2 + 2 * i)) << 4 |
                             hex_digit(ahead(lexer, 3 + 2 * i)));
    token->kind = TOKEN_BYTES;
    token->text = slice_make(bytes, digits / 2);
    lexer->at += 2 + digits;
    return 0;
}

static int lex_number(struct lexer *lexer, struct token *token)
{
    size_t whole = 0, len, exponent;
    struct slice copy;

    while (is_digit(ahead(lexer, whole)))
        whole++;
    len = whole;
    token->kind = TOKEN_INT;
    if (ahead(lexer, whole) == '.') {
        token->kind = TOKEN_FLOAT;
        len++;
        while (is_digit(ahead(lexer, len)))
            len++;
        exponent = len;
        if ((ahead(lexer, exponent) | 0x20) == 'e') {
            exponent++;
            if (ahead(lexer, exponent) == '+' || ahead(lexer, exponent) == '-')
                exponent++;
            if (is_digit(ahead(lexer, exponent)))
                for (len = exponent; is_digit(ahead(lexer, len));)
                    len++;
        }
    }
    if (!arena_copy(lexer->arena, slice_make(lexer->source.at + lexer->at, len), &copy))
        return error_raise(-ENOMEM);
    errno = 0;
    if (token->kind == TOKEN_INT)
        token->integer = strtoll((const char *)copy.at, NULL, 10);
    else
        token->number = strtod((const char *)copy.at, NULL);
    if (errno == ERANGE &&
        (token->kind == TOKEN_INT || token->number > 1 || token->number < -1))
        return ottl_fault_set(lexer->fault, token->at, "the number %s is out of range", copy.at);
    token->text = copy;
    lexer->at += len;
    return 0;
}

/* -- strings --------------------------------------------------------------------------------------------- */

static int string_fault(struct lexer *lexer, size_t at, const char *text)
{
    return ottl_fault_set(lexer->fault, (uint32_t)at, "%s", text);
}

/* The digits of \x41 \u00e9 \U0001f600 (base 16) or \101 (base 8). False: not so many. */
static bool escape_number(
    const struct lexer *lexer, size_t at, size_t digits, unsigned base, uint32_t *out_number)
{
    uint32_t number = 0;

    for (size_t i = 0; i < digits; i++) {
        int digit = at + i < lexer->source.len ? hex_digit(lexer->source.at[at + i]) : -1;

        if (digit < 0 || (unsigned)digit >= base)
            return false;
        number = number * base + (uint32_t)digit;
    }
    *out_number = number;
    return true;
}

/* What follows a backslash at *at; moves *at past it. */
static int lex_escape(struct lexer *lexer, size_t *at, uint8_t **out)
{
    static const char plain[] = "abfnrtv\\\"", meant[] = "\a\b\f\n\r\t\v\\\"";
    uint8_t c = lexer->source.at[*at];
    const char *found = c ? strchr(plain, c) : NULL;
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 3;
    uint32_t number;

    if (found) {
        *(*out)++ = (uint8_t)meant[found - plain];
        (*at)++;
        return 0;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        if (!escape_number(lexer, *at + 1, digits, 16, &number))
            return string_fault(lexer, *at - 1, "too few hexadecimal digits after the backslash");
        *at += 1 + digits;
    } else if (c >= '0' && c <= '7') {
        if (!escape_number(lexer, *at, digits, 8, &number) || number > 255)
            return string_fault(lexer, *at - 1, "not three octal digits up to \\377");
        *at += digits;
    } else {
        return string_fault(lexer, *at - 1,
            "unknown escape; a string has \\a \\b \\f \\n \\r \\t \\v \\\\ \\\" \\xHH \\ooo \\uHHHH "
            "\\UHHHHHHHH");
    }
    if (c == 'u' || c == 'U') {
        if (number > 0x10ffff || (number >= 0xd800 && number < 0xe000))
            return string_fault(lexer, *at - 1, "no such character");
        *out += utf8_write(*out, number);
    } else {
        *(*out)++ = (uint8_t)number;
    }
    return 0;
}

static int lex_string(struct lexer *lexer, struct token *token)
{
    size_t at = lexer->at + 1, end = at, len;
    uint8_t *text, *out;

    while (end < lexer->source.len && lexer->source.at[end] != '"')
        end += lexer->source.at[end] == '\\' ? 2 : 1;
    if (end >= lexer->source.len)
        return string_fault(lexer, token->at, "the string does not end");
    text = out = arena_bytes(lexer->arena, (end - at) * 3 + RUNE_BYTES_MAX); /* stray bytes grow to U+FFFD */
    if (!text)
        return error_raise(-ENOMEM);
    while (at < end) {
        uint8_t c = lexer->source.at[at];
        int r;

        if (c == '\n')
            return string_fault(lexer, at, "a string does not go over line ends; write \\n");
        if (c != '\\') {
            out += utf8_write(out, utf8_read(lexer->source.at + at, end - at, &len));
            at += len;
            continue;
        }
        at++;
        r = lex_escape(lexer, &at, &out);
        if (r)
            return r;
    }
    token->kind = TOKEN_STRING;
    token->text = slice_make(text, (size_t)(out - text));
    lexer->at = end + 1;
    return 0;
}

/* -- names and signs --------------------------------------------------------------------------------------- */

static bool lex_word(struct lexer *lexer, struct token *token)
{
    static const struct {
        const char *word;
        enum token_kind kind;
    } words[] = {{"nil", TOKEN_NIL}, {"not", TOKEN_NOT}, {"or", TOKEN_OR}, {"and", TOKEN_AND},
        {"true", TOKEN_TRUE}, {"false", TOKEN_FALSE}};

    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        size_t len = strlen(words[i].word);

        if (lexer->source.len - lexer->at < len ||
            memcmp(lexer->source.at + lexer->at, words[i].word, len) != 0 ||
            is_word(ahead(lexer, len)))
            continue;
        token->kind = words[i].kind;
        lexer->at += len;
        return true;
    }
    return false;
}

static void lex_name(struct lexer *lexer, struct token *token)
{
    bool upper = is_upper(ahead(lexer, 0));
    size_t len = 1;

    for (;; len++) {
        uint8_t c = ahead(lexer, len);

        if (!is_digit(c) && c != '_' && !(upper ? is_upper(c) : is_lower(c)))
            break;
    }
    token->kind = upper ? TOKEN_UPPER : TOKEN_LOWER;
    token->text = slice_make(lexer->source.at + lexer->at, len);
    lexer->at += len;
}

static bool lex_sign(struct lexer *lexer, struct token *token)
{
    static const struct {
        const char *sign;
        enum token_kind kind;
    } signs[] = {{"==", TOKEN_EQ}, {"!=", TOKEN_NE}, {">=", TOKEN_GE}, {"<=", TOKEN_LE},
        {">", TOKEN_GT}, {"<", TOKEN_LT}, {"=>", TOKEN_ARROW}, {"+", TOKEN_PLUS}, {"-", TOKEN_MINUS},
        {"*", TOKEN_TIMES}, {"/", TOKEN_DIVIDE}, {"=", TOKEN_ASSIGN}, {"(", TOKEN_LPAREN},
        {")", TOKEN_RPAREN}, {"{", TOKEN_LBRACE}, {"}", TOKEN_RBRACE}, {"[", TOKEN_LBRACKET},
        {"]", TOKEN_RBRACKET}, {":", TOKEN_COLON}, {",", TOKEN_COMMA}, {".", TOKEN_DOT}};

    for (size_t i = 0; i < ARRAY_COUNT(signs); i++) {
        size_t len = strlen(signs[i].sign);

        if (lexer->source.len - lexer->at < len ||
            memcmp(lexer->source.at + lexer->at, signs[i].sign, len) != 0)
            continue;
        token->kind = signs[i].kind;
        lexer->at += len;
        return true;
    }
    return false;
}

static int lex_token(struct lexer *lexer, struct token *token)
{
    uint8_t c = ahead(lexer, 0);

    if (c == '0' && ahead(lexer, 1) == 'x' && hex_digit(ahead(lexer, 2)) >= 0)
        return lex_bytes(lexer, token);
    if (is_digit(c) || (c == '.' && is_digit(ahead(lexer, 1))))
        return lex_number(lexer, token);
    if (c == '"')
        return lex_string(lexer, token);
    if (lex_word(lexer, token) || lex_sign(lexer, token))
        return 0;
    if (is_upper(c) || is_lower(c)) {
        lex_name(lexer, token);
        return 0;
    }
    if (c == '_' && !is_word(ahead(lexer, 1))) {
        token->kind = TOKEN_UNDERSCORE;
        lexer->at++;
        return 0;
    }
    if (c == '\'')
        return string_fault(lexer, lexer->at, "strings stand in double quotes");
    return string_fault(lexer, lexer->at, "no part of OTTL starts like this");
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

int ottl_lex(struct arena *arena, struct slice source, struct tokens *out_tokens,
    struct ottl_fault *out_fault)
{
    struct lexer lexer = {arena, source, 0, out_fault};
    /* No token is shorter than a byte. */
    struct token *items = source.len < SIZE_MAX / sizeof(*items) - 1
                              ? arena_alloc(arena, (source.len + 1) * sizeof(*items))
                              : NULL;
    size_t count = 0;

    if (!items)
        return error_raise(-ENOMEM);
    for (;;) {
        struct token *token = &items[count++];
        int r;

        while (lexer.at < source.len && is_blank(source.at[lexer.at]))
            lexer.at++;
        token->at = (uint32_t)lexer.at;
        if (lexer.at == source.len)
            break; /* zeroed, so it is TOKEN_END */
        r = lex_token(&lexer, token);
        if (r)
            return r;
    }
    *out_tokens = (struct tokens){items, count};
    return 0;
}
