# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh disable=SC2154
# replication-fault-functions.sh: sourced after replication-functions.sh: faults of a pair under writers that stamp
# what they write, by the numbers of a seed, and what each disk must have kept after each of them.
#
#   disks_hold, disks_degrade, disks_async   the disks, by what their policy promises; disks_received: those of
#                            them that are synchronous up to the peer's memory alone
#   blocks                   of 4 KiB in each
#   rate                     not empty: of the requests of each writer, a second, at most
#   power                    not empty: whoever is killed also loses what it has not made durable
#   look GATEWAY DISK        where the contents can be read; may be defined again
#   are_all_equal            after healing; may be defined again
#   run_faults [COMMAND]     RUNS of FAULTS by SEED, then the command; prints what each has cost

: "${RUNS:=10}" "${SEED:=1}"
: "${FAULTS:=secondary_is_killed primary_is_killed both_are_killed link_is_cut hand_over lone_primary_is_killed
    both_are_killed_one_promoted primary_is_restarted}"
power='' rate=''

make_states() {
    disks="$disks_hold $disks_degrade $disks_async"
    number=0
    for disk in $disks; do
        number=$((number + 1))
        "$stamped" make "$work/$disk.state" --blocks "$blocks" --disk $number || fail "no state file"
    done
}

# below N: the next number of the seed, below N, in $number
random=$SEED
below() {
    random=$(((random * 1103515245 + 12345) % 2147483648))
    number=$((random / 65536 % $1))
}
sleep_below() {
    below "$1"
    sleep "$(printf '0.%03d' "$number")"
}

