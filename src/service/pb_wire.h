/* Decoding protobuf from outside: the bytes are checked against the message's descriptor first, so that an error can
 * say which field is wrong, and then unpacked into an arena with a bound on memory. */
#ifndef MR_SERVICE_PB_WIRE_H
#define MR_SERVICE_PB_WIRE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MR_PB_MAX_BYTES = 64 << 20,         /* longest encoded message that is read */
    MR_PB_MAX_DECODED_BYTES = 512 << 20 /* most memory that one decoded message may take */
};

/* Checks bytes[0..n): tags, wire types, lengths, nesting, and that every string is UTF-8 without NUL. Fields that the
 * descriptor does not know are skipped. MR_ERR_INVALID names the field, e.g. "messages[2].content.text"; MR_ERR_LIMIT
 * when n is over MR_PB_MAX_BYTES. */
mr_status mr_pb_check(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n, mr_error *err);

/* mr_pb_check, then unpacks into the arena (zero-initialised by the caller, who frees it; its bound is set here).
 * *message lives as long as the arena and must not be given to protobuf_c_message_free_unpacked. */
mr_status mr_pb_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n, mr_arena *arena,
                       ProtobufCMessage **message, mr_error *err);

/* Appends the encoded message. False when memory runs out. */
bool mr_pb_pack(const ProtobufCMessage *message, mr_buf *bytes);

#endif
