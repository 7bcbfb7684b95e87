#include "sampler/buffer/trace_table.h"
