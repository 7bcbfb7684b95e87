#include "sampler/buffer/header_table.h"
