#define _DEFAULT_SOURCE
#include "line_editor.h"

#include "base/buf.h"
#include "cli.h"

#include <editline/readline.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { MAX_HISTORY = 1000 };

static struct termios before;
static bool have_terminal;
static char *history_path;
static const char *const *offered;

static void give_terminal_back(void) {
    if (have_terminal) tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

/* The next command that begins with the text, as libedit asks for them: one a call, NULL at the end. */
static char *next_command(const char *text, int state) {
    static size_t at;
    if (state == 0) at = 0;
    while (offered[at] != NULL) {
        const char *command = offered[at++];
        if (strncmp(command, text, strlen(text)) == 0) return strdup(command);
    }
    return NULL;
}

static char **complete(const char *text, int start, int end) {
    (void)end;
    rl_attempted_completion_over = 1; /* words of a message are no file names */
    return start == 0 && text[0] == '/' ? rl_completion_matches(text, next_command) : NULL;
}

/* The history's file, its folder made on the way; NULL where there is no place for it. */
static char *find_history(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    mr_buf path = {0};
    if (state != NULL && *state == '/')
        mr_buf_puts(&path, state);
    else if (home != NULL && *home == '/')
        mr_buf_printf(&path, "%s/.local/state", home);
    else
        return NULL;
    mr_buf_puts(&path, "/mistral-runner");
    for (char *slash = path.data; !path.failed && (slash = strchr(slash + 1, '/')) != NULL;) {
        *slash = '\0';
        mkdir(path.data, 0700);
        *slash = '/';
    }
    if (!path.failed) mkdir(path.data, 0700);
    mr_buf_puts(&path, "/history");
    char *taken = path.failed ? NULL : mr_buf_take(&path);
    mr_buf_free(&path);
    return taken;
}

void mr_line_editor_open(const char *const *commands) {
    have_terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    mr_cli_before_exit(give_terminal_back);
    const char *locale = setlocale(LC_CTYPE, "");
    if (locale == NULL || strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0) setlocale(LC_CTYPE, "C.UTF-8");
    offered = commands;
    rl_catch_signals = 0; /* the program has its own thread for them */
    rl_readline_name = "mistral-runner";
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(MAX_HISTORY);
    history_path = find_history();
    if (history_path != NULL) read_history(history_path);
}

char *mr_line_editor_read(const char *prompt) {
    mr_buf text = {0};
    char *line;
    while ((line = readline(text.len == 0 ? prompt : "… ")) != NULL) {
        size_t len = strlen(line);
        bool goes_on = len > 0 && line[len - 1] == '\\';
        mr_buf_append(&text, line, goes_on ? len - 1 : len);
        if (goes_on) mr_buf_putc(&text, '\n');
        if (len > 0) add_history(line);
        free(line);
        if (!goes_on) break;
    }
    /* Now and not at the end: Ctrl-C ends the program without a word. */
    if (history_path != NULL && write_history(history_path) == 0) chmod(history_path, 0600);
    if (line == NULL && text.len == 0) return NULL;
    return mr_buf_take(&text);
}

void mr_line_editor_close(void) {
    free(history_path);
    history_path = NULL;
    mr_cli_before_exit(NULL);
    give_terminal_back();
}
