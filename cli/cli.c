#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include "base/file.h"
#include "base/utf8.h"
#include "engine/draft.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

int mr_cli_fail(const char *command, const mr_error *err) {
    fflush(stdout);
    fprintf(stderr, "mistral-runner %s: %s\n", command, err->text[0] != '\0' ? err->text : "an unknown error");
    return err->status == MR_ERR_CANCELLED ? MR_EXIT_CANCELLED : MR_EXIT_FAILURE;
}

int mr_cli_usage_error(const char *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "mistral-runner %s: ", command);
    vfprintf(stderr, format, args);
    fprintf(stderr, "; see mistral-runner %s --help\n", command);
    va_end(args);
    return MR_EXIT_USAGE;
}

bool mr_cli_int(const char *command, const char *option, const char *text, long min, long max, long *value) {
    char *end;
    errno = 0;
    long parsed = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || parsed < min || parsed > max) {
        mr_cli_usage_error(command, "%s needs a whole number from %ld to %ld, not \"%s\"", option, min, max, text);
        return false;
    }
    *value = parsed;
    return true;
}

bool mr_cli_float(const char *command, const char *option, const char *text, float *value) {
    char *end;
    float parsed = strtof(text, &end);
    if (end == text || *end != '\0' || !isfinite(parsed)) {
        mr_cli_usage_error(command, "%s needs a number, not \"%s\"", option, text);
        return false;
    }
    *value = parsed;
    return true;
}

static mr_status read_stdin(mr_buf *text, mr_error *err) {
    while (true) {
        if (!mr_buf_reserve(text, 65536)) return mr_fail_nomem(err, text->len, "standard input");
        ssize_t n = read(STDIN_FILENO, text->data + text->len, 65536);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mr_fail(err, MR_ERR_IO, "cannot read standard input: %s", strerror(errno));
        if (n == 0) return MR_OK;
        text->len += (size_t)n;
        text->data[text->len] = '\0';
        if (text->len > MR_CLI_MAX_INPUT) {
            return mr_fail(err, MR_ERR_LIMIT, "standard input has more than %d bytes", (int)MR_CLI_MAX_INPUT);
        }
    }
}

mr_status mr_cli_read(const char *path, mr_buf *text, mr_error *err) {
    return strcmp(path, "-") == 0 ? read_stdin(text, err) : mr_file_read(text, path, MR_CLI_MAX_INPUT, err);
}

mr_status mr_cli_read_json(const char *path, json_t **json, mr_error *err) {
    mr_buf text = {0};
    json_error_t where;
    *json = NULL;
    mr_status status = mr_cli_read(path, &text, err);
    if (status == MR_OK) {
        *json = json_loadb(mr_buf_cstr(&text), text.len, JSON_REJECT_DUPLICATES, &where);
        if (*json == NULL) {
            status = mr_fail(err, MR_ERR_INVALID, "%s is no JSON: line %d, column %d: %s", path, where.line,
                             where.column, where.text);
        }
    }
    mr_buf_free(&text);
    return status;
}

bool mr_cli_print_json(const json_t *json, size_t flags) {
    bool ok = json_dumpf(json, stdout, flags | JSON_REAL_PRECISION(9)) == 0 && putchar('\n') != EOF;
    return fflush(stdout) == 0 && ok;
}

void mr_cli_escape(mr_buf *out, const char *text, size_t len, size_t max_bytes) {
    for (size_t at = 0; at < len;) {
        uint32_t code_point;
        bool valid;
        size_t n = mr_utf8_decode_checked(text + at, len - at, &code_point, &valid);
        if (out->len >= max_bytes) {
            mr_buf_puts(out, "…");
            return;
        }
        /* Line and paragraph separators, direction marks and the like can garble a terminal as well as C0 and C1. */
        bool odd = code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0) ||
                   (code_point >= 0x200B && code_point <= 0x200F) || (code_point >= 0x2028 && code_point <= 0x202E) ||
                   (code_point >= 0x2066 && code_point <= 0x2069) || code_point == 0xFEFF;
        if (!valid) {
            for (size_t i = 0; i < n; i++) mr_buf_printf(out, "\\x%02x", (unsigned char)text[at + i]);
        } else if (code_point == '"' || code_point == '\\') {
            mr_buf_printf(out, "\\%c", (char)code_point);
        } else if (code_point == '\n') {
            mr_buf_puts(out, "\\n");
        } else if (odd) {
            mr_buf_printf(out, "\\u{%x}", (unsigned)code_point);
        } else {
            mr_buf_append(out, text + at, n);
        }
        at += n;
    }
}

