/* Which instruction set the kernels use. */
#ifndef MR_COMPUTE_CPU_H
#define MR_COMPUTE_CPU_H

typedef enum mr_isa { MR_ISA_PLAIN = 0, MR_ISA_AVX2, MR_ISA_AVX512, MR_ISA_NEON } mr_isa;

/* The best set that this processor and operating system have, or the one that the environment variable MR_ISA (plain,
 * avx2, avx512, neon) forces where it is available. Constant for the life of the process, except through mr_isa_force.
 */
mr_isa mr_isa_active(void);
const char *mr_isa_name(mr_isa isa);

/* For tests: makes this the active set if the processor has it; returns whether it does. Not thread-safe. */
int mr_isa_force(mr_isa isa);

#endif
