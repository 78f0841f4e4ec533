#include "service/trace_context.h"

#include <string.h>

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; /* upper case is not allowed */
}

/* Reads n bytes; false when there is another character or all are zero and that means "none". */
static bool read_hex(const char *text, uint8_t *bytes, size_t n, bool may_be_zero) {
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        bytes[i] = (uint8_t)(high << 4 | low);
        any |= bytes[i];
    }
    return may_be_zero || any != 0;
}

/* version "-" trace-id "-" parent-id "-" flags; later versions may add to it, version ff is forbidden. */
static bool read_parent(mr_trace_context *context, const char *text, size_t n) {
    uint8_t version, flags;
    if (text == NULL || n < MR_TRACEPARENT_LEN || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
    if (!read_hex(text, &version, 1, true) || version == 0xFF) return false;
    if (n > MR_TRACEPARENT_LEN && (version == 0 || text[MR_TRACEPARENT_LEN] != '-')) return false;
    if (!read_hex(text + 3, context->trace_id, 16, false) || !read_hex(text + 36, context->span_id, 8, false))
        return false;
    if (!read_hex(text + 53, &flags, 1, true)) return false;
    context->sampled = (flags & 1) != 0;
    return true;
}

static bool printable(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (text[i] < 0x20 || text[i] > 0x7E) return false;
    }
    return true;
}

void mr_trace_context_parse(mr_trace_context *context, const char *traceparent, size_t n_traceparent,
                            const char *tracestate, size_t n_tracestate) {
    context->valid = read_parent(context, traceparent, n_traceparent);
    context->state[0] = '\0';
    if (!context->valid || tracestate == NULL || n_tracestate > MR_TRACESTATE_MAX) return;
    if (!printable(tracestate, n_tracestate)) return;
    memcpy(context->state, tracestate, n_tracestate);
    context->state[n_tracestate] = '\0';
}

static char *write_hex(char *out, const uint8_t *bytes, size_t n) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    return out;
}

void mr_trace_context_format(const mr_trace_context *context, char traceparent[MR_TRACEPARENT_LEN + 1]) {
    char *p = traceparent;
    *p++ = '0';
    *p++ = '0';
    *p++ = '-';
    p = write_hex(p, context->trace_id, 16);
    *p++ = '-';
    p = write_hex(p, context->span_id, 8);
    *p++ = '-';
    *p++ = '0';
    *p++ = context->sampled ? '1' : '0';
    *p = '\0';
}
