#include "base/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The number in a file that holds one, e.g. a control group's limit; false when there is none ("max"). */
static bool read_number(const char *path, size_t *value) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    unsigned long long number;
    bool ok = fscanf(file, "%llu", &number) == 1;
    fclose(file);
    if (ok) *value = number < SIZE_MAX ? (size_t)number : SIZE_MAX;
    return ok;
}

static size_t system_available(void) {
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) return 0;
    char line[128];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) break;
    }
    fclose(file);
    return (size_t)kib * 1024;
}

/* Room under the limits of control groups, version 2 and 1, as a container sees them at the root of the hierarchy. */
static size_t group_available(void) {
    static const char *const files[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t limit, used;
        if (read_number(files[i][0], &limit) && read_number(files[i][1], &used)) return limit > used ? limit - used : 1;
    }
    return SIZE_MAX;
}

size_t mr_available_memory(void) {
    size_t system = system_available(), group = group_available();
    if (system == 0) return group == SIZE_MAX ? 0 : group;
    return system < group ? system : group;
}
