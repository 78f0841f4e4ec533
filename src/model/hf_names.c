/* Tensor names of Hugging Face folders and ours. */
#include "model/hf_encoder.h"
#include "model/hf_model.h"

#include <stdio.h>
#include <string.h>

/* Names below "layers.N.", without the ending ".weight" or ".bias". */
static const struct {
    const char *theirs, *ours;
} LAYER_NAMES[] = {
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.dense", "attn_output"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"self_attn.query_layernorm", "attn_q_norm"},
    {"self_attn.key_layernorm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.c_fc", "ffn_up"},
    {"mlp.c_proj", "ffn_down"},
    {"mlp.fc1", "ffn_up"},
    {"mlp.fc2", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"block_sparse_moe.gate", "ffn_gate_inp"},
    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
    {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
    {"mlp.shared_mlp.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_mlp.up_proj", "ffn_up_shexp"},
    {"mlp.shared_mlp.down_proj", "ffn_down_shexp"},
    {"mlp.router", "ffn_gate_inp"},
    {"mlp.gate.wg", "ffn_gate_inp"},
    {"self_attn.q_a_proj", "attn_q_a"},
    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
    {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},
    {"attn.attention.q_proj", "attn_q"},
    {"attn.attention.k_proj", "attn_k"},
    {"attn.attention.v_proj", "attn_v"},
    {"attn.attention.out_proj", "attn_output"},
    {"mlp.c_fc_0", "ffn_gate"},
    {"mlp.c_fc_1", "ffn_up"},
    {"ln_1", "attn_norm"},
    {"ln_2", "ffn_norm"},
    {"attention.wqkv", "wqkv"},
    {"attention.wo", "attn_output"},
    {"attention_norm", "attn_norm"},
    {"attention_layernorm", "attn_norm"},
    {"feedforward_layernorm", "ffn_norm"},
    {"input_layernorm", "attn_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
    {"post_self_attn_layernorm", "post_attention_norm"},
    {"post_mlp_layernorm", "post_ffw_norm"},
    {"shared_mlp.input_linear", "ffn_up_shexp"},
    {"shared_mlp.output_linear", "ffn_down_shexp"},
    {"norm", "attn_norm"},
    {"operator_norm", "attn_norm"},
    {"ffn_norm", "ffn_norm"},
    {"conv.conv", "shortconv.conv"},
    {"conv.in_proj", "shortconv.in_proj"},
    {"conv.out_proj", "shortconv.out_proj"},
    {"self_attn.out_proj", "attn_output"},
    {"self_attn.q_layernorm", "attn_q_norm"},
    {"self_attn.k_layernorm", "attn_k_norm"},
    {"feed_forward.w1", "ffn_gate"},
    {"feed_forward.w2", "ffn_down"},
    {"feed_forward.w3", "ffn_up"},
    {"feed_forward.gate", "ffn_gate_inp"},
    {"block_sparse_moe.router.layer", "ffn_gate_inp"},
    {"block_sparse_moe.input_linear", "ffn_gate_up_exps"},
    {"block_sparse_moe.output_linear", "ffn_down_exps"},
    {"mixer.q_proj", "attn_q"},
    {"mixer.k_proj", "attn_k"},
    {"mixer.v_proj", "attn_v"},
    {"mixer.o_proj", "attn_output"},
    {"mixer.up_proj", "ffn_up"},
    {"mixer.down_proj", "ffn_down"},
    {"in_proj", "ssm_in"},
    {"conv1d", "ssm_conv1d"},
    {"out_proj", "ssm_out"},
    {"in_proj_qkvz", "qkvz"},
    {"in_proj_qkv", "attn_qkv"},
    {"in_proj_z", "attn_gate"},
    {"in_proj_ba", "ssm_ba"},
    {"in_proj_b", "ssm_beta"},
    {"in_proj_a", "ssm_alpha"},
    {"altup.router_norm", "altup_router_norm"},
    {"altup.modality_router", "altup_router"},
    {"altup.prediction_coefs", "altup_predict_coef"},
    {"altup.correction_coefs", "altup_correct_coef"},
    {"laurel.linear_left", "laurel_l"},
    {"laurel.linear_right", "laurel_r"},
    {"laurel.post_laurel_norm", "laurel_post_norm"},
    {"per_layer_input_gate", "inp_gate"},
    {"per_layer_projection", "proj"},
    {"post_per_layer_input_norm", "post_norm"},
    {"router.proj", "ffn_gate_inp"},
    {"pre_feedforward_layernorm_2", "pre_ffw_norm_2"},
    {"post_feedforward_layernorm_1", "post_ffw_norm_1"},
    {"post_feedforward_layernorm_2", "post_ffw_norm_2"},
};

/* Names below "layers.N." that have no ending; ours have what they need. */
static const struct {
    const char *theirs, *ours;
} WHOLE_NAMES[] = {
    {"feed_forward.expert_bias", "exp_probs_b.bias"},
    {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
    {"mlp.moe_statics.e_score_correction_bias", "exp_probs_b.bias"},
    {"self_attn.sinks", "attn_sinks.weight"},
    {"mlp.act_fn.alpha_p", "xielu_alpha_p"},
    {"mlp.act_fn.alpha_n", "xielu_alpha_n"},
    {"mlp.act_fn.beta", "xielu_beta"},
    {"mlp.act_fn.eps", "xielu_eps"},
    {"mlp.experts.gate_up_proj", "ffn_gate_up_exps.weight"},
    {"mlp.experts.down_proj", "ffn_down_exps.weight"},
    {"mlp.experts.gate_up_proj_blocks", "ffn_gate_up_exps.weight"},
    {"mlp.experts.gate_up_proj_bias", "ffn_gate_up_exps.bias"},
    {"mlp.experts.down_proj_blocks", "ffn_down_exps.weight"},
    {"mlp.experts.down_proj_bias", "ffn_down_exps.bias"},
    {"feed_forward.experts.gate_up_proj", "ffn_gate_up_exps.weight"},
    {"feed_forward.experts.down_proj", "ffn_down_exps.weight"},
    {"block_sparse_moe.experts.gate_up_proj", "ffn_gate_up_exps.weight"},
    {"block_sparse_moe.experts.down_proj", "ffn_down_exps.weight"},
    {"block_sparse_moe.router.weight", "ffn_gate_inp.weight"},
    {"A_log", "ssm_a"},
    {"D", "ssm_d"},
    {"dt_bias", "ssm_dt.bias"},
    {"altup.correct_output_scale", "altup_correct_scale.weight"},
    {"layer_scalar", "layer_output_scale.weight"},
    {"router.scale", "ffn_gate_inp.scale"},
    {"router.per_expert_scale", "ffn_down_exps.scale"},
    {"experts.gate_up_proj", "ffn_gate_up_exps.weight"},
    {"experts.down_proj", "ffn_down_exps.weight"},
};

/* The recurrent part of a layer is called by its kind; what is in it is alike. Its norm is the only one whose name
 * would not tell it from the layer's. */
static const char *below_mixer(const char *part) {
    static const char *const mixers[] = {"mamba.", "mixer.", "linear_attn."};
    for (size_t i = 0; i < sizeof mixers / sizeof mixers[0]; i++) {
        if (strncmp(part, mixers[i], strlen(mixers[i])) == 0) return part + strlen(mixers[i]);
    }
    return NULL;
}

/* Our name of a whole name, endings included. */
static const char *map_whole(const char *part) {
    const char *below = below_mixer(part);
    for (size_t i = 0; i < sizeof WHOLE_NAMES / sizeof WHOLE_NAMES[0]; i++) {
        if (strcmp(part, WHOLE_NAMES[i].theirs) == 0) return WHOLE_NAMES[i].ours;
        if (below != NULL && strcmp(below, WHOLE_NAMES[i].theirs) == 0) return WHOLE_NAMES[i].ours;
    }
    return NULL;
}

static const struct {
    const char *theirs, *ours;
} EXPERT_NAMES[] = {
    {"gate_proj", "ffn_gate"}, {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"},
    {"w1", "ffn_gate"},        {"w3", "ffn_up"},      {"w2", "ffn_down"},
};

/* Our name of the part of a layer, or false when it has none. */
static bool map_layer_part(const mr_hf_family *family, const char *part, char *out, size_t n) {
    unsigned expert;
    int used = 0;
    const char *experts = strstr(part, "experts.");
    if (experts != NULL && sscanf(experts, "experts.%5u.%n", &expert, &used) == 1 && used > 0) {
        for (size_t i = 0; i < sizeof EXPERT_NAMES / sizeof EXPERT_NAMES[0]; i++) {
            if (strcmp(experts + used, EXPERT_NAMES[i].theirs) != 0) continue;
            snprintf(out, n, "%s.%u", EXPERT_NAMES[i].ours, expert);
            return true;
        }
        return false;
    }
    if (strcmp(part, "post_attention_layernorm") == 0) {
        snprintf(out, n, "%s", family->norms_behind ? "post_attention_norm" : "ffn_norm");
        return true;
    }
    const char *below = below_mixer(part);
    if (below != NULL && strcmp(below, "norm") == 0) {
        snprintf(out, n, "ssm_norm");
        return true;
    }
    for (size_t i = 0; i < sizeof LAYER_NAMES / sizeof LAYER_NAMES[0]; i++) {
        bool same = strcmp(part, LAYER_NAMES[i].theirs) == 0;
        if (!same && (below == NULL || strcmp(below, LAYER_NAMES[i].theirs) != 0)) continue;
        snprintf(out, n, "%s", LAYER_NAMES[i].ours);
        return true;
    }
    return false;
}

static const struct {
    const char *theirs, *ours;
} GLOBAL_NAMES[] = {
    {"embed_tokens", "token_embd"},
    {"norm", "output_norm"},
    {"final_layernorm", "output_norm"},
    {"embeddings", "token_embd"},
    {"norm_f", "output_norm"},
    {"embedding_norm", "output_norm"},
    {"lm_head", "output"},
    {"output", "output"},
    {"tok_embeddings", "token_embd"},
    {"wte", "token_embd"},
    {"ln_f", "output_norm"},
    {"embed_tokens_per_layer", "per_layer_token_embd"},
    {"per_layer_model_projection", "per_layer_model_proj"},
    {"per_layer_projection_norm", "per_layer_proj_norm"},
};

/* Of tensors outside of layers; the maps between Gemma 3n's streams have a number. */
static bool map_global(const char *stem, const char *ending, char out[static MR_HF_NAME_BYTES]) {
    unsigned number;
    int used = 0;
    for (size_t i = 0; i < sizeof GLOBAL_NAMES / sizeof GLOBAL_NAMES[0]; i++) {
        if (strcmp(stem, GLOBAL_NAMES[i].theirs) != 0) continue;
        snprintf(out, MR_HF_NAME_BYTES, "%s%s", GLOBAL_NAMES[i].ours, ending);
        return true;
    }
    bool in = sscanf(stem, "altup_projections.%2u%n", &number, &used) == 1;
    if (!in && sscanf(stem, "altup_unembed_projections.%2u%n", &number, &used) != 1) return false;
    if (stem[used] != '\0') return false;
    snprintf(out, MR_HF_NAME_BYTES, "%s.%u%s", in ? "altup_proj" : "altup_unembd_proj", number, ending);
    return true;
}

bool mr_hf_map_name(const mr_hf_family *family, const char *name, char out[static MR_HF_NAME_BYTES]) {
    if (family->encoder) return mr_hf_encoder_name(name, out, MR_HF_NAME_BYTES);
    static const char *const prefixes[] = {
        "model.language_model.", "language_model.model.", "language_model.", "model.", "backbone.", "transformer."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], n) == 0) {
            name += n;
            break;
        }
    }
    char as_layers[MR_HF_NAME_BYTES]; /* EXAONE's layers are h.N */
    if (strncmp(name, "h.", 2) == 0 && strlen(name) + strlen("layers.") < MR_HF_NAME_BYTES) {
        snprintf(as_layers, sizeof as_layers, "layers.%s", name + 2);
        name = as_layers;
    }
    unsigned layer;
    int used = 0;
    if (sscanf(name, "layers.%5u.%n", &layer, &used) == 1 && used > 0 && map_whole(name + used) != NULL) {
        snprintf(out, MR_HF_NAME_BYTES, "blk.%u.%s", layer, map_whole(name + used));
        return true;
    }
    const char *dot = strrchr(name, '.');
    if (dot == NULL || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0) || strlen(name) >= MR_HF_NAME_BYTES)
        return false;
    char stem[MR_HF_NAME_BYTES], part[MR_HF_NAME_BYTES / 2];
    memcpy(stem, name, (size_t)(dot - name));
    stem[dot - name] = '\0';
    used = 0;
    if (sscanf(stem, "layers.%5u.%n", &layer, &used) == 1 && used > 0) {
        if (!map_layer_part(family, stem + used, part, sizeof part)) return false;
        snprintf(out, MR_HF_NAME_BYTES, "blk.%u.%s%s", layer, part, dot);
        return true;
    }
    return map_global(stem, dot, out);
}