# --- the writers ---
start_writers() {
    writers=
    rm -f "$work"/*.errors # those of the last run say connected too
    for disk in $disks; do
        "$stamped" write "$(address_at "$primary" $disk)" "$work/$disk.state" --seconds 60 --depth 8 --flush-every 40 \
            ${rate:+--rate $rate} \
            >"$work/$disk.written" 2>"$work/$disk.errors" &
        writers="$writers $!"
    done
    children="$children $writers"
    within 20 are_writing || fail "run $run, SEED $SEED: $(cat "$work"/*.errors)"
}
are_writing() {
    for disk in $disks; do
        grep -qs connected "$work/$disk.errors" || return 1
    done
}
end_writers() {
    for writer in $writers; do
        kill -TERM "$writer" 2>/dev/null
        wait "$writer"
        case $? in 0) ;; *) cat "$work"/*.errors "$work"/*.written; fail "a writer met an error" ;; esac
    done
    writers=
    acknowledged=$((acknowledged + $(cat "$work"/*.written | jq -s 'map(.acked) | add')))
}
acknowledged=0

# A writer leaves with requests under way.  Where they wait for the peer they may be written long after it has
# gone, and a reader meanwhile sees what was there before: nothing is wrong with that, but what is read is not what
# stays.
is_without_writers() {
    [ "$(on "$primary" disk show "$1" --json 2>/dev/null | jq '.clients | length')" = 0 ]
}
await_their_requests() {
    for disk in $disks; do
        within 20 is_without_writers "$disk" || fail_of "$disk" "what the writers have left at $primary does not end"
    done
}

# --- what must hold ---
# How a disk was kept by the gateway whose image is looked at:
#   serving      primary all the time, and up
#   restarted    primary that was killed
#   copy         promoted; was up until the primary was gone
#   old_copy     promoted; both were killed at a time
#   lone         promoted; was away while the primary went on without it
is_one_of() {
    case " $2 " in *" $1 "*) ;; *) return 1 ;; esac
}

kind_of() {
    if is_one_of "$1" "$disks_async"; then
        echo async
    elif is_one_of "$1" "$disks_degrade"; then
        echo degrade
    else
        echo hold
    fi
}

# What the journal of a killed peer must hold: in its memory alone, or in a page cache without power, what was
# flushed.
from_journal() {
    if [ -n "$power" ] || is_one_of "$1" "${disks_received:-}"; then
        echo --flushed
    else
        echo --whole
    fi
}

# promise HOW DISK: what the checker is to insist on; nothing: on a prefix of the history.
promise() {
    case $1-$(kind_of "$2") in
    serving-* | copy-hold | copy-degrade) echo --whole ;;
    restarted-*) [ -n "$power" ] && echo "--flushed --any-order" || echo --whole ;;
    old_copy-hold | old_copy-degrade | lone-hold) from_journal "$2" ;;
    *-async | lone-degrade) ;;
    *) fail "no promise for $1 of $2" ;;
    esac
}

# What is promoted serves before all that its journal has is in the image.
is_applied() {
    case $(told "$1" "$2" unapplied_bytes) in '' | 0 | null) ;; *) return 1 ;; esac
}

# kept GATEWAY HOW
kept() {
    for disk in $disks; do
        within 20 is_applied "$1" "$disk" || fail_of "$disk" "$disk at $1 ($2) does not apply its journal"
        must=$(promise "$2" "$disk") || exit 1
        # shellcheck disable=SC2086
        "$stamped" check "$(look "$1" "$disk")" "$work/$disk.state" $must --settle >"$work/checked" ||
            fail_of "$disk" "$disk at $1 ($2: ${must:-a prefix}) after $fault: $(cat "$work/checked")"
        lost=$((lost + $(jq .missing_acked "$work/checked")))
    done
}
lost=0

look() {
    image "$1" "$2"
}

is_streaming() {
    is_told "$primary" "$1" link streaming && is_told "$(other_half "$primary")" "$1" link receiving
}

is_healed() {
    is_streaming "$1" && are_equal "$1"
}

are_all_equal() {
    for disk in $disks; do
        within 20 is_healed "$disk" || fail_of "$disk" "$disk is not healed after $fault"
    done
}

fail_of() {
    for name in gw-a gw-b; do
        on $name replication status "$1" | head -n 1
        grep -E "disk=$1|^power:" "$work/$name/log" | tail -n 20
    done
    fail "run $run, SEED $SEED: $2"
}

promote_all() {
    for disk in $disks; do
        on "$1" replication promote "$disk" --force >"$work/promoted" 2>&1 ||
            fail "run $run, SEED $SEED: $1 cannot be promoted after $fault: $(cat "$work/promoted")"
    done
}

# --- gateways ---
begin() {
    if [ -n "$power" ]; then
        mkdir -p "$work/power.$1"
        export LD_PRELOAD="$top_builddir/tests/tools/power.so" POWER_UNDER="$work/$1" POWER_LOG="$work/power.$1"
    fi
    pair_serve "$1"
    unset LD_PRELOAD POWER_UNDER POWER_LOG
}

end() {
    pair_kill "$1"
    [ -z "$power" ] || cut_power "$1"
}

cut_power() {
    below 65536
    # shellcheck disable=SC2154
    "$python" "$top_srcdir/tests/power-cut.py" "$work/power.$1" "$number" >"$work/cut" || fail "no power cut"
    not_durable=$((not_durable + $(cut -d' ' -f1 "$work/cut"))) went_back=$((went_back + $(cut -d' ' -f6 "$work/cut")))
}
not_durable=0 went_back=0

# --- faults; each ends with the writers ended and checked, $primary set, and both gateways up ---
secondary_is_killed() {
    end "$secondary"
    sleep_below 900
    begin "$secondary"
    sleep_below 900
    end_writers
    await_their_requests
    kept "$primary" serving
}

primary_is_killed() {
    end "$primary"
    end_writers
    promote_all "$secondary"
    kept "$secondary" copy
    begin "$primary"
    primary=$secondary
}

both_are_killed() {
    below 2
    if [ "$number" -eq 0 ]; then
        end "$primary"
        end "$secondary"
    else
        end "$secondary"
        sleep_below 500
        end "$primary"
    fi
    end_writers
    below 2
    if [ "$number" -eq 0 ]; then
        begin "$primary"
        begin "$secondary"
    else
        begin "$secondary"
        begin "$primary"
    fi
    kept "$primary" restarted
}

# The primary first, so that it goes nowhere alone; the one that followed serves from now on.
both_are_killed_one_promoted() {
    pair_kill "$primary"
    pair_kill "$secondary"
    end_writers
    [ -z "$power" ] || {
        cut_power "$secondary"
        cut_power "$primary"
    }
    begin "$secondary"
    promote_all "$secondary"
    kept "$secondary" old_copy
    begin "$primary"
    primary=$secondary
}

primary_is_restarted() {
    end "$primary"
    end_writers
    begin "$primary"
    kept "$primary" restarted
}

link_is_cut() {
    kill -STOP "$(cat "$work/$secondary/pid")"
    below 3
    sleep "$number.2"
    kill -CONT "$(cat "$work/$secondary/pid")"
    sleep_below 900
    end_writers
    await_their_requests
    kept "$primary" serving
}

# GATEWAY DISK: 16 seals are kept; what was given up, or had no room in the history of the other side, stays until
# somebody lets it go, as here.
# One that holds nothing but what is on the disk now was not pruned to its end: a writer never writes the same twice.
make_room() {
    [ "$(told "$1" "$2" seals)" -ge "${SEALS_KEPT:-12}" ] || return 0
    for seal in $(on "$1" replication seals "$2" | sed -n 's/^seal \([0-9]*\): .*/\1/p'); do
        count_seal "$work/$1/state/disks/$2/filters/replication/seal-$seal" "$(image "$1" "$2")"
        on "$1" replication seals "$2" --drop "$seal" >/dev/null || fail_of "$2" "seal $seal is not let go"
    done
}

