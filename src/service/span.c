#define _DEFAULT_SOURCE
#include "service/span.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "otlp.pb-c.h"
#include "service/pb_wire.h"
#include "service/telemetry.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

typedef MistralRunner__Otlp__KeyValue pb_key_value;
typedef MistralRunner__Otlp__AnyValue pb_any_value;

enum { MAX_ATTRIBUTES = 64, MAX_SPAN_BYTES = 4 << 20 };

struct mr_span {
    mr_arena arena; /* owns every text */
    MistralRunner__Otlp__Span pb;
    MistralRunner__Otlp__Status status;
    pb_key_value attributes[MAX_ATTRIBUTES];
    pb_any_value values[MAX_ATTRIBUTES];
    pb_key_value *list[MAX_ATTRIBUTES];
    mr_trace_context context;
    uint8_t parent_id[8];
    size_t max_text;
};

static uint64_t unix_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool random_id(uint8_t *id, size_t n) {
    if (getrandom(id, n, 0) != (ssize_t)n) return false;
    id[0] |= 1; /* not all zero */
    return true;
}

static size_t text_limit(void) {
    const char *text = getenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT");
    char *end;
    unsigned long long limit = text != NULL ? strtoull(text, &end, 10) : 0;
    return text != NULL && *text != '\0' && *end == '\0' && limit <= 1 << 20 ? (size_t)limit : MR_SPAN_MAX_TEXT;
}

/* The text in the arena, cut where it is too long, broken UTF-8 replaced (protobuf wants it whole). */
static char *keep(mr_span *span, const char *text, size_t len) {
    static const char mark[] = "…";
    bool cut = len > span->max_text;
    if (cut) {
        len = span->max_text;
        len -= mr_utf8_incomplete_tail(text, len);
    }
    mr_buf clean = {0};
    for (size_t i = 0; i < len;) {
        uint32_t c;
        char utf8[4];
        i += mr_utf8_decode(text + i, len - i, &c);
        mr_buf_append(&clean, utf8, mr_utf8_encode(c == 0 ? MR_UTF8_REPLACEMENT : c, utf8));
    }
    if (cut) mr_buf_puts(&clean, mark);
    char *kept = clean.failed ? NULL : mr_arena_alloc(&span->arena, clean.len + 1);
    if (kept != NULL) memcpy(kept, mr_buf_cstr(&clean), clean.len + 1);
    mr_buf_free(&clean);
    return kept;
}

mr_span *mr_span_start(const char *name, const mr_trace_context *parent) {
    bool child = parent != NULL && parent->valid;
    if (!mr_telemetry_traces() || (child && !parent->sampled)) return NULL;
    mr_span *span = calloc(1, sizeof *span);
    if (span == NULL) return NULL;
    span->arena.max_bytes = MAX_SPAN_BYTES;
    span->max_text = text_limit();
    mistral_runner__otlp__span__init(&span->pb);
    mistral_runner__otlp__status__init(&span->status);
    bool ok = random_id(span->context.span_id, 8);
    if (child) {
        memcpy(span->context.trace_id, parent->trace_id, 16);
        memcpy(span->parent_id, parent->span_id, 8);
        memcpy(span->context.state, parent->state, sizeof span->context.state);
        span->pb.has_parent_span_id = 1;
        span->pb.parent_span_id = (ProtobufCBinaryData){8, span->parent_id};
    } else {
        ok = ok && random_id(span->context.trace_id, 16);
    }
    span->context.valid = span->context.sampled = true;
    span->pb.name = keep(span, name, strlen(name));
    if (!ok || span->pb.name == NULL) {
        mr_arena_free(&span->arena);
        free(span);
        return NULL;
    }
    span->pb.has_trace_id = span->pb.has_span_id = span->pb.has_kind = span->pb.has_flags = 1;
    span->pb.trace_id = (ProtobufCBinaryData){16, span->context.trace_id};
    span->pb.span_id = (ProtobufCBinaryData){8, span->context.span_id};
    if (span->context.state[0] != '\0') span->pb.trace_state = span->context.state;
    span->pb.kind = 1;
    span->pb.flags = 1;
    span->pb.has_start_time_unix_nano = 1;
    span->pb.start_time_unix_nano = unix_ns();
    span->pb.attributes = span->list;
    return span;
}

/* Room for one more attribute; NULL when there is none. */
static pb_any_value *add(mr_span *span, const char *key) {
    if (span->pb.n_attributes == MAX_ATTRIBUTES) {
        span->pb.has_dropped_attributes_count = 1;
        span->pb.dropped_attributes_count++;
        return NULL;
    }
    size_t i = span->pb.n_attributes++;
    mistral_runner__otlp__key_value__init(&span->attributes[i]);
    mistral_runner__otlp__any_value__init(&span->values[i]);
    span->attributes[i].key = (char *)key;
    span->attributes[i].value = &span->values[i];
    span->list[i] = &span->attributes[i];
    return &span->values[i];
}

void mr_span_text(mr_span *span, const char *key, const char *text, size_t len) {
    if (span == NULL) return;
    char *kept = keep(span, text, len);
    pb_any_value *value = kept != NULL ? add(span, key) : NULL;
    if (value == NULL) return;
    value->value_case = MISTRAL_RUNNER__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
    value->string_value = kept;
}

void mr_span_string(mr_span *span, const char *key, const char *text) {
    if (text != NULL) mr_span_text(span, key, text, strlen(text));
}

void mr_span_json(mr_span *span, const char *key, const json_t *json) {
    if (span == NULL || json == NULL) return;
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    mr_span_string(span, key, text);
    free(text);
}

void mr_span_int(mr_span *span, const char *key, int64_t number) {
    pb_any_value *value = span != NULL ? add(span, key) : NULL;
    if (value == NULL) return;
    value->value_case = MISTRAL_RUNNER__OTLP__ANY_VALUE__VALUE_INT_VALUE;
    value->int_value = number;
}

void mr_span_double(mr_span *span, const char *key, double number) {
    pb_any_value *value = span != NULL ? add(span, key) : NULL;
    if (value == NULL) return;
    value->value_case = MISTRAL_RUNNER__OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE;
    value->double_value = number;
}

void mr_span_fail(mr_span *span, const char *message) {
    if (span == NULL) return;
    span->status.has_code = 1;
    span->status.code = 2;
    span->status.message = keep(span, message, strlen(message));
    span->pb.status = &span->status;
}

mr_trace_context mr_span_context(const mr_span *span, const mr_trace_context *otherwise) {
    if (span != NULL) return span->context;
    return otherwise != NULL ? *otherwise : (mr_trace_context){0};
}

void mr_span_end(mr_span *span) {
    if (span == NULL) return;
    span->pb.has_end_time_unix_nano = 1;
    span->pb.end_time_unix_nano = unix_ns();
    mr_buf bytes = {0};
    if (mr_pb_pack(&span->pb.base, &bytes)) mr_telemetry_span(&bytes);
    mr_buf_free(&bytes);
    mr_arena_free(&span->arena);
    free(span);
}
