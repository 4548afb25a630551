/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connect-iscsi.c: `sluice disk show DISK --connect KIND` for clients that come by iSCSI.  A kit is
 * a text with words to be replaced; a line that begins with "?chap " or "?mutual " is there only
 * where the policy names such a secret.  The secrets themselves are never printed: USER and SECRET
 * stand for them.
 *
 * Timeouts: the target lets go of a silent session after 30 s, so initiators wait at least that
 * long before they fail a path for good, and with one path alone two minutes, in which a gateway is
 * back.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

#define MULTIPATH                                  \
    "devices {\n"                                  \
    "    device {\n"                               \
    "        vendor \"SLUICE\"\n"                  \
    "        product \".*\"\n"                     \
    "        path_grouping_policy group_by_prio\n" \
    "        prio alua\n"                          \
    "        hardware_handler \"1 alua\"\n"        \
    "        path_checker tur\n"                   \
    "        path_selector \"service-time 0\"\n"   \
    "        failback immediate\n"                 \
    "        no_path_retry 12\n"                   \
    "        fast_io_fail_tmo 5\n"                 \
    "        dev_loss_tmo 120\n"                   \
    "    }\n"                                      \
    "}\n"
#define NODE "iscsiadm -m node -T @TARGET@ -p @PORTAL@ -o update -n "

static const char linux_kit[] =
    "# As root, with open-iscsi.  With multipath-tools set replacement_timeout to 5: the other "
    "path is tried sooner.\n"
    "iscsiadm -m node -T @TARGET@ -p @PORTAL@ -o new\n"
    "?chap " NODE "node.session.auth.authmethod -v CHAP\n"
    "?chap " NODE "node.session.auth.username -v 'USER'\n"
    "?chap " NODE "node.session.auth.password -v 'SECRET'\n"
    "?mutual " NODE "node.session.auth.username_in -v 'TARGET-USER'\n"
    "?mutual " NODE "node.session.auth.password_in -v 'TARGET-SECRET'\n" NODE
    "node.session.timeo.replacement_timeout -v 120\n" NODE
    "'node.conn[0].timeo.noop_out_interval' -v 5\n" NODE
    "'node.conn[0].timeo.noop_out_timeout' -v 5\n" NODE
    "'node.conn[0].iscsi.HeaderDigest' -v CRC32C,None\n" NODE "node.startup -v automatic\n"
    "iscsiadm -m node -T @TARGET@ -p @PORTAL@ --login\n"
    "mkdir -p /etc/multipath/conf.d\n"
    "cat >/etc/multipath/conf.d/sluice.conf <<'END'\n" MULTIPATH "END\n";

static const char esxi_kit[] =
    "esxcli iscsi software set --enabled=true\n"
    "HBA=$(esxcli iscsi adapter list | awk '/iscsi_vmk/ { print $1 }')\n"
    "esxcli storage nmp satp rule add --satp=VMW_SATP_ALUA --psp=VMW_PSP_RR --vendor=SLUICE "
    "--claim-option=tpgs_on\n"
    "esxcli iscsi adapter discovery statictarget add --adapter=$HBA --address=@PORTAL@ "
    "--name=@TARGET@\n"
    "?chap esxcli iscsi adapter target portal auth chap set --adapter=$HBA --address=@PORTAL@ "
    "--name=@TARGET@ "
    "--direction=uni --level=required --authname='USER' --secret='SECRET'\n"
    "?mutual esxcli iscsi adapter target portal auth chap set --adapter=$HBA --address=@PORTAL@ "
    "--name=@TARGET@ "
    "--direction=mutual --level=required --authname='TARGET-USER' --secret='TARGET-SECRET'\n"
    "esxcli iscsi adapter param set --adapter=$HBA --key=RecoveryTimeout --value=35\n"
    "esxcli iscsi adapter param set --adapter=$HBA --key=LoginTimeout --value=30\n"
    "esxcli storage core adapter rescan --adapter=$HBA\n"
    "DEVICE=$(esxcli storage core path list | awk -v lun=@LUN@ '/^ *Device: /{ d = $2 } /^ *LUN: "
    "/{ l = $2 } "
    "/Target: @TARGET@/ && l == lun { print d; exit }')\n"
    "# Either a datastore for many machines (made in vSphere, VMFS 6, on $DEVICE): one policy for "
    "all that is on it.\n"
    "# Or a disk for one machine (RDM), which alone gives that machine a policy of its own:\n"
    "vmkfstools -z /vmfs/devices/disks/$DEVICE /vmfs/volumes/DATASTORE/MACHINE/@DISK@.vmdk\n";

