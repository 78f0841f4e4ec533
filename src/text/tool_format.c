/* The families, and how a template tells its own. */
#include "text/tool_format.h"

#include <string.h>

/* DeepSeek's marks hold U+FF5C and U+2581. */
#define DS(name) "<｜" name "｜>"
#define DS_CALLS DS("tool▁calls▁begin")
#define DS_CALLS_END DS("tool▁calls▁end")
#define DS_CALL DS("tool▁call▁begin")
#define DS_CALL_END DS("tool▁call▁end")
#define DS_SEP DS("tool▁sep")

#define NO_SECTION .section_open = "", .section_close = ""
#define NO_ID .before_last_id = "", .after_id = ""
#define NO_PARAMS .param_open = "", .after_key = "", .param_close = "", .param_separator = ""

static const mr_tool_format FORMATS[] = {
    {
        .name = "generic",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = true,
        NO_SECTION,
        .call_open = "<tool_call>\n{\"name\": \"",
        .after_name = "\", \"arguments\": ",
        .call_close = "}\n</tool_call>",
        .separator = "\n",
        NO_ID,
        NO_PARAMS,
        .open = {"<tool_call>"},
        .close = {"</tool_call>"},
        .bare_json = true,
    },
    {
        .name = "hermes",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = true,
        NO_SECTION,
        .call_open = "<tool_call>\n{\"name\": \"",
        .after_name = "\", \"arguments\": ",
        .call_close = "}\n</tool_call>",
        .separator = "\n",
        NO_ID,
        NO_PARAMS,
        .open = {"<tool_call>"},
        .close = {"</tool_call>"},
    },
    {
        .name = "llama 3",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = false,
        NO_SECTION,
        .call_open = "{\"name\": \"",
        .after_name = "\", \"parameters\": ",
        .call_close = "}",
        .separator = "; ",
        NO_ID,
        NO_PARAMS,
        .open = {"<|python_tag|>"},
        .close = {"<|eom_id|>"},
        .bare_json = true,
        .stop = {"<|eom_id|>", "<|eot_id|>"},
    },
    {
        .name = "mistral",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = true,
        .section_open = "[TOOL_CALLS][",
        .call_open = "{\"name\": \"",
        .after_name = "\", \"arguments\": ",
        .call_close = "}",
        .separator = ", ",
        .section_close = "]",
        .id_place = MR_TOOL_ID_LAST,
        .id_kind = MR_TOOL_ID_ALNUM9,
        .before_last_id = ", \"id\": \"",
        .after_id = "\"",
        NO_PARAMS,
        .open = {"[TOOL_CALLS]"},
        .after_name_too = {"[ARGS]"},
    },
    {
        .name = "mistral args",
        .style = MR_TOOL_STYLE_NAMED,
        .parallel = true,
        NO_SECTION,
        .call_open = "[TOOL_CALLS]",
        .after_name = "[ARGS]",
        .call_close = "",
        .separator = "",
        .id_kind = MR_TOOL_ID_ALNUM9,
        NO_ID,
        NO_PARAMS,
        .open = {"[TOOL_CALLS]"},
    },
    {
        .name = "mistral call id",
        .style = MR_TOOL_STYLE_NAMED,
        .parallel = true,
        NO_SECTION,
        .call_open = "[TOOL_CALLS]",
        .after_name = "[CALL_ID]",
        .call_close = "",
        .separator = "",
        .id_place = MR_TOOL_ID_BETWEEN,
        .id_kind = MR_TOOL_ID_ALNUM9,
        .before_last_id = "",
        .after_id = "[ARGS]",
        NO_PARAMS,
        .open = {"[TOOL_CALLS]"},
        .after_name_too = {"[ARGS]"},
    },
    {
        .name = "deepseek r1",
        .style = MR_TOOL_STYLE_NAMED,
        .parallel = true,
        .section_open = DS_CALLS,
        .call_open = DS_CALL "function" DS_SEP,
        .after_name = "\n```json\n",
        .call_close = "\n```" DS_CALL_END,
        .separator = "\n",
        .section_close = DS_CALLS_END,
        NO_ID,
        NO_PARAMS,
        .open = {DS_CALLS, DS_CALL, DS("tool_calls_begin"), DS("tool▁calls")},
        .between = {DS_CALL, "function" DS_SEP, DS("tool_call_begin"), "function" DS("tool_sep")},
        .close = {"```", DS_CALL_END, DS_CALLS_END, DS("tool_call_end"), DS("tool_calls_end")},
        .after_name_too = {DS_SEP, "\n"},
    },
    {
        .name = "deepseek v3.1",
        .style = MR_TOOL_STYLE_NAMED,
        .parallel = true,
        .section_open = DS_CALLS,
        .call_open = DS_CALL,
        .after_name = DS_SEP,
        .call_close = DS_CALL_END,
        .separator = "",
        .section_close = DS_CALLS_END,
        NO_ID,
        NO_PARAMS,
        .open = {DS_CALLS, DS_CALL},
        .between = {DS_CALL, "function" DS_SEP},
        .close = {"```", DS_CALL_END, DS_CALLS_END},
        .after_name_too = {"\n```json\n"},
    },
    {
        .name = "command r7b",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = true,
        .section_open = "<|START_ACTION|>[\n    ",
        .call_open = "{\"tool_call_id\": \"",
        .after_name = "\", \"parameters\": ",
        .call_close = "}",
        .separator = ",\n    ",
        .section_close = "\n]<|END_ACTION|>",
        .id_place = MR_TOOL_ID_FIRST,
        .id_kind = MR_TOOL_ID_NUMBER,
        .before_last_id = "",
        .after_id = "\", \"tool_name\": \"",
        NO_PARAMS,
        .open = {"<|START_ACTION|>"},
        .close = {"<|END_ACTION|>"},
    },
    {
        .name = "command r",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = true,
        .section_open = "Action: ```json\n[\n    ",
        .call_open = "{\n        \"tool_name\": \"",
        .after_name = "\",\n        \"parameters\": ",
        .call_close = "\n    }",
        .separator = ",\n    ",
        .section_close = "\n]```",
        NO_ID,
        NO_PARAMS,
        .open = {"Action: ```json", "Action:```json"},
        .close = {"```"},
    },
    {
        .name = "granite",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = true,
        .section_open = "<|tool_call|>[",
        .call_open = "{\"name\": \"",
        .after_name = "\", \"arguments\": ",
        .call_close = "}",
        .separator = ", ",
        .section_close = "]",
        NO_ID,
        NO_PARAMS,
        .open = {"<|tool_call|>", "<tool_call>"},
        .close = {"</tool_call>"},
    },
    {
        .name = "gpt-oss",
        .style = MR_TOOL_STYLE_HARMONY,
        .parallel = false,
        .section_open = "<|channel|>commentary",
        .call_open = " to=functions.",
        .after_name = " <|constrain|>json<|message|>",
        .call_close = "<|call|>",
        .separator = "<|start|>assistant<|channel|>commentary",
        .section_close = "",
        NO_ID,
        NO_PARAMS,
        .open = {"<|channel|>", "<|start|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"},
        .stop = {"<|call|>", "<|return|>"},
    },
    {
        .name = "qwen3 coder",
        .style = MR_TOOL_STYLE_PARAMS,
        .parallel = true,
        NO_SECTION,
        .call_open = "<tool_call>\n<function=",
        .after_name = ">\n",
        .call_close = "</function>\n</tool_call>",
        .separator = "\n",
        NO_ID,
        .param_open = "<parameter=",
        .after_key = ">\n",
        .param_close = "\n</parameter>\n",
        .param_separator = "",
        .open = {"<tool_call>", "<function="},
        .between = {"<function="},
        .close = {"</function>", "</tool_call>"},
    },
    {
        .name = "glm 4",
        .style = MR_TOOL_STYLE_PARAMS,
        .parallel = true,
        NO_SECTION,
        .call_open = "<tool_call>",
        .after_name = "\n",
        .call_close = "</tool_call>",
        .separator = "\n",
        NO_ID,
        .param_open = "<arg_key>",
        .after_key = "</arg_key>\n<arg_value>",
        .param_close = "</arg_value>\n",
        .param_separator = "",
        .open = {"<tool_call>"},
        .close = {"</tool_call>"},
        .stop = {"<|observation|>", "<|user|>"},
    },
    {
        .name = "minimax m2",
        .style = MR_TOOL_STYLE_PARAMS,
        .parallel = true,
        .section_open = "<minimax:tool_call>\n",
        .call_open = "<invoke name=\"",
        .after_name = "\">\n",
        .call_close = "</invoke>\n",
        .separator = "",
        .section_close = "</minimax:tool_call>",
        NO_ID,
        .param_open = "<parameter name=\"",
        .after_key = "\">",
        .param_close = "</parameter>\n",
        .param_separator = "",
        .open = {"<minimax:tool_call>"},
        .between = {"<invoke name=\""},
        .close = {"</invoke>", "</minimax:tool_call>"},
    },
    {
        .name = "kimi k2",
        .style = MR_TOOL_STYLE_NAMED,
        .parallel = true,
        .section_open = "<|tool_calls_section_begin|>",
        .call_open = "<|tool_call_begin|>functions.",
        .after_name = ":",
        .call_close = "<|tool_call_end|>",
        .separator = "",
        .section_close = "<|tool_calls_section_end|>",
        .id_place = MR_TOOL_ID_BETWEEN,
        .id_kind = MR_TOOL_ID_KIMI,
        .before_last_id = "",
        .after_id = "<|tool_call_argument_begin|>",
        NO_PARAMS,
        .open = {"<|tool_calls_section_begin|>", "<|tool_call_begin|>"},
        .between = {"<|tool_call_begin|>"},
        .close = {"<|tool_call_end|>", "<|tool_calls_section_end|>"},
    },
    {
        .name = "functionary v3.2",
        .style = MR_TOOL_STYLE_NAMED,
        .parallel = true,
        NO_SECTION,
        .call_open = ">>>",
        .after_name = "\n",
        .call_close = "",
        .separator = "",
        NO_ID,
        NO_PARAMS,
        .open = {">>>"},
        .open_by_prompt = true,
    },
    {
        .name = "functionary v3.1",
        .style = MR_TOOL_STYLE_NAMED,
        .parallel = true,
        NO_SECTION,
        .call_open = "<function=",
        .after_name = ">",
        .call_close = "</function>",
        .separator = "",
        NO_ID,
        NO_PARAMS,
        .open = {"<function=", "<|python_tag|>"},
        .close = {"</function>", "<|eom_id|>"},
        .stop = {"<|eom_id|>", "<|eot_id|>"},
    },
    {
        .name = "firefunction v2",
        .style = MR_TOOL_STYLE_JSON,
        .parallel = true,
        .section_open = " functools[",
        .call_open = "{\"name\": \"",
        .after_name = "\", \"arguments\": ",
        .call_close = "}",
        .separator = ", ",
        .section_close = "]",
        NO_ID,
        NO_PARAMS,
        .open = {"functools["},
        .bare_json = false,
    },
    {
        .name = "lfm2",
        .style = MR_TOOL_STYLE_PYTHON,
        .parallel = true,
        .section_open = "<|tool_call_start|>[",
        .call_open = "",
        .after_name = "(",
        .call_close = ")",
        .separator = ", ",
        .section_close = "]<|tool_call_end|>",
        NO_ID,
        .param_open = "",
        .after_key = "=",
        .param_close = "",
        .param_separator = ", ",
        .open = {"<|tool_call_start|>"},
        .close = {"<|tool_call_end|>"},
    },
    {
        .name = "apertus",
        .style = MR_TOOL_STYLE_KEYED,
        .parallel = true,
        .section_open = "<|tools_prefix|>[",
        .call_open = "{\"",
        .after_name = "\": ",
        .call_close = "}",
        .separator = ", ",
        .section_close = "]<|tools_suffix|>",
        NO_ID,
        NO_PARAMS,
        .open = {"<|tools_prefix|>"},
        .close = {"<|tools_suffix|>"},
    },
};