/* --- the options of a model --- */

static bool parse_kv(const char *command, const char *text, mr_kv_type *type) {
    if (strcmp(text, "f16") == 0)
        *type = MR_KV_F16;
    else if (strcmp(text, "f32") == 0)
        *type = MR_KV_F32;
    else if (strcmp(text, "q8_0") == 0)
        *type = MR_KV_Q8_0;
    else {
        mr_cli_usage_error(command, "--kv-cache-type is f16, f32 or q8_0, not \"%s\"", text);
        return false;
    }
    return true;
}

static bool take_int(const char *command, const char *option, const char *text, long min, long max, int32_t *value,
                     bool *has) {
    long parsed;
    if (!mr_cli_int(command, option, text, min, max, &parsed)) return false;
    *value = (int32_t)parsed;
    *has = true;
    return true;
}

static bool take_float(const char *command, const char *option, const char *text, float *value, bool *has) {
    *has = true;
    return mr_cli_float(command, option, text, value);
}

static bool take_seed(const char *command, const char *text, mr_cli_model *model) {
    char *end;
    errno = 0;
    model->given.seed = strtoull(text, &end, 10);
    model->has_seed = true;
    if (errno == 0 && end != text && *end == '\0' && *text != '-') return true;
    mr_cli_usage_error(command, "--seed needs a whole number, not \"%s\"", text);
    return false;
}

int mr_cli_model_option(const char *command, mr_cli_model *m, int option, const char *value) {
    bool ok = true;
    switch (option) {
    case 'm':
        m->path = value;
        break;
    case 't':
        ok = mr_cli_int(command, "--threads", value, 1, 256, &m->n_threads);
        break;
    case MR_OPT_CONTEXT:
        ok = mr_cli_int(command, "--ctx-size", value, 1, 1 << 24, &m->context_size);
        break;
    case MR_OPT_KV:
        ok = parse_kv(command, value, &m->kv_type);
        break;
    case MR_OPT_DRAFT:
        ok = mr_cli_int(command, "--draft", value, 0, MR_MAX_DRAFT, &m->n_draft);
        break;
    case MR_OPT_DEVICE:
        m->device = value;
        break;
    case MR_OPT_TEMPLATE:
        m->chat_template = value;
        break;
    case MR_OPT_SEED:
        ok = take_seed(command, value, m);
        break;
    case MR_OPT_TEMP:
        ok = take_float(command, "--temp", value, &m->given.temperature, &m->has_temperature);
        break;
    case MR_OPT_TOP_P:
        ok = take_float(command, "--top-p", value, &m->given.top_p, &m->has_top_p);
        break;
    case MR_OPT_MIN_P:
        ok = take_float(command, "--min-p", value, &m->given.min_p, &m->has_min_p);
        break;
    case MR_OPT_TOP_K:
        ok = take_int(command, "--top-k", value, 0, 1 << 24, &m->given.top_k, &m->has_top_k);
        break;
    case MR_OPT_REPEAT_PENALTY:
        ok = take_float(command, "--repeat-penalty", value, &m->given.repeat_penalty, &m->has_repeat_penalty);
        break;
    case MR_OPT_REPEAT_LAST_N:
        ok = take_int(command, "--repeat-last-n", value, -1, 1 << 24, &m->given.repeat_last_n, &m->has_repeat_last_n);
        break;
    default:
        return 0;
    }
    return ok ? 1 : -1;
}

static void resolve_sampling(mr_cli_model *o, const mr_text_model *model) {
    mr_sampling *s = &o->sampling;
    *s = mr_text_model_sampling(model);
    if (o->has_temperature) s->temperature = o->given.temperature;
    if (o->has_top_k) s->top_k = o->given.top_k;
    if (o->has_top_p) s->top_p = o->given.top_p;
    if (o->has_min_p) s->min_p = o->given.min_p;
    if (o->has_repeat_penalty) s->repeat_penalty = o->given.repeat_penalty;
    if (o->has_repeat_last_n) s->repeat_last_n = o->given.repeat_last_n;
    s->seed = o->given.seed;
    if (!o->has_seed && getrandom(&s->seed, sizeof s->seed, 0) != (ssize_t)sizeof s->seed) s->seed = (uint64_t)getpid();
}

