#define MR_OPS mr_ops_avx512
#include "compute/ops_impl.h"
