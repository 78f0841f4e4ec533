/* Architectures as data: which forward pass a model's files ask for. */
#ifndef MR_MODEL_ARCH_H
#define MR_MODEL_ARCH_H

#include "base/error.h"
#include "compute/matrix.h"
#include "model/gguf.h"

#include <stdbool.h>
#include <stdint.h>

/* A bound that no real model reaches. */
enum { MR_MAX_LAYERS = 1024, MR_MAX_STREAMS = 4 };

typedef enum mr_norm { MR_NORM_RMS, MR_NORM_LAYER } mr_norm;

/* How scores of experts become weights. */
typedef enum mr_gating {
    MR_GATING_SOFTMAX = 1,
    MR_GATING_SIGMOID = 2,
    MR_GATING_SOFTMAX_CHOSEN = 3, /* softmax over the chosen ones */
    MR_GATING_SPARSEMIXER = 100   /* each chosen one among those close to it (Liu et al., arXiv:2409.12136) */
} mr_gating;

/* What mixes the tokens of a layer. */
typedef enum mr_mixer {
    MR_MIXER_ATTENTION,
    MR_MIXER_NONE,   /* the layer is an FFN alone */
    MR_MIXER_CONV,   /* gated short convolution (LFM2, arXiv:2511.23404) */
    MR_MIXER_MAMBA2, /* state space layer (Dao & Gu, arXiv:2405.21060) */
    MR_MIXER_DELTA,  /* gated delta net (Yang et al., arXiv:2412.06464) */
} mr_mixer;

/* What the name of an architecture fixes; everything else is in the metadata, or shows in which tensors exist (biases,
 * norms of queries and keys, norms behind a block, fused matrices, experts). */
typedef struct mr_arch {
    const char *name; /* general.architecture */
    bool rope_neox;   /* pairs (i, i + n/2) instead of (2i, 2i + 1) */
    mr_norm norm;
    mr_glu act;
    bool xielu;           /* act is xIELU, whose parameters each layer has in the metadata */
    bool ffn_plain;       /* down(act(up x)) instead of down(act(gate x) * up x) */
    bool encoder;         /* every token sees the whole text, or the window on both sides; embeddings are normed; and
                             blocks behind the sum with their input (BERT, arXiv:1810.04805). Positions are learned
                             where nothing is rotated */
    bool norms_before;    /* of an encoder: blocks are normed as in decoders, but the first attention is not */
    bool full_first;      /* with full_period: the first of so many layers is without the window, not the last */
    bool ffn_parallel;    /* attention and FFN read the same normed input */
    bool embd_scale_sqrt; /* embeddings are multiplied by sqrt(n_embd) */
    bool logit_scale_divides; /* the metadata's logit_scale divides the logits instead of multiplying them */
    bool qk_norm_after_rope;
    bool altup;                           /* several residual streams, of which layers update one (arXiv:2301.13310) */
    bool v_norm;                          /* values are normed by head, without weights */
    bool attn_scale_one;                  /* scores are not divided by the root of the head's size */
    bool mla;                             /* keys and values are kept compressed (DeepSeek-V2, arXiv:2405.04434) */
    bool post_attention_norm_is_ffn_norm; /* that tensor name holds the norm before the FFN */
    bool full_layers_no_rope;             /* with a window: layers without it do not rotate */
    uint8_t full_period;        /* with a window, where the metadata is silent: every so-many-th layer is without it */
    uint8_t no_rope_period;     /* every so-many-th layer does not rotate; 0 = none */
    bool local_rope_unscaled;   /* layers with a window rotate without the model's scaling */
    float local_rope_freq_base; /* rope base of layers with a window, where the metadata is silent; 0 = the model's */
    mr_gating gating;           /* of experts, where the metadata is silent; 0 = softmax */
    bool yarn_whole_pairs_off;  /* YaRN's range of pairs is not rounded to whole ones */
    bool yarn_scales_attention; /* yarn_log_multiplier scales the attention, too */
    bool experts_not_normed;    /* weights of the chosen experts keep their share of the whole softmax */
    mr_mixer mixer;             /* of layers without key-value heads */
    uint8_t attention_period;   /* with a mixer, where no layer is said to lack key-value heads: which have attention */
    bool one_block_layers;      /* a layer is a mixer or an FFN, not both */
    bool rope_only_if_said;     /* nothing is rotated unless the metadata's rope.scaling.finetuned asks for it */
    bool no_rope;               /* nothing is ever rotated */
    bool gated_attention;       /* queries come with a gate for the heads' outputs */
    bool value_heads_tiled;     /* of a delta net: value head i meets key head i modulo their number */
} mr_arch;

/* NULL and an error that lists the known ones when there is none of this name. */
const mr_arch *mr_arch_find(const char *name, size_t len, mr_error *err);

/* The known architectures, in order; *n is their number. */
const mr_arch *mr_arch_list(size_t *n);

typedef enum mr_rope_scaling {
    MR_ROPE_SCALING_NONE,
    MR_ROPE_SCALING_LINEAR,
    MR_ROPE_SCALING_YARN,
    MR_ROPE_SCALING_LONGROPE,
} mr_rope_scaling;

/* Sizes that may differ by layer. */
typedef struct mr_layer_dims {
    uint32_t n_head_kv, head_dim_k, head_dim_v, n_ff; /* 0 of what the layer lacks */
} mr_layer_dims;

/* What a model's metadata fixes. Sizes that differ by layer are the largest here; mr_layer_dims_of() tells a layer's.
 */
