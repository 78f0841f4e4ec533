#define MR_LOG_TARGET "mistral_runner::tools"
#include "service/toolset.h"

#include "base/log.h"
#include "service/pb_fields.h"

#include <string.h>

#define SELECTOR "select_toolset_"

enum { MAX_CLIENT_TOOLS = 512, MAX_CLIENT_JSON = 8 << 20, MAX_NAME = 256 };

mr_tool_options mr_tool_options_read(const ProtobufCMessage *pb) {
    mr_tool_options options = {.auto_calling = true, .parallel = true};
    mr_pb_get_bool(pb, "use_function_calling", &options.use);
    mr_pb_get_string(pb, "function_set_name", &options.set);
    mr_pb_get_bool(pb, "use_runners_as_function", &options.runners);
    mr_pb_get_bool(pb, "use_workers_as_function", &options.workers);
    mr_pb_get_bool(pb, "is_auto_calling", &options.auto_calling);
    mr_pb_get_bool(pb, "auto_select_function_set", &options.auto_select);
    mr_pb_get_string(pb, "client_tools_json", &options.client_tools);
    mr_pb_get_string(pb, "tool_choice", &options.choice);
    mr_pb_get_bool(pb, "parallel_tool_calls", &options.parallel);
    if (options.set != NULL && *options.set == '\0') options.set = NULL;
    if (options.client_tools != NULL && *options.client_tools == '\0') options.client_tools = NULL;
    if (options.choice != NULL && *options.choice == '\0') options.choice = NULL;
    return options;
}

static mr_status no_memory(mr_error *err) {
    return mr_fail(err, MR_ERR_NOMEM, "there is no memory for the list of tools");
}

static const json_t *function_at(const json_t *tools, size_t i) {
    return json_object_get(json_array_get(tools, i), "function");
}

static const char *name_at(const json_t *tools, size_t i) {
    return json_string_value(json_object_get(function_at(tools, i), "name"));
}

const json_t *mr_toolset_find(const mr_toolset *set, const char *name) {
    for (size_t i = 0; i < json_array_size(set->tools); i++) {
        if (strcmp(name_at(set->tools, i), name) == 0) return function_at(set->tools, i);
    }
    return NULL;
}

/* --- the client's tools --- */

static mr_status bad_client_tool(size_t i, const char *why, mr_error *err) {
    return mr_fail(err, MR_ERR_INVALID, "function_options.client_tools_json: the tool %zu %s", i, why);
}

static mr_status check_client_tool(const mr_toolset *set, size_t i, const json_t *tool, mr_error *err) {
    const json_t *type = json_object_get(tool, "type"), *function = json_object_get(tool, "function");
    if (type != NULL && (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0))
        return bad_client_tool(i, "is of a type other than \"function\"", err);
    if (!json_is_object(function)) return bad_client_tool(i, "has no object \"function\"", err);
    const json_t *name = json_object_get(function, "name"), *about = json_object_get(function, "description");
    const json_t *parameters = json_object_get(function, "parameters");
    if (!json_is_string(name) || json_string_length(name) == 0 || json_string_length(name) > MAX_NAME)
        return bad_client_tool(i, "has no name of 1 to 256 bytes", err);
    if (about != NULL && !json_is_null(about) && !json_is_string(about))
        return bad_client_tool(i, "has a description that is no text", err);
    if (parameters != NULL && !json_is_null(parameters) && !json_is_object(parameters))
        return bad_client_tool(i, "has parameters that are no JSON Schema object", err);
    if (mr_toolset_find(set, json_string_value(name)) != NULL)
        return bad_client_tool(i, "has the name of an earlier one", err);
    return MR_OK;
}

/* Templates read `parameters`, so a tool without them gets empty ones. */
static mr_status add_client_tool(mr_toolset *set, size_t i, json_t *tool, mr_error *err) {
    mr_status status = check_client_tool(set, i, tool, err);
    if (status != MR_OK) return status;
    json_t *function = json_object_get(tool, "function");
    bool ok = json_object_get(tool, "type") != NULL || json_object_set_new(tool, "type", json_string("function")) == 0;
    if (ok && !json_is_object(json_object_get(function, "parameters"))) {
        json_t *empty = json_pack("{s:s, s:{}}", "type", "object", "properties");
        ok = json_object_set_new(function, "parameters", empty) == 0;
    }
    return ok && json_array_append(set->tools, tool) == 0 ? MR_OK : no_memory(err);
}

