#define MR_ATTENTION_KERNELS mr_attention_plain
#include "compute/attention_impl.h"
