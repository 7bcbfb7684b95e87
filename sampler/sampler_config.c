#include "sampler/sampler_config.h"
