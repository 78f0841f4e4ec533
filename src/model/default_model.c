#include "model/default_model.h"

#include <stdint.h>

#ifdef MR_DEFAULT_MODEL_PATH
/* The assembler reads the file, so that it need not pass through the compiler. */
__asm__(".pushsection .rodata\n"
        ".balign 64\n"
        ".local mr_default_model_begin\n"
        "mr_default_model_begin:\n"
        ".incbin \"" MR_DEFAULT_MODEL_PATH "\"\n"
        ".local mr_default_model_end\n"
        "mr_default_model_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const uint8_t mr_default_model_begin[] __attribute__((visibility("hidden")));
extern const uint8_t mr_default_model_end[] __attribute__((visibility("hidden")));

bool mr_default_model(const void **data, size_t *size) {
    *data = mr_default_model_begin;
    *size = (size_t)((uintptr_t)mr_default_model_end - (uintptr_t)mr_default_model_begin);
    return true;
}
#else
bool mr_default_model(const void **data, size_t *size) {
    *data = NULL;
    *size = 0;
    return false;
}
#endif