enum { N_FORMATS = sizeof FORMATS / sizeof *FORMATS };

/* --- detection --- */

/* What a template of the family holds: the first row all of whose texts (up to two) are there decides, so that the
 * more telling come first. */
static const struct {
    const char *text, *too, *name;
} SIGNS[] = {
    {"<|channel|>", "<|message|>", "gpt-oss"},
    {"<|tool_calls_section_begin|>", NULL, "kimi k2"},
    {"tool▁calls▁begin", "```json", "deepseek r1"},
    {"tool▁calls▁begin", NULL, "deepseek v3.1"},
    {"<|START_ACTION|>", NULL, "command r7b"},
    {"Action: ```json", NULL, "command r"},
    {"Action:", "<|CHATBOT_TOKEN|>", "command r"},
    {"<minimax:tool_call>", NULL, "minimax m2"},
    {"<tool_call>", "<arg_key>", "glm 4"},
    {"<function=", "<parameter=", "qwen3 coder"},
    {"<|tool_call_start|>", NULL, "lfm2"},
    {"List of tools: [", "<|im_start|>", "lfm2"},
    {"<|tools_prefix|>", NULL, "apertus"},
    {"[TOOL_CALLS]", "[CALL_ID]", "mistral call id"},
    {"[TOOL_CALLS]", "[ARGS]", "mistral args"},
    {"[TOOL_CALLS]", NULL, "mistral"},
    {">>>${recipient}", NULL, "functionary v3.2"},
    {">>>all", NULL, "functionary v3.2"},
    {"<function=", NULL, "functionary v3.1"},
    {"functools[", NULL, "firefunction v2"},
    {"<|tool_call|>", NULL, "granite"},
    {"<tool_call>", NULL, "hermes"},
    {"<|python_tag|>", NULL, "llama 3"},
    {"<|start_header_id|>ipython<|end_header_id|>", NULL, "llama 3"},
    {"\"parameters\": dictionary of argument name", NULL, "llama 3"},
};

