/* One runner instance as the host holds it: the service and the vtable's functions over it. */
#ifndef MR_PLUGIN_INSTANCE_H
#define MR_PLUGIN_INSTANCE_H

#include "plugin/abi.h"

/* A new instance; its state is NULL when memory runs out. Nothing is loaded yet. */
PluginInstanceRaw mr_instance_new(void);

#endif