typedef struct mr_hparams {
    const mr_arch *arch;
    uint32_t n_ctx_train, n_embd, n_layer, n_head, n_head_kv, head_dim_k, head_dim_v, n_ff, n_vocab;
    float norm_eps;
    uint32_t window;                   /* sliding window of layers that have one; 0 = none */
    bool layer_is_full[MR_MAX_LAYERS]; /* with a window: whether a layer attends to everything nevertheless */
    uint32_t n_layer_kv;               /* the layers behind these attend to keys and values of an earlier one */
    uint32_t n_stream;                 /* residual streams */
    uint32_t n_embd_per_layer; /* values that every layer gets of a token beside the residual stream, 0 = none */
    float attn_scale, attn_softcap, logit_softcap;
    float embd_scale, residual_scale, logit_scale;

    /* Compressed keys and values: what is kept of a token is one vector of kv_lora_rank values for all heads, which is
     * key and value at once, and n_rot values that are rotated; so n_head_kv is 1, head_dim_k the sum and head_dim_v
     * kv_lora_rank. Heads outside are of n_nope + n_rot values (keys) and mla_dim_v values. */
    uint32_t kv_lora_rank, q_lora_rank; /* 0 = not compressed */
    uint32_t n_nope, mla_dim_v;

    uint32_t n_rot;    /* values of a head that are rotated */
    uint32_t rot_from; /* the first of them */
    /* The same of layers with a window, 0 = as all others. */
    uint32_t n_rot_local, head_dim_k_local, head_dim_v_local;
    uint32_t n_head_kv_of[MR_MAX_LAYERS], n_ff_of[MR_MAX_LAYERS];
    bool rope_neox; /* as the architecture, unless the metadata's rope.halves says otherwise */
    float rope_freq_base;
    mr_rope_scaling rope_scaling;
    float rope_factor;          /* context extension factor, 1 = none */
    float local_rope_freq_base; /* of layers with a window, which then rotate unscaled; 0 = as all others */
    uint32_t rope_n_ctx_orig;   /* context before the extension */
    float yarn_beta_fast, yarn_beta_slow, yarn_ext_factor;
    float rope_attn_factor;       /* factor for cosines and sines */
    float attn_temperature_scale; /* queries grow by this share of log(1 + floor(pos / rope_n_ctx_orig)); 0 = not */

    mr_mixer mixer_of[MR_MAX_LAYERS];
    /* Of layers with a recurrent state: positions that the convolution sees; heads, groups of them that share a key,
     * sizes of keys (or states) and values. A short convolution has the first alone. */
    uint32_t conv_width, n_head_mix, n_group_mix, dim_k_mix, dim_v_mix;
    bool value_heads_tiled; /* as the architecture, unless the metadata's ssm.value_heads_tiled says otherwise */
    bool rotates;           /* whether any layer does */
    bool keys_are_values;   /* layers without a window may lack values of their own */

    uint32_t n_expert, n_expert_used; /* 0 = dense */
    uint32_t n_ff_expert;
    uint32_t n_layer_dense;                /* leading layers without experts */
    uint32_t expert_period;                /* every so-many-th layer has experts */
    uint32_t n_expert_group, n_group_used; /* experts are chosen from the best groups only; 1 = no groups */
    mr_gating gating;
    bool experts_normed;
    float expert_scale;
} mr_hparams;

/* Reads and bounds the metadata; errors name the key. */
mr_status mr_hparams_read(mr_hparams *hparams, const mr_gguf *gguf, mr_error *err);

mr_layer_dims mr_layer_dims_of(const mr_hparams *hparams, uint32_t il);

/* Whether layer il attends through the sliding window, and whether it rotates queries and keys. */
bool mr_layer_has_window(const mr_hparams *hparams, uint32_t il);
bool mr_layer_has_rope(const mr_hparams *hparams, uint32_t il);

/* Floats that layer il's recurrent state takes: the past of its convolution and a matrix for each head, each part
 * rounded up to 16. */
size_t mr_layer_state_floats(const mr_hparams *hparams, uint32_t il);

/* The layer whose keys and values layer il attends to: itself, or the last one of its kind that has any. */
uint32_t mr_layer_kv_source(const mr_hparams *hparams, uint32_t il);

/* What `sum` bytes of keys and values of a block become with a layer that needs `bytes`. An encoder's layers need them
 * one after the other, within a pass over whole texts: they share their memory. */
static inline size_t mr_kv_bytes_with(const mr_hparams *hparams, size_t sum, size_t bytes) {
    if (!hparams->arch->encoder) return sum + bytes;
    return sum > bytes ? sum : bytes;
}

/* Whether layer il has experts instead of a plain FFN. */
bool mr_layer_has_experts(const mr_hparams *hparams, uint32_t il);

/* Angular frequencies of n_rot/2 pairs, inv_freq[n_rot/2], for a base, with the linear or YaRN scaling (Peng et al.,
 * arXiv:2309.00071) of hparams applied when `scaled`; freq_factors ([n_rot/2] or NULL) divide them (Llama 3.1's and
 * LongRoPE's scaling as GGUF files store it). Returns the factor for cosines and sines. */
float mr_rope_frequencies(const mr_hparams *hparams, uint32_t n_rot, float base, bool scaled, const float *freq_factors,
                          float *inv_freq);

/* cosines and sines, [n_pairs] each, of position pos. */
void mr_rope_angles(const float *inv_freq, size_t n_pairs, float factor, uint32_t pos, float *cosines, float *sines);

#endif
