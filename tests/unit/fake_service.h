/* A service without a model, for tests of the plugin floor. What a job does is said by its argument bytes:
 *   echo:TEXT      the result (or one chunk) is TEXT
 *   count:N        N chunks "0 ", "1 ", …; as one result their concatenation
 *   endless        chunks until it is stopped; without a stream it waits for the cancellation
 *   block          waits for the cancellation
 *   fail:TEXT      an error with that text
 *   silent         an error without text
 *   method         the method's name, or "(none)"
 *   metadata       "key=value;" for each pair
 *   length         the number of argument bytes that follow the word
 * Settings: "fail" is an error, "block" waits for the cancellation, anything else loads. */
#ifndef MR_TESTS_FAKE_SERVICE_H
#define MR_TESTS_FAKE_SERVICE_H

#include <stdatomic.h>

extern atomic_int fake_n_services; /* instances that were not released */
extern atomic_int fake_n_running;  /* calls of load and run that have not returned */
extern atomic_int fake_n_produced; /* chunks that on_chunk took */

/* Waits until `n` calls are running. */
void fake_service_await_running(int n);

/* Waits until every instance is released, 20 s at most: the threads of cancelled jobs end in their own time. */
void fake_service_await_released(void);

#endif
