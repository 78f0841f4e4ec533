/* The commands of mistral-runner. Each takes its own argv (argv[0] is the command's name) and returns the exit status.
 */
#ifndef MR_CLI_COMMANDS_H
#define MR_CLI_COMMANDS_H

int mr_cmd_run(int argc, char **argv);
int mr_cmd_chat(int argc, char **argv);
int mr_cmd_complete(int argc, char **argv);
int mr_cmd_embed(int argc, char **argv);
int mr_cmd_tokenize(int argc, char **argv);
int mr_cmd_logits(int argc, char **argv);
int mr_cmd_render(int argc, char **argv);
int mr_cmd_inspect(int argc, char **argv);
int mr_cmd_top(int argc, char **argv);
int mr_cmd_schema(int argc, char **argv);
int mr_cmd_quantize(int argc, char **argv);
int mr_cmd_download(int argc, char **argv);

#endif
