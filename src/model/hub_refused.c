/* What the hub's refusals mean for a person. */
#include "model/hub_download.h"

#include <string.h>

static mr_status not_found(const mr_hub_env *env, const mr_hub_id *id, const char *file, const mr_http_answer *a,
                           mr_error *err) {
    if (file != NULL && strcmp(a->error_code, "RevisionNotFound") != 0)
        return mr_fail(err, MR_ERR_NOT_FOUND, "%s has no file %s at revision %s", id->repo, file, id->revision);
    if (strcmp(a->error_code, "RevisionNotFound") == 0)
        return mr_fail(err, MR_ERR_NOT_FOUND, "%s has no revision \"%s\"; see %s/%s", id->repo, id->revision,
                       env->endpoint, id->repo);
    return mr_fail(err, MR_ERR_NOT_FOUND, "%s has no repository %s with a revision \"%s\"; check the name%s",
                   env->endpoint, id->repo, id->revision,
                   env->token == NULL ? ", and set HF_TOKEN if it is private" : "");
}

static mr_status no_access(const mr_hub_env *env, const mr_hub_id *id, const mr_http_answer *a, mr_error *err) {
    if (strcmp(a->error_code, "GatedRepo") == 0) {
        return mr_fail(err, MR_ERR_UNAVAILABLE, "%s is gated (HTTP %ld): accept its terms at %s/%s and %s", id->repo,
                       a->status, env->endpoint, id->repo,
                       env->token == NULL ? "set HF_TOKEN to a token of that account"
                                          : "check that HF_TOKEN belongs to that account");
    }
    if (env->token == NULL) {
        return mr_fail(err, MR_ERR_UNAVAILABLE,
                       "the hub does not show %s without a token (HTTP %ld): there is no such repository, or it is "
                       "private or gated; check the name, or set HF_TOKEN",
                       id->repo, a->status);
    }
    return mr_fail(err, MR_ERR_UNAVAILABLE,
                   "the hub refuses %s to this token (HTTP %ld%s%s); check the name and HF_TOKEN", id->repo, a->status,
                   a->error_text[0] != '\0' ? ": " : "", a->error_text);
}

mr_status mr_hub_refused(const mr_hub_env *env, const mr_hub_id *id, const char *file, const mr_http_answer *a,
                         mr_error *err) {
    if (a->status == 401 || a->status == 403) return no_access(env, id, a, err);
    if (a->status == 404) return not_found(env, id, file, a, err);
    if (a->status == 429) {
        return mr_fail(err, MR_ERR_UNAVAILABLE, "%s allows no more requests for now (HTTP 429); try again later%s",
                       env->endpoint, env->token == NULL ? ", or set HF_TOKEN" : "");
    }
    if (a->forbidden) {
        return mr_fail(err, MR_ERR_UNAVAILABLE, "%s redirects in a way that is not followed: %s", env->endpoint,
                       a->failure);
    }
    if (a->status >= 300) {
        return mr_fail(err, MR_ERR_UNAVAILABLE, "%s answers HTTP %ld%s%s", env->endpoint, a->status,
                       a->error_text[0] != '\0' ? ": " : "", a->error_text);
    }
    return mr_fail(err, MR_ERR_UNAVAILABLE, "%s cannot be reached: %s", env->endpoint,
                   a->failure[0] != '\0' ? a->failure : "no answer came");
}

long mr_hub_backoff_ms(unsigned n_failures, const mr_http_answer *a) {
    long wait = 100L << (n_failures < 8 ? n_failures : 8);
    long told = a->retry_after < 120 ? a->retry_after * 1000 : 120000;
    return told > wait ? told : wait;
}
