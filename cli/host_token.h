/* An mr_cancel as the cancellation token of the plugin ABI. */
#ifndef MR_CLI_HOST_TOKEN_H
#define MR_CLI_HOST_TOKEN_H

#include "base/cancel.h"
#include "plugin/abi.h"

#include <stdbool.h>

/* Makes a token with one owner, who calls drop_token. It holds a reference to `cancel`. False when memory runs out. */
bool mr_host_token_new(FfiCancellationToken *token, mr_cancel *cancel);

#endif
