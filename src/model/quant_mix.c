#include "model/quant_mix.h"

#include <stdlib.h>
#include <string.h>

typedef enum role { ROLE_OTHER, ROLE_OUTPUT, ROLE_EMBD, ROLE_ATTN_V, ROLE_ATTN_K, ROLE_ATTN_OUT, ROLE_FFN_DOWN } role;

/* When a rule holds; layers are counted in the whole model. */
typedef enum when {
    ALWAYS,
    GQA4, /* at least four query heads share a key head: attn_v is small, so more bits cost little */
    FIRST_2,
    FIRST_4,
    FIRST_16TH,
    FIRST_8TH,
    MORE_BITS, /* the first and last eighth, and each third layer between */
    EIGHT_EXPERTS,
} when;

typedef struct rule {
    role role;
    when when;
    mr_dtype type;
} rule;

enum { MAX_RULES = 8 };

/* The first rule that holds decides; then the base type. The output has a rule of its own, see output_type. */
struct mr_quant_mix {
    const char *name;
    mr_dtype base;
    uint32_t file_type;
    rule rules[MAX_RULES];
    int n_rules;
};

/* With eight experts the attention is a small part of the model, and generously stored. */
static const rule eight_experts[] = {{ROLE_ATTN_V, EIGHT_EXPERTS, MR_Q8_0}, {ROLE_ATTN_K, EIGHT_EXPERTS, MR_Q8_0}};

static const mr_quant_mix mixes[] = {
    {"F32", MR_F32, 0, {{0}}, 0},
    {"F16", MR_F16, 1, {{0}}, 0},
    {"BF16", MR_BF16, 32, {{0}}, 0},
    {"Q8_0", MR_Q8_0, 7, {{0}}, 0},
    {"Q4_0", MR_Q4_0, 2, {{0}}, 0},
    {"Q4_1", MR_Q4_1, 3, {{0}}, 0},
    {"Q5_0", MR_Q5_0, 8, {{0}}, 0},
    {"Q5_1", MR_Q5_1, 9, {{0}}, 0},
    {"Q2_K",
     MR_Q2_K,
     10,
     {{ROLE_ATTN_V, GQA4, MR_Q4_K},
      {ROLE_ATTN_V, ALWAYS, MR_Q3_K},
      {ROLE_FFN_DOWN, ALWAYS, MR_Q3_K},
      {ROLE_ATTN_OUT, EIGHT_EXPERTS, MR_Q5_K},
      {ROLE_ATTN_OUT, ALWAYS, MR_Q3_K}},
     5},
    {"Q2_K_S", MR_Q2_K, 21, {{ROLE_ATTN_V, GQA4, MR_Q4_K}, {ROLE_FFN_DOWN, FIRST_8TH, MR_Q4_K}}, 2},
    {"Q3_K_S", MR_Q3_K, 11, {{ROLE_ATTN_OUT, EIGHT_EXPERTS, MR_Q5_K}}, 1},
    {"Q3_K_M",
     MR_Q3_K,
     12,
     {{ROLE_ATTN_V, FIRST_2, MR_Q5_K},
      {ROLE_ATTN_V, ALWAYS, MR_Q4_K},
      {ROLE_FFN_DOWN, FIRST_16TH, MR_Q5_K},
      {ROLE_FFN_DOWN, ALWAYS, MR_Q4_K},
      {ROLE_ATTN_OUT, EIGHT_EXPERTS, MR_Q5_K},
      {ROLE_ATTN_OUT, ALWAYS, MR_Q4_K}},
     6},
    {"Q3_K_L",
     MR_Q3_K,
     13,
     {{ROLE_ATTN_V, ALWAYS, MR_Q5_K}, {ROLE_FFN_DOWN, ALWAYS, MR_Q5_K}, {ROLE_ATTN_OUT, ALWAYS, MR_Q5_K}},
     3},
    {"Q4_K_S",
     MR_Q4_K,
     14,
     {{ROLE_ATTN_V, FIRST_4, MR_Q5_K}, {ROLE_FFN_DOWN, FIRST_8TH, MR_Q5_K}, {ROLE_ATTN_OUT, EIGHT_EXPERTS, MR_Q5_K}},
     3},
    {"Q4_K_M",
     MR_Q4_K,
     15,
     {{ROLE_ATTN_V, MORE_BITS, MR_Q6_K}, {ROLE_FFN_DOWN, MORE_BITS, MR_Q6_K}, {ROLE_ATTN_OUT, EIGHT_EXPERTS, MR_Q5_K}},
     3},
    {"Q5_K_S", MR_Q5_K, 16, {{0}}, 0},
    {"Q5_K_M", MR_Q5_K, 17, {{ROLE_ATTN_V, MORE_BITS, MR_Q6_K}, {ROLE_FFN_DOWN, MORE_BITS, MR_Q6_K}}, 2},
    {"Q6_K", MR_Q6_K, 18, {{0}}, 0},
    {"IQ4_NL",
     MR_IQ4_NL,
     25,
     {{ROLE_ATTN_V, GQA4, MR_Q5_K}, {ROLE_FFN_DOWN, FIRST_8TH, MR_Q5_K}, {ROLE_ATTN_OUT, EIGHT_EXPERTS, MR_Q5_K}},
     3},
    {"IQ4_XS",
     MR_IQ4_XS,
     30,
     {{ROLE_ATTN_V, GQA4, MR_Q5_K}, {ROLE_FFN_DOWN, FIRST_8TH, MR_Q5_K}, {ROLE_ATTN_OUT, EIGHT_EXPERTS, MR_Q5_K}},
     3},
    {"TQ1_0", MR_TQ1_0, 36, {{ROLE_EMBD, ALWAYS, MR_Q4_K}}, 1},
    {"TQ2_0", MR_TQ2_0, 37, {{ROLE_EMBD, ALWAYS, MR_Q4_K}}, 1},
};

