#define MR_OPS mr_ops_avx2
#include "compute/ops_impl.h"
