/* The form of the generated tables in unicode_data.c; everyone else includes unicode.h. */
#ifndef MR_TEXT_UNICODE_TABLES_H
#define MR_TEXT_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

/* What is known of a character. The plain members follow Unicode 16 (gcb and the number flag 17); `flags` holds what
 * libraries with older data say. */
typedef struct mr_unicode_record {
    uint8_t category; /* mr_unicode_category */
    uint8_t gcb;      /* mr_unicode_gcb */
    uint8_t script;   /* index into mr_unicode_script_names; 0 is Unknown */
    uint8_t script9;  /* the same in Unicode 9 */
    uint16_t flags;   /* MR_UNICODE_… */
} mr_unicode_record;

typedef struct mr_unicode_run {
    uint32_t len;
    uint16_t record;
} mr_unicode_run;

typedef struct mr_unicode_case_run {
    uint32_t first;
    uint16_t count, stride;
    int32_t delta;
} mr_unicode_case_run;

extern const mr_unicode_record mr_unicode_records[];
extern const mr_unicode_run mr_unicode_runs[];
extern const size_t mr_unicode_runs_n;
extern const size_t mr_unicode_blocks_n;
extern const mr_unicode_case_run mr_unicode_lower_runs[];
extern const size_t mr_unicode_lower_runs_n;
extern const mr_unicode_case_run mr_unicode_fold_runs[];
extern const size_t mr_unicode_fold_runs_n;
extern const char *const mr_unicode_script_names[];
extern const size_t mr_unicode_scripts_n;

#endif
