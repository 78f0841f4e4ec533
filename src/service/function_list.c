/* Which functions there are, kept for a minute. */
#define _POSIX_C_SOURCE 200809L
#define MR_LOG_TARGET "mistral_runner::tools"
#include "service/functions_impl.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define FIND_BY_SET "/jobworkerp.function.service.FunctionService/FindListBySet"
#define FIND_LIST "/jobworkerp.function.service.FunctionService/FindList"
#define SEPARATOR "___"

enum { MAX_TOOLS = 512, KEEP_SEC = 60 };

typedef Jobworkerp__Function__Service__FunctionSpecs pb_specs;
typedef Jobworkerp__Function__Service__FunctionMethodSchema pb_method;

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

static mr_status no_memory(mr_error *err) {
    return mr_fail_nomem(err, 0, "the list of tools");
}

static void free_item(mr_function *item) {
    free(item->tool);
    free(item->description);
    json_decref(item->parameters);
}

void mr_function_list_free(mr_function_list *list) {
    for (size_t i = 0; i < list->n; i++) free_item(&list->items[i]);
    free(list->items);
    *list = (mr_function_list){0};
}

const mr_function *mr_function_list_find(const mr_function_list *list, const char *tool) {
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->items[i].tool, tool) == 0) return &list->items[i];
    }
    return NULL;
}

/* Takes the item over; frees it on an error. */
static mr_status append(mr_function_list *list, mr_function item, mr_error *err) {
    mr_function *grown = NULL;
    if (item.tool != NULL && item.description != NULL && item.parameters != NULL)
        grown = realloc(list->items, (list->n + 1) * sizeof *grown);
    if (grown == NULL) {
        free_item(&item);
        return no_memory(err);
    }
    list->items = grown;
    grown[list->n++] = item;
    return MR_OK;
}

static mr_status copy_list(const mr_function_list *from, mr_function_list *to, mr_error *err) {
    *to = (mr_function_list){0};
    for (size_t i = 0; i < from->n; i++) {
        mr_function item = from->items[i];
        item.tool = strdup(item.tool);
        item.description = strdup(item.description);
        item.parameters = json_deep_copy(item.parameters);
        mr_status status = append(to, item, err);
        if (status != MR_OK) {
            mr_function_list_free(to);
            return status;
        }
    }
    return MR_OK;
}

/* --- from specs to tools --- */

/* A schema of anything but an object would be of no use to call by; arguments are an object. */
static json_t *parse_parameters(const char *schema, const char *tool) {
    if (*schema == '\0') return json_pack("{s:s, s:{}}", "type", "object", "properties");
    json_t *parsed = json_loads(schema, 0, NULL);
    if (json_is_object(parsed)) return parsed;
    json_decref(parsed);
    MR_WARN("the tool %s has no JSON object as its schema of arguments; it is offered with free arguments", tool);
    return json_pack("{s:s}", "type", "object");
}

static char *tool_name(const char *name, const char *method, bool only) {
    mr_buf text = {0};
    mr_buf_puts(&text, name);
    if (!only || strcmp(method, "run") != 0) {
        mr_buf_puts(&text, SEPARATOR);
        mr_buf_puts(&text, method);
    }
    return mr_buf_take(&text);
}

static mr_status add_method(mr_function_list *list, const pb_specs *specs, size_t at, mr_error *err) {
    const pb_method *method = specs->methods->schemas[at]->value;
    const char *about = method != NULL ? or_empty(method->description) : "";
    mr_function item = {
        .tool = tool_name(specs->name, or_empty(specs->methods->schemas[at]->key), specs->methods->n_schemas == 1),
        .description = strdup(*about != '\0' ? about : or_empty(specs->description)),
        .is_worker = specs->worker_id != NULL,
        .streaming =
            method != NULL && method->has_output_type &&
            method->output_type == JOBWORKERP__FUNCTION__SERVICE__FUNCTION_METHOD_SCHEMA__OUTPUT_TYPE__STREAMING,
    };
    if (item.tool == NULL) return append(list, item, err);
    bool again = mr_function_list_find(list, item.tool) != NULL, full = list->n == MAX_TOOLS;
    if (again || full) {
        MR_WARN("the tool %s is left out: %s", item.tool,
                again ? "there is one of this name already" : "there are too many");
        free_item(&item);
        return MR_OK;
    }
    item.parameters = parse_parameters(method != NULL ? or_empty(method->arguments_schema) : "", item.tool);
    return append(list, item, err);
}

