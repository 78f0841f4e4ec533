/* Loading: files → tokenizer and chat template → weights → engine. What is cheap and likely to fail comes first. */
#define MR_LOG_TARGET "mistral_runner::text"
#include "text/text_model.h"

#include "base/file.h"
#include "base/log.h"
#include "model/default_model.h"
#include "model/hf_model.h"
#include "text/text_model_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mr_status open_default(mr_gguf **gguf, mr_error *err) {
    const void *data;
    size_t size;
    if (!mr_default_model(&data, &size)) {
        return mr_fail(err, MR_ERR_NOT_FOUND,
                       "no model is named, and this build has none of its own; give the path of a GGUF file");
    }
    mr_status status = mr_gguf_open_memory(gguf, data, size, err);
    return status == MR_OK ? MR_OK : mr_fail_prefix(err, "the embedded model");
}

static mr_status open_files(mr_text_model *m, const mr_text_model_options *options, mr_error *err) {
    if (options->n_paths == 0) return open_default(&m->gguf, err);
    if (options->n_paths > 1) return mr_gguf_open(&m->gguf, options->paths, options->n_paths, err);
    char *path;
    mr_status status = mr_model_path_find(options->paths[0], &path, err);
    if (status == MR_OK && mr_path_is_dir(path)) {
        m->hf_folder = path;
        return mr_hf_open(&m->gguf, path, err);
    }
    if (status == MR_OK) status = mr_gguf_open(&m->gguf, (const char *const *)&path, 1, err);
    free(path);
    return status;
}

/* The folder whose other files belong to the model, or NULL. */
static const char *model_folder(const mr_text_model_options *options) {
    if (options->tokenizer_folder != NULL) return options->tokenizer_folder;
    return options->n_paths == 1 && mr_path_is_dir(options->paths[0]) ? options->paths[0] : NULL;
}

static mr_status load_tokenizer(mr_text_model *m, const mr_text_model_options *options, mr_error *err) {
    const char *folder = options->tokenizer_folder != NULL ? options->tokenizer_folder : m->hf_folder;
    mr_status status = folder != NULL ? mr_tokenizer_from_folder(&m->tokenizer, folder, err)
                                      : mr_tokenizer_from_gguf(&m->tokenizer, m->gguf, err);
    if (status != MR_OK) return status;
    size_t n_vocab = mr_tokenizer_n_vocab(m->tokenizer);
    for (size_t id = 0; id < n_vocab; id++) {
        if (mr_tokenizer_is_eog(m->tokenizer, (mr_token)id) && !mr_tokens_push(&m->eog, (mr_token)id))
            return mr_fail_nomem(err, n_vocab, "the tokens that end a generation");
    }
    return MR_OK;
}

/* The literal text of a special token, copied to free() later; NULL when there is none. */
static char *special_text(const mr_tokenizer *tokenizer, mr_token id) {
    size_t len;
    const char *text = id >= 0 ? mr_tokenizer_piece(tokenizer, id, &len) : NULL;
    return text != NULL ? strndup(text, len) : NULL;
}

static mr_status load_chat_template(mr_text_model *m, const mr_text_model_options *options, mr_error *err) {
    char *texts[] = {special_text(m->tokenizer, mr_tokenizer_bos(m->tokenizer)),
                     special_text(m->tokenizer, mr_tokenizer_eos(m->tokenizer)),
                     special_text(m->tokenizer, mr_tokenizer_unk(m->tokenizer)),
                     special_text(m->tokenizer, mr_tokenizer_pad(m->tokenizer))};
    mr_special_texts specials = {texts[0], texts[1], texts[2], texts[3]};
    mr_status status;
    if (options->chat_template != NULL)
        status = mr_chat_template_from_file(&m->chat_template, options->chat_template, &specials, err);
    else if (m->hf_folder != NULL)
        status = mr_chat_template_from_folder(&m->chat_template, m->hf_folder, &specials, err);
    else
        status = mr_chat_template_from_gguf(&m->chat_template, m->gguf, &specials, err);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) free(texts[i]);
    return status;
}

static bool has_special(const void *tokenizer, const char *text) {
    return mr_tokenizer_find_special(tokenizer, text, strlen(text)) >= 0;
}

static void detect_tools(mr_text_model *m) {
    const char *source = mr_chat_template_source(m->chat_template, true);
    m->tools.format = mr_tool_format_detect(source, has_special, m->tokenizer);
    m->tools.reasoning = mr_reasoning_detect(source);
    mr_tool_caps_probe(m->chat_template, &m->tools.caps);
}

