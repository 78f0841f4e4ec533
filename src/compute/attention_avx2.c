#define MR_ATTENTION_KERNELS mr_attention_avx2
#include "compute/attention_impl.h"
