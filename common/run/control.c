#include "common/run/control.h"
