// Counts the instructions of a program under qemu-user: a plugin, by version 1 of qemu's interface, of which
// Debian 12 has no header. Writes "Collected : N" to qemu's log, as callgrind does to its own.
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t id;
struct qemu_plugin_tb;

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_outs(const char *);
void qemu_plugin_register_atexit_cb(id, void (*)(id, void *), void *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, struct qemu_plugin_tb *));

int qemu_plugin_version = 1;
static uint64_t count;

// A block is counted when it is run: 0 is QEMU_PLUGIN_INLINE_ADD_U64.
static void translated(id plugin, struct qemu_plugin_tb *block)
{
    (void)plugin;
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &count, qemu_plugin_tb_n_insns(block));
}

static void ended(id plugin, void *data)
{
    char text[64];
    (void)plugin, (void)data;
    snprintf(text, sizeof text, "Collected : %" PRIu64 "\n", count);
    qemu_plugin_outs(text);
}

int qemu_plugin_install(id plugin, const void *info, int words, char **word)
{
    (void)info, (void)words, (void)word;
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    qemu_plugin_register_atexit_cb(plugin, ended, NULL);
    return 0;
}
