#include "model/hf_gemma.h"

#include "model/arch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIZE = 1 << 20 };

static const char *const FULL = "full_attention", *const LOCAL = "sliding_attention";

/* Takes the reference to value, also when it fails. */
static mr_status put(json_t *config, const char *key, json_t *value, mr_error *err) {
    return json_object_set_new(config, key, value) == 0 ? MR_OK : mr_fail_nomem(err, 0, "config.json");
}

/* A whole number from 1 to MAX_SIZE. */
static mr_status get_size(const json_t *object, const char *key, json_int_t *value, mr_error *err) {
    const json_t *item = json_object_get(object, key);
    *value = json_integer_value(item);
    if (json_is_integer(item) && *value >= 1 && *value <= MAX_SIZE) return MR_OK;
    return mr_fail(err, MR_ERR_INVALID, "config.json has no %s from 1 to %d", key, (int)MAX_SIZE);
}

static mr_status count_layers(const json_t *config, size_t *n, mr_error *err) {
    json_int_t value;
    mr_status status = get_size(config, "num_hidden_layers", &value, err);
    if (status == MR_OK && value > MR_MAX_LAYERS)
        return mr_fail(err, MR_ERR_LIMIT, "config.json has %d layers; %d are possible", (int)value, (int)MR_MAX_LAYERS);
    *n = (size_t)value;
    return status;
}

/* What both have: layers, a window, and how many layers at the end use keys and values of earlier ones. */
static mr_status check_layers(const json_t *config, size_t *n, mr_error *err) {
    json_int_t window;
    const json_t *shared = json_object_get(config, "num_kv_shared_layers");
    json_int_t n_shared = json_integer_value(shared);
    mr_status status = count_layers(config, n, err);
    if (status == MR_OK) status = get_size(config, "sliding_window", &window, err);
    if (status != MR_OK) return status;
    if (shared == NULL || (json_is_integer(shared) && n_shared >= 0 && n_shared < (json_int_t)*n)) return MR_OK;
    return mr_fail(err, MR_ERR_INVALID, "config.json's num_kv_shared_layers must be at least 0 and less than %zu", *n);
}

static bool is_full(const json_t *config, size_t i) {
    const char *kind = json_string_value(json_array_get(json_object_get(config, "layer_types"), i));
    return kind != NULL && strcmp(kind, FULL) == 0;
}

/* Every so-many-th layer is without a window where config.json has no list. */
static mr_status complete_kinds(json_t *config, size_t n, size_t period, mr_error *err) {
    const json_t *kinds = json_object_get(config, "layer_types");
    if (json_is_array(kinds) && json_array_size(kinds) != n)
        return mr_fail(err, MR_ERR_INVALID, "config.json lists %zu layer_types for %zu layers", json_array_size(kinds),
                       n);
    for (size_t i = 0; json_is_array(kinds) && i < n; i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));
        if (kind == NULL || (strcmp(kind, FULL) != 0 && strcmp(kind, LOCAL) != 0))
            return mr_fail(err, MR_ERR_UNSUPPORTED, "config.json says that layer %zu is \"%.64s\"; %s and %s are known",
                           i, kind != NULL ? kind : "?", FULL, LOCAL);
    }
    if (json_is_array(kinds)) return MR_OK;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_string((i + 1) % period == 0 ? FULL : LOCAL)) == 0) continue;
        json_decref(list);
        return mr_fail_nomem(err, n, "config.json");
    }
    return put(config, "layer_types", list, err);
}

/* ---- Gemma 3n */

