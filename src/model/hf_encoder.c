#include "model/hf_encoder.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PART_BYTES = 128 };

typedef struct name_pair {
    const char *theirs, *ours;
} name_pair;

/* Without the ending ".weight" or ".bias". */
static const name_pair GLOBAL_NAMES[] = {
    {"embeddings.word_embeddings", "token_embd"},
    {"embeddings.position_embeddings", "position_embd"},
    {"embeddings.token_type_embeddings", "token_types"},
    {"embeddings.LayerNorm", "token_embd_norm"},
    {"emb_ln", "token_embd_norm"},
    {"embeddings.tok_embeddings", "token_embd"},
    {"embeddings.norm", "token_embd_norm"},
    {"final_norm", "output_norm"},
};

/* Names below the layer: those of BERT, DistilBERT, Nomic BERT and ModernBERT. */
static const name_pair LAYER_NAMES[] = {
    {"attention.self.query", "attn_q"},
    {"attention.self.key", "attn_k"},
    {"attention.self.value", "attn_v"},
    {"attention.output.dense", "attn_output"},
    {"attention.output.LayerNorm", "attn_output_norm"},
    {"intermediate.dense", "ffn_up"},
    {"output.dense", "ffn_down"},
    {"output.LayerNorm", "layer_output_norm"},
    {"attention.q_lin", "attn_q"},
    {"attention.k_lin", "attn_k"},
    {"attention.v_lin", "attn_v"},
    {"attention.out_lin", "attn_output"},
    {"sa_layer_norm", "attn_output_norm"},
    {"ffn.lin1", "ffn_up"},
    {"ffn.lin2", "ffn_down"},
    {"output_layer_norm", "layer_output_norm"},
    {"attn.Wqkv", "attn_qkv"},
    {"attn.out_proj", "attn_output"},
    {"norm1", "attn_output_norm"},
    {"mlp.fc11", "ffn_up"},
    {"mlp.fc12", "ffn_gate"},
    {"mlp.fc2", "ffn_down"},
    {"norm2", "layer_output_norm"},
    {"attn_norm", "attn_norm"},
    {"attn.Wo", "attn_output"},
    {"mlp_norm", "ffn_norm"},
    {"mlp.Wi", "ffn_up"},
    {"mlp.Wo", "ffn_down"},
};

static const char *find_name(const name_pair *names, size_t n, const char *theirs) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i].theirs, theirs) == 0) return names[i].ours;
    }
    return NULL;
}

/* Models with a head have their tensors below the name of the body. */
static const char *without_prefix(const char *name) {
    static const char *const prefixes[] = {"bert.", "roberta.", "distilbert.", "nomic_bert.", "model."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], n) == 0) return name + n;
    }
    return name;
}

/* The first files of BERT call the parts of a norm by their letters. */
static const char *ending_of(const char *dot) {
    if (strcmp(dot, ".weight") == 0 || strcmp(dot, ".gamma") == 0) return ".weight";
    return strcmp(dot, ".bias") == 0 || strcmp(dot, ".beta") == 0 ? ".bias" : NULL;
}

/* The number of the layer that a name begins with, and what is behind it; NULL for other names. */
static const char *in_layer(const char *stem, unsigned *layer) {
    static const char *const lists[] = {"encoder.layer.", "transformer.layer.", "encoder.layers.", "layers."};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        size_t n = strlen(lists[i]);
        int used = 0;
        if (strncmp(stem, lists[i], n) != 0) continue;
        return sscanf(stem + n, "%5u.%n", layer, &used) == 1 && used > 0 ? stem + n + used : NULL;
    }
    return NULL;
}

bool mr_hf_encoder_name(const char *name, char *out, size_t n) {
    name = without_prefix(name);
    const char *dot = strrchr(name, '.'), *ending = dot != NULL ? ending_of(dot) : NULL;
    if (ending == NULL || (size_t)(dot - name) >= PART_BYTES) return false;
    char stem[PART_BYTES];
    memcpy(stem, name, (size_t)(dot - name));
    stem[dot - name] = '\0';
    unsigned layer = 0;
    const char *part = in_layer(stem, &layer), *ours;
    if (part != NULL)
        ours = find_name(LAYER_NAMES, sizeof LAYER_NAMES / sizeof LAYER_NAMES[0], part);
    else
        ours = find_name(GLOBAL_NAMES, sizeof GLOBAL_NAMES / sizeof GLOBAL_NAMES[0], stem);
    if (ours == NULL) return false;
    if (part != NULL)
        snprintf(out, n, "blk.%u.%s%s", layer, ours, ending);
    else
        snprintf(out, n, "%s%s", ours, ending);
    return true;
}

static mr_status check_text(const json_t *config, const char *key, const char *only, mr_error *err) {
    const char *value = json_string_value(json_object_get(config, key));
    if (value == NULL || strcmp(value, only) == 0) return MR_OK;
    return mr_fail(err, MR_ERR_UNSUPPORTED,
                   "config.json has %s \"%.64s\", which is not supported for this family; \"%s\" is", key, value, only);
}

/* The padding's position and those in front of it, where positions are counted from behind it; 0 for what is none. */
static json_int_t n_unused_positions(const json_t *config) {
    json_int_t padding = json_integer_value(json_object_get(config, "pad_token_id"));
    return padding >= 0 && padding < INT32_MAX ? padding + 1 : 0;
}

