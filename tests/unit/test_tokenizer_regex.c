/* floors: text */
/* The pattern engine: its syntax on small cases, and the hand-written families against it and against PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/buf.h"
#include "base/utf8.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_regex.h"
#include "text/unicode.h"

#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* All matches of pattern in text, as "[a][b]"; "error" when it does not compile. */
static void matches(const char *pattern, const char *text, mr_buf *out) {
    mr_regex *regex;
    mr_error err = {0};
    mr_buf_clear(out);
    if (mr_regex_compile(&regex, pattern, strlen(pattern), &err) != MR_OK) {
        mr_buf_puts(out, "error");
        assert_true(err.text[0] != '\0');
        return;
    }
    mr_regex_scratch scratch = {0};
    mr_regex_iter iter = {0};
    size_t begin, end;
    while (mr_regex_next(regex, &scratch, text, strlen(text), &iter, &begin, &end) == MR_REGEX_FOUND) {
        mr_buf_printf(out, "[%.*s]", (int)(end - begin), text + begin);
    }
    mr_regex_scratch_free(&scratch);
    mr_regex_free(regex);
}

static void test_syntax(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text, *want;
    } cases[] = {
        {"a+", "caaat a", "[aaa][a]"},
        {"a*", "baac", "[][aa][]"},
        {"", "ab", "[][][]"},
        {"a|ab", "ab", "[a]"},
        {"(?:a|ab)(?:c|bcd)", "abcd", "[abcd]"},
        {"a{2}", "aaaaa", "[aa][aa]"},
        {"a{2,3}", "aaaaaa", "[aaa][aaa]"},
        {"a{,2}b", "aaab", "[aab]"},
        {"a{2,}?", "aaaa", "[aa][aa]"},
        {"a{x", "a{x", "[a{x]"},
        {"a{1,2}+b", "aaaab", "[aaaab]"}, /* a repeat of a repeat */
        {"a++a", "aaa", ""},
        {"(?>a|ab)c", "abc ac", "[ac]"},
        {"a+?b", "aaab", "[aaab]"},
        {"(a|b)*c", "ababc", "[ababc]"},
        {"(?:a?)*b", "aab", "[aab]"},
        {"(?:a|)*", "aab", "[aa][]"},
        {"^b|a$", "a\nb a", "[a][b][a]"},
        {"\\Ab|a\\z", "b a\na", "[b][a]"},
        {"\\bfoo\\b", "foo foot foo", "[foo][foo]"},
        {"a(?=b)", "ab ac", "[a]"},
        {"a(?!b)", "ab ac", "[a]"},
        {"(?<=a)b", "ab bb", "[b]"},
        {"(?<!a)b", "ab bb", "[b][b]"},
        {"(?<=a|bc)d", "ad bcd cd", "[d][d]"},
        {"\\s+(?!\\S)", "a   b ", "[  ][ ]"},
        {"[^\\s]", "a \xC3\xA9", "[a][\xC3\xA9]"},
        {"[a-c&&[^b]]+", "abc", "[a][c]"},
        {"[^(\\s|[.,])]+", "ab(c|d,e", "[ab][c][d][e]"},
        {"[[:alpha:]]+", "ab1\xC3\xA9", "[ab][\xC3\xA9]"},
        {"[]a]+", "a]b", "[a]]"},
        {"[a\\-z]+", "a-z", "[a-z]"},
        {"[\\p{Lu}&&[^A]]", "AB", "[B]"},
        {"\\p{Han}+", "a\xE6\x97\xA5\xE6\x9C\xAC", "[\xE6\x97\xA5\xE6\x9C\xAC]"},
        {"\\P{L}", "a1", "[1]"},
        {"\\p{^L}", "a1", "[1]"},
        {"\\x{65E5}|\\u672C|\\x41",
         "\xE6\x97\xA5\xE6\x9C\xAC"
         "A",
         "[\xE6\x97\xA5][\xE6\x9C\xAC][A]"},
        {"(?i:s)", "sS\xC5\xBF", "[s][S][\xC5\xBF]"},
        {"(?i)\xC3\xA9", "\xC3\x89", "[\xC3\x89]"},
        {"a(?i)b|c", "aB aC c", "[aB][aC]"},
        {"(?x) a b # ", "ab#", "[ab#]"},
        {".", "\n\xC3\xA9", "[\xC3\xA9]"},
        {"(?m:.)", "\n", "[\n]"},
        {"\\d{1,3}(?=(?:\\d{3})*\\b)", "1234567", "[1][234][567]"},
        {"(?=(\\d{3})+(?!\\d))", "1234567", "[][]"},
        {"(", "", "error"},
        {")", "", "error"},
        {"[a", "", "error"},
        {"a**", "aa", "[aa]"},
        {"*a", "", "error"},
        {"a{3,2}", "", "error"},
        {"\\p{Nonsense}", "", "error"},
        {"[z-a]", "", "error"},
        {"(a)\\1", "", "error"},
        {"(?<=a*)b", "", "error"},
        {"\\", "", "error"},
    };
    mr_buf got = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        matches(cases[i].pattern, cases[i].text, &got);
        if (strcmp(mr_buf_cstr(&got), cases[i].want) != 0) {
            fail_msg("%s on \"%s\": expected %s, got %s", cases[i].pattern, cases[i].text, cases[i].want,
                     mr_buf_cstr(&got));
        }
    }
    mr_buf_free(&got);
}

