#include "text/tokenizer_regex_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void mr_charset_free(mr_charset *set) {
    free(set->ranges);
    *set = (mr_charset){0};
}

void mr_charset_add(mr_charset *set, uint32_t first, uint32_t last) {
    if (set->failed || first > last) return;
    if (set->n == set->cap) {
        size_t cap = set->cap == 0 ? 16 : set->cap * 2;
        uint32_t *ranges = realloc(set->ranges, cap * 2 * sizeof *ranges);
        if (ranges == NULL) {
            set->failed = true;
            return;
        }
        set->ranges = ranges;
        set->cap = cap;
    }
    set->ranges[2 * set->n] = first;
    set->ranges[2 * set->n + 1] = last;
    set->n++;
}

static int by_first(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

void mr_charset_normalise(mr_charset *set) {
    if (set->n < 2) return;
    qsort(set->ranges, set->n, 2 * sizeof *set->ranges, by_first);
    size_t out = 0;
    for (size_t i = 1; i < set->n; i++) {
        uint32_t *last = &set->ranges[2 * out + 1];
        uint32_t a = set->ranges[2 * i], b = set->ranges[2 * i + 1];
        if (a <= *last || a == *last + 1) {
            if (b > *last) *last = b;
        } else {
            out++;
            set->ranges[2 * out] = a;
            set->ranges[2 * out + 1] = b;
        }
    }
    set->n = out + 1;
}

void mr_charset_union(mr_charset *set, const mr_charset *other) {
    for (size_t i = 0; i < other->n; i++) mr_charset_add(set, other->ranges[2 * i], other->ranges[2 * i + 1]);
    set->failed = set->failed || other->failed;
    mr_charset_normalise(set);
}

void mr_charset_negate(mr_charset *set) {
    mr_charset_normalise(set);
    mr_charset out = {.failed = set->failed};
    uint32_t next = 0;
    for (size_t i = 0; i < set->n; i++) {
        if (set->ranges[2 * i] > next) mr_charset_add(&out, next, set->ranges[2 * i] - 1);
        next = set->ranges[2 * i + 1] + 1;
    }
    if (next <= MR_UNICODE_MAX) mr_charset_add(&out, next, MR_UNICODE_MAX);
    mr_charset_free(set);
    *set = out;
}

void mr_charset_intersect(mr_charset *set, const mr_charset *other) {
    mr_charset_normalise(set);
    mr_charset out = {.failed = set->failed || other->failed};
    for (size_t i = 0, j = 0; i < set->n && j < other->n;) {
        uint32_t a = set->ranges[2 * i], b = set->ranges[2 * i + 1];
        uint32_t c = other->ranges[2 * j], d = other->ranges[2 * j + 1];
        mr_charset_add(&out, a > c ? a : c, b < d ? b : d);
        if (b < d) {
            i++;
        } else {
            j++;
        }
    }
    mr_charset_free(set);
    *set = out;
}

bool mr_charset_has(const mr_charset *set, uint32_t c) {
    for (size_t lo = 0, hi = set->n; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        if (c < set->ranges[2 * mid]) {
            hi = mid;
        } else if (c > set->ranges[2 * mid + 1]) {
            lo = mid + 1;
        } else {
            return true;
        }
    }
    return false;
}

void mr_charset_close_over_case(mr_charset *set) {
    /* Twice: first from sources to their fold, then from folds to all sources. */
    for (int pass = 0; pass < 2; pass++) {
        mr_charset_normalise(set);
        mr_charset more = {0};
        for (size_t r = 0; r < mr_unicode_fold_runs_n; r++) {
            const mr_unicode_case_run *run = &mr_unicode_fold_runs[r];
            for (uint32_t k = 0; k < run->count; k++) {
                uint32_t from = run->first + k * run->stride, to = (uint32_t)((int32_t)from + run->delta);
                if (pass == 0 && mr_charset_has(set, from)) mr_charset_add(&more, to, to);
                if (pass == 1 && mr_charset_has(set, to)) mr_charset_add(&more, from, from);
            }
        }
        mr_charset_union(set, &more);
        mr_charset_free(&more);
    }
}

/* Adds every run of characters whose record has one of the categories or flags, or the script. */
static void add_records(mr_charset *set, uint32_t categories, uint16_t flags, uint8_t script) {
    uint32_t first = 0;
    for (size_t i = 0; i < mr_unicode_runs_n; i++) {
        uint32_t len = mr_unicode_runs[i].len;
        const mr_unicode_record *r = &mr_unicode_records[mr_unicode_runs[i].record];
        bool in =
            (categories >> r->category & 1u) != 0 || (r->flags & flags) != 0 || (script != 0 && r->script == script);
        if (in) mr_charset_add(set, first, first + len - 1);
        first += len;
    }
    mr_charset_normalise(set);
}

void mr_charset_add_space(mr_charset *set) {
    static const uint32_t spaces[][2] = {{9, 13},          {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                         {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                         {0x205F, 0x205F}, {0x3000, 0x3000}};
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) mr_charset_add(set, spaces[i][0], spaces[i][1]);
    mr_charset_normalise(set);
}

void mr_charset_add_word(mr_charset *set) {
    add_records(set, MR_GC_MARK | MR_GC_BIT(MR_GC_ND) | MR_GC_BIT(MR_GC_PC), MR_UNICODE_ALPHABETIC, 0);
}

/* Whether name[0..len) equals word; case, spaces, '-' and '_' do not count. */
static bool same_name(const char *name, size_t len, const char *word) {
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '_' || name[i] == '-' || name[i] == ' ') continue;
        if (*word == '\0' || tolower((unsigned char)name[i]) != tolower((unsigned char)*word)) return false;
        word++;
    }
    return *word == '\0';
}

