/* What the values of `tokenizer.ggml.pre` mean: the patterns by which a text is cut, one after the other, each on the
 * pieces of the one before. The patterns are those of the models' own tokenizers. */
#include "text/pretokenizer.h"

#include "base/buf.h"

#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define ANY_START "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPERS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define ASCII_SYMBOLS "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define NO_HAN_UPPERS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define NO_HAN_LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}{1,3}|" SYMBOLS "|" SPACES
#define QWEN2 CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}|" SYMBOLS "|" SPACES
#define GPT4O(digits)                                                                                                  \
    ANY_START UPPERS "*" LOWERS "+" CONTRACTIONS "?|" ANY_START UPPERS "+" LOWERS "*" CONTRACTIONS "?|" digits         \
                     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define BLOOM " ?[^(\\s|[.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C])]+"
#define CJK_TO_KANA "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"
#define DEEPSEEK_CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"
#define DEEPSEEK3                                                                                                      \
    ASCII_SYMBOLS "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES

enum { MAX_PATTERNS = 6 };

typedef struct pre_entry {
    const char *names; /* separated by spaces */
    const char *patterns[MAX_PATTERNS];
    mr_ggml_pre traits;
} pre_entry;

/* Letters of the scripts that DeepSeek LLM splits as words: Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee, … */
#define DEEPSEEK_LETTERS                                                                                               \
    "[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}"  \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}"     \
    "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}"       \
    "\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{"    \
    "1D9A}"                                                                                                            \
    "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{"     \
    "1F5B}"                                                                                                            \
    "\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{"     \
    "1FCC}"                                                                                                            \
    "\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{"     \
    "2107}"                                                                                                            \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}" \
    "\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}" \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{"     \
    "A787}"                                                                                                            \
    "\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{"    \
    "FF5A}"                                                                                                            \
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"        \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+"

