#include "plugin/token.h"

mr_token mr_token_own(FfiCancellationToken token) {
    if (token.is_cancelled == NULL || token.register_waker == NULL || token.unregister_waker == NULL) {
        if (token.drop_token != NULL) token.drop_token(token.state);
        return (mr_token){0};
    }
    return (mr_token){.token = token, .held = true};
}

static void on_wake(void *ctx) {
    mr_cancel_request(ctx);
}

static void on_drop_ctx(void *ctx) {
    mr_cancel_unref(ctx);
}

void mr_token_connect(mr_token *token, mr_cancel *cancel) {
    if (!token->held || token->waker_id != 0) return;
    const FfiCancellationToken *host = &token->token;
    if (!host->is_cancelled(host->state)) {
        token->waker_id = host->register_waker(host->state, mr_cancel_ref(cancel), on_wake, on_drop_ctx);
        if (token->waker_id != 0) return;
    }
    mr_cancel_request(cancel);
}

void mr_token_release(mr_token *token) {
    if (!token->held) return;
    FfiCancellationToken host = token->token;
    uint64_t waker_id = token->waker_id;
    *token = (mr_token){0};
    if (waker_id != 0) host.unregister_waker(host.state, waker_id);
    if (host.drop_token != NULL) host.drop_token(host.state);
}