static const char windows_kit[] =
    "# PowerShell, as administrator; Hyper-V hosts the same.\n"
    "Set-Service MSiSCSI -StartupType Automatic; Start-Service MSiSCSI\n"
    "Install-WindowsFeature Multipath-IO\n"
    "New-MSDSMSupportedHW -VendorId 'SLUICE' -ProductId 'DISK'\n"
    "Set-MPIOSetting -NewDiskTimeout 65 -NewPDORemovePeriod 120 -NewPathRecoveryInterval 25 "
    "-CustomPathRecovery Enabled\n"
    "Get-ChildItem "
    "'HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e97b-e325-11ce-bfc1-08002be10318}' "
    "-ErrorAction SilentlyContinue | ForEach-Object { $p = \"$($_.PSPath)\\Parameters\"; if "
    "(Test-Path $p) "
    "{ Set-ItemProperty $p LinkDownTime 35; Set-ItemProperty $p MaxRequestHoldTime 120 } }\n"
    "New-IscsiTargetPortal -TargetPortalAddress @HOST@ -TargetPortalPortNumber @PORT@\n"
    "?chap $chap = @{ AuthenticationType = 'ONEWAYCHAP'; ChapUsername = 'USER'; ChapSecret = "
    "'SECRET' }\n"
    "?mutual Set-IscsiChapSecret -ChapSecret 'TARGET-SECRET'; $chap.AuthenticationType = "
    "'MUTUALCHAP'\n"
    "Connect-IscsiTarget -NodeAddress @TARGET@ -TargetPortalAddress @HOST@ -TargetPortalPortNumber "
    "@PORT@ "
    "-IsPersistent $true -IsMultipathEnabled $true @chap\n"
    "# The disk is LUN @LUN@.\n";

static const char xen_kit[] =
    "# On each host; XenServer and XCP-ng.\n"
    "cat >/etc/multipath/conf.d/sluice.conf <<'END'\n" MULTIPATH "END\n"
    "SCSIID=$(xe sr-probe type=lvmoiscsi device-config:target=@HOST@ device-config:port=@PORT@ "
    "device-config:targetIQN=@TARGET@ ?chap-xe? 2>&1 | tr -d ' \\n\\t' | "
    "sed -n 's|.*<LUNid>@LUN@</LUNid>.*<SCSIid>\\([^<]*\\)</SCSIid>.*|\\1|p')\n"
    "xe sr-create name-label=@DISK@ shared=true type=lvmoiscsi content-type=user "
    "device-config:target=@HOST@ "
    "device-config:port=@PORT@ device-config:targetIQN=@TARGET@ device-config:SCSIid=$SCSIID "
    "?chap-xe?\n";

static const char proxmox_kit[] =
    "# On one node of the cluster.  Needs no secret: Proxmox takes that of "
    "/etc/iscsi/iscsid.conf.\n"
    "pvesm add iscsi @DISK@ --portal @PORTAL@ --target @TARGET@ --content images\n"
    "# The machine VMID gets the whole disk, and with it its policy:\n"
    "qm set VMID --scsihw virtio-scsi-single --scsi0 $(pvesm list @DISK@ | awk "
    "'/:0\\.0\\.@LUN@\\./ { print $1 }')"
    ",discard=on,iothread=1\n";

static const char qemu_kit[] =
    "?chap -object secret,id=@NODE@-chap,file=SECRET-FILE \\\n"
    "-blockdev "
    "driver=iscsi,node-name=@NODE@,transport=tcp,portal=@PORTAL@,target=@TARGET@,lun=@LUN@,"
    "header-digest=crc32c-none,discard=unmap?chap-qemu?@CHAP-ID@ \\\n"
    "-device virtio-blk-pci,drive=@NODE@,discard=on\n";

static const char libvirt_kit[] =
    "<disk type='network' device='disk'>\n"
    "  <driver name='qemu' type='raw' cache='none' discard='unmap'/>\n"
    "  <source protocol='iscsi' name='@TARGET@/@LUN@'>\n"
    "    <host name='@HOST@' port='@PORT@'/>\n"
    "?chap     <auth username='USER'><secret type='iscsi' usage='@DISK@'/></auth>\n"
    "  </source>\n"
    "  <target dev='vda' bus='virtio'/>\n"
    "</disk>\n";

