#include "synth_vocab.h"

#include "base/arena.h"
#include "base/hash.h"
#include "base/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Token types of GGUF files. */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_BYTE = 6 };

/* U+2581, which stands for a space. */
#define SPACE "\xE2\x96\x81"

typedef struct vocab {
    mr_arena arena;
    mr_strmap *known;
    mr_gguf_str *tokens;
    float *scores;
    int32_t *types;
    uint32_t n, n_max;
    bool out_of_memory;
} vocab;

/* Adds a token unless it is there already or the vocabulary is full. Scores fall with the order, as merges rank by
 * score. */
static void add(vocab *v, const char *text, size_t len, int type) {
    uint32_t seen;
    if (v->n == v->n_max || v->out_of_memory || mr_strmap_get(v->known, text, len, &seen)) return;
    char *copy = mr_arena_strndup(&v->arena, text, len);
    if (copy == NULL || !mr_strmap_put(v->known, copy, len, v->n)) {
        v->out_of_memory = true;
        return;
    }
    v->tokens[v->n] = (mr_gguf_str){copy, len};
    v->types[v->n] = type;
    v->scores[v->n] = type == TYPE_NORMAL ? -(float)v->n : 0.0f;
    v->n++;
}

static void add_special(vocab *v) {
    char text[8];
    add(v, "<unk>", 5, TYPE_UNKNOWN);
    add(v, "<s>", 3, TYPE_CONTROL);
    add(v, "</s>", 4, TYPE_CONTROL);
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(text, sizeof(text), "<0x%02X>", byte);
        add(v, text, 6, TYPE_BYTE);
    }
}

/* Letters in the order of their frequency in English text, with weights in per mille. */
static const struct {
    char letter;
    float weight;
} letters[26] = {
    {'e', 127}, {'t', 91}, {'a', 82}, {'o', 75}, {'i', 70}, {'n', 67}, {'s', 63}, {'h', 61}, {'r', 60},
    {'d', 43},  {'l', 40}, {'c', 28}, {'u', 28}, {'m', 24}, {'w', 24}, {'f', 22}, {'g', 20}, {'y', 20},
    {'p', 19},  {'b', 15}, {'v', 10}, {'k', 8},  {'j', 2},  {'x', 2},  {'q', 1},  {'z', 1},
};

/* A pair of letters is likelier when a vowel meets a consonant, and these pairs are common beyond that. */
static float pair_weight(int a, int b) {
    static const char common[] =
        "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co "
        "me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur";
    char x = letters[a].letter, y = letters[b].letter;
    const char pair[3] = {x, y, '\0'};
    bool vowel_x = strchr("aeiouy", x) != NULL, vowel_y = strchr("aeiouy", y) != NULL;
    float weight = letters[a].weight * letters[b].weight * (vowel_x != vowel_y ? 2.0f : 0.5f);
    return strstr(common, pair) != NULL ? weight * 6.0f : weight;
}

typedef struct group {
    float weight;
    char text[4];
} group;

static int heavier_first(const void *a, const void *b) {
    const group *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return strcmp(x->text, y->text);
}

static void add_characters(vocab *v) {
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x20, 0x7E},   {0xA1, 0xFF},     {0x2010, 0x2026}, {0x391, 0x3C9},
                  {0x410, 0x44F}, {0x3041, 0x3093}, {0x30A1, 0x30F6}};
    char text[4];
    add(v, SPACE, 3, TYPE_NORMAL);
    for (int i = 0; i < 26; i++) add(v, &letters[i].letter, 1, TYPE_NORMAL);
    for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
        for (uint32_t c = ranges[r].first; c <= ranges[r].last; c++)
            if (c != 0x20) add(v, text, mr_utf8_encode(c, text), TYPE_NORMAL);
    }
    add(v, "\n", 1, TYPE_NORMAL);
}

/* Every beginning of a word is a token too, so that merging can reach the word. */
static void add_word(vocab *v, const char *word, size_t len) {
    char text[32] = SPACE;
    if (len + 3 > sizeof(text)) return;
    for (size_t n = 1; n <= len; n++) {
        memcpy(text + 3, word, n);
        add(v, text, n + 3, TYPE_NORMAL);
    }
}

static void add_words(vocab *v) {
    static const char words[] =
        "the of and to in is that it for was on are as with be at this have from or one had by word but not what all "
        "were we when "
        "your can said there use an each which she do how their if will up other about out many then them these so "
        "some her would "
        "make like him into time has look two more write go see number no way could people my than first water been "
        "call who oil "
        "its now find long down day did get come made may part over new sound take only little work know place year "
        "live me back "
        "give most very after thing our just name good sentence man think say great where help through much before "
        "line right too "
        "mean old any same tell boy follow came want show also around form three small set put end does another well "
        "large must "
        "big even such because turn here why ask went men read need land different home us move try kind hand picture "
        "again "
        "change off play spell air away animal house point page letter mother answer found study still learn should "
        "world model "
        "token user system assistant function value result error request response data text list string";
    for (const char *p = words; *p != '\0';) {
        size_t len = strcspn(p, " ");
        add_word(v, p, len);
        p += len;
        while (*p == ' ') p++;
    }
}

