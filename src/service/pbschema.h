/* JSON Schemas (draft 2020-12) of protobuf messages, made from their descriptors and from the comments in their .proto
 * texts, so that there is one source for all three. */
#ifndef MR_SERVICE_PBSCHEMA_H
#define MR_SERVICE_PBSCHEMA_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/* The comments of a .proto text as a new JSON object: "Message.Inner.field" → text, without the package. Line comments
 * above a message, field, oneof or enum count; one declaration on a line. NULL when memory runs out. */
json_t *mr_proto_comments(const char *proto_text);

/* The schema of a message as a new JSON object: snake_case names, enums as their names, a oneof as "at most one of".
 * NULL when memory runs out. */
json_t *mr_pb_schema(const ProtobufCMessageDescriptor *type, const char *proto_text);

#endif