/* Special tokens that only this family has; asked where the template says nothing. */
static const struct {
    const char *token, *name;
} TOKENS[] = {
    {"<|tool_calls_section_begin|>", "kimi k2"},
    {DS_CALLS, "deepseek v3.1"},
    {"<|START_ACTION|>", "command r7b"},
    {"<|tool_call_start|>", "lfm2"},
    {"<|tools_prefix|>", "apertus"},
    {"[CALL_ID]", "mistral call id"},
    {"[ARGS]", "mistral args"},
    {"[TOOL_CALLS]", "mistral"},
    {"<|tool_call|>", "granite"},
    {"<|python_tag|>", "llama 3"},
};

const mr_tool_format *mr_tool_format_find(const char *name) {
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (strcmp(FORMATS[i].name, name) == 0) return &FORMATS[i];
    }
    return NULL;
}

const mr_tool_format *mr_tool_format_at(size_t i) {
    return i < N_FORMATS ? &FORMATS[i] : NULL;
}

bool mr_tool_format_is_generic(const mr_tool_format *format) {
    return format == &FORMATS[0];
}

bool mr_tool_format_is_open(const mr_tool_format *format, const char *prompt, size_t len) {
    size_t n = strlen(format->open[0]);
    return format->open_by_prompt && len >= n && memcmp(prompt + len - n, format->open[0], n) == 0;
}

const mr_tool_format *mr_tool_format_detect(const char *source, mr_has_token_fn has_token, const void *ctx) {
    for (size_t i = 0; source != NULL && i < sizeof SIGNS / sizeof *SIGNS; i++) {
        if (strstr(source, SIGNS[i].text) == NULL) continue;
        if (SIGNS[i].too != NULL && strstr(source, SIGNS[i].too) == NULL) continue;
        return mr_tool_format_find(SIGNS[i].name);
    }
    for (size_t i = 0; has_token != NULL && i < sizeof TOKENS / sizeof *TOKENS; i++) {
        if (has_token(ctx, TOKENS[i].token)) return mr_tool_format_find(TOKENS[i].name);
    }
    return &FORMATS[0];
}

bool mr_tool_mark_is_control(const char *mark) {
    size_t n = strlen(mark);
    if (strncmp(mark, "<|", 2) == 0) return true;
    if (strncmp(mark, "<｜", strlen("<｜")) == 0) return true;
    return n > 2 && mark[0] == '[' && mark[1] >= 'A' && mark[1] <= 'Z' && mark[n - 1] == ']';
}