enum { N_MIXES = sizeof(mixes) / sizeof(mixes[0]) };

/* While loading only. */
static const mr_quant_mix memory_mixes[] = {
    {"Q8_1", MR_Q8_1, 0, {{0}}, 0}, {"Q8_K", MR_Q8_K, 0, {{0}}, 0},      {"HQQ4", MR_HQQ4, 0, {{0}}, 0},
    {"HQQ8", MR_HQQ8, 0, {{0}}, 0}, {"F8E4M3", MR_F8_E4M3, 0, {{0}}, 0},
};

enum { N_MEMORY_MIXES = sizeof(memory_mixes) / sizeof(memory_mixes[0]) };

/* Short names that stand for a mix. */
static const struct {
    const char *name, *mix;
} aliases[] = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

static bool same_name(const char *a, const char *b) {
    for (;;) {
        while (*a == '_') a++;
        while (*b == '_') b++;
        char x = *a >= 'a' && *a <= 'z' ? (char)(*a - 'a' + 'A') : *a,
             y = *b >= 'a' && *b <= 'z' ? (char)(*b - 'a' + 'A') : *b;
        if (x != y) return false;
        if (x == '\0') return true;
        a++;
        b++;
    }
}

const mr_quant_mix *mr_quant_mix_find(const char *name) {
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
        if (same_name(aliases[i].name, name)) name = aliases[i].mix;
    for (size_t i = 0; i < N_MIXES; i++)
        if (same_name(mixes[i].name, name)) return &mixes[i];
    for (size_t i = 0; i < N_MEMORY_MIXES; i++)
        if (same_name(memory_mixes[i].name, name)) return &memory_mixes[i];
    return NULL;
}

bool mr_quant_mix_in_files(const mr_quant_mix *mix) {
    return mix >= mixes && mix < mixes + N_MIXES;
}

const mr_quant_mix *mr_quant_mix_at(size_t i) {
    return i < N_MIXES ? &mixes[i] : NULL;
}

const char *mr_quant_mix_name(const mr_quant_mix *mix) {
    return mix->name;
}

mr_dtype mr_quant_mix_base(const mr_quant_mix *mix) {
    return mix->base;
}

