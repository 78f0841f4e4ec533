#include "service/prompt.h"

#include "base/buf.h"
#include "text/reasoning.h"

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
    mr_status status =
        mr_chat_template_render(mr_text_model_chat_template(model), messages, tools, NULL, true, &text, err);
    if (status == MR_OK) status = mr_prompt_text(prompt, model, mr_buf_cstr(&text), text.len, err);
    if (status == MR_OK) prompt->reasoning_open = mr_reasoning_is_open(mr_buf_cstr(&text), text.len);
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

void mr_prompt_free(mr_prompt *prompt) {
    mr_tokens_free(&prompt->tokens);
}
