/* What memory there is. */
#ifndef MR_BASE_MEMORY_H
#define MR_BASE_MEMORY_H

#include <stddef.h>

/* Bytes that this process may still use without swapping, by the system's and the control group's figures; 0 when
 * unknown. */
size_t mr_available_memory(void);

#endif
