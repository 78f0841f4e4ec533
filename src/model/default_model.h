/* The model that is compiled into the library. */
#ifndef MR_MODEL_DEFAULT_MODEL_H
#define MR_MODEL_DEFAULT_MODEL_H

#include <stdbool.h>
#include <stddef.h>

/* The GGUF image, aligned to 64 bytes and there for the life of the process. False when the library was built without.
 */
bool mr_default_model(const void **data, size_t *size);

#endif
