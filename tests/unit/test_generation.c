/* floors: text */
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "engine/random.h"
#include "model/default_model.h"
#include "text/stop_strings.h"
#include "text/text_model.h"
#include "text/text_model_impl.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- stop strings ---- */

/* Feeds text in pieces of up to max_piece bytes and returns what comes out. */
static mr_buf filter(const char *text, const char *const *strings, size_t n, size_t max_piece, uint64_t seed) {
    mr_stop_strings stop;
    mr_error err = {0};
    mr_buf out = {0};
    assert_int_equal(mr_stop_strings_init(&stop, strings, n, &err), MR_OK);
    size_t len = strlen(text), at = 0;
    for (uint64_t i = 0; at < len; i++) {
        size_t piece = 1 + (size_t)(mr_random_uniform(seed, i) * (double)max_piece);
        if (piece > len - at) piece = len - at;
        assert_true(mr_stop_strings_push(&stop, text + at, piece, &out));
        at += piece;
    }
    assert_true(mr_stop_strings_finish(&stop, &out));
    mr_stop_strings_free(&stop);
    return out;
}

static void text_ends_before_a_stop_string(void **state) {
    (void)state;
    const char *const strings[] = {"", "\n\nUser:", "STOP", "ST\xC3\xA9"};
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"hello", "hello"},
        {"hello\n\nUser: hi", "hello"},
        {"a\n\nUse", "a\n\nUse"},
        {"a\n\n\nUser:", "a\n"},
        {"SSTSTOP", "SST"},
        {"xST\xC3\xA9y", "x"},
        {"", ""},
        {"STOP", ""},
        {"STO ST", "STO ST"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (size_t piece = 1; piece < 9; piece++) {
            mr_buf out = filter(cases[c].text, strings, 4, piece, piece);
            assert_string_equal(mr_buf_cstr(&out), cases[c].want);
            mr_buf_free(&out);
        }
    }
}

static void only_a_possible_beginning_is_held_back(void **state) {
    (void)state;
    const char *const strings[] = {"<end>"};
    mr_stop_strings stop;
    mr_error err = {0};
    mr_buf out = {0};
    assert_int_equal(mr_stop_strings_init(&stop, strings, 1, &err), MR_OK);
    mr_stop_strings_push(&stop, "one <", 5, &out);
    assert_string_equal(mr_buf_cstr(&out), "one ");
    mr_stop_strings_push(&stop, "e", 1, &out);
    assert_string_equal(mr_buf_cstr(&out), "one ");
    mr_stop_strings_push(&stop, "l<en", 4, &out);
    assert_string_equal(mr_buf_cstr(&out), "one <el");
    mr_stop_strings_push(&stop, "d> more", 7, &out);
    assert_true(stop.stopped);
    mr_stop_strings_push(&stop, "again", 5, &out);
    mr_stop_strings_finish(&stop, &out);
    assert_string_equal(mr_buf_cstr(&out), "one <el");
    mr_buf_free(&out);
    mr_stop_strings_free(&stop);
}

/* The definition: the string that is complete first, and the longest of those. */
static size_t first_stop(const char *text, const char *const *strings, size_t n) {
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n; i++) {
            size_t len = strlen(strings[i]);
            if (len > longest && len <= end && memcmp(text + end - len, strings[i], len) == 0) longest = len;
        }
        if (longest > 0) return end - longest;
    }
    return strlen(text);
}

static void pieces_do_not_matter(void **state) {
    (void)state;
    uint64_t n_random = 0;
    for (int round = 0; round < 5000; round++) {
        char text[41], stops[3][7];
        const char *strings[3];
        size_t len = (size_t)(mr_random_uniform(1, n_random++) * 40);
        for (size_t i = 0; i < len; i++) text[i] = "ab"[(int)(mr_random_uniform(2, n_random++) * 2)];
        text[len] = 0;
        for (int s = 0; s < 3; s++) {
            size_t n = 1 + (size_t)(mr_random_uniform(3, n_random++) * 6);
            for (size_t i = 0; i < n; i++) stops[s][i] = "abc"[(int)(mr_random_uniform(4, n_random++) * 2.2)];
            stops[s][n] = 0;
            strings[s] = stops[s];
        }
        mr_buf out = filter(text, strings, 3, 1 + (size_t)round % 7, n_random);
        size_t want = first_stop(text, strings, 3);
        assert_int_equal(out.len, want);
        assert_memory_equal(mr_buf_cstr(&out), text, want);
        mr_buf_free(&out);
    }
}

