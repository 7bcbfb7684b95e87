/* The command line that both programs share; config.h has the struct it becomes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/config/config.h"

/* 0 and *out_line, to be given to command_line_deinit; or CONFIG_E_INVALID and one line in message that says what is wrong.
 * The strings stay argv's. --help and --version make everything else optional. */
int command_line_parse(
    int argc, char **argv, struct config_command_line *out_line, char *message, size_t message_size);
void command_line_deinit(struct config_command_line *line);

/* What --help shows. program: tailrace-lb … */
const char *command_line_help(const char *program, char *text, size_t size);
#define COMMAND_LINE_HELP_SIZE 2048
