/* cmd_export.c — `intent export`. */
#include "models/cmd.h"
#include "models/export.h"

struct args {
    char *bundle, *out;
    int32_t format;
};

static const struct opt opts[] = {
    OPT_STR(struct args, bundle, NULL,
            "bundle to export: a version, or a model directory's newest"),
    OPT_CHOICE(struct args, format, "safetensors", EXPORT_CHOICES, "what to write"),
    OPT_STR(struct args, out, NULL, "directory to write into"), OPT_END
};

static void help(void)
{
    puts("usage: intent export --bundle BUNDLE --format safetensors|npy|onnx --out DIR\n\n"
         "Writes a bundle's weights for other programs, and ids.txt: the item id of each row.\n"
         "  safetensors  model.safetensors, which `intent import` reads back\n"
         "  npy          NAME.npy of every parameter (item.weight.npy: the item vectors), "
         "encoder.json\n"
         "  onnx         model.onnx, encoder and head: items [batch, events] and lengths "
         "[batch] in,\n"
         "               interests [batch, K, D] out; item.weight.npy to search among\n");
    conf_help(opts, stdout);
}

int cmd_export(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    int rc = cmd_options(opts, &a, argc, argv, &e);
    if (rc == 1)
        help();
    else if (rc == 0 && (!a.bundle || !a.out))
        rc = err_set(&e, ERR_USAGE, "--bundle and --out are needed");
    else if (rc == 0)
        rc = export_bundle(a.bundle, (enum export_format)a.format, a.out, &e);
    conf_free(opts, &a);
    return rc < 0 ? cmd_fail("export", &e) : 0;
}
