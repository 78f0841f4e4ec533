#include "compute/cpu.h"

#include "base/log.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *const ISA_NAMES[] = {"plain", "avx2", "avx512", "neon"};
static mr_isa active;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
/* Clang 14 does not know f16c in __builtin_cpu_supports. */
static int has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

static int available(mr_isa isa) {
    switch (isa) {
    case MR_ISA_PLAIN:
        return 1;
#if defined(__x86_64__)
    case MR_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() &&
               __builtin_cpu_supports("bmi2");
    case MR_ISA_AVX512:
        return available(MR_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
               __builtin_cpu_supports("avx512vbmi");
#elif defined(__aarch64__)
    case MR_ISA_NEON: { /* dot products of int8, and half floats (asm/hwcap.h) */
        const unsigned long fp16 = 1ul << 10, dotprod = 1ul << 20;
        unsigned long has = getauxval(AT_HWCAP);
        return (has & fp16) != 0 && (has & dotprod) != 0;
    }
#endif
    default:
        return 0;
    }
}

static void choose(void) {
    for (int isa = MR_ISA_NEON; isa >= MR_ISA_PLAIN; isa--) {
        if (!available((mr_isa)isa)) continue;
        active = (mr_isa)isa;
        break;
    }
    const char *forced = getenv("MR_ISA");
    if (forced == NULL || forced[0] == '\0') return;
    for (int isa = MR_ISA_PLAIN; isa <= MR_ISA_NEON; isa++) {
        if (strcmp(forced, ISA_NAMES[isa]) == 0 && available((mr_isa)isa)) {
            active = (mr_isa)isa;
            return;
        }
    }
    MR_WARN("MR_ISA=%s is not an instruction set of this machine; using %s", forced, ISA_NAMES[active]);
}

mr_isa mr_isa_active(void) {
    pthread_once(&once, choose);
    return active;
}

const char *mr_isa_name(mr_isa isa) {
    return ISA_NAMES[isa];
}

int mr_isa_force(mr_isa isa) {
    pthread_once(&once, choose);
    if (!available(isa)) return 0;
    active = isa;
    return 1;
}