static mr_status take_specs(void *ctx, const ProtobufCMessage *message, mr_error *err) {
    mr_function_list *list = ctx;
    const pb_specs *specs = (const pb_specs *)message;
    if (or_empty(specs->name)[0] == '\0' || specs->methods == NULL || specs->methods->n_schemas == 0) {
        MR_WARN("the function \"%s\" is left out: it has no %s", or_empty(specs->name),
                or_empty(specs->name)[0] == '\0' ? "name" : "method");
        return MR_OK;
    }
    for (size_t i = 0; i < specs->methods->n_schemas; i++) {
        mr_status status = add_method(list, specs, i, err);
        if (status != MR_OK) return status;
    }
    return MR_OK;
}

static mr_status fetch(mr_functions *functions, const mr_function_choice *choice, const mr_functions_context *context,
                       mr_function_list *list, mr_error *err) {
    const ProtobufCMessageDescriptor *answer = &jobworkerp__function__service__function_specs__descriptor;
    if (choice->set != NULL) {
        Jobworkerp__Function__Service__FindFunctionSetRequest request;
        jobworkerp__function__service__find_function_set_request__init(&request);
        request.name = (char *)choice->set;
        return mr_functions_exchange(functions, FIND_BY_SET, &request.base, context, answer, take_specs, list, err);
    }
    Jobworkerp__Function__Service__FindFunctionRequest request;
    jobworkerp__function__service__find_function_request__init(&request);
    request.has_exclude_runner = request.has_exclude_worker = 1;
    request.exclude_runner = !choice->runners;
    request.exclude_worker = !choice->workers;
    return mr_functions_exchange(functions, FIND_LIST, &request.base, context, answer, take_specs, list, err);
}

/* --- the cache --- */

static void clear_entry(mr_function_cache_entry *entry) {
    free(entry->key);
    mr_function_list_free(&entry->list);
    *entry = (mr_function_cache_entry){0};
}

void mr_function_cache_clear(mr_functions *functions) {
    for (size_t i = 0; i < MR_FUNCTION_CACHE_LEN; i++) clear_entry(&functions->cache[i]);
}

static char *cache_key(const mr_function_choice *choice) {
    mr_buf key = {0};
    if (choice->set != NULL)
        mr_buf_printf(&key, "set %s", choice->set);
    else
        mr_buf_printf(&key, "all %d %d", choice->runners, choice->workers);
    return mr_buf_take(&key);
}

/* Whether the cache had it. */
static bool look_up(mr_functions *functions, const char *key, mr_function_list *list, mr_status *status,
                    mr_error *err) {
    bool found = false;
    pthread_mutex_lock(&functions->lock);
    for (size_t i = 0; !found && i < MR_FUNCTION_CACHE_LEN; i++) {
        const mr_function_cache_entry *entry = &functions->cache[i];
        if (entry->key == NULL || strcmp(entry->key, key) != 0 || mr_clock_since(entry->fetched_ns) > KEEP_SEC)
            continue;
        found = true;
        *status = copy_list(&entry->list, list, err);
    }
    pthread_mutex_unlock(&functions->lock);
    return found;
}

/* Takes the key over. A cache that can't grow is no error. The oldest entry makes room. */
static void remember(mr_functions *functions, char *key, const mr_function_list *list) {
    mr_function_list copy;
    mr_error ignored = {0};
    if (copy_list(list, &copy, &ignored) != MR_OK) {
        free(key);
        return;
    }
    pthread_mutex_lock(&functions->lock);
    mr_function_cache_entry *slot = &functions->cache[0];
    for (size_t i = 0; i < MR_FUNCTION_CACHE_LEN; i++) {
        mr_function_cache_entry *entry = &functions->cache[i];
        if (entry->key != NULL && strcmp(entry->key, key) == 0) {
            slot = entry;
            break;
        }
        if (entry->fetched_ns < slot->fetched_ns) slot = entry;
    }
    clear_entry(slot);
    *slot = (mr_function_cache_entry){.key = key, .fetched_ns = mr_clock_ns(), .list = copy};
    pthread_mutex_unlock(&functions->lock);
}

mr_status mr_functions_find(mr_functions *functions, const mr_function_choice *choice,
                            const mr_functions_context *context, mr_function_list *list, mr_error *err) {
    *list = (mr_function_list){0};
    char *key = cache_key(choice);
    if (key == NULL) return no_memory(err);
    mr_status status = MR_OK;
    if (look_up(functions, key, list, &status, err)) {
        free(key);
        return status;
    }
    status = fetch(functions, choice, context, list, err);
    /* Asking twice does no harm, so a connection that broke meanwhile need not be an error. */
    if (status == MR_ERR_UNAVAILABLE && !mr_cancel_is_set(context->cancel)) {
        mr_function_list_free(list);
        status = fetch(functions, choice, context, list, err);
    }
    if (status == MR_OK) {
        MR_INFO("%zu tools from %s (%s)", list->n, mr_rpc_channel_endpoint(functions->channel), key);
        remember(functions, key, list);
        return MR_OK;
    }
    free(key);
    mr_function_list_free(list);
    return status;
}
