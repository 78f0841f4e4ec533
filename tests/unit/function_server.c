/* Included by the tests that use it. */
#include "function_server.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *python_with_grpc(void) {
    static const char *const PYTHONS[] = {"python3", "/usr/bin/python3"};
    static const char *found;
    for (size_t i = 0; found == NULL && i < 2; i++) {
        char command[128];
        snprintf(command, sizeof command, "%s -c 'import grpc' >/dev/null 2>&1", PYTHONS[i]);
        if (system(command) == 0) found = PYTHONS[i];
    }
    return found;
}

bool function_server_possible(void) {
    return python_with_grpc() != NULL;
}

static void run_python(const function_server *server, int port, const char *argument, const char *value) {
    char port_text[16];
    snprintf(port_text, sizeof port_text, "%d", port);
    const char *argv[10] = {python_with_grpc(),
                            MR_SOURCE_DIR "/tests/e2e/function_server.py",
                            "--port",
                            port_text,
                            "--log",
                            server->log,
                            argument,
                            value};
    /* The sanitizers' libraries and a preloaded allocator are none of its business. */
    unsetenv("LD_PRELOAD");
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

void function_server_start(function_server *server, int port, const char *argument, const char *value) {
    int to[2], from[2];
    if (server->log[0] == '\0') {
        strcpy(server->log, "/tmp/function-server-XXXXXX");
        int fd = mkstemp(server->log);
        if (fd >= 0) close(fd);
    }
    if (pipe(to) != 0 || pipe(from) != 0) abort();
    server->pid = fork();
    if (server->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        for (int fd = 3; fd < 256; fd++) close(fd);
        run_python(server, port, argument, value);
    }
    close(to[0]);
    close(from[1]);
    server->to_it = to[1];
    FILE *out = fdopen(from[0], "r");
    if (out == NULL || fscanf(out, "listening %d", &server->port) != 1) {
        fprintf(stderr, "the function server did not start\n");
        abort();
    }
    fclose(out);
    snprintf(server->endpoint, sizeof server->endpoint, "http://127.0.0.1:%d", server->port);
}

void function_server_kill(function_server *server) {
    if (server->pid == 0) return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    close(server->to_it);
    server->pid = 0;
}

void function_server_free(function_server *server) {
    function_server_kill(server);
    unlink(server->log);
    server->log[0] = '\0';
}

bool function_server_revive(function_server *server, const char *argument, const char *value) {
    if (waitpid(server->pid, NULL, WNOHANG) != server->pid) return false;
    close(server->to_it);
    function_server_start(server, server->port, argument, value);
    return true;
}

void script_model_write(char path[64], const char *lines_json) {
    char lines[] = "/tmp/script-lines-XXXXXX", command[512];
    int fd = mkstemp(lines);
    if (fd < 0 || write(fd, lines_json, strlen(lines_json)) != (ssize_t)strlen(lines_json)) abort();
    close(fd);
    snprintf(path, 64, "%s.gguf", lines);
    snprintf(command, sizeof command, "%s %s/tests/e2e/script_model.py %s %s", python_with_grpc(), MR_SOURCE_DIR, path,
             lines);
    if (system(command) != 0) abort();
    unlink(lines);
}

int function_server_count(const function_server *server, const char *text) {
    char *line = NULL;
    size_t cap = 0;
    int n = 0;
    FILE *file = fopen(server->log, "r");
    while (file != NULL && getline(&line, &cap, file) >= 0) n += strstr(line, text) != NULL;
    if (file != NULL) fclose(file);
    free(line);
    return n;
}
