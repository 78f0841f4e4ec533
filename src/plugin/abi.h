/* The jobworkerp V2 plugin ABI, major 1, minor 1: plain C layouts that the host and the plugin share. All values are
 * passed and returned by value unless written as a pointer; pointers have 64 bits. The names are the interface's own.
 *
 * Futures have the layout of the Rust crate async-ffi 0.5.0 (its ABI version 2); an enum with a payload is laid out as
 * Rust's `repr(C, u8)`: the tag byte, padding to the payload's alignment, a union of the payloads. */
#ifndef MR_PLUGIN_ABI_H
#define MR_PLUGIN_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_ABI_VERSION ((uint32_t)((1u << 16) | 1u))

enum { FFI_SOME = 0, FFI_NONE = 1 };                       /* tags of FfiOption */
enum { FFI_OK = 0, FFI_ERR = 1 };                          /* tags of FfiResult */
enum { FFI_READY = 0, FFI_PENDING = 1, FFI_PANICKED = 2 }; /* tags of FfiPoll */

/* Owned bytes. The receiver calls drop_fn(ptr, len, cap) exactly once; cap == 0 means that nothing is freed. ptr is
 * never NULL, but it may dangle when len is 0. */
typedef struct FfiBytes {
    uint8_t *ptr;
    size_t len;
    size_t cap;
    void (*drop_fn)(uint8_t *ptr, size_t len, size_t cap);
} FfiBytes;

typedef struct FfiKvPair {
    FfiBytes key; /* UTF-8 */
    FfiBytes value;
} FfiKvPair;

/* An owned array. drop_fn(ptr, len, cap) drops the first len elements and frees the storage; a consumer that has moved
 * the elements out calls drop_fn(ptr, 0, cap). */
typedef struct FfiKvPairList {
    FfiKvPair *ptr;
    size_t len;
    size_t cap;
    void (*drop_fn)(uint8_t *ptr, size_t len, size_t cap);
} FfiKvPairList;

/* FfiOption<FfiBytes> */
typedef struct FfiOptionBytes {
    uint8_t tag;
    union {
        FfiBytes some;
    } u;
} FfiOptionBytes;

/* FfiResult<(), FfiBytes> */
typedef struct FfiResultUnit {
    uint8_t tag;
    union {
        FfiBytes err;
    } u;
} FfiResultUnit;

/* FfiResult<FfiBytes, FfiBytes> */
typedef struct FfiResultBytes {
    uint8_t tag;
    union {
        FfiBytes ok;
        FfiBytes err;
    } u;
} FfiResultBytes;

/* FfiResult<FfiKvPairList, FfiBytes> */
typedef struct FfiResultKvPairList {
    uint8_t tag;
    union {
        FfiKvPairList ok;
        FfiBytes err;
    } u;
} FfiResultKvPairList;

typedef struct V2RunOutcome {
    FfiResultBytes result;
    FfiKvPairList metadata;
} V2RunOutcome;

/* Wakers. The one of a context is borrowed: `clone` it to keep it past the poll. A clone is consumed by one `wake` or
 * one `drop`; those two are never called on the borrowed one. Each may be called in any thread. */
typedef struct FfiWakerBase FfiWakerBase;
typedef struct FfiWakerVTable {
    const FfiWakerBase *(*clone)(const FfiWakerBase *waker);
    void (*wake)(const FfiWakerBase *waker);
    void (*wake_by_ref)(const FfiWakerBase *waker);
    void (*drop)(const FfiWakerBase *waker);
} FfiWakerVTable;
struct FfiWakerBase {
    const FfiWakerVTable *vtable;
};
typedef struct FfiContext {
    const FfiWakerBase *waker;
} FfiContext;

/* FfiPoll<FfiResult<(), FfiBytes>> and its future */
typedef struct FfiPollUnit {
    uint8_t tag;
    union {
        FfiResultUnit ready;
    } u;
} FfiPollUnit;
typedef struct FfiFutureUnit {
    void *fut_ptr;
    FfiPollUnit (*poll_fn)(void *fut_ptr, FfiContext *cx);
    void (*drop_fn)(void *fut_ptr);
} FfiFutureUnit;

/* FfiPoll<V2RunOutcome> and its future */
typedef struct FfiPollRun {
    uint8_t tag;
    union {
        V2RunOutcome ready;
    } u;
} FfiPollRun;
typedef struct FfiFutureRun {
    void *fut_ptr;
    FfiPollRun (*poll_fn)(void *fut_ptr, FfiContext *cx);
    void (*drop_fn)(void *fut_ptr);
} FfiFutureRun;

/* FfiPoll<FfiResult<FfiKvPairList, FfiBytes>> and its future */
typedef struct FfiPollStream {
    uint8_t tag;
    union {
        FfiResultKvPairList ready;
    } u;
} FfiPollStream;
typedef struct FfiFutureStream {
    void *fut_ptr;
    FfiPollStream (*poll_fn)(void *fut_ptr, FfiContext *cx);
    void (*drop_fn)(void *fut_ptr);
} FfiFutureStream;

