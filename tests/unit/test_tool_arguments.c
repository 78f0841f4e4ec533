/* floors: service */
#include "service/tool_arguments.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char SCHEMA[] =
    "{'type':'object','properties':{'a':{'type':'integer'},'u':{'enum':['c','f']},'n':{'type':['number','null']},"
    "'l':{'type':'array','items':{'type':'object','properties':{'x':{'type':'string'}},'required':['x']}},"
    "'k':{'const':1}},'required':['a'],'additionalProperties':false}";

/* ' stands for ". Checks that the arguments fit (says NULL), or that the sentence holds `says`. */
static void check_fit(const char *arguments, const char *says) {
    char text[2][1024];
    const char *from[2] = {SCHEMA, arguments};
    for (int i = 0; i < 2; i++) {
        strcpy(text[i], from[i]);
        for (char *p = text[i]; *p != '\0'; p++) *p = *p == '\'' ? '"' : *p;
    }
    json_t *schema = json_loads(text[0], 0, NULL);
    assert_non_null(schema);
    mr_buf why = {0};
    bool fits = mr_tool_arguments_fit(text[1], schema, &why);
    if (fits != (says == NULL) || (says != NULL && strstr(mr_buf_cstr(&why), says) == NULL))
        fail_msg("%s: \"%s\"", arguments, mr_buf_cstr(&why));
    mr_buf_free(&why);
    json_decref(schema);
}

static void test_fits(void **state) {
    (void)state;
    check_fit("{'a':1}", NULL);
    check_fit("{'l':[{'x':'y'}],'a':2.0,'u':'f','n':null,'k':1}", NULL);
    check_fit("{'n':1.5,'a':-3}", NULL);
}

static void test_misfits(void **state) {
    (void)state;
    check_fit("", "no JSON");
    check_fit("{'a':1", "no JSON");
    check_fit("{'a':1,'a':2}", "no JSON");
    check_fit("[1]", "no JSON object");
    check_fit("{}", "the arguments must have \"a\"");
    check_fit("{'a':'1'}", "the argument \"a\" must be of the type \"integer\"");
    check_fit("{'a':1.5}", "\"a\" must be");
    check_fit("{'a':1,'u':'k'}", "\"u\" must be one of [\"c\",\"f\"]");
    check_fit("{'a':1,'n':'x'}", "\"n\" must be of the type [\"number\",\"null\"]");
    check_fit("{'a':1,'z':0}", "may not have \"z\"");
    check_fit("{'a':1,'l':[{'x':'y'},{}]}", "the argument \"l.1\" must have \"x\"");
    check_fit("{'a':1,'k':2}", "\"k\" must be 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fits), cmocka_unit_test(test_misfits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