static mr_status load_client_tools(mr_toolset *set, const mr_tool_options *options, mr_error *err) {
    if (options->set != NULL || options->runners || options->workers || options->auto_select) {
        return mr_fail(err, MR_ERR_INVALID,
                       "function_options.client_tools_json stands beside function_set_name, use_runners_as_function, "
                       "use_workers_as_function or auto_select_function_set; give one or the other");
    }
    json_error_t where;
    size_t len = strlen(options->client_tools);
    if (len > MAX_CLIENT_JSON)
        return mr_fail(err, MR_ERR_LIMIT, "function_options.client_tools_json is longer than 8 MiB");
    json_t *array = json_loadb(options->client_tools, len, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_array(array)) {
        mr_status status =
            mr_fail(err, MR_ERR_INVALID,
                    "function_options.client_tools_json is no JSON array of tools (line %d, column %d%s%s)", where.line,
                    where.column, array == NULL ? ": " : "", array == NULL ? where.text : "");
        json_decref(array);
        return status;
    }
    mr_status status = MR_OK;
    if (json_array_size(array) > MAX_CLIENT_TOOLS) {
        status =
            mr_fail(err, MR_ERR_LIMIT, "function_options.client_tools_json has more than %d tools", MAX_CLIENT_TOOLS);
    }
    set->manual = true;
    set->tools = json_array();
    if (set->tools == NULL) status = no_memory(err);
    for (size_t i = 0; status == MR_OK && i < json_array_size(array); i++)
        status = add_client_tool(set, i, json_array_get(array, i), err);
    json_decref(array);
    return status;
}

/* --- the service's tools --- */

static json_t *tool_json(const char *name, const char *description, json_t *parameters) {
    return json_pack("{s:s, s:{s:s, s:s, s:o}}", "type", "function", "function", "name", name, "description",
                     description, "parameters", parameters);
}

static mr_status show_functions(mr_toolset *set, mr_error *err) {
    json_decref(set->tools);
    set->tools = json_array();
    for (size_t i = 0; i < set->functions.n; i++) {
        const mr_function *f = &set->functions.items[i];
        json_t *tool = tool_json(f->tool, f->description, json_incref(f->parameters));
        if (tool == NULL || json_array_append_new(set->tools, tool) != 0) return no_memory(err);
    }
    return set->tools != NULL ? MR_OK : no_memory(err);
}

static mr_status load_functions(mr_toolset *set, const char *name, const mr_tool_options *options,
                                mr_functions *functions, const mr_functions_context *context, mr_error *err) {
    mr_function_choice choice = {.set = name, .runners = options->runners, .workers = options->workers};
    mr_function_list_free(&set->functions);
    mr_status status = mr_functions_find(functions, &choice, context, &set->functions, err);
    if (status == MR_OK) return show_functions(set, err);
    return name != NULL && status == MR_ERR_NOT_FOUND ? mr_fail_prefix(err, "function_set_name \"%.128s\"", name)
                                                      : status;
}

/* Each set as a tool without arguments, by whose call it is chosen. */
static mr_status load_sets(mr_toolset *set, mr_functions *functions, const mr_functions_context *context,
                           mr_error *err) {
    mr_function_set *sets;
    size_t n;
    mr_status status = mr_functions_find_sets(functions, context, &sets, &n, err);
    if (status != MR_OK) return status;
    set->tools = json_array();
    set->selecting = true;
    for (size_t i = 0; status == MR_OK && i < n; i++) {
        mr_buf name = {0}, about = {0};
        mr_buf_printf(&name, SELECTOR "%s", sets[i].name);
        mr_buf_printf(&about, "Makes the tools of the set \"%s\" available. %s", sets[i].name, sets[i].description);
        json_t *parameters = json_pack("{s:s, s:{}, s:b}", "type", "object", "properties", "additionalProperties", 0);
        json_t *tool = tool_json(mr_buf_cstr(&name), mr_buf_cstr(&about), parameters);
        if (tool == NULL || json_array_append_new(set->tools, tool) != 0) status = no_memory(err);
        mr_buf_free(&name);
        mr_buf_free(&about);
    }
    mr_function_sets_free(sets, n);
    return status;
}

static mr_status load_from_service(mr_toolset *set, const mr_tool_options *options, mr_functions *functions,
                                   const mr_functions_context *context, mr_error *err) {
    set->manual = !options->auto_calling;
    if (functions == NULL) {
        return mr_fail(err, MR_ERR_UNAVAILABLE,
                       "no FunctionService is configured (MISTRAL_GRPC_ENDPOINT, or tool_calling.grpc_endpoint)");
    }
    if (options->set != NULL) return load_functions(set, options->set, options, functions, context, err);
    if (options->auto_select) return load_sets(set, functions, context, err);
    if (options->runners || options->workers) return load_functions(set, NULL, options, functions, context, err);
    return mr_fail(err, MR_ERR_UNAVAILABLE,
                   "function_options name no tools: give function_set_name, use_runners_as_function, "
                   "use_workers_as_function, auto_select_function_set or client_tools_json");
}