/* Where the share p of a normal distribution is below; 0 < p < 1. */
static double normal_quantile(double p) {
    double low = -40.0, high = 40.0;
    for (int i = 0; i < 100; i++) {
        double middle = 0.5 * (low + high);
        if (0.5 * erfc(-middle / sqrt(2.0)) < p)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* The share of gates that shall be 0: a number for all layers or for each; without one, 0.95 in the first ten layers of
 * larger models. */
static mr_status put_sparsity(json_t *config, size_t n, mr_error *err) {
    const json_t *pattern = json_object_get(config, "activation_sparsity_pattern");
    if (json_is_array(pattern) && json_array_size(pattern) != n)
        return mr_fail(err, MR_ERR_INVALID, "config.json's activation_sparsity_pattern has %zu entries for %zu layers",
                       json_array_size(pattern), n);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(pattern) ? json_array_get(pattern, i) : pattern;
        double share = json_is_number(item) ? json_number_value(item) : n > 10 && i < 10 ? 0.95 : 0.0;
        if (!(share >= 0.0 && share < 1.0)) {
            json_decref(list);
            return mr_fail(err, MR_ERR_INVALID,
                           "config.json's activation_sparsity_pattern has %g for layer %zu; it must be at least 0 and "
                           "less than 1",
                           share, i);
        }
        if (json_array_append_new(list, share > 0.0 ? json_real(normal_quantile(share)) : json_null()) == 0) continue;
        json_decref(list);
        return mr_fail_nomem(err, n, "config.json");
    }
    return put(config, "activation_sparsity_scale", list, err);
}

mr_status mr_hf_gemma3n_spell_out(json_t *config, mr_error *err) {
    size_t n;
    mr_status status = check_layers(config, &n, err);
    const json_t *width = json_object_get(config, "intermediate_size");
    if (status == MR_OK && json_is_array(width) && json_array_size(width) != n)
        return mr_fail(err, MR_ERR_INVALID, "config.json's intermediate_size has %zu entries for %zu layers",
                       json_array_size(width), n);
    if (status == MR_OK && json_is_false(json_object_get(config, "altup_correct_scale")))
        return mr_fail(err, MR_ERR_UNSUPPORTED, "config.json has altup_correct_scale false, which is not supported");
    if (status == MR_OK) status = complete_kinds(config, n, 5, err);
    return status == MR_OK ? put_sparsity(config, n, err) : status;
}

/* ---- Gemma 4 */

/* What differs between the attention of layers. */
typedef struct heads {
    json_int_t dim, n_kv;
} heads;

/* Exceptions to the settings of all, `per_layer_config`: {"5": {"head_dim": 512}}. */
static mr_status read_exceptions(json_t *exceptions, size_t n, heads *layers, mr_error *err) {
    const char *key, *name;
    json_t *settings, *value;
    json_object_foreach(exceptions, key, settings) {
        char *end;
        unsigned long i = strtoul(key, &end, 10);
        if (end == key || *end != '\0' || i >= n || !json_is_object(settings))
            return mr_fail(err, MR_ERR_INVALID,
                           "config.json's per_layer_config has \"%.64s\", which is no layer of %zu", key, n);
        json_object_foreach(settings, name, value) {
            bool dim = strcmp(name, "head_dim") == 0;
            if (!dim && strcmp(name, "num_key_value_heads") != 0)
                return mr_fail(err, MR_ERR_UNSUPPORTED,
                               "config.json's per_layer_config has %.64s for layer %lu, which is not supported", name,
                               i);
            mr_status status = get_size(settings, name, dim ? &layers[i].dim : &layers[i].n_kv, err);
            if (status != MR_OK) return status;
        }
    }
    return MR_OK;
}

/* In older files the settings of layers without a window have names of their own. */
static mr_status read_full_heads(const json_t *config, heads *full, mr_error *err) {
    const json_t *n_kv = json_object_get(config, "num_global_key_value_heads");
    bool own = json_is_true(json_object_get(config, "attention_k_eq_v")) && n_kv != NULL && !json_is_null(n_kv);
    mr_status status = MR_OK;
    full->dim = 512;
    if (json_object_get(config, "global_head_dim") != NULL)
        status = get_size(config, "global_head_dim", &full->dim, err);
    return status == MR_OK && own ? get_size(config, "num_global_key_value_heads", &full->n_kv, err) : status;
}

static mr_status read_heads(json_t *config, size_t n, heads *layers, mr_error *err) {
    json_t *exceptions = json_object_get(config, "per_layer_config");
    heads all, full;
    mr_status status = get_size(config, "head_dim", &all.dim, err);
    if (status == MR_OK) status = get_size(config, "num_key_value_heads", &all.n_kv, err);
    full = all;
    if (status == MR_OK && !json_is_object(exceptions)) status = read_full_heads(config, &full, err);
    for (size_t i = 0; i < n && status == MR_OK; i++) layers[i] = is_full(config, i) ? full : all;
    return status == MR_OK && json_is_object(exceptions) ? read_exceptions(exceptions, n, layers, err) : status;
}

/* NULL when there is no memory. */
static json_t *list_of(const json_int_t *values, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n && list != NULL; i++) {
        if (json_array_append_new(list, json_integer(values[i])) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static mr_status put_heads(json_t *config, size_t n, mr_error *err) {
    heads layers[MR_MAX_LAYERS];
    json_int_t n_kv[MR_MAX_LAYERS], dims[2] = {0, 0}; /* dims: of layers with a window, and without */
    mr_status status = read_heads(config, n, layers, err);
    for (size_t i = 0; i < n && status == MR_OK; i++) {
        bool full = is_full(config, i);
        if (dims[full] != 0 && dims[full] != layers[i].dim)
            return mr_fail(err, MR_ERR_UNSUPPORTED,
                           "config.json has heads of %d and %d values in %s layers, which is not supported",
                           (int)dims[full], (int)layers[i].dim, full ? FULL : LOCAL);
        dims[full] = layers[i].dim;
        n_kv[i] = layers[i].n_kv;
    }
    if (status == MR_OK) status = put(config, "num_key_value_heads", list_of(n_kv, n), err);
    if (status == MR_OK && dims[false] != 0) status = put(config, "local_head_dim", json_integer(dims[false]), err);
    return status == MR_OK && dims[true] != 0 ? put(config, "head_dim", json_integer(dims[true]), err) : status;
}

/* Layers that use the keys and values of earlier ones may have FFNs of twice the width. */
static mr_status put_widths(json_t *config, size_t n, mr_error *err) {
    json_int_t width, widths[MR_MAX_LAYERS], n_shared;
    if (!json_is_true(json_object_get(config, "use_double_wide_mlp"))) return MR_OK;
    n_shared = json_integer_value(json_object_get(config, "num_kv_shared_layers"));
    mr_status status = get_size(config, "intermediate_size", &width, err);
    if (status != MR_OK) return status;
    for (size_t i = 0; i < n; i++) widths[i] = (json_int_t)i < (json_int_t)n - n_shared ? width : 2 * width;
    return put(config, "intermediate_size", list_of(widths, n), err);
}

/* Both kinds of layers have a base, and the second one no scaling. */
static mr_status check_rope(const json_t *config, mr_error *err) {
    const json_t *rope = json_object_get(config, "rope_parameters");
    for (int i = 0; i < 2; i++) {
        const char *kind = i == 0 ? FULL : LOCAL;
        const json_t *own = json_object_get(rope, kind);
        const char *type = json_string_value(json_object_get(own, "rope_type"));
        if (!json_is_number(json_object_get(own, "rope_theta")))
            return mr_fail(err, MR_ERR_INVALID, "config.json's rope_parameters have no rope_theta for %s", kind);
        if (i == 1 && type != NULL && strcmp(type, "default") != 0)
            return mr_fail(err, MR_ERR_UNSUPPORTED,
                           "config.json asks for rope scaling \"%.64s\" in %s, which is not supported", type, kind);
    }
    return MR_OK;
}

mr_status mr_hf_gemma4_spell_out(json_t *config, mr_error *err) {
    size_t n;
    const char *both_ways = json_string_value(json_object_get(config, "use_bidirectional_attention"));
    if (both_ways != NULL && strcmp(both_ways, "all") == 0)
        return mr_fail(err, MR_ERR_UNSUPPORTED,
                       "config.json has use_bidirectional_attention \"all\", which is not supported for text");
    mr_status status = check_layers(config, &n, err);
    if (status == MR_OK) status = complete_kinds(config, n, 6, err);
    /* The last layer never has a window, whatever the list says. */
    json_t *kinds = json_object_get(config, "layer_types");
    if (status == MR_OK && json_array_set_new(kinds, n - 1, json_string(FULL)) != 0)
        status = mr_fail_nomem(err, n, "config.json");
    if (status == MR_OK) status = put_heads(config, n, err);
    if (status == MR_OK) status = put_widths(config, n, err);
    if (status == MR_OK) status = check_rope(config, err);
    if (!json_is_true(json_object_get(config, "enable_moe_block"))) json_object_del(config, "num_experts");
    return status;
}