static void test_limits(void **state) {
    (void)state;
    mr_buf pattern = {0};
    mr_regex *regex;
    mr_error err = {0};
    for (int i = 0; i < 5000; i++) mr_buf_putc(&pattern, '(');
    assert_int_equal(mr_regex_compile(&regex, pattern.data, pattern.len, &err), MR_ERR_LIMIT);
    mr_buf_clear(&pattern);
    mr_buf_puts(&pattern, "(?:(?:(?:ab{1}){1000}){1000}){1000}");
    assert_int_equal(mr_regex_compile(&regex, pattern.data, pattern.len, &err), MR_ERR_LIMIT);
    static const char *const empty_repeats[] = {"(?:(?:(?:){9999}){9999}){9999}", "(?:(?:(?:a{0}){9999})*){9999}"};
    for (size_t i = 0; i < 2; i++) {
        mr_status status = mr_regex_compile(&regex, empty_repeats[i], strlen(empty_repeats[i]), &err);
        assert_int_equal(status, MR_ERR_LIMIT);
    }
    mr_buf_free(&pattern);

    char text[64];
    memset(text, 'a', sizeof text);
    mr_regex_scratch scratch = {0};
    size_t begin, end;
    assert_int_equal(mr_regex_compile(&regex, "(?:a|a)*b", 9, &err), MR_OK);
    assert_int_equal(mr_regex_find(regex, &scratch, text, sizeof text, 0, &begin, &end), MR_REGEX_LIMIT);
    mr_regex_scratch_free(&scratch);
    mr_regex_free(regex);

    /* Choices that stay open: the stack is bounded. */
    size_t n = 6 << 20;
    char *letters = malloc(n);
    memset(letters, 'a', n);
    mr_regex_scratch stack = {0};
    mr_regex_iter iter = {0};
    assert_int_equal(mr_regex_compile(&regex, "(?:a|b)*", 8, &err), MR_OK);
    assert_int_equal(mr_regex_next(regex, &stack, letters, n, &iter, &begin, &end), MR_REGEX_LIMIT);
    assert_true(stack.cap <= 8 << 20);
    mr_regex_scratch_free(&stack);

    /* Steps add up over the texts of one scratch. */
    mr_regex_result result = MR_REGEX_FOUND;
    mr_regex_free(regex);
    assert_int_equal(mr_regex_compile(&regex, "(?:a?){20}a{20}", 15, &err), MR_OK);
    int walks = 0;
    for (; walks < 100 && result != MR_REGEX_LIMIT; walks++) {
        mr_regex_iter walk = {0};
        while ((result = mr_regex_next(regex, &stack, letters, 20, &walk, &begin, &end)) == MR_REGEX_FOUND) {}
    }
    assert_in_range(walks, 2, 99);
    mr_regex_scratch_free(&stack);
    mr_regex_free(regex);
    free(letters);
}

/* ---- the families ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define ANY_START "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPERS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K(digits, contractions)                                                                                    \
    ANY_START UPPERS "*" LOWERS "+" contractions "|" ANY_START UPPERS "+" LOWERS "*" contractions "|" digits           \
                     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES

static const char *const families[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
    CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
    CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
    ANY_START "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES,
    CONTRACTIONS "|" ANY_START "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES,
    O200K("\\p{N}{1,3}", CONTRACTIONS "?"),
    O200K("\\p{N}", CONTRACTIONS "?"),
    O200K("\\p{N}", ""),
};

static uint64_t random_state = 42;

static uint32_t below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static void random_text(mr_buf *out) {
    static const char *const parts[] = {" ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "'",
                                        "'s",
                                        "'S",
                                        "'ll",
                                        "'Re",
                                        "'\xC5\xBF",
                                        "a",
                                        "B",
                                        "cd",
                                        "EF",
                                        "1",
                                        "22",
                                        "333",
                                        "4444",
                                        ".",
                                        "!?",
                                        "/",
                                        "//",
                                        "\xC3\xA9",
                                        "\xC3\x89",
                                        "\xE6\x97\xA5",
                                        "\xE6\x9C\xAC\xE8\xAA\x9E",
                                        "\xCC\x81",
                                        "\xF0\x9F\x98\x80",
                                        "\xC2\xA0",
                                        "\xE3\x80\x80",
                                        "\xC7\x85",
                                        "\xCA\xB0",
                                        "\xD9\xA1",
                                        "\xE2\x85\xA7",
                                        "\xE0\xA4\xBE",
                                        "_",
                                        "\xE2\x80\x99s"};
    mr_buf_clear(out);
    for (uint32_t n = below(14); n > 0; n--) {
        if (below(8) != 0) {
            mr_buf_puts(out, parts[below(sizeof parts / sizeof parts[0])]);
            continue;
        }
        uint32_t c = below(4) == 0 ? below(0x110000) : below(0x3100); /* characters that every library knows alike */
        if (c == 0 || (c >= 0xD800 && c <= 0xDFFF) || (mr_unicode_get(c)->flags & MR_UNICODE_KNOWN9) == 0) continue;
        if (c == 0x180E || (c >= 0x10D0 && c <= 0x10FF) || c == 0x166D || c == 0x1734 || c == 0x19DA)
            continue; /* not alike */
        char utf8[4];
        mr_buf_append(out, utf8, mr_utf8_encode(c, utf8));
    }
}

