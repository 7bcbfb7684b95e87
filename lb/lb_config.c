#include "lb/lb_config.h"
