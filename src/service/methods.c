#include "service/methods.h"

#include "base/buf.h"
#include "chat_args.pb-c.h"
#include "chat_result.pb-c.h"
#include "completion_args.pb-c.h"
#include "completion_result.pb-c.h"
#include "embedding_args.pb-c.h"
#include "embedding_result.pb-c.h"
#include "method_schema.pb-c.h"
#include "proto_texts.h"
#include "service/pb_wire.h"
#include "service/pbschema.h"
#include "settings.pb-c.h"

#include <pthread.h>
#include <string.h>

enum { CHAT, COMPLETION, EMBEDDING, N_METHODS };

/* The schemas' texts are made when they are first asked for; "" where memory ran out (the host then derives its own).
 */
static mr_service_method methods[N_METHODS] = {
    [CHAT] = {.name = "chat",
              .description =
                  "Answers a conversation with the assistant's next message, with tools where they are offered.",
              .args_proto = mr_proto_text_chat_args,
              .result_proto = mr_proto_text_chat_result},
    [COMPLETION] = {.name = "completion",
                    .description = "Continues a text exactly where it ends.",
                    .args_proto = mr_proto_text_completion_args,
                    .result_proto = mr_proto_text_completion_result},
    [EMBEDDING] = {.name = "embedding",
                   .description = "Turns texts into vectors whose closeness is that of the texts' meanings.",
                   .args_proto = mr_proto_text_embedding_args,
                   .result_proto = mr_proto_text_embedding_result},
};
static const mr_method_fn METHOD_CODE[N_METHODS] = {
    [CHAT] = mr_job_chat, [COMPLETION] = mr_job_completion, [EMBEDDING] = mr_job_embedding};

static pthread_once_t schemas_once = PTHREAD_ONCE_INIT;

/* The text lives as long as the process: the host keeps the library to its end. */
static const char *make_schema(const ProtobufCMessageDescriptor *type, const char *proto_text) {
    json_t *schema = mr_pb_schema(type, proto_text);
    const char *text = schema != NULL ? json_dumps(schema, JSON_COMPACT) : NULL;
    json_decref(schema);
    return text != NULL ? text : "";
}

static const char *settings_schema = "";

static void make_schemas(void) {
    settings_schema = make_schema(&jobworkerp__runner__llm__local_runner_settings__descriptor, mr_proto_text_settings);
    mr_service_method *chat = &methods[CHAT], *completion = &methods[COMPLETION], *embedding = &methods[EMBEDDING];
    chat->args_schema = make_schema(&jobworkerp__runner__llm__llmchat_args__descriptor, chat->args_proto);
    chat->result_schema = make_schema(&jobworkerp__runner__llm__llmchat_result__descriptor, chat->result_proto);
    completion->args_schema =
        make_schema(&jobworkerp__runner__llm__llmcompletion_args__descriptor, completion->args_proto);
    completion->result_schema =
        make_schema(&jobworkerp__runner__llm__llmcompletion_result__descriptor, completion->result_proto);
    embedding->args_schema =
        make_schema(&jobworkerp__runner__llm__llmembedding_args__descriptor, embedding->args_proto);
    embedding->result_schema =
        make_schema(&jobworkerp__runner__llm__llmembedding_result__descriptor, embedding->result_proto);
}

const char *mr_service_name(void) {
    return "MistralLocalLLM";
}

const char *mr_service_description(void) {
    return "Runs a large language model inside this process: chat with tool calling, text completion, and embeddings.";
}

const char *mr_service_settings_proto(void) {
    return mr_proto_text_settings;
}

const char *mr_service_settings_schema(void) {
    pthread_once(&schemas_once, make_schemas);
    return settings_schema;
}

const mr_service_method *mr_service_methods(size_t *n) {
    pthread_once(&schemas_once, make_schemas);
    *n = N_METHODS;
    return methods;
}

bool mr_service_encode_method_schema(const mr_service_method *method, mr_buf *bytes) {
    Jobworkerp__Data__MethodSchema pb = JOBWORKERP__DATA__METHOD_SCHEMA__INIT;
    pb.args_proto = (char *)method->args_proto;
    pb.result_proto = (char *)method->result_proto;
    pb.description = (char *)method->description;
    pb.has_output_type = 1;
    pb.output_type = JOBWORKERP__DATA__METHOD_SCHEMA__STREAMING_OUTPUT_TYPE__BOTH;
    return mr_pb_pack(&pb.base, bytes);
}

bool mr_service_encode_method_json_schema(const mr_service_method *method, mr_buf *bytes) {
    Jobworkerp__Data__MethodJsonSchema pb = JOBWORKERP__DATA__METHOD_JSON_SCHEMA__INIT;
    pb.args_schema = (char *)method->args_schema;
    pb.result_schema = (char *)method->result_schema;
    return mr_pb_pack(&pb.base, bytes);
}

mr_status mr_method_find(const char *name, mr_method_fn *run, mr_error *err) {
    if (name == NULL) name = methods[CHAT].name;
    mr_buf names = {0};
    for (size_t i = 0; i < N_METHODS; i++) {
        if (strcmp(name, methods[i].name) == 0) {
            *run = METHOD_CODE[i];
            mr_buf_free(&names);
            return MR_OK;
        }
        mr_buf_printf(&names, "%s%s", i > 0 ? ", " : "", methods[i].name);
    }
    mr_status status =
        mr_fail(err, MR_ERR_NOT_FOUND, "there is no method \"%.64s\"; the methods are: %s", name, mr_buf_cstr(&names));
    mr_buf_free(&names);
    return status;
}
