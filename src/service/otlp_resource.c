#define _POSIX_C_SOURCE 200809L
#include "service/otlp_resource.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef MR_VERSION
#define MR_VERSION "0"
#endif

enum { N_ATTRIBUTES = 3 };
static MistralRunner__Otlp__Resource resource = MISTRAL_RUNNER__OTLP__RESOURCE__INIT;
static MistralRunner__Otlp__InstrumentationScope scope = MISTRAL_RUNNER__OTLP__INSTRUMENTATION_SCOPE__INIT;
static MistralRunner__Otlp__KeyValue attributes[N_ATTRIBUTES];
static MistralRunner__Otlp__AnyValue values[N_ATTRIBUTES];
static MistralRunner__Otlp__KeyValue *list[N_ATTRIBUTES];
static char service_name[256];

static void make(void) {
    const char *name = getenv("OTEL_SERVICE_NAME");
    snprintf(service_name, sizeof service_name, "%s", name != NULL && *name != '\0' ? name : "mistral-runner");
    static char *const keys[N_ATTRIBUTES] = {"service.name", "service.version", "process.pid"};
    for (int i = 0; i < N_ATTRIBUTES; i++) {
        mistral_runner__otlp__key_value__init(&attributes[i]);
        mistral_runner__otlp__any_value__init(&values[i]);
        attributes[i].key = keys[i];
        attributes[i].value = &values[i];
        values[i].value_case = MISTRAL_RUNNER__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        list[i] = &attributes[i];
    }
    values[0].string_value = service_name;
    values[1].string_value = MR_VERSION;
    values[2].value_case = MISTRAL_RUNNER__OTLP__ANY_VALUE__VALUE_INT_VALUE;
    values[2].int_value = getpid();
    resource.n_attributes = N_ATTRIBUTES;
    resource.attributes = list;
    scope.name = "mistral_runner";
    scope.version = MR_VERSION;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

MistralRunner__Otlp__Resource *mr_otlp_resource(void) {
    pthread_once(&once, make);
    return &resource;
}

MistralRunner__Otlp__InstrumentationScope *mr_otlp_scope(void) {
    pthread_once(&once, make);
    return &scope;
}
