/* Which of a repository's files are needed. */
#ifndef MR_MODEL_HUB_SELECT_H
#define MR_MODEL_HUB_SELECT_H

#include "base/arena.h"
#include "base/error.h"
#include "model/hub.h"

/* Names, in an arena or borrowed. */
typedef struct mr_hub_names {
    const char **names;
    size_t n;
} mr_hub_names;

/* What is needed of `all`: the small files that say what the model is, and GGUF files; `open` are those of
 * mr_hub_result. Errors list what there is. `repo` is for errors. */
mr_status mr_hub_select(const mr_hub_names *all, const mr_hub_request *request, const char *named_file,
                        const char *repo, mr_arena *arena, mr_hub_names *needed, mr_hub_names *open, mr_error *err);

/* The safetensors of a snapshot whose small files are there: by the index, else the one file; none where `open` has
 * files. */
mr_status mr_hub_select_weights(const mr_hub_names *all, const char *snapshot, mr_arena *arena, mr_hub_names *needed,
                                mr_error *err);

#endif
