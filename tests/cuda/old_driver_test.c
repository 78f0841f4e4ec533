/* A driver that lacks functions is refused with the name of one; with "auto" the CPU serves. */
#include "compute/cuda/driver.h"
#include "model/model.h"

#include <stdio.h>
#include <string.h>

int main(void) {
    const mr_cuda_driver *driver;
    mr_error err = {0};
    bool ok = mr_cuda_driver_get(&driver, &err) == MR_ERR_UNSUPPORTED && strstr(err.text, "cuGetErrorString") != NULL;
    printf("%s 1 the missing function is named: %s\n", ok ? "ok" : "not ok", err.text);

    const char *paths[] = {MR_SOURCE_DIR "/tests/conformance/logits/llama-gqa.gguf"};
    static const char *const devices[] = {"cuda", "auto"};
    mr_gguf *gguf = NULL;
    bool opened = mr_gguf_open(&gguf, paths, 1, &err) == MR_OK;
    for (int i = 0; i < 2; i++) {
        const mr_model_options options = {.n_threads = 1, .device = devices[i]};
        mr_model *model = NULL;
        mr_status status = opened ? mr_model_load(&model, gguf, &options, &err) : MR_ERR_IO;
        bool right = i == 0 ? status == MR_ERR_UNSUPPORTED && strstr(err.text, "too old") != NULL
                            : status == MR_OK && mr_model_get_info(model)->device[0] == '\0';
        printf("%s %d with the device %s\n", right ? "ok" : "not ok", i + 2, devices[i]);
        ok = ok && right;
        mr_model_free(model);
    }
    mr_gguf_close(gguf);
    puts("1..3");
    return ok ? 0 : 1;
}
