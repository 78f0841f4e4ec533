/* `mistral-runner synth`: writes a GGUF model of a real shape with random weights, for benchmarks and tests. */
#ifndef MR_CLI_CMD_SYNTH_H
#define MR_CLI_CMD_SYNTH_H

/* synth [--arch llama] --preset tiny|1b|7b --type TYPE -o FILE [--seed N] [--threads N] [--pure]; argv[0] is the word
 * "synth". Returns the exit status: 0, 1 for a failure (told on stderr), 2 for wrong arguments. */
int mr_cmd_synth(int argc, char **argv);

#endif