static const struct {
    const char *name;
    uint32_t categories;
} category_names[] = {
    {"L", MR_GC_LETTER},
    {"Letter", MR_GC_LETTER},
    {"M", MR_GC_MARK},
    {"Mark", MR_GC_MARK},
    {"CombiningMark", MR_GC_MARK},
    {"N", MR_GC_NUMBER},
    {"Number", MR_GC_NUMBER},
    {"P", MR_GC_PUNCTUATION},
    {"Punctuation", MR_GC_PUNCTUATION},
    {"S", MR_GC_SYMBOL},
    {"Symbol", MR_GC_SYMBOL},
    {"Z", MR_GC_BIT(MR_GC_ZL) | MR_GC_BIT(MR_GC_ZP) | MR_GC_BIT(MR_GC_ZS)},
    {"Separator", MR_GC_BIT(MR_GC_ZL) | MR_GC_BIT(MR_GC_ZP) | MR_GC_BIT(MR_GC_ZS)},
    {"C", 0x1F},
    {"Other", 0x1F},
    {"LC", MR_GC_BIT(MR_GC_LL) | MR_GC_BIT(MR_GC_LT) | MR_GC_BIT(MR_GC_LU)},
    {"Cn", MR_GC_BIT(MR_GC_CN)},
    {"Unassigned", MR_GC_BIT(MR_GC_CN)},
    {"Cc", MR_GC_BIT(MR_GC_CC)},
    {"Control", MR_GC_BIT(MR_GC_CC)},
    {"Cntrl", MR_GC_BIT(MR_GC_CC)},
    {"Cf", MR_GC_BIT(MR_GC_CF)},
    {"Format", MR_GC_BIT(MR_GC_CF)},
    {"Co", MR_GC_BIT(MR_GC_CO)},
    {"PrivateUse", MR_GC_BIT(MR_GC_CO)},
    {"Cs", MR_GC_BIT(MR_GC_CS)},
    {"Surrogate", MR_GC_BIT(MR_GC_CS)},
    {"Ll", MR_GC_BIT(MR_GC_LL)},
    {"LowercaseLetter", MR_GC_BIT(MR_GC_LL)},
    {"Lm", MR_GC_BIT(MR_GC_LM)},
    {"ModifierLetter", MR_GC_BIT(MR_GC_LM)},
    {"Lo", MR_GC_BIT(MR_GC_LO)},
    {"OtherLetter", MR_GC_BIT(MR_GC_LO)},
    {"Lt", MR_GC_BIT(MR_GC_LT)},
    {"TitlecaseLetter", MR_GC_BIT(MR_GC_LT)},
    {"Lu", MR_GC_BIT(MR_GC_LU)},
    {"UppercaseLetter", MR_GC_BIT(MR_GC_LU)},
    {"Mc", MR_GC_BIT(MR_GC_MC)},
    {"SpacingMark", MR_GC_BIT(MR_GC_MC)},
    {"Me", MR_GC_BIT(MR_GC_ME)},
    {"EnclosingMark", MR_GC_BIT(MR_GC_ME)},
    {"Mn", MR_GC_BIT(MR_GC_MN)},
    {"NonspacingMark", MR_GC_BIT(MR_GC_MN)},
    {"Nd", MR_GC_BIT(MR_GC_ND)},
    {"DecimalNumber", MR_GC_BIT(MR_GC_ND)},
    {"Digit", MR_GC_BIT(MR_GC_ND)},
    {"Nl", MR_GC_BIT(MR_GC_NL)},
    {"LetterNumber", MR_GC_BIT(MR_GC_NL)},
    {"No", MR_GC_BIT(MR_GC_NO)},
    {"OtherNumber", MR_GC_BIT(MR_GC_NO)},
    {"Pc", MR_GC_BIT(MR_GC_PC)},
    {"ConnectorPunctuation", MR_GC_BIT(MR_GC_PC)},
    {"Pd", MR_GC_BIT(MR_GC_PD)},
    {"DashPunctuation", MR_GC_BIT(MR_GC_PD)},
    {"Pe", MR_GC_BIT(MR_GC_PE)},
    {"ClosePunctuation", MR_GC_BIT(MR_GC_PE)},
    {"Pf", MR_GC_BIT(MR_GC_PF)},
    {"FinalPunctuation", MR_GC_BIT(MR_GC_PF)},
    {"Pi", MR_GC_BIT(MR_GC_PI)},
    {"InitialPunctuation", MR_GC_BIT(MR_GC_PI)},
    {"Po", MR_GC_BIT(MR_GC_PO)},
    {"OtherPunctuation", MR_GC_BIT(MR_GC_PO)},
    {"Ps", MR_GC_BIT(MR_GC_PS)},
    {"OpenPunctuation", MR_GC_BIT(MR_GC_PS)},
    {"Sc", MR_GC_BIT(MR_GC_SC)},
    {"CurrencySymbol", MR_GC_BIT(MR_GC_SC)},
    {"Sk", MR_GC_BIT(MR_GC_SK)},
    {"ModifierSymbol", MR_GC_BIT(MR_GC_SK)},
    {"Sm", MR_GC_BIT(MR_GC_SM)},
    {"MathSymbol", MR_GC_BIT(MR_GC_SM)},
    {"So", MR_GC_BIT(MR_GC_SO)},
    {"OtherSymbol", MR_GC_BIT(MR_GC_SO)},
    {"Zl", MR_GC_BIT(MR_GC_ZL)},
    {"LineSeparator", MR_GC_BIT(MR_GC_ZL)},
    {"Zp", MR_GC_BIT(MR_GC_ZP)},
    {"ParagraphSeparator", MR_GC_BIT(MR_GC_ZP)},
    {"Zs", MR_GC_BIT(MR_GC_ZS)},
    {"SpaceSeparator", MR_GC_BIT(MR_GC_ZS)},
};

