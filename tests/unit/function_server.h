/* Starts tests/e2e/function_server.py, a FunctionService in a process of its own. */
#ifndef TESTS_FUNCTION_SERVER_H
#define TESTS_FUNCTION_SERVER_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct function_server {
    pid_t pid; /* 0: not running */
    int to_it; /* closing it ends the server */
    int port;
    char endpoint[64]; /* http://127.0.0.1:PORT */
    char log[64];      /* the file it writes its calls to */
} function_server;

/* Whether Python and grpcio are here; the tests that need the server skip where they are not. */
bool function_server_possible(void);

/* Starts it and waits until it takes calls. `port` 0 = any; `argument`, `value`: one more option, or NULL. */
void function_server_start(function_server *server, int port, const char *argument, const char *value);

/* Kills it, as a crash would. */
void function_server_kill(function_server *server);
void function_server_free(function_server *server); /* kills it and removes its log */

/* Starts it again on its port if it has died; whether it had. */
bool function_server_revive(function_server *server, const char *argument, const char *value);

/* Writes a model that follows a script (tests/e2e/script_model.py) to a new file in /tmp, whose path it fills in.
 */
void script_model_write(char path[64], const char *lines_json);

/* How many lines of the log hold the text. */
int function_server_count(const function_server *server, const char *text);

#endif