/* Where a stream's chunks go. One send is in flight at a time, and each send future is driven to completion or dropped
 * before drop_state. A send's Err means that the receiver is gone; its payload is the unsent bytes. */
typedef struct OutputSink {
    void *state;
    FfiFutureUnit (*send)(void *state, FfiBytes bytes);
    void (*drop_state)(void *state);
} OutputSink;
typedef struct OutputSinkWithFinal {
    void *state;
    FfiFutureUnit (*send_with_final)(void *state, FfiBytes bytes, bool is_final);
    void (*drop_state)(void *state);
} OutputSinkWithFinal;

typedef struct FfiOptionSink {
    uint8_t tag;
    union {
        OutputSink some;
    } u;
} FfiOptionSink;
typedef struct FfiOptionSinkWithFinal {
    uint8_t tag;
    union {
        OutputSinkWithFinal some;
    } u;
} FfiOptionSinkWithFinal;

/* The host's cancellation. register_waker takes ctx over and returns 0 when the token is cancelled already (ctx was
 * dropped by it then). wake does not free ctx; drop_ctx does, exactly once. */
typedef struct FfiCancellationToken FfiCancellationToken;
struct FfiCancellationToken {
    const void *state;
    bool (*is_cancelled)(const void *state);
    uint64_t (*register_waker)(const void *state, void *ctx, void (*wake)(void *ctx), void (*drop_ctx)(void *ctx));
    void (*unregister_waker)(const void *state, uint64_t id);
    FfiCancellationToken (*clone_token)(const void *state);
    void (*drop_token)(const void *state);
};

typedef struct PluginVtable {
    uint32_t abi_version; /* MR_ABI_VERSION */
    uint32_t vtable_size; /* sizeof(PluginVtable) */
    FfiBytes (*name)(void *state);
    FfiBytes (*description)(void *state);
    FfiBytes (*runner_settings_proto)(void *state);
    FfiBytes (*settings_schema)(void *state);
    FfiKvPairList (*method_proto_map)(void *state);       /* method name -> encoded MethodSchema */
    FfiKvPairList (*method_json_schema_map)(void *state); /* method name -> encoded MethodJsonSchema */
    bool (*supports_client_stream)(void *state, FfiOptionBytes using_);
    FfiBytes (*client_stream_data_proto)(void *state, FfiOptionBytes using_);
    FfiOptionSink (*setup_client_stream_channel)(void *state, FfiOptionBytes using_);
    void (*set_cancellation_token)(void *state, FfiCancellationToken token); /* before each run; owns the token */
    FfiFutureUnit (*load)(void *state, FfiBytes settings);
    FfiFutureRun (*run)(void *state, FfiBytes args, FfiKvPairList metadata, FfiOptionBytes using_);
    FfiFutureStream (*run_stream)(void *state, FfiBytes args, FfiKvPairList metadata, FfiOptionBytes using_,
                                  OutputSink sink);
    void (*drop_state)(void *state);
    FfiResultBytes (*reserved_method_0)(void *state);
    FfiOptionSinkWithFinal (*setup_client_stream_channel_v2)(void *state, FfiOptionBytes using_);
    FfiResultBytes (*reserved_method_1)(void *state);
} PluginVtable;

typedef struct PluginInstanceRaw {
    void *state; /* NULL: the construction failed */
    const PluginVtable *vtable;
} PluginInstanceRaw;

/* The symbol that the host looks up; called once for each instance that it wants. */
#define MR_ABI_ENTRY "load_multi_method_plugin_v2"
typedef PluginInstanceRaw (*mr_abi_entry)(void);

_Static_assert(sizeof(void *) == 8, "the ABI has 64-bit pointers");
_Static_assert(sizeof(FfiBytes) == 32 && sizeof(FfiKvPair) == 64 && sizeof(FfiKvPairList) == 32, "layout");
_Static_assert(sizeof(FfiOptionBytes) == 40 && offsetof(FfiOptionBytes, u) == 8, "layout");
_Static_assert(sizeof(FfiResultUnit) == 40 && sizeof(FfiResultBytes) == 40 && sizeof(FfiResultKvPairList) == 40,
               "layout");
_Static_assert(sizeof(V2RunOutcome) == 72 && sizeof(FfiPollRun) == 80 && sizeof(FfiPollUnit) == 48, "layout");
_Static_assert(sizeof(FfiFutureUnit) == 24 && sizeof(OutputSink) == 24 && sizeof(FfiCancellationToken) == 48, "layout");
_Static_assert(offsetof(PluginVtable, name) == 8 && offsetof(PluginVtable, setup_client_stream_channel_v2) == 128 &&
                   sizeof(PluginVtable) == 144,
               "layout");

#endif