static const pre_entry entries[] = {
    {"llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     {LLAMA3},
     {.ignore_merges = true, .add_bos = true}},
    {"qwen2", {QWEN2}, {.nfc = true}},
    {"deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", {QWEN2}, {0}},
    {"qwen35",
     {CONTRACTIONS "|" ANY_START "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES},
     {.nfc = true}},
    {"gpt-2 gpt2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum jais exaone4 "
     "trillion "
     "granite-docling",
     {GPT2},
     {0}},
    {"modern-bert mpt olmo", {GPT2}, {.nfc = true}},
    {"jina-v1-en jina-v2-code roberta-bpe", {GPT2}, {.add_sep = true}},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, {0}},
    {"falcon", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}, {0}},
    {"command-r", {"\\p{N}", GPT2}, {.nfc = true}},
    {"starcoder refact smollm codeshell exaone minerva-7b mellum2", {"\\p{N}", GPT2}, {0}},
    {"granite", {"\\p{N}", GPT2}, {0}},
    {"dbrx smaug-bpe chatglm-bpe glm4", {LLAMA3}, {0}},
    {"gpt-4o llama4 kanana2 talkie minimax-m2", {GPT4O("\\p{N}{1,3}")}, {0}},
    {"granite-embed-multi-97m", {GPT4O("\\p{N}{1,3}")}, {.ignore_merges = true}},
    {"tekken mistral-nemo",
     {ANY_START UPPERS "*" LOWERS "+|" ANY_START UPPERS "+" LOWERS "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES},
     {.ignore_merges = true, .add_bos = true}},
    {"tiny_aya cohere2moe", {"\\d{1,3}(?=(?:\\d{3})*\\b)", GPT4O("\\p{N}{1,3}")}, {0}},
    {"kimi-k2",
     {"[\\p{Han}]+|" ANY_START NO_HAN_UPPERS "*" NO_HAN_LOWERS "+" CONTRACTIONS "?|" ANY_START NO_HAN_UPPERS
      "+" NO_HAN_LOWERS "*" CONTRACTIONS "?|\\p{N}{1,3}|" SYMBOLS "|" SPACES},
     {0}},
    {"deepseek-llm",
     {"[\\r\\n]", "\\s?" DEEPSEEK_LETTERS,
      "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", "\\s+$",
      DEEPSEEK_CJK, "\\p{N}+"},
     {0}},
    {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", DEEPSEEK_CJK, "\\p{N}"}, {0}},
    {"deepseek-v3 hunyuan-dense joyai-llm hy-v4", {"\\p{N}{1,3}", CJK_TO_KANA, DEEPSEEK3}, {0}},
    {"youtu",
     {"[\xEA\xB0\x80-\xED\x9E\xA3\xE3\x84\xB1-\xE3\x86\x8E]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}"
      "\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+"
      "|" CJK_TO_KANA,
      GPT4O("\\p{N}")},
     {.ignore_merges = true}},
    {"bloom gpt3-finnish poro-chat poro", {BLOOM}, {0}},
    {"viking", {BLOOM, "\\p{N}"}, {0}},
    {"chameleon",
     {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]", GPT2},
     {.add_bos = true}},
    {"jais-2",
     {CONTRACTIONS
      "|" ANY_START "\\p{L}+|\\p{N}{1,3}|" SYMBOLS
      "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|"
      "\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"},
     {0}},
    {"superbpe", {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}, {0}},
    {"bailingmoe bailingmoe2 llada-moe",
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|"
      "\\s+(?!\\S)|\\s+"},
     {0}},
    {"seed-coder", {CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES}, {0}},
    {"exaone-moe",
     {CONTRACTIONS
      "|" ANY_START
      "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     {0}},
    {"afmoe",
     {"(?<!\\p{N})(?:\\p{N}{1,2}(?=(?:\\p{N}{3})+(?!\\p{N})))|\\p{N}{1,3}",
      "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}\\x{FF65}-\\x{"
      "FF9F}"
      "\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}"
      "\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+",
      DEEPSEEK3},
     {0}},
    {"laguna", {"[^\\n]+|[\\n]+", QWEN2}, {0}},
    {"minicpm5",
     {"\\p{N}{1,3}", CONTRACTIONS "|" ANY_START "\\p{L}+|\\p{N}+|" SYMBOLS "|" SPACES},
     {.ignore_merges = true}},
    {"gemma4 granite-embed-multi-311m sarvam-moe", {"[^\\n]+|[\\n]+"}, {.raw_utf8 = true, .escape_spaces = true}},
    {"whitespace", {"\\S+"}, {.raw_utf8 = true}},
};

/* Whether one of the space-separated names is name[0..len). */
static bool has_name(const char *names, const char *name, size_t len) {
    while (*names != '\0') {
        size_t n = strcspn(names, " ");
        if (n == len && memcmp(names, name, len) == 0) return true;
        names += n + strspn(names + n, " ");
    }
    return false;
}

static mr_status unknown(const char *name, size_t len, mr_error *err) {
    mr_buf known = {0};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) mr_buf_printf(&known, " %s", entries[i].names);
    mr_status status =
        mr_fail(err, MR_ERR_UNSUPPORTED, "unknown pre-tokenizer tokenizer.ggml.pre = \"%.*s\"; known are:%s",
                (int)(len < 64 ? len : 64), name, mr_buf_cstr(&known));
    mr_buf_free(&known);
    return status;
}

mr_status mr_pretokenizer_from_ggml(mr_pretokenizer *p, const char *name, size_t len, mr_ggml_pre *traits,
                                    mr_error *err) {
    if (len == 0) name = "default", len = 7; /* files from before the key existed */
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (!has_name(entries[i].names, name, len)) continue;
        *traits = entries[i].traits;
        traits->no_bos = has_name("glm4 chatglm-bpe", name, len);
        /* Text between words is white space there, which the model never sees. */
        bool drop_gaps = has_name("whitespace", name, len);
        for (size_t k = 0; k < MAX_PATTERNS && entries[i].patterns[k] != NULL; k++) {
            const char *pattern = entries[i].patterns[k];
            mr_status status = mr_pretokenizer_add_pattern(
                p, pattern, strlen(pattern), drop_gaps ? MR_SPLIT_REMOVED : MR_SPLIT_ISOLATED, drop_gaps, err);
            if (status != MR_OK) return status;
        }
        return MR_OK;
    }
    return unknown(name, len, err);
}
