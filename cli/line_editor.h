/* Lines typed at a terminal, with editing and a history that outlives the program. */
#ifndef MR_CLI_LINE_EDITOR_H
#define MR_CLI_LINE_EDITOR_H

#include <stdbool.h>

/* Prepares the terminal and reads the history ($XDG_STATE_HOME or ~/.local/state, mistral-runner/history). `commands`
 * are offered by the tab key: NULL-terminated, each begins with '/'; they must outlive the editor. */
void mr_line_editor_open(const char *const *commands);

/* The next line, to free(); a line that ends with a backslash goes on in the next one. NULL at the end of the input. */
char *mr_line_editor_read(const char *prompt);

/* Gives the terminal back. */
void mr_line_editor_close(void);

#endif