bool mr_cli_bar_draw(void *ctx, float fraction) {
    enum { WIDTH = 40 };
    mr_cli_bar *b = ctx;
    int percent = fraction < 0.0f ? 0 : fraction > 1.0f ? 100 : (int)(fraction * 100);
    if (percent + 1 == b->drawn || isatty(STDERR_FILENO) != 1) return true;
    b->drawn = percent + 1;
    char bar[WIDTH + 1];
    memset(bar, ' ', WIDTH);
    memset(bar, '#', (size_t)(percent * WIDTH / 100));
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%s [%s] %3d %%", b->what, bar, percent);
    return true;
}

void mr_cli_bar_wipe(mr_cli_bar *bar) {
    if (bar->drawn > 0) fputs("\r\033[K", stderr);
    bar->drawn = 0;
}

mr_status mr_cli_fetch(const mr_hub_request *request, mr_hub_result *result, mr_error *err) {
    mr_buf what = {0};
    mr_buf_printf(&what, "downloading %s", request->id);
    mr_cli_bar bar = {.what = mr_buf_cstr(&what)};
    mr_hub_request with_bar = *request;
    with_bar.progress = mr_cli_bar_draw;
    with_bar.progress_ctx = &bar;
    mr_status status = mr_hub_fetch(&with_bar, result, err);
    mr_cli_bar_wipe(&bar);
    mr_buf_free(&what);
    return status;
}

mr_status mr_cli_find_model(const char **path, mr_cancel *cancel, mr_error *err) {
    static char *kept;
    if (*path == NULL || mr_path_is_file(*path) || mr_path_is_dir(*path) || !mr_hub_id_plausible(*path)) return MR_OK;
    mr_hub_request request = {.id = *path, .want = MR_HUB_MODEL, .cancel = cancel};
    mr_hub_result found;
    mr_status status = mr_cli_fetch(&request, &found, err);
    if (status == MR_ERR_CANCELLED) return status;
    if (status != MR_OK) return mr_fail_prefix(err, "\"%.200s\" is no path here; on the hub", *path);
    free(kept);
    kept = mr_path_join(found.n_files > 0 ? found.folder : "", found.n_files > 0 ? found.files[0] : found.folder);
    mr_hub_result_free(&found);
    *path = kept;
    return kept != NULL ? MR_OK : mr_fail_nomem(err, 0, "a path");
}

mr_status mr_cli_load(mr_cli_model *o, mr_cancel *cancel, mr_text_model **model, mr_error *err) {
    mr_cli_bar bar = {.what = "loading the model"};
    mr_status status = mr_cli_find_model(&o->path, cancel, err);
    if (status != MR_OK) return status;
    mr_text_model_options options = {
        .paths = &o->path,
        .n_paths = o->path != NULL ? 1 : 0,
        .chat_template = o->chat_template,
        .model = {.n_threads = (int)o->n_threads,
                  .device = o->device != NULL ? o->device : "auto",
                  .kv_type = o->kv_type,
                  .kv_tokens = (uint64_t)o->context_size,
                  .progress = mr_cli_bar_draw,
                  .progress_ctx = &bar,
                  .cancel = cancel},
        .engine = {.context_size = (uint32_t)o->context_size,
                   .max_concurrent = 1,
                   .kv_type = o->kv_type,
                   .n_draft = (uint32_t)o->n_draft},
    };
    status = mr_text_model_load(model, &options, err);
    mr_cli_bar_wipe(&bar);
    if (status != MR_OK) return status;
    resolve_sampling(o, *model);
    status = mr_sampling_check(&o->sampling, err);
    if (status == MR_OK) return MR_OK;
    mr_text_model_free(*model);
    *model = NULL;
    return status;
}

int mr_cli_with_model(const char *command, mr_cli_model *options, mr_cli_work_fn *work, const void *ctx) {
    mr_error err = {0};
    mr_text_model *model = NULL;
    mr_cancel *cancel = mr_cancel_new();
    mr_cli_on_interrupt(cancel);
    mr_status status = mr_cli_load(options, cancel, &model, &err);
    if (status == MR_OK) status = work(ctx, model, cancel, &err);
    mr_cli_on_interrupt(NULL);
    mr_text_model_free(model);
    mr_cancel_unref(cancel);
    return status == MR_OK ? MR_EXIT_OK : mr_cli_fail(command, &err);
}
