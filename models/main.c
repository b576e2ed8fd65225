/* main.c — `intent`: prepares data, trains, evaluates, indexes and asks for recommendations. */
#include "core/num/num.h"
#include "models/cmd.h"
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    { "prep", cmd_prep, "read interactions, write a data set" },
    { "train", cmd_train, "train an encoder, write a bundle" },
    { "eval", cmd_eval, "measure a bundle or a counting baseline by full ranking" },
    { "compare", cmd_compare, "print the figures of several runs side by side" },
    { "sweep", cmd_sweep, "train a grid of settings, choose on validation, test the winner" },
    { "index", cmd_index, "build a bundle's search index" },
    { "import", cmd_import, "make a bundle of weights that were trained elsewhere" },
    { "export", cmd_export, "write a bundle's weights as safetensors, npy or ONNX" },
    { "recommend", cmd_recommend, "ask a bundle for candidates, as the daemon would" },
    { "rank", cmd_rank,
      "rank models: train, measure and ask them for probabilities of clicks" },
    { "synth", cmd_synth, "write interactions with planted interests, to test models with" },
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void help(FILE *f)
{
    fputs("usage: intent COMMAND [OPTION]...\n\n", f);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\nFrom interactions to recommendations:\n"
          "  intent prep ratings.csv --items movies.csv --out var/data/films\n"
          "  intent train --data var/data/films --recipe models/recipes/demo.ini --out "
          "var/models/films\n"
          "  intent recommend --bundle var/models/films --history 1,260,1196\n"
          "  intentd --models var/models\n\n"
          "`intent COMMAND --help` lists a command's options.\n",
          f);
}

/* A full disk or a closed pipe behind standard output is a failure too. */
static int written(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "intent: could not write to standard output\n");
    return status ? status : 1;
}

int main(int argc, char **argv)
{
    num_init();
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        help(stdout);
        return 0;
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return written(commands[i].run(argc - 1, argv + 1));
    if (*name) fprintf(stderr, "intent: unknown command '%s'\n\n", name);
    help(stderr);
    return 2;
}
