#include "sampler/buffer/budget.h"
