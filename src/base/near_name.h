/* Names that were probably meant. */
#ifndef MR_BASE_NEAR_NAME_H
#define MR_BASE_NEAR_NAME_H

#include <stddef.h>

/* The number of characters to insert, delete, replace or swap with their neighbour (Damerau: "A technique for computer
 * detection and correction of spelling errors", CACM 1964; neighbours once) to make one text of the other, in bytes and
 * without regard to ASCII case. Texts of up to 255 bytes; SIZE_MAX for longer ones. */
size_t mr_name_distance(const char *a, const char *b);

/* For a path that does not exist: the path in the same folder whose name is nearest, where one is near enough to be meant
 * (free() it); or NULL. */
char *mr_path_nearest(const char *path);

#endif