/* The end of the piece at `at` as PCRE2 finds it. */
static size_t pcre2_next(const pcre2_code *code, pcre2_match_data *data, const char *text, size_t len, size_t at) {
    int n = pcre2_match(code, (PCRE2_SPTR)text, len, at, PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, data, NULL);
    return n > 0 ? pcre2_get_ovector_pointer(data)[1] : SIZE_MAX;
}

static void test_families(void **state) {
    (void)state;
    mr_unicode_init();
    for (size_t k = 0; k < sizeof families / sizeof families[0]; k++) {
        const char *pattern = families[k];
        mr_family family;
        mr_regex *regex;
        mr_error err = {0};
        int code_error;
        size_t where;
        assert_true(mr_family_find(pattern, strlen(pattern), &family));
        assert_int_equal(mr_regex_compile(&regex, pattern, strlen(pattern), &err), MR_OK);
        pcre2_code *code =
            pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code_error, &where, NULL);
        assert_non_null(code);
        pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
        mr_regex_scratch scratch = {0};
        mr_buf text = {0};
        for (int run = 0; run < 20000; run++) {
            random_text(&text);
            const char *s = mr_buf_cstr(&text);
            for (size_t at = 0; at < text.len;) {
                size_t begin, end, ours = mr_family_next(&family, s, text.len, at);
                assert_int_equal(mr_regex_find(regex, &scratch, s, text.len, at, &begin, &end), MR_REGEX_FOUND);
                if (begin != at || end != ours)
                    fail_msg("family %zu on \"%s\" at %zu: %zu, pattern %zu", k, s, at, ours, end);
                size_t theirs = pcre2_next(code, data, s, text.len, at);
                if (theirs != ours) fail_msg("family %zu on \"%s\" at %zu: %zu, PCRE2 %zu", k, s, at, ours, theirs);
                at = ours;
            }
        }
        mr_buf_free(&text);
        mr_regex_scratch_free(&scratch);
        mr_regex_free(regex);
        pcre2_match_data_free(data);
        pcre2_code_free(code);
    }
}

/* Every pattern of the table compiles, and no name is known twice. */
static void test_ggml_names(void **state) {
    (void)state;
    static const char *const names[] = {
        "default",    "llama3",     "llama-bpe", "gpt-2",         "falcon",         "starcoder",   "refact",
        "command-r",  "qwen2",      "qwen35",    "deepseek-llm",  "deepseek-coder", "deepseek-v3", "mpt",
        "olmo",       "dbrx",       "smollm",    "tekken",        "chatglm-bpe",    "glm4",        "gpt-4o",
        "kimi-k2",    "minimax-m2", "hunyuan",   "hunyuan-dense", "seed-coder",     "exaone",      "exaone4",
        "exaone-moe", "viking",     "bloom",     "poro-chat",     "gemma4",         "afmoe",       "superbpe",
        "bailingmoe", "youtu",      "jais-2",    "llama4",        "chameleon",      "tiny_aya",    "",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        mr_pretokenizer p = {0};
        mr_ggml_pre traits;
        mr_error err = {0};
        mr_status status = mr_pretokenizer_from_ggml(&p, names[i], strlen(names[i]), &traits, &err);
        if (status != MR_OK) fail_msg("%s: %s", names[i], err.text);
        assert_true(p.n > 0);
        mr_pretokenizer_free(&p);
    }
    mr_pretokenizer p = {0};
    mr_ggml_pre traits;
    mr_error err = {0};
    assert_int_equal(mr_pretokenizer_from_ggml(&p, "nonsense", 8, &traits, &err), MR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "qwen2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_syntax), cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_families), cmocka_unit_test(test_ggml_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
