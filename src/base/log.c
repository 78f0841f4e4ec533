#define _POSIX_C_SOURCE 200809L
#include "base/log.h"

#include "base/buf.h"
#include "base/utf8.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RULES = 32, MAX_TARGET = 64 };

typedef struct filter_rule {
    char target[MAX_TARGET]; /* "" matches every target */
    mr_log_level level;
} filter_rule;

static pthread_mutex_t filter_lock = PTHREAD_MUTEX_INITIALIZER;
static bool filter_ready;
static filter_rule rules[MAX_RULES];
static size_t n_rules;

static const char *const LEVEL_NAMES[] = {"off", "error", "warn", "info", "debug", "trace"};

static bool parse_level(const char *word, mr_log_level *level) {
    for (size_t i = 0; i < sizeof LEVEL_NAMES / sizeof LEVEL_NAMES[0]; i++) {
        if (strcasecmp(word, LEVEL_NAMES[i]) == 0) {
            *level = (mr_log_level)i;
            return true;
        }
    }
    return false;
}

/* `2026-01-31T12:00:00.123Z` */
static void put_time(mr_buf *line) {
    char stamp[32];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    mr_buf_printf(line, "%s.%03ldZ", stamp, now.tv_nsec / 1000000);
}

static void put_human(mr_buf *line, const char *level, const char *target, const char *text) {
    put_time(line);
    mr_buf_printf(line, " %-5s %s: ", level, target);
    for (const char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            mr_buf_printf(line, "\\x%02x", (unsigned char)*p);
        else
            mr_buf_putc(line, *p);
    }
}

/* Text as a JSON string (RFC 8259); broken UTF-8 becomes U+FFFD. */
static void put_json_string(mr_buf *line, const char *text) {
    mr_buf_putc(line, '"');
    for (size_t i = 0, len = strlen(text); i < len;) {
        uint32_t c;
        char utf8[4];
        i += mr_utf8_decode(text + i, len - i, &c);
        if (c == '"' || c == '\\')
            mr_buf_printf(line, "\\%c", (char)c);
        else if (c < 0x20 || c == 0x7F)
            mr_buf_printf(line, "\\u%04x", (unsigned)c);
        else
            mr_buf_append(line, utf8, mr_utf8_encode(c, utf8));
    }
    mr_buf_putc(line, '"');
}

static void put_json(mr_buf *line, const char *level, const char *target, const char *text) {
    mr_buf_puts(line, "{\"timestamp\":\"");
    put_time(line);
    mr_buf_printf(line, "\",\"level\":\"%s\",\"target\":", level);
    put_json_string(line, target);
    mr_buf_puts(line, ",\"message\":");
    put_json_string(line, text);
    mr_buf_putc(line, '}');
}

static void write_line(mr_log_level level, const char *target, const char *text) {
    const char *format = getenv("LOG_FORMAT");
    char word[8];
    size_t n = 0;
    for (const char *p = LEVEL_NAMES[level]; *p != '\0'; p++) word[n++] = (char)(*p - 'a' + 'A');
    word[n] = '\0';
    mr_buf line = {0};
    (format != NULL && strcasecmp(format, "json") == 0 ? put_json : put_human)(&line, word, target, text);
    mr_buf_putc(&line, '\n');
    for (size_t done = 0; !line.failed && done < line.len;) {
        ssize_t wrote = write(STDERR_FILENO, line.data + done, line.len - done);
        if (wrote <= 0) break;
        done += (size_t)wrote;
    }
    mr_buf_free(&line);
}

/* One part of the filter, `level` or `target` or `target=level`; false when it does not parse. */
static bool add_rule(const char *part, size_t len) {
    char text[MAX_TARGET + 16];
    if (len >= sizeof text || n_rules >= MAX_RULES) return false;
    memcpy(text, part, len);
    text[len] = '\0';
    filter_rule *rule = &rules[n_rules];
    char *equals = strchr(text, '=');
    if (equals == NULL) {
        rule->target[0] = '\0';
        if (!parse_level(text, &rule->level)) {
            rule->level = MR_LOG_TRACE;
            if (len >= MAX_TARGET) return false;
            memcpy(rule->target, text, len + 1);
        }
    } else {
        *equals = '\0';
        if (!parse_level(equals + 1, &rule->level) || strlen(text) >= MAX_TARGET) return false;
        memcpy(rule->target, text, strlen(text) + 1);
    }
    n_rules++;
    return true;
}

/* Fills the rules; the first part that does not parse is copied to bad. Called with filter_lock held. */
static void parse_filter(const char *filter, char *bad, size_t bad_size) {
    n_rules = 0;
    filter_ready = true;
    bad[0] = '\0';
    if (filter == NULL || filter[0] == '\0') filter = "info";
    for (const char *p = filter; *p != '\0';) {
        size_t len = strcspn(p, ",/");
        const char *end = p + len;
        while (len > 0 && *p == ' ') p++, len--;
        while (len > 0 && p[len - 1] == ' ') len--;
        if (len > 0 && !add_rule(p, len) && bad[0] == '\0') snprintf(bad, bad_size, "%.*s", (int)len, p);
        if (*end != ',') break;
        p = end + 1;
    }
}

void mr_log_set_filter(const char *filter) {
    char bad[64];
    pthread_mutex_lock(&filter_lock);
    parse_filter(filter != NULL ? filter : getenv("RUST_LOG"), bad, sizeof bad);
    pthread_mutex_unlock(&filter_lock);
    if (bad[0] != '\0') {
        mr_log(MR_LOG_WARN, MR_LOG_TARGET,
               "the part \"%s\" of the log filter is no level or target=level; it is ignored", bad);
    }
}

static bool target_matches(const char *rule, const char *target) {
    size_t n = strlen(rule);
    return strncmp(rule, target, n) == 0;
}

bool mr_log_enabled(mr_log_level level, const char *target) {
    pthread_mutex_lock(&filter_lock);
    char bad[64] = "";
    if (!filter_ready) parse_filter(getenv("RUST_LOG"), bad, sizeof bad);
    mr_log_level allowed = MR_LOG_OFF;
    size_t best = 0;
    for (size_t i = 0; i < n_rules; i++) {
        size_t specificity = strlen(rules[i].target) + 1;
        if (specificity >= best && target_matches(rules[i].target, target)) {
            best = specificity;
            allowed = rules[i].level;
        }
    }
    pthread_mutex_unlock(&filter_lock);
    if (bad[0] != '\0') mr_log_set_filter(NULL);
    return level != MR_LOG_OFF && level <= allowed;
}

void mr_log(mr_log_level level, const char *target, const char *format, ...) {
    mr_buf text = {0};
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && mr_buf_reserve(&text, (size_t)n)) vsnprintf(text.data, (size_t)n + 1, format, again);
    va_end(again);
    write_line(level, target, mr_buf_cstr(&text));
    mr_buf_free(&text);
}
