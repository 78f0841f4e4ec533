#include "text/stop_strings.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STRINGS = 256, MAX_BYTES = 4096 };

mr_status mr_stop_strings_init(mr_stop_strings *stop, const char *const *strings, size_t n, mr_error *err) {
    *stop = (mr_stop_strings){0};
    if (n > MAX_STRINGS)
        return mr_fail(err, MR_ERR_LIMIT, "%zu stop strings are given; at most %d are possible", n, MAX_STRINGS);
    if (n == 0) return MR_OK;
    stop->strings = calloc(n, sizeof *stop->strings);
    stop->lens = calloc(n, sizeof *stop->lens);
    if (stop->strings == NULL || stop->lens == NULL) return mr_fail_nomem(err, n * sizeof(char *), "the stop strings");
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(strings[i]);
        if (len == 0) continue;
        if (len > MAX_BYTES) {
            return mr_fail(err, MR_ERR_LIMIT, "stop string %zu has %zu bytes; at most %d are possible", i + 1, len,
                           MAX_BYTES);
        }
        if (!mr_utf8_valid(strings[i], len))
            return mr_fail(err, MR_ERR_INVALID, "stop string %zu is not valid UTF-8", i + 1);
        char *copy = strdup(strings[i]);
        if (copy == NULL) return mr_fail_nomem(err, len + 1, "the stop strings");
        stop->lens[stop->n] = len;
        stop->strings[stop->n++] = copy;
    }
    return MR_OK;
}

void mr_stop_strings_free(mr_stop_strings *stop) {
    for (size_t i = 0; i < stop->n; i++) free(stop->strings[i]);
    free(stop->strings);
    free(stop->lens);
    mr_buf_free(&stop->held);
    *stop = (mr_stop_strings){0};
}

/* Length of the longest stop string that held[0..len) ends with; 0 when there is none. */
static size_t stop_at_end(const mr_stop_strings *stop, size_t len) {
    size_t longest = 0;
    for (size_t i = 0; i < stop->n; i++) {
        size_t n = stop->lens[i];
        if (n > longest && n <= len && memcmp(stop->held.data + len - n, stop->strings[i], n) == 0) longest = n;
    }
    return longest;
}

/* Whether a stop string begins with tail[0..len). */
static bool may_begin(const mr_stop_strings *stop, const char *tail, size_t len) {
    for (size_t i = 0; i < stop->n; i++) {
        if (stop->lens[i] > len && memcmp(tail, stop->strings[i], len) == 0) return true;
    }
    return false;
}

/* Byte by byte, so that the result does not depend on how the text was cut into pieces: the string that is complete
 * first counts, and of those complete at the same place the longest. */
bool mr_stop_strings_push(mr_stop_strings *stop, const char *text, size_t len, mr_buf *out) {
    if (stop->stopped || len == 0) return true;
    if (stop->n == 0) return mr_buf_append(out, text, len);
    size_t end = stop->held.len;
    if (!mr_buf_append(&stop->held, text, len)) return false;
    while (end < stop->held.len) {
        size_t n = stop_at_end(stop, ++end);
        if (n == 0) continue;
        stop->stopped = true;
        bool ok = mr_buf_append(out, stop->held.data, end - n);
        mr_buf_clear(&stop->held);
        return ok;
    }
    size_t keep = 0; /* what is before can't be part of a stop string */
    while (keep < end && !may_begin(stop, stop->held.data + keep, end - keep)) keep++;
    if (!mr_buf_append(out, stop->held.data, keep)) return false;
    memmove(stop->held.data, stop->held.data + keep, end - keep + 1);
    stop->held.len = end - keep;
    return true;
}

bool mr_stop_strings_finish(mr_stop_strings *stop, mr_buf *out) {
    if (stop->stopped || stop->held.len == 0) return true;
    bool ok = mr_buf_append(out, stop->held.data, stop->held.len);
    mr_buf_clear(&stop->held);
    return ok;
}
