/* The families of Hugging Face folders. */
#include "model/hf_gemma.h"
#include "model/hf_model.h"

#include <string.h>

/* What Gemma 3's multimodal configurations leave out. */
#define GEMMA3_DEFAULTS                                                                                                \
    "{\"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": 256, \"max_position_embeddings\": 131072," \
    " \"rms_norm_eps\": 1e-6, \"rope_theta\": 1e6, \"query_pre_attn_scalar\": 256, \"sliding_window\": 4096}"

/* What transformers takes for granted. */
#define GEMMA3N_DEFAULTS                                                                                               \
    "{\"num_hidden_layers\": 35, \"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"head_dim\": 256,"           \
    " \"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-6, \"rope_theta\": 1e6, \"sliding_window\": 512,"       \
    " \"final_logit_softcapping\": 30.0, \"hidden_size_per_layer_input\": 256, \"altup_num_inputs\": 4,"               \
    " \"num_kv_shared_layers\": 15}"
#define GEMMA4_DEFAULTS(per_layer)                                                                                     \
    "{\"num_hidden_layers\": 30, \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": 256,"           \
    " \"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-6, \"sliding_window\": 512,"                           \
    " \"rope_parameters\": {\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 1e4},"                 \
    " \"full_attention\": {\"rope_type\": \"proportional\", \"partial_rotary_factor\": 0.25, \"rope_theta\": 1e6}},"   \
    " \"hidden_size_per_layer_input\": " per_layer "}"

/* Gemma 3n and Gemma 4 store their norms as they are. */
#define GEMMA3N                                                                                                        \
    .arch = "gemma3n", .norms_behind = true, .defaults = GEMMA3N_DEFAULTS, .spell_out = mr_hf_gemma3n_spell_out
#define GEMMA4(per_layer)                                                                                              \
    .arch = "gemma4", .norms_behind = true, .defaults = GEMMA4_DEFAULTS(per_layer), .spell_out = mr_hf_gemma4_spell_out

#define MODERNBERT_DEFAULTS                                                                                            \
    "{\"global_rope_theta\": 160000.0, \"local_rope_theta\": 10000.0, \"local_attention\": 128, \"norm_eps\": 1e-5,"   \
    " \"global_attn_every_n_layers\": 3}"

#define ENCODER(type, architecture, act) .model_type = type, .arch = architecture, .encoder = true, .activation = act

