/* Failures nobody planned for: negative errno, with a trail from where it was raised.
 *
 * 0 is done, > 0 an outcome the header names, < 0 a failure passed up unchanged to one of the four
 * boundaries (start, reload, connection, worker), which prints the trail.
 */
#pragma once

#include <stddef.h>

/* Starts a trail for this thread and returns error (negative). */
#define error_raise(error) error_raise_at((error), __FILE__, __LINE__, __func__)
/* Adds this place to the trail when error is negative; an unexpected outcome (> 0) becomes -EPROTO. */
#define error_fold(error) error_fold_at((error), __FILE__, __LINE__, __func__)
/* Adds this place to the trail; returns error unchanged. */
#define error_pass(error) error_pass_at((error), __FILE__, __LINE__, __func__)

int error_raise_at(int error, const char *file, int line, const char *function);
int error_pass_at(int error, const char *file, int line, const char *function);
int error_fold_at(int error, const char *file, int line, const char *function);

/* Writes this thread's trail as one line into text; returns text. */
const char *error_trail(char *text, size_t size);
