/* mistral-runner bench */
#ifndef MR_CLI_CMD_BENCH_H
#define MR_CLI_CMD_BENCH_H

/* Runs the command with its own argv (argv[0] is the command's name); returns the exit status. */
int mr_cmd_bench(int argc, char **argv);

#endif
