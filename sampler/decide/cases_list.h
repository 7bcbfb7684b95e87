/* The .cases files beside the policies, made from policy/meson.build's list; ends with NULL. */
#pragma once

extern const char *const cases_files[];