static mr_status set(json_t *config, const char *key, json_t *value, mr_error *err) {
    return json_object_set_new(config, key, value) == 0 ? MR_OK : mr_fail_nomem(err, 64, "config.json");
}

/* Names of DistilBERT, Nomic BERT and ModernBERT. */
static mr_status rename_settings(json_t *config, mr_error *err) {
    static const name_pair renamed[] = {
        {"dim", "hidden_size"},
        {"n_embd", "hidden_size"},
        {"n_heads", "num_attention_heads"},
        {"n_head", "num_attention_heads"},
        {"n_layers", "num_hidden_layers"},
        {"n_layer", "num_hidden_layers"},
        {"hidden_dim", "intermediate_size"},
        {"n_inner", "intermediate_size"},
        {"n_positions", "max_position_embeddings"},
        {"activation", "hidden_act"},
        {"activation_function", "hidden_act"},
        {"hidden_activation", "hidden_act"},
        {"layer_norm_epsilon", "layer_norm_eps"},
        {"norm_eps", "layer_norm_eps"},
        {"rotary_emb_base", "rope_theta"},
        {"global_rope_theta", "rope_theta"},
        {"local_rope_theta", "rope_local_base_freq"},
        {"local_attention", "sliding_window"},
    };
    mr_status status = MR_OK;
    for (size_t i = 0; i < sizeof renamed / sizeof renamed[0] && status == MR_OK; i++) {
        json_t *value = json_object_get(config, renamed[i].theirs);
        if (value == NULL || json_object_get(config, renamed[i].ours) != NULL) continue;
        status = set(config, renamed[i].ours, json_incref(value), err);
    }
    const char *act = json_string_value(json_object_get(config, "hidden_act"));
    if (status == MR_OK && act != NULL && strcmp(act, "swiglu") == 0)
        status = set(config, "hidden_act", json_string("silu"), err);
    return status;
}

/* Nomic BERT's configuration could ask for more than its models do. */
static mr_status check_nomic(json_t *config, mr_error *err) {
    const json_t *share = json_object_get(config, "rotary_emb_fraction");
    bool partial = json_is_number(share) && !(json_number_value(share) >= 1.0);
    if (partial || json_is_true(json_object_get(config, "prenorm")) ||
        json_is_true(json_object_get(config, "rotary_emb_interleaved")))
        return mr_fail(
            err, MR_ERR_UNSUPPORTED,
            "config.json asks for prenorm, rotary_emb_interleaved or a rotary_emb_fraction below 1, which is "
            "not supported for this family");
    json_int_t trained = json_integer_value(json_object_get(config, "max_trained_positions"));
    json_int_t most = json_integer_value(json_object_get(config, "max_position_embeddings"));
    bool fewer = trained > 0 && trained < most;
    return fewer ? set(config, "max_position_embeddings", json_integer(trained), err) : MR_OK;
}

/* Which layers have a window, where the period alone is told. */
static mr_status list_layers(json_t *config, mr_error *err) {
    json_int_t period = json_integer_value(json_object_get(config, "global_attn_every_n_layers"));
    json_int_t n = json_integer_value(json_object_get(config, "num_hidden_layers"));
    if (period < 1 || n > MR_MAX_LAYERS || json_is_array(json_object_get(config, "layer_types"))) return MR_OK;
    json_t *kinds = json_array();
    for (json_int_t i = 0; i < n; i++)
        json_array_append_new(kinds, json_string(i % period != 0 ? "sliding_attention" : "full_attention"));
    if (json_array_size(kinds) == (size_t)(n > 0 ? n : 0)) return set(config, "layer_types", kinds, err);
    json_decref(kinds);
    return mr_fail_nomem(err, 64, "config.json");
}

/* max_position_embeddings without those that no text has. */
static mr_status count_positions(json_t *config, mr_error *err) {
    json_int_t most = json_integer_value(json_object_get(config, "max_position_embeddings"));
    json_int_t unused = n_unused_positions(config);
    if (unused < 1 || most <= unused)
        return mr_fail(err, MR_ERR_INVALID,
                       "config.json has %lld positions, which are not more than the %lld up to the padding's",
                       (long long)most, (long long)unused);
    return set(config, "max_position_embeddings", json_integer(most - unused), err);
}

mr_status mr_hf_encoder_settings(const mr_hf_family *family, json_t *config, mr_error *err) {
    mr_status status = rename_settings(config, err);
    if (status == MR_OK) status = check_text(config, "hidden_act", family->activation, err);
    if (status == MR_OK) status = check_text(config, "position_embedding_type", "absolute", err);
    if (status == MR_OK) status = check_nomic(config, err);
    if (status == MR_OK) status = list_layers(config, err);
    return status == MR_OK && family->positions_behind_padding ? count_positions(config, err) : status;
}

mr_status mr_hf_encoder_cut_positions(const json_t *config, mr_gguf_tensor *tensor, mr_error *err) {
    json_int_t unused = n_unused_positions(config);
    if (unused < 1 || tensor->n_dims != 2 || (uint64_t)unused >= tensor->shape[1])
        return mr_fail(err, MR_ERR_INVALID, "tensor %s has not the positions that config.json tells of", tensor->name);
    size_t row = tensor->n_bytes / (size_t)tensor->shape[1];
    tensor->shape[1] -= (uint64_t)unused;
    tensor->n_bytes -= (size_t)unused * row;
    tensor->data += (size_t)unused * row;
    return MR_OK;
}