uint32_t mr_quant_mix_file_type(const mr_quant_mix *mix) {
    return mix->file_type;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool mr_quant_allowed(const char *name, uint32_t n_dims) {
    static const char *const kept[] = {
        "_norm.weight", "ffn_gate_inp",          "altup",      "laurel",        "per_layer_model_proj",
        "ssm_conv1d",   "shortconv.conv.weight", "attn_rel_b", "position_embd", "token_types"};
    if (n_dims < 2 || !ends_with(name, "weight")) return false;
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        if (strstr(name, kept[i]) != NULL) return false;
    return true;
}

static role role_of(const char *name) {
    if (strcmp(name, "output.weight") == 0) return ROLE_OUTPUT;
    if (strcmp(name, "token_embd.weight") == 0 || strcmp(name, "per_layer_token_embd.weight") == 0) return ROLE_EMBD;
    if (strstr(name, "attn_v.weight") || strstr(name, "attn_qkv.weight") || strstr(name, "attn_kv_b.weight"))
        return ROLE_ATTN_V;
    if (strstr(name, "attn_k.weight")) return ROLE_ATTN_K;
    if (strstr(name, "attn_output.weight")) return ROLE_ATTN_OUT;
    if (strstr(name, "ffn_down")) return ROLE_FFN_DOWN;
    return ROLE_OTHER;
}

/* The layer in "blk.N.…", 0 for tensors outside of layers. */
static uint32_t layer_of(const char *name) {
    return strncmp(name, "blk.", 4) == 0 ? (uint32_t)strtoul(name + 4, NULL, 10) : 0;
}

static bool holds(when when, const mr_quant_tensor *tensor) {
    uint32_t layer = layer_of(tensor->name), n = tensor->n_layer;
    switch (when) {
    case ALWAYS:
        return true;
    case GQA4:
        return tensor->n_gqa >= 4;
    case FIRST_2:
        return layer < 2;
    case FIRST_4:
        return layer < 4;
    case FIRST_16TH:
        return layer < n / 16;
    case FIRST_8TH:
        return layer < n / 8;
    case MORE_BITS:
        return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    case EIGHT_EXPERTS:
        return tensor->n_expert == 8;
    }
    return false;
}

static bool is_block_type(mr_dtype type) {
    return mr_dtype_find((uint32_t)type)->block_values > 1;
}

/* About eight bits for every weight. */
static bool has_eight_bits(mr_dtype type) {
    return type == MR_Q8_1 || type == MR_Q8_K || type == MR_HQQ8 || type == MR_F8_E4M3;
}

static mr_dtype output_type(const mr_quant_mix *mix, const mr_quant_tensor *tensor) {
    if (has_eight_bits(mix->base)) return mix->base;
    if (mix->base == MR_Q8_0 || tensor->n_in % mr_dtype_find((uint32_t)mix->base)->block_values != 0) return MR_Q8_0;
    return MR_Q6_K;
}

mr_dtype mr_quant_fitting(mr_dtype type, uint64_t n_in) {
    if (n_in % mr_dtype_find((uint32_t)type)->block_values == 0) return type;
    mr_dtype smaller = MR_F16;
    switch (type) {
    case MR_Q2_K:
    case MR_Q3_K:
    case MR_TQ1_0:
    case MR_TQ2_0:
        smaller = MR_Q4_0;
        break;
    case MR_IQ4_XS:
        smaller = MR_IQ4_NL;
        break;
    case MR_Q4_K:
        smaller = MR_Q5_0;
        break;
    case MR_Q5_K:
        smaller = MR_Q5_1;
        break;
    case MR_HQQ4:
        smaller = MR_Q4_1;
        break;
    case MR_Q6_K:
    case MR_Q8_K:
    case MR_HQQ8:
    case MR_F8_E4M3:
        smaller = MR_Q8_0;
        break;
    default:
        break;
    }
    return n_in % mr_dtype_find((uint32_t)smaller)->block_values == 0 ? smaller : MR_F16;
}

static mr_dtype ruled_type(const mr_quant_mix *mix, const mr_quant_tensor *tensor) {
    role role = role_of(tensor->name);
    if (role == ROLE_OUTPUT || (role == ROLE_EMBD && tensor->tied)) return output_type(mix, tensor);
    for (size_t i = 0; i < sizeof(eight_experts) / sizeof(eight_experts[0]); i++)
        if (eight_experts[i].role == role && holds(eight_experts[i].when, tensor)) return eight_experts[i].type;
    for (int i = 0; i < mix->n_rules; i++)
        if (mix->rules[i].role == role && holds(mix->rules[i].when, tensor)) return mix->rules[i].type;
    return mix->base;
}

mr_dtype mr_quant_mix_type(const mr_quant_mix *mix, const mr_quant_tensor *tensor) {
    if (!is_block_type(mix->base)) return mix->base;
    return mr_quant_fitting(ruled_type(mix, tensor), tensor->n_in);
}
