#!/bin/sh
# Makes what Wharf needs on a Proxmox VE 8 or 9 cluster, and no more: roles, a user, a token, and their grants. Run it as
# root on any node of the cluster; run it again after an upgrade of either: it changes what differs and nothing else.
#
#   proxmox-role.sh [--user wharf@pve] [--token wharf] [--storages local-lvm,backup] [--networks localnetwork/vmbr0]
#                   [--with agent,console,snapshots] [--print 8|9]
#
# --storages  only these instead of all        --networks  only these zones, bridges or VNets instead of all
# --with      what goes beyond deploy, change, backup removal and terminate
# --print     says what it would run for that version, runs nothing
#
# A token has its own grants beside its user's (privilege separation): it can never do more than both may.
set -eu

user=wharf@pve
token=wharf
storages=
networks=
with=
print=

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit "$1"
}

while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage 0 ;;
        --user | --token | --storages | --networks | --with | --print)
            [ $# -ge 2 ] || usage 2
            case $1 in
                --user) user=$2 ;;
                --token) token=$2 ;;
                --storages) storages=$2 ;;
                --networks) networks=$2 ;;
                --with) with=$2 ;;
                --print) print=$2 ;;
            esac
            shift 2
            ;;
        *) usage 2 >&2 ;;
    esac
done

case $user in
    root@*) echo "proxmox-role.sh: not root: a user of its own can be taken away again" >&2; exit 2 ;;
    ?*@?*) ;;
    *) echo "proxmox-role.sh: --user is name@realm, as in wharf@pve" >&2; exit 2 ;;
esac

if [ -n "$print" ]; then
    major=$print
    pveum() { echo "pveum $*"; }
else
    command -v pveum >/dev/null || { echo "proxmox-role.sh: there is no pveum here: run it on a Proxmox VE node" >&2; exit 1; }
    # pve-manager/9.1.4/0123456789abcdef (running kernel: …)
    major=$(pveversion | sed -n 's|^pve-manager/\([0-9]*\)\..*|\1|p')
fi
case $major in
    8 | 9) ;;
    *) echo "proxmox-role.sh: Proxmox VE ${major:-of an unknown version} is not known here: 8 and 9 are" >&2; exit 1 ;;
esac

# On /vms. Clone, configure, resize, migrate, start, stop, firewall (VM.Config.Network), and removing a service's own
# backups (VM.Backup, with Datastore.AllocateSpace on the storage). Options and HWType: name, tags, boot order, agent,
# serial console. CDROM: the cloud-init drive.
vm="VM.Allocate VM.Audit VM.Backup VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit VM.Config.Disk \
VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.Migrate VM.PowerMgmt"
for extra in $(echo "$with" | tr , ' '); do
    case $extra in
        # Version 9 has taken VM.Monitor away; a role that names it is refused there.
        agent) if [ "$major" = 8 ]; then vm="$vm VM.Monitor"; else vm="$vm VM.GuestAgent.Audit VM.GuestAgent.Unrestricted"; fi ;;
        console) vm="$vm VM.Console" ;;
        snapshots) vm="$vm VM.Snapshot VM.Snapshot.Rollback" ;;
        *) echo "proxmox-role.sh: --with knows agent, console and snapshots, not $extra" >&2; exit 2 ;;
    esac
done
storage="Datastore.AllocateSpace Datastore.Audit"
# Quorum and the cluster's firewall options are asked of /, free memory and tasks of /nodes.
look="Sys.Audit"
# Each bridge or VNet that a VM is put on, also at the clone.
network="SDN.Use"

has() { # LIST-COMMAND FIELD NAME
    [ -z "$print" ] && pveum "$1" list --output-format json | grep -q "\"$2\":\"$3\""
}

role() { # NAME PRIVILEGES
    privileges=$(echo "$2" | tr ' ' ,)
    if has role roleid "$1"; then pveum role modify "$1" --privs "$privileges"; else pveum role add "$1" --privs "$privileges"; fi
}

grant() { # PATH ROLE PROPAGATE
    pveum acl modify "$1" --users "$user" --roles "$2" --propagate "$3"
    pveum acl modify "$1" --tokens "$user!$token" --roles "$2" --propagate "$3"
}

role WharfVM "$vm"
role WharfStorage "$storage"
role WharfLook "$look"
role WharfNetwork "$network"

has user userid "$user" || pveum user add "$user" --comment "Wharf"
if [ -n "$print" ] || ! pveum user token list "$user" --output-format json | grep -q "\"tokenid\":\"$token\""; then
    # Shown once, by Proxmox.
    pveum user token add "$user" "$token" --privsep 1 --comment "Wharf"
fi

grant /vms WharfVM 1
if [ -z "$storages" ]; then
    grant /storage WharfStorage 1
else
    for name in $(echo "$storages" | tr , ' '); do grant "/storage/$name" WharfStorage 1; done
fi
# Not handed down: nothing below / but the nodes is looked at with it.
grant / WharfLook 0
grant /nodes WharfLook 1
if [ -z "$networks" ]; then
    grant /sdn/zones WharfNetwork 1
else
    for name in $(echo "$networks" | tr , ' '); do grant "/sdn/zones/$name" WharfNetwork 1; done
fi

echo "The token's id is $user!$token. Then: PUT /v1/admin/servers/<name>, and POST …/test, which names what is missing." >&2