dropped_seals=0 unpruned_seals=0 sealed_grains=0 unpruned_grains=0
count_seal() { # HEAD IMAGE
    counted=$($python - "$1" "$2" <<'END'
import sys
head, sealed, image = open(sys.argv[1], "rb").read(), open(sys.argv[1] + ".raw", "rb"), open(sys.argv[2], "rb")
grains = [g for g in range((len(head) - 160) * 8) if head[160 + g // 8] >> g % 8 & 1]
same = 0
for grain in grains:
    sealed.seek(grain << 16)
    image.seek(grain << 16)
    same += sealed.read(1 << 16) == image.read(1 << 16)
print(len(grains), same)
END
    ) || fail "a seal cannot be read: $1"
    dropped_seals=$((dropped_seals + 1))
    sealed_grains=$((sealed_grains + ${counted% *}))
    unpruned_grains=$((unpruned_grains + ${counted#* }))
    [ "${counted% *}" -ne "${counted#* }" ] || unpruned_seals=$((unpruned_seals + 1))
}

# The lone primary takes with it what it acknowledged alone.
lone_primary_is_killed() {
    end "$secondary"
    for disk in $disks_degrade $disks_async; do
        within 5 is_told "$primary" "$disk" alone 1 || fail "$disk is not alone at $primary"
    done
    sleep_below 300
    end "$primary"
    end_writers
    begin "$secondary"
    promote_all "$secondary"
    kept "$secondary" lone
    begin "$primary"
    for disk in $disks_degrade $disks_async; do
        within 10 is_told "$primary" "$disk" split 1 || fail_of "$disk" "no split brain is seen"
        within 5 is_told "$primary" "$disk" role secondary || fail_of "$disk" "the older primary serves on"
        make_room "$primary" "$disk"
        on "$primary" replication discard "$disk" >/dev/null || fail_of "$disk" "it cannot be given up"
    done
    primary=$secondary
}

# hand_all_over: to the secondary, which is the primary then.
hand_all_over() {
    for disk in $disks; do
        on "$primary" replication handover "$disk" >"$work/handed" 2>&1 ||
            fail "run $run, SEED $SEED: no handover of $disk: $(cat "$work/handed")"
    done
    primary=$(other_half "$primary")
    # What it has in its journal is in the image when it serves.
    for disk in $disks; do
        within 20 is_told "$primary" "$disk" serving 1 || fail_of "$disk" "$primary does not serve $disk after a handover"
    done
}

hand_over() {
    end_writers
    hand_all_over
    kept "$primary" serving
}

# --- all of it ---
run_faults() {
    begin gw-a
    begin gw-b
    within 10 are_connected || fail "no connection"
    primary=gw-a run=0 fault="the beginning"
    promote_all gw-a
    are_all_equal
    # shellcheck disable=SC2086 # one space between
    FAULTS=$(echo $FAULTS) fault_count=$(echo $FAULTS | wc -w)
    while [ $run -lt "$RUNS" ]; do
        run=$((run + 1))
        secondary=$(other_half "$primary")
        below "$fault_count"
        fault=$(echo "$FAULTS" | cut -d' ' -f$((number + 1)))
        start_writers
        sleep_below 700
        $fault
        are_all_equal
        for disk in $disks; do
            make_room gw-a "$disk"
            make_room gw-b "$disk"
        done
        echo "$run: $fault; $acknowledged acknowledged so far, $lost of them lost where they may be"
    done
    "${@:-true}"
    [ $dropped_seals -eq 0 ] || echo "of $dropped_seals seals with $sealed_grains grains that were dropped" \
        "$unpruned_seals held nothing but what is on the disk, and $unpruned_grains grains were the same"
    [ -z "$power" ] || echo "$not_durable sectors were not durable at a power cut, $went_back of them went back"
    for name in gw-a gw-b; do
        pair_kill $name TERM || {
            tail -n 20 "$work/$name/log"
            fail "$name did not stop cleanly"
        }
    done
}