static const struct {
    const char *name, *text;
} kits[] = {{"esxi", esxi_kit},      {"windows", windows_kit}, {"linux", linux_kit},
            {"xen", xen_kit},        {"proxmox", proxmox_kit}, {"qemu", qemu_kit},
            {"libvirt", libvirt_kit}};

struct words {
    const struct iscsi_export_config *policy;
    struct {
        const char *name, *value;
    } word[10];
};

static bool is_line_wanted(const struct words *w, const char **line)
{
    if (strncmp(*line, "?chap ", 6) == 0) {
        *line += 6;
        return w->policy->chap != NULL;
    }
    if (strncmp(*line, "?mutual ", 8) == 0) {
        *line += 8;
        return w->policy->chap_mutual != NULL;
    }
    return true;
}

/* The word at `at`, or NULL. */
static const char *find_word(const struct words *w, const char *at, size_t *length)
{
    for (unsigned i = 0; i < ARRAY_SIZE(w->word); i++) {
        *length = w->word[i].name ? strlen(w->word[i].name) : 0;
        if (*length && strncmp(at, w->word[i].name, *length) == 0)
            return w->word[i].value;
    }
    return NULL;
}

static void print_line(const struct words *w, const char *line, const char *end)
{
    size_t length;

    if (!is_line_wanted(w, &line))
        return;
    while (line < end) {
        const char *value = find_word(w, line, &length);

        if (value)
            fputs(value, stdout);
        else
            putchar(*line);
        line += value ? length : 1;
    }
}

static void print_kit(const struct words *w, const char *text)
{
    while (*text) {
        const char *end = strchr(text, '\n') + 1;

        print_line(w, text, end);
        text = end;
    }
}

static void print_for(const struct cli_iscsi_disk *d, const struct config_address *a,
                      const char *host, const char *text)
{
    char portal[300], port[8], lun[8], chap_id[300] = "", node[QEMU_NODE_MAX + 1];
    bool is_v6 = strchr(host, ':') != NULL;
    bool has_chap = d->policy->chap != NULL;
    struct words w = {.policy = d->policy,
                      .word = {{"@TARGET@", d->target},
                               {"@PORTAL@", portal},
                               {"@HOST@", host},
                               {"@PORT@", port},
                               {"@LUN@", lun},
                               {"@DISK@", d->name},
                               {"@NODE@", node},
                               {"@CHAP-ID@", chap_id},
                               {"?chap-qemu?", has_chap ? ",user=USER,password-secret=" : ""},
                               {"?chap-xe?", has_chap ? "device-config:chapuser='USER' "
                                                        "device-config:chappassword='SECRET'"
                                                      : ""}}};

    snprintf(portal, sizeof portal, is_v6 ? "[%s]:%u" : "%s:%u", host, a->port);
    snprintf(port, sizeof port, "%u", a->port);
    cli_qemu_node(d->name, node);
    snprintf(lun, sizeof lun, "%u", d->policy->lun);
    if (has_chap)
        snprintf(chap_id, sizeof chap_id, "%s-chap", node);
    printf("# iSCSI, %s\n", a->text);
    if (has_chap)
        printf("# USER and SECRET: the line of %s\n", d->policy->chap);
    if (d->policy->chap_mutual)
        printf("# TARGET-USER and TARGET-SECRET: the line of %s\n", d->policy->chap_mutual);
    print_kit(&w, text);
}

const char *cli_iscsi_kit(const char *kind)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kits); i++)
        if (strcmp(kits[i].name, kind) == 0)
            return kits[i].text;
    return NULL;
}

int cli_connect_iscsi(struct cli *cli, const struct gateway_config *c, const struct disk_config *d,
                      const char *kit)
{
    int code = EXIT_OK;
    json_t *status = cli_fetch_status(cli, d->name, &code), *iscsi;
    struct cli_iscsi_disk disk = {.name = d->name, .policy = &d->iscsi};

    if (!status)
        return code;
    iscsi = json_object_get(json_array_get(json_object_get(status, "disks"), 0), "iscsi");
    disk.target = json_string_value(json_object_get(iscsi, "target"));
    if (disk.target)
        for (unsigned i = 0; i < c->listen.iscsi.count; i++) {
            const struct config_address *a = &c->listen.iscsi.item[i];
            char host[256] = "";

            print_for(&disk, a, cli_host_of(a, host, sizeof host), kit);
        }
    json_decref(status);
    return disk.target ? EXIT_OK
                       : cli_fail(cli, EXIT_ERROR,
                                  "the running gateway has no iSCSI target for \"%s\": its name is "
                                  "known once the disk is open",
                                  d->name);
}
