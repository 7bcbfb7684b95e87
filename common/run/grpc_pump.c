#include "common/run/grpc_pump.h"
