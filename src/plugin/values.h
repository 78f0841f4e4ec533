/* Making and dropping the owned values of the ABI. */
#ifndef MR_PLUGIN_VALUES_H
#define MR_PLUGIN_VALUES_H

#include "base/buf.h"
#include "base/error.h"
#include "plugin/abi.h"

/* No bytes; nothing to free. */
FfiBytes mr_bytes_empty(void);

/* A copy of n bytes. When memory runs out *ok (which may be NULL) becomes false and the bytes are empty. */
FfiBytes mr_bytes_copy(const void *bytes, size_t n, bool *ok);
FfiBytes mr_bytes_from_text(const char *text);

/* Moves the buffer's memory into the value; the buffer is empty afterwards. The buffer must not have failed. */
FfiBytes mr_bytes_from_buf(mr_buf *buf);

/* The text of an error; of `status` when it has none. Always a sentence, also when memory is out. */
FfiBytes mr_bytes_from_error(mr_status status, const mr_error *err);

/* Drops the value with its own drop_fn and leaves it empty, so that a second drop does nothing. */
void mr_bytes_drop(FfiBytes *bytes);
void mr_option_bytes_drop(FfiOptionBytes option);

FfiKvPairList mr_kv_list_empty(void);

/* Room for n pairs, none of them set (len 0). When memory runs out the list is empty and cap is 0. */
FfiKvPairList mr_kv_list_new(size_t n);
void mr_kv_list_drop(FfiKvPairList *list); /* with its elements; leaves it empty */

/* Moves the list out and leaves an empty one behind. A list with a NULL pointer comes out as a proper empty one. */
FfiKvPairList mr_kv_list_take(FfiKvPairList *list);

#endif
