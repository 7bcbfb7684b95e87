#include "sampler/buffer/deadline.h"
