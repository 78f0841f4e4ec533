/* JSON to protobuf messages and back, by the descriptors, in the standard JSON mapping
 * (https://protobuf.dev/programming-guides/json/): field names in snake_case or camelCase, enum values as names or
 * numbers, 64-bit integers as numbers or strings, bytes as base64. */
#ifndef MR_SERVICE_PBJSON_H
#define MR_SERVICE_PBJSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/* Builds the message that `json` (an object; borrowed) describes, in the arena. MR_ERR_INVALID names the field:
 * unknown, given twice, two of one oneof, a wrong type, a number out of range. JSON null leaves a field unset. */
mr_status mr_pb_from_json(const ProtobufCMessageDescriptor *type, json_t *json, mr_arena *arena,
                          ProtobufCMessage **message, mr_error *err);

/* The message as a new JSON object with snake_case names: the fields that are set, in the order of their numbers. Dump
 * it with JSON_REAL_PRECISION(9) to see floats in their shortest form. Errors: MR_ERR_NOMEM. */
mr_status mr_pb_to_json(const ProtobufCMessage *message, json_t **json, mr_error *err);

/* Decodes base64 text (RFC 4648, either alphabet, padding optional) and appends the bytes. False when it is malformed
 * or memory runs out. */
bool mr_base64_decode(const char *text, size_t len, mr_buf *bytes);
bool mr_base64_encode(const void *bytes, size_t n, mr_buf *text);

#endif
