/* Decoders and encoders of the block formats, one pair for each; reached through mr_dtype_info.
 *
 * mr_dequantize_*: decodes n values (a whole number of blocks) exactly. mr_quantize_*: encodes n values, minimising the
 * sum of importance[i] * error[i]^2 (importance NULL = 1). src and dst may not overlap; dst may have any alignment. No
 * state: any number of threads may call them at the same time on rows of their own. Values that are not finite give
 * unspecified blocks. */
#ifndef MR_COMPUTE_QUANT_H
#define MR_COMPUTE_QUANT_H

#include <stddef.h>

void mr_dequantize_q4_0(const void *src, float *dst, size_t n);
void mr_dequantize_q4_1(const void *src, float *dst, size_t n);
void mr_dequantize_q5_0(const void *src, float *dst, size_t n);
void mr_dequantize_q5_1(const void *src, float *dst, size_t n);
void mr_dequantize_q8_0(const void *src, float *dst, size_t n);
void mr_dequantize_q8_1(const void *src, float *dst, size_t n);
void mr_dequantize_q2_k(const void *src, float *dst, size_t n);
void mr_dequantize_q3_k(const void *src, float *dst, size_t n);
void mr_dequantize_q4_k(const void *src, float *dst, size_t n);
void mr_dequantize_q5_k(const void *src, float *dst, size_t n);
void mr_dequantize_q6_k(const void *src, float *dst, size_t n);
void mr_dequantize_q8_k(const void *src, float *dst, size_t n);
void mr_dequantize_iq1_s(const void *src, float *dst, size_t n);
void mr_dequantize_iq1_m(const void *src, float *dst, size_t n);
void mr_dequantize_iq2_xxs(const void *src, float *dst, size_t n);
void mr_dequantize_iq2_xs(const void *src, float *dst, size_t n);
void mr_dequantize_iq2_s(const void *src, float *dst, size_t n);
void mr_dequantize_iq3_xxs(const void *src, float *dst, size_t n);
void mr_dequantize_iq3_s(const void *src, float *dst, size_t n);
void mr_dequantize_iq4_nl(const void *src, float *dst, size_t n);
void mr_dequantize_iq4_xs(const void *src, float *dst, size_t n);
void mr_dequantize_tq1_0(const void *src, float *dst, size_t n);
void mr_dequantize_tq2_0(const void *src, float *dst, size_t n);
void mr_dequantize_mxfp4(const void *src, float *dst, size_t n);
void mr_dequantize_hqq4(const void *src, float *dst, size_t n);
void mr_dequantize_hqq8(const void *src, float *dst, size_t n);
void mr_dequantize_f8_e4m3(const void *src, float *dst, size_t n);

void mr_quantize_q4_0(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q4_1(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q5_0(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q5_1(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q8_0(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q8_1(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q2_k(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q3_k(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q4_k(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q5_k(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q6_k(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_q8_k(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_iq4_nl(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_iq4_xs(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_tq1_0(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_tq2_0(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_mxfp4(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_f8_e4m3(const float *src, void *dst, size_t n, const float *importance);

/* These minimise sum |error|^0.7 instead, which large errors count less in (quant_hqq.c); importance is not used. */
void mr_quantize_hqq4(const float *src, void *dst, size_t n, const float *importance);
void mr_quantize_hqq8(const float *src, void *dst, size_t n, const float *importance);

#endif
