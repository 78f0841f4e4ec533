/* Templates: the input is a template; it is parsed and rendered with a conversation and tools. Bounds are small, so
 * that a hostile template ends quickly; whatever it does, the result is a text or an error with a sentence. */
#include "text/jinja.h"

#include "base/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char VARS[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"h\\u00e9 "
    "<b>\\n\"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"1\", \"type\": \"function\", "
    "\"function\":"
    "{\"name\": \"f\", \"arguments\": {\"x\": [1, 2.5, true, null]}}}]}, {\"role\": \"tool\", \"content\": \"42\"}],"
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}],"
    "\"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"n\": 3, \"s\": \"Stra\\u00dfe \\ud83e\\udd8a x\","
    "\"l\": [3, 1, 2], \"d\": {\"b\": 1, \"a\": 2}, \"f\": -1.5e-7}";

static json_t *vars(void) {
    static json_t *json;
    if (json == NULL) json = json_loads(VARS, 0, NULL);
    if (json == NULL) abort();
    return json;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const mr_jinja_limits limits = {
        .max_steps = 20000, .max_output = 1 << 16, .max_memory = 4 << 20, .max_depth = 30, .now_unix = 1720096496};
    mr_jinja *jinja;
    mr_error err = {0};
    if (size > 4096) return 0;
    mr_status status = mr_jinja_parse(&jinja, (const char *)data, size, &err);
    if (status != MR_OK) {
        if (jinja != NULL || err.text[0] == '\0') abort();
        return 0;
    }
    mr_buf out = {0};
    mr_buf_puts(&out, "kept");
    status = mr_jinja_render(jinja, vars(), &limits, &out, &err);
    if (status != MR_OK && (err.text[0] == '\0' || out.len != 4)) abort();
    if (out.len < 4 || out.len > 4 + limits.max_output || !mr_utf8_valid(out.data, out.len)) abort();
    mr_buf_free(&out);
    mr_jinja_free(jinja);
    return 0;
}