bool mr_charset_add_property(mr_charset *set, const char *name, size_t len) {
    for (size_t i = 0; i < sizeof category_names / sizeof category_names[0]; i++) {
        if (!same_name(name, len, category_names[i].name)) continue;
        add_records(set, category_names[i].categories, 0, 0);
        return true;
    }
    if (same_name(name, len, "Any")) {
        mr_charset_add(set, 0, MR_UNICODE_MAX);
    } else if (same_name(name, len, "Assigned")) {
        add_records(set, ~MR_GC_BIT(MR_GC_CN), 0, 0);
    } else if (same_name(name, len, "Alphabetic") || same_name(name, len, "Alpha")) {
        add_records(set, 0, MR_UNICODE_ALPHABETIC, 0);
    } else if (same_name(name, len, "Alnum")) {
        add_records(set, MR_GC_BIT(MR_GC_ND), MR_UNICODE_ALPHABETIC, 0);
    } else if (same_name(name, len, "Extended_Pictographic")) {
        add_records(set, 0, MR_UNICODE_PICTOGRAPH, 0);
    } else if (same_name(name, len, "Word")) {
        mr_charset_add_word(set);
    } else if (same_name(name, len, "Space") || same_name(name, len, "White_Space")) {
        mr_charset_add_space(set);
    } else if (same_name(name, len, "Blank")) {
        add_records(set, MR_GC_BIT(MR_GC_ZS), 0, 0);
        mr_charset_add(set, '\t', '\t');
    } else if (same_name(name, len, "Punct")) { /* Oniguruma adds the ASCII symbols */
        add_records(set, MR_GC_PUNCTUATION | MR_GC_SYMBOL, 0, 0);
    } else if (same_name(name, len, "XDigit")) {
        mr_charset_add(set, '0', '9');
        mr_charset_add(set, 'A', 'F');
        mr_charset_add(set, 'a', 'f');
    } else if (same_name(name, len, "ASCII")) {
        mr_charset_add(set, 0, 0x7F);
    } else if (mr_unicode_find_script(name, len) != 0) {
        add_records(set, 0, 0, mr_unicode_find_script(name, len));
    } else if (same_name(name, len, "Lower")) {
        add_records(set, MR_GC_BIT(MR_GC_LL), 0, 0);
    } else if (same_name(name, len, "Upper")) {
        add_records(set, MR_GC_BIT(MR_GC_LU), 0, 0);
    } else {
        return false;
    }
    mr_charset_normalise(set);
    return true;
}
