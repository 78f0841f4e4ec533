#define MR_ATTENTION_KERNELS mr_attention_avx512
#include "compute/attention_impl.h"
