/* The plugin's only exported symbol. */
#include "plugin/instance.h"

__attribute__((visibility("default"))) PluginInstanceRaw load_multi_method_plugin_v2(void);

PluginInstanceRaw load_multi_method_plugin_v2(void) {
    return mr_instance_new();
}
