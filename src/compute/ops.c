#include "compute/ops.h"

#include "compute/cpu.h"

extern const mr_ops mr_ops_plain, mr_ops_avx2, mr_ops_avx512;

const mr_ops *mr_ops_active(void) {
    switch (mr_isa_active()) {
#if defined(__x86_64__)
    case MR_ISA_AVX512:
        return &mr_ops_avx512;
    case MR_ISA_AVX2:
        return &mr_ops_avx2;
#endif
    default:
        return &mr_ops_plain;
    }
}
