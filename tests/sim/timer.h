/* The control loop's timers, on fake time. */
#pragma once

#include "common/base/list.h"

/* Frees all of a process that was killed. */
void timers_forget(struct list *timers);
