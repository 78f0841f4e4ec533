#define MR_LOG_TARGET "mistral_runner::service"
#include "service/settings_hub.h"

#include "base/file.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* A download in the log: a line for every tenth. */
typedef struct progress {
    const char *name;
    int tenths;
} progress;

static bool log_progress(void *ctx, float fraction) {
    progress *p = ctx;
    int tenths = (int)(fraction * 10);
    if (tenths > p->tenths) MR_INFO("downloading %s: %d %%", p->name, tenths * 10);
    p->tenths = tenths;
    return true;
}

static mr_status keep_path(mr_settings *settings, const char **slot, const char *folder, const char *name,
                           mr_error *err) {
    char *path = mr_path_join(folder, name);
    *slot = path != NULL ? mr_arena_strndup(&settings->arena, path, strlen(path)) : NULL;
    free(path);
    return *slot != NULL ? MR_OK : mr_fail(err, MR_ERR_NOMEM, "there is no memory to read the settings");
}

/* The folder itself, without a slash at its end. */
static mr_status keep_folder(mr_settings *settings, const char **slot, const char *folder, mr_error *err) {
    return keep_path(settings, slot, "", folder, err);
}

static mr_status keep_files(mr_settings *settings, const mr_hub_result *found, mr_error *err) {
    size_t n = found->n_files > 0 ? found->n_files : 1;
    mr_status status = MR_OK;
    settings->n_paths = 0;
    settings->paths = mr_arena_calloc(&settings->arena, n, sizeof *settings->paths);
    if (settings->paths == NULL) return mr_fail(err, MR_ERR_NOMEM, "there is no memory to read the settings");
    for (size_t i = 0; i < found->n_files && status == MR_OK; i++)
        status = keep_path(settings, &settings->paths[settings->n_paths++], found->folder, found->files[i], err);
    if (found->n_files == 0) status = keep_folder(settings, &settings->paths[settings->n_paths++], found->folder, err);
    return status;
}

mr_status mr_settings_fetch_model(mr_settings *settings, mr_hub_want want, const char *name, char *const *files,
                                  size_t n_files, mr_cancel *cancel, mr_error *err) {
    if (!mr_hub_id_plausible(name)) {
        return mr_fail(err, MR_ERR_NOT_FOUND,
                       "model_name_or_path \"%.400s\" does not exist; check the path (a model on the hub is ORG/NAME)",
                       name);
    }
    progress p = {.name = name};
    mr_hub_request request = {.id = name,
                              .want = want,
                              .files = (const char *const *)files,
                              .n_files = n_files,
                              .progress = log_progress,
                              .progress_ctx = &p,
                              .cancel = cancel};
    mr_hub_result found;
    mr_status status = mr_hub_fetch(&request, &found, err);
    if (status == MR_ERR_CANCELLED) return status;
    if (status != MR_OK) return mr_fail_prefix(err, "model_name_or_path \"%.200s\" is no path here; on the hub", name);
    status = keep_files(settings, &found, err);
    mr_hub_result_free(&found);
    return status;
}

mr_status mr_settings_fetch_tokenizer(mr_settings *settings, const char *name, mr_cancel *cancel, mr_error *err) {
    mr_hub_request request = {.id = name, .want = MR_HUB_TOKENIZER, .cancel = cancel};
    mr_hub_result found;
    mr_status status = mr_hub_fetch(&request, &found, err);
    if (status != MR_OK) return status;
    status = keep_folder(settings, &settings->tokenizer_folder, found.folder, err);
    mr_hub_result_free(&found);
    return status;
}
