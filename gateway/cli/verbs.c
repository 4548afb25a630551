/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs.c: the table of verbs.  Usage text, completion and the manual page's test read it.
 */
#include "cli.h"

const struct cli_verb cli_verbs[] = {
    {"serve", "[--config DIR]", "Check the configuration and run the gateway in the foreground.",
     cli_serve},
    {"check", "[--effective DISK]",
     "Check the configuration, or print the merged policy of a disk.", cli_check},
    {"diff", "[--json]", "Print what a reload would do.", cli_diff},
    {"reload", "[--dry-run] [--force] [--json]",
     "Read the configuration anew and apply the differences.", cli_reload},
    {"status", "[--json]", "Print how the disks are, trouble first.", cli_status},
    {"watch", "[--now] [--json]", "Print what exists, then events as they happen.", cli_watch},
    {"top", "[--interval DURATION] [--count N]",
     "Print what each disk does a second, again and again.", cli_top},
    {"metrics", "", "Print metrics in the Prometheus text format.", cli_metrics},
    {"disk list", "[--json]", "List the disks.", cli_disk_list},
    {"disk show", "DISK [--tasks] [--connect qemu|libvirt|nbd-client|uri] [--json]",
     "Print one disk in full, its requests, or what to paste into a client.", cli_disk_show},
    {"disk add",
     "DISK --file PATH|--nbd URI|--nbdkit PLUGIN [--size SIZE] [--policy NAME] [--group NAME] "
     "[--tls-off]",
     "Write a policy file for a new disk, check and reload.", cli_disk_add},
    {"disk remove", "DISK [--force] [--forget-state]",
     "Put a disk's policy file aside, check and reload.", cli_disk_remove},
    {"disk resize", "DISK SIZE", "Write a larger size into a disk's policy and reload.",
     cli_disk_resize},
    {"disk snapshot", "DISK NAME", "Take a snapshot where the backing can.", cli_disk_snapshot},
    {"disk event", "DISK snapshot|start|stop|migrate [--prepare|--commit|--abort] [--name NAME]",
     "Tell a disk's filters what the hypervisor does; exit code 2 when one refuses.",
     cli_disk_event},
    {"disk reopen", "DISK", "Open the backing anew after a failed flush, or a failed disk now.",
     cli_disk_reopen},
    {"filter list", "[--json]", "List the installed filters.", cli_filter_list},
    {"filter show", "FILTER [--json]", "Print a filter's options and verbs.", cli_filter_show},
    {"filter new", "NAME --class CLASS",
     "Make the folder NAME with the source, Makefile, test, manifest and manual page of a filter.",
     cli_filter_new},
    {"filter check", "./FILE.so [--set OPTION=VALUE]...",
     "Drive a filter through every operation, event and cancel; no gateway needed.",
     cli_filter_check},
    {"filter try", "FILTER|./FILE.so [--size SIZE] [--set OPTION=VALUE]... [--for DURATION]",
     "Serve a RAM disk behind a filter and print its counters.", cli_filter_try},
    {"version", "", "Print the version.", cli_version},
    {"help", "[VERB]", "Print all verbs, or how one is used.", cli_help},
};
const unsigned cli_verb_count = ARRAY_SIZE(cli_verbs);
