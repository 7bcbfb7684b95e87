/* Parts of a run that only regex.c and run.c know. */
#pragma once

#include "common/ottl/program.h"

/* 2048 texts of up to 52 bytes (names, routes, methods) in 128 KiB a worker. Whole texts are compared. */
#define ANSWER_SLOTS 2048
#define ANSWER_TEXT 52

struct regex_answer {
    uint32_t pattern; /* 1 + its number; 0: none */
    uint8_t len;
    bool found;
    uint8_t text[ANSWER_TEXT];
};

void pattern_cached_deinit(struct pattern_cached *cached);
