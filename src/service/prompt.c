#include "service/prompt.h"

#include "base/buf.h"
#include "text/reasoning.h"

#include <string.h>

static mr_status push(mr_tokens *tokens, mr_token id, mr_error *err) {
    if (mr_tokens_push(tokens, id)) return MR_OK;
    return mr_fail_nomem(err, (tokens->n + 1) * sizeof id, "the prompt's tokens");
}

/* The start token goes in front unless the text brings it itself, as most chat templates do. */
static mr_status add_start_token(mr_prompt *prompt, const mr_tokenizer *tokenizer, const mr_tokens *text,
                                 mr_error *err) {
    mr_token bos = mr_tokenizer_bos(tokenizer);
    if (prompt->tokens.n > 0 || bos < 0 || !mr_tokenizer_add_bos(tokenizer)) return MR_OK;
    if (text->n > 0 && text->ids[0] == bos) return MR_OK;
    return push(&prompt->tokens, bos, err);
}

mr_status mr_prompt_text(mr_prompt *prompt, const mr_text_model *model, const char *text, size_t len, mr_error *err) {
    const mr_tokenizer *tokenizer = mr_text_model_tokenizer(model);
    mr_tokens tokens = {0};
    mr_status status = mr_tokenizer_encode(tokenizer, text, len, MR_ENCODE_SPECIAL_TEXT, &tokens, err);
    if (status == MR_OK) status = add_start_token(prompt, tokenizer, &tokens, err);
    for (size_t i = 0; status == MR_OK && i < tokens.n; i++) status = push(&prompt->tokens, tokens.ids[i], err);
    mr_tokens_free(&tokens);
    return status;
}

mr_status mr_prompt_chat(mr_prompt *prompt, const mr_text_model *model, json_t *messages, json_t *tools,
                         mr_error *err) {
    mr_buf text = {0};
    const mr_text_tools *family = mr_text_model_tools(model);
    mr_status status = mr_tool_render(mr_text_model_chat_template(model), family->format, &family->caps, messages,
                                      tools, NULL, true, &text, err);
    if (status == MR_OK) status = mr_prompt_text(prompt, model, mr_buf_cstr(&text), text.len, err);
    if (status == MR_OK) {
        prompt->reasoning_open = mr_reasoning_is_open(family->reasoning, mr_buf_cstr(&text), text.len);
        prompt->tools_open = mr_tool_format_is_open(family->format, mr_buf_cstr(&text), text.len);
    }
    mr_buf_free(&text);
    return status;
}

mr_status mr_prompt_context(mr_prompt *prompt, const mr_text_model *model, const int32_t *ids, size_t n,
                            mr_error *err) {
    size_t n_vocab = mr_tokenizer_n_vocab(mr_text_model_tokenizer(model));
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= n_vocab) {
            return mr_fail(
                err, MR_ERR_INVALID,
                "context: token %d at position %zu is none of this model's (0 to %zu); the context comes from "
                "another model",
                (int)ids[i], i, n_vocab - 1);
        }
        mr_status status = push(&prompt->tokens, ids[i], err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

/* The text between an answer and whatever follows it: found by rendering a conversation with and without the answer.
 * *end stays empty when the template shows the two differently. */
static mr_status find_turn_end(const mr_chat_template *chat, mr_buf *end, mr_error *err) {
    static const char ANSWER[] = "answer";
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "question");
    json_t *message = json_pack("{s:s, s:s}", "role", "assistant", "content", ANSWER);
    mr_buf open = {0}, whole = {0};
    mr_status status = messages != NULL && message != NULL ? MR_OK : mr_fail_nomem(err, 0, "the prompt");
    if (status == MR_OK) status = mr_chat_template_render(chat, messages, NULL, NULL, true, &open, err);
    if (status == MR_OK && json_array_append(messages, message) != 0) status = mr_fail_nomem(err, 0, "the prompt");
    if (status == MR_OK) status = mr_chat_template_render(chat, messages, NULL, NULL, false, &whole, err);
    if (status == MR_OK && mr_buf_puts(&open, ANSWER) && whole.len > open.len &&
        memcmp(whole.data, open.data, open.len) == 0) {
        mr_buf_append(end, whole.data + open.len, whole.len - open.len);
    }
    mr_buf_free(&open);
    mr_buf_free(&whole);
    json_decref(message);
    json_decref(messages);
    return status;
}

mr_status mr_prompt_end_turn(mr_prompt *prompt, const mr_text_model *model, mr_error *err) {
    const mr_tokenizer *tokenizer = mr_text_model_tokenizer(model);
    if (prompt->tokens.n == 0 || mr_tokenizer_is_eog(tokenizer, prompt->tokens.ids[prompt->tokens.n - 1])) return MR_OK;
    mr_buf end = {0};
    mr_status status = find_turn_end(mr_text_model_chat_template(model), &end, err);
    if (status == MR_OK && end.len > 0)
        status = mr_prompt_text(prompt, model, end.data, end.len, err);
    else if (status == MR_OK && mr_tokenizer_eos(tokenizer) >= 0)
        status = push(&prompt->tokens, mr_tokenizer_eos(tokenizer), err);
    mr_buf_free(&end);
    return status;
}

void mr_prompt_free(mr_prompt *prompt) {
    mr_tokens_free(&prompt->tokens);
}
