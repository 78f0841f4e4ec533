#include "model/hf_pooling.h"

#include "base/file.h"
#include "model/hf_model.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers of GGUF's pooling_type. */
enum { POOLING_MEAN = 1, POOLING_CLS, POOLING_LAST };

static const struct {
    const char *key;  /* of the older form: whether this pooling is one of those in use */
    const char *name; /* pooling_mode of the newer one */
    int type;         /* 0: not known here */
} POOLINGS[] = {
    {"pooling_mode_mean_tokens", "mean", POOLING_MEAN},
    {"pooling_mode_cls_token", "cls", POOLING_CLS},
    {"pooling_mode_lasttoken", "lasttoken", POOLING_LAST},
    {"pooling_mode_max_tokens", "max", 0},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", 0},
    {"pooling_mode_weightedmean_tokens", "weightedmean", 0},
};

static bool uses(const json_t *pooling, size_t i) {
    const json_t *mode = json_object_get(pooling, "pooling_mode");
    const char *name = json_string_value(json_array_size(mode) == 1 ? json_array_get(mode, 0) : mode);
    if (mode == NULL) return json_is_true(json_object_get(pooling, POOLINGS[i].key));
    return name != NULL && strcmp(name, POOLINGS[i].name) == 0;
}

/* Several at once make a longer vector, which is not known here either. */
static mr_status read_type(const json_t *pooling, const char *where, json_t *config, mr_error *err) {
    int type = 0;
    size_t n = 0;
    for (size_t i = 0; i < sizeof POOLINGS / sizeof POOLINGS[0]; i++) {
        if (!uses(pooling, i)) continue;
        type = POOLINGS[i].type;
        n++;
    }
    if (n != 1 || type == 0)
        return mr_fail(err, MR_ERR_UNSUPPORTED,
                       "%s/config.json asks for a pooling that is not supported; mean, cls and lasttoken are", where);
    bool ok = json_object_set_new(config, "sentence_pooling", json_integer(type)) == 0;
    return ok ? MR_OK : mr_fail_nomem(err, 64, "config.json");
}

/* The folder of a step is one below the model's. */
static mr_status read_pooling(const char *folder, const json_t *module, json_t *config, mr_error *err) {
    const char *path = json_string_value(json_object_get(module, "path"));
    if (path == NULL || path[0] == '\0' || path[0] == '.' || strpbrk(path, "/\\") != NULL)
        return mr_fail(err, MR_ERR_INVALID, "modules.json does not name a folder for the pooling");
    char *inner = mr_path_join(folder, path);
    json_t *pooling = NULL;
    mr_status status =
        inner != NULL ? mr_hf_read_json(inner, "config.json", &pooling, err) : mr_fail_nomem(err, 0, "a path");
    if (status == MR_OK) status = read_type(pooling, path, config, err);
    json_decref(pooling);
    free(inner);
    return status;
}

/* The last part of a class's name, "Pooling" for "sentence_transformers.models.Pooling". */
static const char *kind_of(const json_t *module) {
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *dot = type != NULL ? strrchr(type, '.') : NULL;
    return dot != NULL ? dot + 1 : type != NULL ? type : "";
}

static mr_status read_modules(const char *folder, const json_t *modules, json_t *config, mr_error *err) {
    bool norm = false;
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const json_t *module = json_array_get(modules, i);
        const char *kind = kind_of(module);
        mr_status status = MR_OK;
        if (strcmp(kind, "Pooling") == 0)
            status = read_pooling(folder, module, config, err);
        else if (strcmp(kind, "Normalize") == 0)
            norm = true;
        else if (strcmp(kind, "Transformer") != 0)
            status = mr_fail(err, MR_ERR_UNSUPPORTED,
                             "modules.json has a step \"%.64s\" on the way from text to vector, which is not supported",
                             kind);
        if (status != MR_OK) return status;
    }
    bool ok = json_object_set_new(config, "sentence_norm", json_boolean(norm)) == 0;
    return ok ? MR_OK : mr_fail_nomem(err, 64, "config.json");
}

mr_status mr_hf_pooling_read(const char *folder, json_t *config, mr_error *err) {
    char *path = mr_path_join(folder, "modules.json");
    if (path == NULL) return mr_fail_nomem(err, 0, "a path");
    bool there = mr_path_is_file(path);
    free(path);
    if (!there) return MR_OK;
    json_t *modules = NULL;
    mr_status status = mr_hf_read_json(folder, "modules.json", &modules, err);
    if (status == MR_OK && !json_is_array(modules))
        status = mr_fail(err, MR_ERR_INVALID, "%s/modules.json is no list", folder);
    if (status == MR_OK) status = read_modules(folder, modules, config, err);
    json_decref(modules);
    return status;
}