/* How texts become vectors: {arch}.pooling_type; what it does not say, or says in a way that makes no vector, is the
 * last token, or with an encoder the mean. And {arch}.normalize_embeddings, true where there is none. */
static void read_pooling(mr_text_model *m) {
    mr_gguf_str arch = {"", 0};
    char key[112];
    uint32_t type = MR_POOLING_NONE;
    mr_gguf_string(m->gguf, "general.architecture", &arch);
    int n = arch.len < 64 ? (int)arch.len : 64;
    snprintf(key, sizeof key, "%.*s.pooling_type", n, arch.data);
    mr_gguf_u32(m->gguf, key, &type);
    m->pooling = mr_model_get_info(m->model)->encoder ? MR_POOLING_MEAN : MR_POOLING_LAST;
    if (type >= MR_POOLING_MEAN && type <= MR_POOLING_LAST) m->pooling = (mr_pooling)type;
    snprintf(key, sizeof key, "%.*s.normalize_embeddings", n, arch.data);
    m->normalize = true;
    mr_gguf_bool(m->gguf, key, &m->normalize);
}

static void warn_of_answers(const mr_text_model *m) {
    if (mr_chat_template_is_fallback(m->chat_template))
        MR_WARN("the model has no chat template; ChatML is used (set chat_template to name another)");
    if (m->eog.n == 0) MR_WARN("the vocabulary marks no token as the end of an answer: answers end at max_tokens only");
}

static mr_status load_model(mr_text_model *m, const mr_text_model_options *options, mr_error *err) {
    mr_status status = mr_model_load(&m->model, m->gguf, &options->model, err);
    if (status != MR_OK) return options->n_paths > 0 ? mr_fail_prefix(err, "%s", options->paths[0]) : status;
    size_t n_tokens = mr_tokenizer_n_vocab(m->tokenizer), n_rows = mr_model_get_info(m->model)->n_vocab;
    if (n_tokens > n_rows)
        MR_WARN("the tokenizer has %zu tokens, but the model only knows the first %zu of them", n_tokens, n_rows);
    if (!mr_model_get_info(m->model)->encoder) warn_of_answers(m);
    return mr_engine_new(&m->engine, m->model, &options->engine, err);
}

mr_status mr_text_model_load(mr_text_model **model, const mr_text_model_options *options, mr_error *err) {
    *model = NULL;
    mr_text_model *m = calloc(1, sizeof *m);
    if (m == NULL) return mr_fail_nomem(err, sizeof *m, "a model");
    pthread_mutex_init(&m->lock, NULL);
    mr_status status = open_files(m, options, err);
    if (status == MR_OK) status = load_tokenizer(m, options, err);
    if (status == MR_OK) status = load_chat_template(m, options, err);
    if (status == MR_OK) detect_tools(m);
    if (status == MR_OK) m->sampling = mr_recommended_sampling(model_folder(options), m->gguf);
    if (status == MR_OK) status = load_model(m, options, err);
    if (status != MR_OK) {
        mr_text_model_free(m);
        return status;
    }
    read_pooling(m);
    *model = m;
    return MR_OK;
}

void mr_text_model_free(mr_text_model *model) {
    if (model == NULL) return;
    mr_engine_free(model->engine);
    mr_model_free(model->model);
    mr_chat_template_free(model->chat_template);
    mr_mask_vocab_free(model->mask_vocab);
    pthread_mutex_destroy(&model->lock);
    mr_tokenizer_free(model->tokenizer);
    mr_tokens_free(&model->eog);
    mr_gguf_close(model->gguf);
    free(model->hf_folder);
    free(model);
}

const mr_tokenizer *mr_text_model_tokenizer(const mr_text_model *model) {
    return model->tokenizer;
}

const mr_chat_template *mr_text_model_chat_template(const mr_text_model *model) {
    return model->chat_template;
}

const mr_text_tools *mr_text_model_tools(const mr_text_model *model) {
    return &model->tools;
}

const mr_mask_vocab *mr_text_model_mask_vocab(mr_text_model *model) {
    pthread_mutex_lock(&model->lock);
    if (model->mask_vocab == NULL) model->mask_vocab = mr_mask_vocab_new(model->tokenizer);
    const mr_mask_vocab *vocab = model->mask_vocab;
    pthread_mutex_unlock(&model->lock);
    return vocab;
}

mr_engine *mr_text_model_engine(mr_text_model *model) {
    return model->engine;
}

const mr_model_info *mr_text_model_info(const mr_text_model *model) {
    return mr_model_get_info(model->model);
}

mr_sampling mr_text_model_sampling(const mr_text_model *model) {
    return model->sampling;
}