/* --- the choice --- */

static mr_status choose(mr_toolset *set, const char *name, mr_error *err) {
    const json_t *tool = mr_toolset_find(set, name);
    if (tool == NULL) {
        return mr_fail(err, MR_ERR_INVALID, "function_options.tool_choice names \"%.128s\", which is none of the tools",
                       name);
    }
    set->choice = MR_TOOLS_NAMED;
    set->named = json_string_value(json_object_get(tool, "name"));
    return MR_OK;
}

/* {"type": "function", "function": {"name": …}}, or the same without the inner object. */
static mr_status choose_by_json(mr_toolset *set, const char *text, mr_error *err) {
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const json_t *function = json_object_get(json, "function");
    const json_t *name = json_object_get(function != NULL ? function : json, "name");
    mr_status status = json_is_string(name)
                           ? choose(set, json_string_value(name), err)
                           : mr_fail(err, MR_ERR_INVALID,
                                     "function_options.tool_choice is no JSON object that names a tool, such as "
                                     "{\"type\":\"function\",\"function\":{\"name\":\"add\"}}");
    json_decref(json);
    return status;
}

static mr_status parse_choice(mr_toolset *set, const char *choice, mr_error *err) {
    if (choice == NULL || strcmp(choice, "auto") == 0) return MR_OK;
    if (strcmp(choice, "none") == 0) {
        set->choice = MR_TOOLS_NONE;
        return MR_OK;
    }
    if (strcmp(choice, "required") == 0 || strcmp(choice, "any") == 0) {
        set->choice = MR_TOOLS_REQUIRED;
        return json_array_size(set->tools) > 0
                   ? MR_OK
                   : mr_fail(err, MR_ERR_INVALID,
                             "function_options.tool_choice is \"required\", but there are no tools");
    }
    return choice[strspn(choice, " \t\r\n")] == '{' ? choose_by_json(set, choice, err) : choose(set, choice, err);
}

static bool is_required(const char *choice) {
    return choice != NULL && strcmp(choice, "auto") != 0 && strcmp(choice, "none") != 0;
}

/* --- all of it --- */

/* Whether a job can be answered without the tools that it could not get. */
static bool can_do_without(mr_status status) {
    return status == MR_ERR_UNAVAILABLE || status == MR_ERR_LIMIT;
}

static mr_status load(mr_toolset *set, const mr_tool_options *options, mr_functions *functions,
                      const mr_functions_context *context, mr_error *err) {
    mr_status status = options->client_tools != NULL ? load_client_tools(set, options, err)
                                                     : load_from_service(set, options, functions, context, err);
    set->parallel = options->parallel;
    bool from_service = options->client_tools == NULL;
    if (from_service && can_do_without(status) && !is_required(options->choice)) {
        MR_WARN("the job asks for tools and is answered without: %s", err->text);
        *err = (mr_error){0};
        mr_toolset_free(set);
        return MR_OK;
    }
    if (status == MR_OK && !set->selecting) status = parse_choice(set, options->choice, err);
    if (status != MR_OK || json_array_size(set->tools) > 0) return status;
    MR_WARN("the job asks for tools, but there are none");
    mr_toolset_free(set);
    return MR_OK;
}

mr_status mr_toolset_load(mr_toolset *set, const mr_tool_options *options, mr_functions *functions,
                          const mr_functions_context *context, mr_error *err) {
    *set = (mr_toolset){0};
    if (!options->use && options->client_tools == NULL) return MR_OK;
    mr_status status = load(set, options, functions, context, err);
    if (status != MR_OK) mr_toolset_free(set);
    return status;
}

mr_status mr_toolset_select(mr_toolset *set, const char *tool, const mr_tool_options *options, mr_functions *functions,
                            const mr_functions_context *context, mr_error *err) {
    size_t n = strlen(SELECTOR);
    if (strncmp(tool, SELECTOR, n) != 0 || mr_toolset_find(set, tool) == NULL)
        return mr_fail(err, MR_ERR_INTERNAL, "the model chose %.64s, which is no function set", tool);
    /* The name lives in the array that is about to go. */
    json_t *keep = json_string(tool + n);
    if (keep == NULL) return no_memory(err);
    MR_INFO("the model chose the function set %s", json_string_value(keep));
    mr_tool_options chosen = *options;
    chosen.set = json_string_value(keep);
    mr_toolset_free(set);
    mr_status status = mr_toolset_load(set, &chosen, functions, context, err);
    json_decref(keep);
    return status;
}

void mr_toolset_free(mr_toolset *set) {
    json_decref(set->tools);
    mr_function_list_free(&set->functions);
    *set = (mr_toolset){0};
}
