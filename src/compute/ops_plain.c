#define MR_OPS mr_ops_plain
#include "compute/ops_impl.h"