/* All pairs of letters, then all triples, each also at the beginning of a word; common ones first. */
static void add_groups(vocab *v, group *groups) {
    size_t n = 0;
    for (int a = 0; a < 26; a++)
        for (int b = 0; b < 26; b++)
            groups[n++] = (group){pair_weight(a, b), {letters[a].letter, letters[b].letter, '\0', '\0'}};
    for (int a = 0; a < 26; a++)
        for (int b = 0; b < 26; b++)
            for (int c = 0; c < 26; c++)
                groups[n++] = (group){pair_weight(a, b) * pair_weight(b, c) / letters[b].weight * 5e-5f,
                                      {letters[a].letter, letters[b].letter, letters[c].letter, '\0'}};
    qsort(groups, n, sizeof(*groups), heavier_first);
    for (int i = 0; i < 26; i++) {
        char text[4] = SPACE;
        text[3] = letters[i].letter;
        add(v, text, 4, TYPE_NORMAL);
        text[3] = (char)(letters[i].letter - 'a' + 'A');
        add(v, text, 4, TYPE_NORMAL);
    }
    for (size_t i = 0; i < n; i++) {
        char text[8] = SPACE;
        size_t len = strlen(groups[i].text);
        memcpy(text + 3, groups[i].text, len);
        add(v, groups[i].text, len, TYPE_NORMAL);
        add(v, text, len + 3, TYPE_NORMAL);
    }
}

/* Should letters not suffice, numbers fill the rest. */
static void add_numbers(vocab *v) {
    char text[16];
    for (unsigned i = 10; v->n < v->n_max && !v->out_of_memory && i < 10000000; i++) {
        int len = snprintf(text, sizeof(text), "%u", i);
        add(v, text, (size_t)len, TYPE_NORMAL);
    }
}

static void put(mr_gguf_writer *writer, const vocab *v) {
    mr_gguf_put_string(writer, "tokenizer.ggml.model", "llama");
    mr_gguf_put_string(writer, "tokenizer.ggml.pre", "default");
    mr_gguf_put_strings(writer, "tokenizer.ggml.tokens", v->tokens, v->n);
    mr_gguf_put_array(writer, "tokenizer.ggml.scores", MR_GGUF_FLOAT32, v->scores, v->n);
    mr_gguf_put_array(writer, "tokenizer.ggml.token_type", MR_GGUF_INT32, v->types, v->n);
    mr_gguf_put_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
    mr_gguf_put_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    mr_gguf_put_u32(writer, "tokenizer.ggml.eos_token_id", 2);
    mr_gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", true);
    mr_gguf_put_bool(writer, "tokenizer.ggml.add_eos_token", false);
    mr_gguf_put_bool(writer, "tokenizer.ggml.add_space_prefix", true);
    mr_gguf_put_string(
        writer, "tokenizer.chat_template",
        "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}");
}

mr_status mr_synth_vocab(mr_gguf_writer *writer, uint32_t n_vocab, mr_error *err) {
    if (n_vocab < 1024) return mr_fail(err, MR_ERR_INVALID, "a vocabulary needs at least 1024 tokens, not %u", n_vocab);
    vocab v = {.n_max = n_vocab};
    v.known = mr_strmap_new(n_vocab);
    v.tokens = calloc(n_vocab, sizeof(*v.tokens));
    v.scores = calloc(n_vocab, sizeof(*v.scores));
    v.types = calloc(n_vocab, sizeof(*v.types));
    group *groups = calloc(26 * 26 + 26 * 26 * 26, sizeof(*groups));
    v.out_of_memory = v.known == NULL || v.tokens == NULL || v.scores == NULL || v.types == NULL || groups == NULL;
    if (!v.out_of_memory) {
        add_special(&v);
        add_characters(&v);
        add_words(&v);
        add_groups(&v, groups);
        add_numbers(&v);
    }
    mr_status status = v.out_of_memory ? mr_fail_nomem(err, (size_t)n_vocab * 24, "a vocabulary") : MR_OK;
    if (status == MR_OK) put(writer, &v);
    free(groups);
    free(v.types);
    free(v.scores);
    free(v.tokens);
    mr_strmap_free(v.known);
    mr_arena_free(&v.arena);
    return status;
}