static const mr_hf_family FAMILIES[] = {
    {.model_type = "llama", .arch = "llama", .rope_halves = true},
    {.model_type = "mistral", .arch = "llama", .rope_halves = true},
    {.model_type = "ministral", .arch = "llama", .rope_halves = true},
    {.model_type = "ministral3", .arch = "mistral3", .rope_halves = true},
    {.model_type = "mixtral", .arch = "llama", .rope_halves = true},
    {.model_type = "qwen2", .arch = "qwen2"},
    {.model_type = "qwen2_moe", .arch = "qwen2moe"},
    {.model_type = "qwen2_5_vl", .arch = "qwen2"},
    {.model_type = "qwen2_5_vl_text", .arch = "qwen2"},
    {.model_type = "qwen3", .arch = "qwen3"},
    {.model_type = "qwen3_vl", .arch = "qwen3"},
    {.model_type = "qwen3_vl_text", .arch = "qwen3"},
    {.model_type = "qwen3_moe", .arch = "qwen3moe"},
    {.model_type = "gemma", .arch = "gemma", .norm_plus_one = true},
    {.model_type = "gemma2", .arch = "gemma2", .norms_behind = true, .norm_plus_one = true},
    {.model_type = "gemma3_text",
     .arch = "gemma3",
     .norms_behind = true,
     .norm_plus_one = true,
     .defaults = GEMMA3_DEFAULTS},
    {.model_type = "gemma3",
     .arch = "gemma3",
     .norms_behind = true,
     .norm_plus_one = true,
     .defaults = GEMMA3_DEFAULTS},
    {.model_type = "gemma3n_text", GEMMA3N},
    {.model_type = "gemma3n", GEMMA3N},
    {.model_type = "gemma4_text", GEMMA4("256")},
    {.model_type = "gemma4", GEMMA4("256")},
    {.model_type = "gemma4_unified_text", GEMMA4("0")},
    {.model_type = "gemma4_unified", GEMMA4("0")},
    {.model_type = "phi", .arch = "phi2"},
    {.model_type = "phi3", .arch = "phi3"},
    {.model_type = "phimoe", .arch = "phimoe"},
    {.model_type = "starcoder2", .arch = "starcoder2"},
    {.model_type = "granite", .arch = "granite", .rope_halves = true},
    {.model_type = "granitemoe", .arch = "granitemoe", .rope_halves = true},
    {.model_type = "granitemoeshared", .arch = "granitemoe", .rope_halves = true},
    {.model_type = "cohere", .arch = "command-r"},
    {.model_type = "cohere2", .arch = "cohere2"},
    {.model_type = "olmo2", .arch = "olmo2", .norms_behind = true},
    {.model_type = "olmo3", .arch = "olmo2", .norms_behind = true},
    {.model_type = "olmoe", .arch = "olmoe"},
    {.model_type = "apertus", .arch = "apertus"},
    {.model_type = "exaone4", .arch = "exaone4", .norms_behind = true},
    {.model_type = "exaone", .arch = "exaone"},
    {.model_type = "internlm2", .arch = "internlm2", .rope_halves = true},
    {.model_type = "internlm3", .arch = "llama", .rope_halves = true},
    {.model_type = "smollm3", .arch = "smollm3", .rope_halves = true},
    {.model_type = "seed_oss", .arch = "seed_oss"},
    {.model_type = "hunyuan_v1_dense", .arch = "hunyuan-dense"},
    {.model_type = "hunyuan_v1_moe", .arch = "hunyuan-moe"},
    {.model_type = "ernie4_5", .arch = "ernie4_5"},
    {.model_type = "ernie4_5_moe", .arch = "ernie4_5-moe"},
    {.model_type = "glm", .arch = "chatglm"},
    {.model_type = "glm4", .arch = "glm4"},
    {.model_type = "glm4_moe", .arch = "glm4moe"},
    {.model_type = "deepseek_v2", .arch = "deepseek2"},
    {.model_type = "deepseek_v3", .arch = "deepseek2", .gating = MR_GATING_SIGMOID},
    {.model_type = "glm4_moe_lite",
     .arch = "deepseek2",
     .gating = MR_GATING_SIGMOID,
     .defaults = "{\"norm_topk_prob\": true, \"first_k_dense_replace\": 1}",
     .spell_out = mr_hf_count_dense},
    {.model_type = "gpt_oss", .arch = "gpt-oss", .experts_alternate = true},
    {.model_type = "lfm2", .arch = "lfm2"},
    {.model_type = "lfm2_moe", .arch = "lfm2moe"},
    {.model_type = "granitemoehybrid", .arch = "granitehybrid", .rope_halves = true},
    {.model_type = "nemotron_h", .arch = "nemotron_h"},
    {.model_type = "qwen3_next", .arch = "qwen3next", .norm_plus_one = true},
    {.model_type = "qwen3_5", .arch = "qwen35", .norm_plus_one = true},
    {.model_type = "qwen3_5_text", .arch = "qwen35", .norm_plus_one = true},
    {.model_type = "qwen3_5_moe", .arch = "qwen35moe", .norm_plus_one = true},
    {.model_type = "qwen3_5_moe_text", .arch = "qwen35moe", .norm_plus_one = true},
    {ENCODER("bert", "bert", "gelu"), .defaults = "{\"layer_norm_eps\": 1e-12}"},
    {ENCODER("distilbert", "bert", "gelu"), .defaults = "{\"layer_norm_eps\": 1e-12}"},
    {ENCODER("roberta", "bert", "gelu"), .positions_behind_padding = true, .defaults = "{\"pad_token_id\": 1}"},
    {ENCODER("xlm-roberta", "bert", "gelu"), .positions_behind_padding = true, .defaults = "{\"pad_token_id\": 1}"},
    {ENCODER("camembert", "bert", "gelu"), .positions_behind_padding = true, .defaults = "{\"pad_token_id\": 1}"},
    {ENCODER("nomic_bert", "nomic-bert", "silu"), .defaults = "{\"layer_norm_epsilon\": 1e-12}"},
    {ENCODER("modernbert", "modern-bert", "gelu"), .defaults = MODERNBERT_DEFAULTS},
};

const mr_hf_family *mr_hf_family_find(const char *model_type, mr_error *err) {
    size_t n = sizeof FAMILIES / sizeof FAMILIES[0];
    for (size_t i = 0; i < n; i++) {
        if (strcmp(FAMILIES[i].model_type, model_type) == 0) return &FAMILIES[i];
    }
    mr_buf known = {0};
    for (size_t i = 0; i < n; i++) mr_buf_printf(&known, "%s%s", i == 0 ? "" : ", ", FAMILIES[i].model_type);
    mr_fail(err, MR_ERR_UNSUPPORTED, "config.json has model_type \"%.64s\", which is not supported; supported are: %s",
            model_type, mr_buf_cstr(&known));
    mr_buf_free(&known);
    return NULL;
}
