/* Tests of kernels on whatever libcuda.so.1 is: a GPU's driver, or the stand-in of this folder. No test library is
 * needed. Failures end the program; what it prints is TAP. */
#ifndef MR_TESTS_CUDA_HARNESS_H
#define MR_TESTS_CUDA_HARNESS_H

#include "compute/cuda/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens the first device and loads the kernels; false, with the reason printed as a skipped test, where there is none.
 */
bool gpu_begin(void);

bool gpu_has(const char *kernel);
void *gpu_context(void *context); /* makes it the calling thread's (NULL: none); gives back what it had */
uint32_t gpu_processors(void);

/* Device memory, which lives until gpu_forget(); gpu_put copies n bytes (NULL: leaves them as they are), at most 16
 * bytes longer than asked for. */
void *gpu_put(const void *data, size_t n);
void gpu_get(void *to, const void *from, size_t n);
void gpu_write(void *to, const void *from, size_t n);
void gpu_forget(void);

/* Starts a kernel; nothing when the grid is empty. The args are those of the kernel. */
void gpu_launch(mr_k_launch launch, const void *args);

/* Milliseconds of `again` rounds of body(arg), recorded as a graph, between two events; the median of 9 after a round by
 * itself. */
float gpu_time(void (*body)(void *arg), void *arg, int again);
void gpu_describe(char *text, size_t n); /* name of the device */

/* Runs one test and prints its line. */
void run_test(const char *name, void (*test)(void));
int end_tests(void); /* the program's status */
void fail_test(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Fails unless |a - b| <= tolerance * (the largest magnitude of b) for all n; both may be NaN where the other is. */
void expect_near(const char *what, const float *a, const float *b, size_t n, double tolerance);

uint32_t random_bits(void);
float random_float(void); /* -1 .. 1 */
float *random_floats(size_t n, float size);
void *must_alloc(size_t n); /* zeros, aligned to 64 */

#endif
