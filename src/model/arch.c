#include "model/arch.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>

static const mr_arch ARCHS[] = {
    {.name = "llama", .act = MR_GLU_SILU},
    {.name = "mistral", .act = MR_GLU_SILU},
    {.name = "mistral3", .act = MR_GLU_SILU},
    {.name = "qwen2", .act = MR_GLU_SILU, .rope_neox = true},
    {.name = "qwen2moe", .act = MR_GLU_SILU, .rope_neox = true, .experts_not_normed = true},
    {.name = "qwen3", .act = MR_GLU_SILU, .rope_neox = true},
    {.name = "qwen3moe", .act = MR_GLU_SILU, .rope_neox = true},
    {.name = "gemma", .act = MR_GLU_GELU_TANH, .rope_neox = true, .embd_scale_sqrt = true},
    {.name = "gemma2", .act = MR_GLU_GELU_TANH, .rope_neox = true, .embd_scale_sqrt = true, .full_period = 2},
    {.name = "gemma3",
     .act = MR_GLU_GELU_TANH,
     .rope_neox = true,
     .embd_scale_sqrt = true,
     .full_period = 6,
     .local_rope_unscaled = true,
     .local_rope_freq_base = 10000.0f},
    {.name = "gemma3n",
     .act = MR_GLU_GELU_TANH,
     .rope_neox = true,
     .embd_scale_sqrt = true,
     .full_period = 5,
     .local_rope_unscaled = true,
     .local_rope_freq_base = 10000.0f,
     .altup = true,
     .v_norm = true,
     .attn_scale_one = true},
    {.name = "gemma4",
     .act = MR_GLU_GELU_TANH,
     .rope_neox = true,
     .embd_scale_sqrt = true,
     .full_period = 6,
     .local_rope_unscaled = true,
     .local_rope_freq_base = 10000.0f,
     .v_norm = true,
     .attn_scale_one = true},
    {.name = "phi2",
     .norm = MR_NORM_LAYER,
     .act = MR_GLU_GELU_TANH,
     .rope_neox = true,
     .ffn_plain = true,
     .ffn_parallel = true},
    {.name = "phi3", .act = MR_GLU_SILU, .rope_neox = true},
    {.name = "starcoder2", .norm = MR_NORM_LAYER, .act = MR_GLU_GELU_TANH, .rope_neox = true, .ffn_plain = true},
    {.name = "granite", .act = MR_GLU_SILU, .logit_scale_divides = true},
    {.name = "granitemoe", .act = MR_GLU_SILU, .logit_scale_divides = true},
    {.name = "command-r", .norm = MR_NORM_LAYER, .act = MR_GLU_SILU, .ffn_parallel = true},
    {.name = "cohere2",
     .norm = MR_NORM_LAYER,
     .act = MR_GLU_SILU,
     .ffn_parallel = true,
     .full_period = 4,
     .full_layers_no_rope = true},
    {.name = "olmo2", .act = MR_GLU_SILU, .rope_neox = true, .full_period = 4, .local_rope_unscaled = true},
    {.name = "olmoe", .act = MR_GLU_SILU, .rope_neox = true, .experts_not_normed = true},
    {.name = "apertus", .xielu = true, .rope_neox = true, .ffn_plain = true},
    {.name = "glm4", .act = MR_GLU_SILU},
    {.name = "chatglm", .act = MR_GLU_SILU},
    {.name = "exaone", .act = MR_GLU_SILU, .rope_neox = true},
    {.name = "exaone4", .act = MR_GLU_SILU, .rope_neox = true, .full_period = 4, .full_layers_no_rope = true},
    {.name = "internlm2", .act = MR_GLU_SILU},
    {.name = "smollm3", .act = MR_GLU_SILU, .no_rope_period = 4},
    {.name = "seed_oss", .act = MR_GLU_SILU, .rope_neox = true, .post_attention_norm_is_ffn_norm = true},
    {.name = "hunyuan-dense", .act = MR_GLU_SILU, .rope_neox = true, .qk_norm_after_rope = true},
    {.name = "ernie4_5", .act = MR_GLU_SILU},
    {.name = "ernie4_5-moe", .act = MR_GLU_SILU},
    {.name = "hunyuan-moe", .act = MR_GLU_SILU, .rope_neox = true, .qk_norm_after_rope = true},
    {.name = "phimoe", .norm = MR_NORM_LAYER, .act = MR_GLU_SILU, .rope_neox = true, .gating = MR_GATING_SPARSEMIXER},
    {.name = "glm4moe",
     .act = MR_GLU_SILU,
     .rope_neox = true,
     .post_attention_norm_is_ffn_norm = true,
     .gating = MR_GATING_SIGMOID},
    {.name = "deepseek2", .act = MR_GLU_SILU, .mla = true, .experts_not_normed = true, .yarn_scales_attention = true},
    {.name = "gpt-oss",
     .act = MR_GLU_SILU_CLAMPED,
     .rope_neox = true,
     .post_attention_norm_is_ffn_norm = true,
     .full_period = 2,
     .yarn_whole_pairs_off = true,
     .gating = MR_GATING_SOFTMAX_CHOSEN},
};

enum { N_ARCHS = sizeof ARCHS / sizeof ARCHS[0] };

const mr_arch *mr_arch_find(const char *name, size_t len, mr_error *err) {
    for (size_t i = 0; i < N_ARCHS; i++) {
        if (strlen(ARCHS[i].name) == len && memcmp(ARCHS[i].name, name, len) == 0) return &ARCHS[i];
    }
    mr_buf known = {0};
    for (size_t i = 0; i < N_ARCHS; i++) mr_buf_printf(&known, "%s%s", i == 0 ? "" : ", ", ARCHS[i].name);
    mr_fail(err, MR_ERR_UNSUPPORTED, "the model's architecture \"%.*s\" is not supported; supported are: %s",
            (int)(len < 64 ? len : 64), name, mr_buf_cstr(&known));
    mr_buf_free(&known);
    return NULL;
}

const mr_arch *mr_arch_list(size_t *n) {
    *n = N_ARCHS;
    return ARCHS;
}
