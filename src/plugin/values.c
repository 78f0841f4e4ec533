#include "plugin/values.h"

#include <stdlib.h>
#include <string.h>

static void free_bytes(uint8_t *ptr, size_t len, size_t cap) {
    (void)len;
    if (cap > 0) free(ptr);
}

static void free_kv_list(uint8_t *ptr, size_t len, size_t cap) {
    if (cap == 0) return;
    FfiKvPair *pairs = (FfiKvPair *)(void *)ptr;
    for (size_t i = 0; i < len; i++) {
        mr_bytes_drop(&pairs[i].key);
        mr_bytes_drop(&pairs[i].value);
    }
    free(ptr);
}

/* What an empty value points at: the ABI forbids NULL. Never written, aligned for every element. */
static max_align_t nothing;

FfiBytes mr_bytes_empty(void) {
    return (FfiBytes){.ptr = (uint8_t *)&nothing, .drop_fn = free_bytes};
}

FfiBytes mr_bytes_copy(const void *bytes, size_t n, bool *ok) {
    if (n == 0) return mr_bytes_empty();
    uint8_t *copy = malloc(n);
    if (copy == NULL) {
        if (ok != NULL) *ok = false;
        return mr_bytes_empty();
    }
    memcpy(copy, bytes, n);
    return (FfiBytes){.ptr = copy, .len = n, .cap = n, .drop_fn = free_bytes};
}

FfiBytes mr_bytes_from_text(const char *text) {
    return mr_bytes_copy(text, strlen(text), NULL);
}

FfiBytes mr_bytes_from_buf(mr_buf *buf) {
    if (buf->data == NULL) return mr_bytes_empty();
    FfiBytes bytes = {.ptr = (uint8_t *)buf->data, .len = buf->len, .cap = buf->cap, .drop_fn = free_bytes};
    *buf = (mr_buf){0};
    return bytes;
}

static const char *status_sentence(mr_status status) {
    switch (status) {
    case MR_ERR_CANCELLED:
        return "the job was cancelled";
    case MR_ERR_NOMEM:
        return "out of memory";
    case MR_ERR_INVALID:
        return "the request is malformed";
    case MR_ERR_UNSUPPORTED:
        return "the request asks for something that this runner does not support";
    case MR_ERR_NOT_FOUND:
        return "something that the request names was not found";
    case MR_ERR_LIMIT:
        return "a limit was reached";
    default:
        return "the runner failed without saying why";
    }
}

FfiBytes mr_bytes_from_error(mr_status status, const mr_error *err) {
    const char *text = err != NULL && err->text[0] != '\0' ? err->text : status_sentence(status);
    bool ok = true;
    FfiBytes bytes = mr_bytes_copy(text, strlen(text), &ok);
    if (ok) return bytes;
    static uint8_t out_of_memory[] = "out of memory";
    return (FfiBytes){.ptr = out_of_memory, .len = sizeof out_of_memory - 1, .drop_fn = free_bytes};
}

void mr_bytes_drop(FfiBytes *bytes) {
    FfiBytes old = *bytes;
    *bytes = mr_bytes_empty();
    if (old.drop_fn != NULL) old.drop_fn(old.ptr, old.len, old.cap);
}

void mr_option_bytes_drop(FfiOptionBytes option) {
    if (option.tag == FFI_SOME) mr_bytes_drop(&option.u.some);
}

FfiKvPairList mr_kv_list_empty(void) {
    return (FfiKvPairList){.ptr = (FfiKvPair *)&nothing, .drop_fn = free_kv_list};
}

FfiKvPairList mr_kv_list_new(size_t n) {
    FfiKvPair *pairs = n > 0 ? calloc(n, sizeof *pairs) : NULL;
    if (pairs == NULL) return mr_kv_list_empty();
    return (FfiKvPairList){.ptr = pairs, .cap = n, .drop_fn = free_kv_list};
}

void mr_kv_list_drop(FfiKvPairList *list) {
    FfiKvPairList old = *list;
    *list = mr_kv_list_empty();
    if (old.drop_fn != NULL) old.drop_fn((uint8_t *)old.ptr, old.len, old.cap);
}

FfiKvPairList mr_kv_list_take(FfiKvPairList *list) {
    FfiKvPairList taken = *list;
    *list = mr_kv_list_empty();
    if (taken.ptr == NULL || taken.drop_fn == NULL) return mr_kv_list_empty();
    return taken;
}