static void stop_strings_are_checked(void **state) {
    (void)state;
    mr_stop_strings stop;
    mr_error err = {0};
    const char *const bad[] = {"ok", "\xC3("};
    assert_int_equal(mr_stop_strings_init(&stop, bad, 2, &err), MR_ERR_INVALID);
    mr_stop_strings_free(&stop);
    const char *many[300];
    for (int i = 0; i < 300; i++) many[i] = "x";
    assert_int_equal(mr_stop_strings_init(&stop, many, 300, &err), MR_ERR_LIMIT);
    mr_stop_strings_free(&stop);
    char *big = malloc(5001);
    memset(big, 'x', 5000);
    big[5000] = 0;
    assert_int_equal(mr_stop_strings_init(&stop, (const char *const *)&big, 1, &err), MR_ERR_LIMIT);
    mr_stop_strings_free(&stop);
    free(big);
}

/* ---- finding a model ---- */

static char folder[] = "/tmp/mr-test-generation-XXXXXX";

static void put_file(const char *name, const char *content) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static void remove_file(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static void a_folder_means_its_one_model(void **state) {
    (void)state;
    char *found = NULL;
    mr_error err = {0};
    assert_non_null(mkdtemp(folder));
    assert_int_equal(mr_model_path_find(folder, &found, &err), MR_ERR_NOT_FOUND);
    assert_null(found);
    put_file("model.safetensors", "");
    assert_int_equal(mr_model_path_find(folder, &found, &err), MR_OK);
    assert_string_equal(found, folder); /* a model of Hugging Face files is the folder itself */
    free(found);
    put_file("b.gguf", "");
    put_file("mmproj-b.gguf", "");
    assert_int_equal(mr_model_path_find(folder, &found, &err), MR_OK);
    assert_true(mr_has_suffix(found, "/b.gguf"));
    free(found);
    put_file("a.gguf", "");
    assert_int_equal(mr_model_path_find(folder, &found, &err), MR_ERR_INVALID);
    assert_non_null(strstr(err.text, "a.gguf, b.gguf"));
    remove_file("a.gguf");
    remove_file("b.gguf");
    put_file("m-00001-of-00002.gguf", "");
    put_file("m-00002-of-00002.gguf", "");
    assert_int_equal(mr_model_path_find(folder, &found, &err), MR_OK);
    assert_true(mr_has_suffix(found, "/m-00001-of-00002.gguf"));
    free(found);
    assert_int_equal(mr_model_path_find("/nowhere/x.gguf", &found, &err), MR_OK); /* opening it will say so */
    assert_string_equal(found, "/nowhere/x.gguf");
    free(found);

    mr_text_model *model = NULL;
    const char *path = "/nowhere/x.gguf";
    mr_text_model_options options = {.paths = &path, .n_paths = 1};
    assert_int_equal(mr_text_model_load(&model, &options, &err), MR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
    assert_null(model);
    path = folder;
    assert_int_not_equal(mr_text_model_load(&model, &options, &err), MR_OK); /* empty files are no models */
    assert_null(model);
}

static void recommended_sampling_is_read(void **state) {
    (void)state;
    const void *image;
    size_t size;
    mr_gguf *gguf;
    mr_error err = {0};
    if (!mr_default_model(&image, &size)) skip();
    assert_int_equal(mr_gguf_open_memory(&gguf, image, size, &err), MR_OK);
    mr_sampling s = mr_recommended_sampling(NULL, gguf);
    assert_int_equal(mr_sampling_check(&s, &err), MR_OK);
    put_file("generation_config.json",
             "{\"temperature\": 0.6, \"top_p\": 0.9, \"top_k\": 20, \"min_p\": 0.1, \"repetition_penalty\": 1.05}");
    s = mr_recommended_sampling(folder, gguf);
    assert_true(s.temperature == 0.6f && s.top_p == 0.9f && s.top_k == 20 && s.min_p == 0.1f);
    assert_true(s.repeat_penalty == 1.05f);
    put_file("generation_config.json", "{\"do_sample\": false, \"temperature\": 0.6}");
    assert_true(mr_recommended_sampling(folder, gguf).temperature == 0);
    put_file("generation_config.json", "{\"temperature\": -3, \"top_p\": 0.5}");
    assert_true(mr_recommended_sampling(folder, gguf).top_p == 1);
    put_file("generation_config.json", "{\"temperature\": ");
    mr_recommended_sampling(folder, gguf);
    put_file("generation_config.json", "[]");
    mr_recommended_sampling(folder, gguf);
    mr_gguf_close(gguf);
}

/* ---- generation with the embedded model ---- */

static mr_text_model *model;

static int load_model(void **state) {
    (void)state;
    mr_text_model_options options = {.model = {.n_threads = 2}, .engine = {.context_size = 512}};
    mr_error err = {0};
    const void *image;
    size_t size;
    if (!mr_default_model(&image, &size)) return 0;
    if (mr_text_model_load(&model, &options, &err) == MR_OK) return 0;
    print_error("%s\n", err.text);
    return 1;
}

static int free_model(void **state) {
    (void)state;
    mr_text_model_free(model);
    static const char *const names[] = {"model.safetensors", "mmproj-b.gguf", "m-00001-of-00002.gguf",
                                        "m-00002-of-00002.gguf", "generation_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) remove_file(names[i]);
    rmdir(folder);
    return 0;
}

static mr_tokens encode(const char *text) {
    mr_tokens tokens = {0};
    mr_error err = {0};
    assert_int_equal(mr_tokenizer_encode(mr_text_model_tokenizer(model), text, strlen(text),
                                         MR_ENCODE_SPECIAL_TEXT | MR_ENCODE_ADD_BOS_EOS, &tokens, &err),
                     MR_OK);
    return tokens;
}

/* Runs to the end; every piece is whole characters. */
static mr_buf run(mr_generation *generation) {
    mr_buf text = {0}, piece = {0};
    mr_error err = {0};
    for (bool done = false; !done;) {
        mr_buf_clear(&piece);
        assert_int_equal(mr_generation_next(generation, NULL, &piece, &done, &err), MR_OK);
        assert_true(done || piece.len > 0);
        assert_true(mr_utf8_valid(mr_buf_cstr(&piece), piece.len));
        mr_buf_append(&text, mr_buf_cstr(&piece), piece.len);
    }
    mr_buf_free(&piece);
    return text;
}

static mr_generation *start(mr_generation_params *params, const mr_tokens *prompt) {
    mr_generation *generation = NULL;
    mr_error err = {0};
    params->prompt = prompt->ids;
    params->n_prompt = prompt->n;
    mr_status status = mr_generation_start(&generation, model, params, &err);
    if (status != MR_OK) print_error("%s\n", err.text);
    assert_int_equal(status, MR_OK);
    return generation;
}

static void text_is_the_tokens_decoded(void **state) {
    (void)state;
    if (model == NULL) skip();
    mr_tokens prompt = encode("Once upon a time there was");
    for (int keep_special = 0; keep_special < 2; keep_special++) {
        for (uint64_t seed = 0; seed < 5; seed++) {
            /* A high temperature gives all kinds of tokens: bytes, special ones, torn characters. */
            mr_generation_params params = {.max_tokens = 100, .sampling = mr_sampling_default()};
            params.sampling.temperature = seed == 0 ? 0 : 2.5f;
            params.sampling.seed = seed;
            params.keep_special = keep_special;
            mr_generation *generation = start(&params, &prompt);
            mr_buf text = run(generation), want = {0}, again = {0};
            const mr_tokens *tokens = mr_generation_tokens(generation);
            mr_request_stats stats = mr_generation_stats(generation);
            assert_int_equal(stats.n_generated, tokens->n);
            assert_int_equal(stats.n_prompt, prompt.n);
            mr_finish finish = mr_generation_finish(generation);
            assert_true(finish == MR_FINISH_EOG || (finish == MR_FINISH_LENGTH && tokens->n == 100));
            /* The decoder's view of the whole: prompt and answer, less the prompt. */
            mr_error err = {0};
            mr_tokens all = {0};
            for (size_t i = 0; i < prompt.n; i++) mr_tokens_push(&all, prompt.ids[i]);
            mr_tokenizer_decode(mr_text_model_tokenizer(model), all.ids, all.n, !keep_special, &want, &err);
            for (size_t i = 0; i < tokens->n; i++) mr_tokens_push(&all, tokens->ids[i]);
            mr_tokenizer_decode(mr_text_model_tokenizer(model), all.ids, all.n, !keep_special, &again, &err);
            assert_int_equal(again.len, want.len + text.len);
            assert_memory_equal(mr_buf_cstr(&again) + want.len, mr_buf_cstr(&text), text.len);
            mr_tokens_free(&all);
            mr_buf_free(&text);
            mr_buf_free(&want);
            mr_buf_free(&again);
            mr_generation_free(generation);
        }
    }
    mr_tokens_free(&prompt);
}

static void a_stop_string_ends_the_text(void **state) {
    (void)state;
    if (model == NULL) skip();
    mr_tokens prompt = encode("Once upon a time there was");
    mr_generation_params params = {.max_tokens = 60, .sampling = mr_sampling_default()};
    params.sampling.temperature = 0;
    mr_generation *generation = start(&params, &prompt);
    mr_buf whole = run(generation);
    mr_generation_free(generation);
    assert_true(whole.len > 20);
    for (size_t at = 1; at + 6 < whole.len && at < 40; at += 3) {
        char stop[6] = {0};
        memcpy(stop, whole.data + at, 5);
        if (!mr_utf8_valid(stop, 5)) continue;
        const char *const strings[] = {"never in it", stop};
        params.stop = strings;
        params.n_stop = 2;
        generation = start(&params, &prompt);
        mr_buf text = run(generation);
        size_t want = (size_t)(strstr(whole.data, stop) - whole.data);
        assert_int_equal(text.len, want);
        assert_memory_equal(mr_buf_cstr(&text), whole.data, want);
        assert_int_equal(mr_generation_finish(generation), MR_FINISH_EOG);
        assert_true(mr_generation_stats(generation).n_generated <= 60);
        bool done = false;
        mr_error err = {0};
        assert_int_equal(mr_generation_next(generation, NULL, &text, &done, &err), MR_OK); /* nothing more comes */
        assert_true(done && text.len == want);
        mr_buf_free(&text);
        mr_generation_free(generation);
    }
    mr_buf_free(&whole);
    mr_tokens_free(&prompt);
}

static void *cancel_it(void *arg) {
    mr_cancel_request(arg);
    return NULL;
}

static void cancelling_ends_a_generation(void **state) {
    (void)state;
    if (model == NULL) skip();
    mr_tokens prompt = encode("Once upon a time there was");
    for (int round = 0; round < 10; round++) {
        mr_generation_params params = {.max_tokens = 0, .sampling = mr_sampling_default()};
        params.sampling.temperature = 3;
        mr_generation *generation = start(&params, &prompt);
        mr_cancel *cancel = mr_cancel_new();
        mr_buf text = {0};
        mr_error err = {0};
        mr_status status = MR_OK;
        pthread_t thread;
        bool started = false, done = false;
        for (int i = 0; status == MR_OK && !done; i++) {
            if (i == round) {
                assert_int_equal(pthread_create(&thread, NULL, cancel_it, cancel), 0);
                started = true;
            }
            status = mr_generation_next(generation, cancel, &text, &done, &err);
        }
        if (status != MR_OK) assert_int_equal(status, MR_ERR_CANCELLED);
        if (started) pthread_join(thread, NULL);
        mr_generation_free(generation);
        mr_cancel_unref(cancel);
        mr_buf_free(&text);
    }
    mr_tokens_free(&prompt);
}

static void bad_requests_are_refused(void **state) {
    (void)state;
    if (model == NULL) skip();
    mr_tokens prompt = {0};
    for (int i = 0; i < 600; i++) mr_tokens_push(&prompt, 5);
    mr_generation_params params = {.prompt = prompt.ids, .n_prompt = 600, .sampling = mr_sampling_default()};
    mr_generation *generation;
    mr_error err = {0};
    assert_int_equal(mr_generation_start(&generation, model, &params, &err), MR_ERR_LIMIT);
    assert_non_null(strstr(err.text, "600"));
    assert_non_null(strstr(err.text, "512"));
    assert_null(generation);
    params.n_prompt = 5;
    params.sampling.temperature = -1;
    assert_int_equal(mr_generation_start(&generation, model, &params, &err), MR_ERR_INVALID);
    const char *const bad[] = {"\xFF"};
    params.sampling.temperature = 0;
    params.stop = bad;
    params.n_stop = 1;
    assert_int_equal(mr_generation_start(&generation, model, &params, &err), MR_ERR_INVALID);
    mr_generation_free(NULL);
    mr_tokens_free(&prompt);
}

int main(void) {
    mr_log_set_filter("error");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_ends_before_a_stop_string), cmocka_unit_test(only_a_possible_beginning_is_held_back),
        cmocka_unit_test(pieces_do_not_matter),           cmocka_unit_test(stop_strings_are_checked),
        cmocka_unit_test(a_folder_means_its_one_model),   cmocka_unit_test(recommended_sampling_is_read),
        cmocka_unit_test(text_is_the_tokens_decoded),     cmocka_unit_test(a_stop_string_ends_the_text),
        cmocka_unit_test(cancelling_ends_a_generation),   cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
