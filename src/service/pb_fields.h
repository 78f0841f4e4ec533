/* Fields by their names. Messages of the two methods have parts that are alike in all but their C types; what reads or
 * writes such a part does it through the descriptor, once for both. */
#ifndef MR_SERVICE_PB_FIELDS_H
#define MR_SERVICE_PB_FIELDS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

/* An optional field's value. False when the message is NULL, the field is not set, or there is none of this name and
 * type; *value is then unchanged. Texts are borrowed from the message. */
bool mr_pb_get_bool(const ProtobufCMessage *message, const char *name, bool *value);
bool mr_pb_get_int32(const ProtobufCMessage *message, const char *name, int32_t *value);
bool mr_pb_get_float(const ProtobufCMessage *message, const char *name, float *value);
bool mr_pb_get_string(const ProtobufCMessage *message, const char *name, const char **value);

/* Sets an optional field that exists. The text must outlive the message. */
void mr_pb_set_uint32(ProtobufCMessage *message, const char *name, uint32_t value);
void mr_pb_set_float(ProtobufCMessage *message, const char *name, float value);
void mr_pb_set_string(ProtobufCMessage *message, const char *name, const char *value);

#endif
