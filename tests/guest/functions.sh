# SPDX-License-Identifier: BSD-3-Clause
# functions.sh: sourced after tests/functions.sh by the tests that boot a Linux guest.  The guest is
# Debian's own kernel with the modules a test asks for and an archive of busybox and the programs a
# test asks for; QEMU emulates the processor, so no test depends on /dev/kvm.  Its serial console is
# a shell that the test talks to.
#
#   guest_kernel                       downloads and unpacks the kernel package, once a build folder
#   guest_archive FILE ITEM...         the archive it boots from: modules, programs and files
#   guest_files FILE [FOLDER...] a tar archive of a real tree, the kernel package's own modules
#   guest_packages NAME...       downloads and unpacks packages, once a build folder; their programs go into archives
#                                without being installed here
#   guest_boot FILE QEMU-ARGUMENT...   starts it with this archive; ready when it returns
#   guest SECONDS COMMAND              runs a command in it; its output and exit code are the guest's
#   guest_start COMMAND                the same without waiting; then guest_wait $guest_job SECONDS
#   guest_off SECONDS                  shuts it down
#
# A test that boots two guests at a time sources this in two subshells.

guest_folder=$top_builddir/tests/guest/kernel
guest_unpacked=$guest_folder/packages
guest_console=$work/guest.console
guest_pid=

guest_requires() {
    [ "$(uname -m)" = x86_64 ] || {
        echo "the guest is an x86-64 one: its kernel package is not among this machine's"
        exit 77
    }
    PATH=$PATH:/usr/sbin:/sbin
    requires qemu-system-x86_64 apt-get dpkg-deb busybox cpio depmod modprobe xz "$@"
}

# Modules of file systems, disks and networks: what a guest of a storage test may ask for.
guest_wanted='./boot/vmlinuz-* ./lib/modules/*/modules.* ./lib/modules/*/kernel/arch ./lib/modules/*/kernel/block
    ./lib/modules/*/kernel/crypto ./lib/modules/*/kernel/fs ./lib/modules/*/kernel/lib ./lib/modules/*/kernel/net
    ./lib/modules/*/kernel/drivers/block ./lib/modules/*/kernel/drivers/scsi ./lib/modules/*/kernel/drivers/md
    ./lib/modules/*/kernel/drivers/virtio ./lib/modules/*/kernel/drivers/net/virtio_net.ko
    ./lib/modules/*/kernel/drivers/net/net_failover.ko'

# The package that the metapackage stands for today; its list may be older than the archive.
guest_download() {
    local name
    name=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$name" ] && (cd "$guest_folder" && apt-get -qq -o APT::Sandbox::User=root download "$name") && [ -f "$guest_folder/$name"_*.deb ]
}

# The kernel itself lies compressed in its boot image (Documentation/x86/boot.rst: setup_sects,
# payload_offset, payload_length); started as such, it is up in half the time.
guest_unpack_image() {
    local image=$1 sectors offset length
    sectors=$(od -An -tu1 -j 0x1f1 -N 1 "$image")
    offset=$(($(od -An -tu4 -j 0x248 -N 4 "$image") + (sectors + 1) * 512))
    length=$(od -An -tu4 -j 0x24c -N 4 "$image")
    # The last four bytes are the length of what comes out.
    tail -c "+$((offset + 1))" "$image" | head -c "$((length - 4))" | xz -dc >"$guest_folder/vmlinux"
}

guest_unpack() {
    local version
    # shellcheck disable=SC2086
    dpkg-deb --fsys-tarfile "$guest_folder"/linux-image-*.deb | (set -f; tar x -C "$guest_folder" --wildcards $guest_wanted) || return 1
    version=$(cd "$guest_folder/lib/modules" && echo *)
    guest_unpack_image "$guest_folder/boot/vmlinuz-$version" && depmod -b "$guest_folder" "$version" 2>/dev/null && echo "$version" >"$guest_folder/version.new" &&
        mv "$guest_folder/version.new" "$guest_folder/version"
}

# Sets guest_version; tests that run at the same time wait for the first one.
guest_kernel() {
    mkdir -p "$guest_folder"
    exec 8>"$guest_folder/lock"
    flock 8
    if [ ! -s "$guest_folder/version" ]; then
        rm -rf "$guest_folder"/lib "$guest_folder"/boot
        [ -f "$(echo "$guest_folder"/linux-image-*.deb)" ] || guest_download || { apt-get -qq update && guest_download; } || {
            echo "the kernel package linux-image-amd64 cannot be downloaded with apt-get"
            exit 77
        }
        guest_unpack || fail "the kernel package cannot be unpacked"
    fi
    exec 8>&-
    guest_version=$(cat "$guest_folder/version")
}

# guest_files FILE [FOLDER...]: a tar archive of a real tree, the package's own modules (default: 45 MiB of them),
# with their sums in SHA256SUMS.
guest_files() {
    local archive=$1
    shift
    [ $# -gt 0 ] || set -- fs lib crypto
    (
        cd "$guest_folder/lib/modules/$guest_version" && find "${@/#/kernel/}" -type f | sort >"$work/names" &&
            xargs sha256sum <"$work/names" >"$work/SHA256SUMS" &&
            tar c -f "$archive" --owner=0 --group=0 -T "$work/names" -C "$work" SHA256SUMS
    ) || fail "no archive of files for the guest"
}

# For a test that asks in vain it is a reason to be skipped.
guest_packages() {
    local name
    mkdir -p "$guest_unpacked"
    exec 8>"$guest_folder/lock"
    flock 8
    for name; do
        [ ! -e "$guest_unpacked/$name.done" ] || continue
        (
            cd "$guest_unpacked" && rm -f "$name"_*.deb
            apt-get -qq -o APT::Sandbox::User=root download "$name" || { apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download "$name"; }
        ) >"$work/download" 2>&1 || {
            echo "the package $name cannot be downloaded with apt-get"
            exit 77
        }
        dpkg-deb -x "$guest_unpacked/$name"_*.deb "$guest_unpacked" || fail "the package $name cannot be unpacked"
        touch "$guest_unpacked/$name.done"
    done
    exec 8>&-
}

# Copies a program and what it is linked with into the tree, each to its own path.
guest_add_program() {
    local file path libraries=$guest_unpacked/usr/lib/x86_64-linux-gnu:$guest_unpacked/lib/x86_64-linux-gnu:$guest_unpacked/lib
    path=$(PATH=$guest_unpacked/usr/sbin:$guest_unpacked/sbin:$guest_unpacked/usr/bin:$guest_unpacked/bin:$PATH command -v "$1") ||
        fail "the guest needs $1, which is not installed"
    for file in "$path" $(LD_LIBRARY_PATH=$libraries ldd "$path" 2>/dev/null | grep -o '/[^ ]*'); do
        path=$guest_tree/${file#"$guest_unpacked"}
        mkdir -p "${path%/*}"
        [ -e "$path" ] || cp -L "$file" "$path"
    done
}

# In the order in which they have to be loaded, each once.
guest_add_module() {
    local word file
    modprobe -d "$guest_folder" -S "$guest_version" --show-depends "$1" >"$work/depends" || fail "the kernel has no module $1"
    while read -r word file _; do
        [ "$word" = insmod ] || continue # the others are built in
        grep -qxF "${file##*/}" "$guest_tree/modules/order" && continue
        cp "$file" "$guest_tree/modules/" && echo "${file##*/}" >>"$guest_tree/modules/order"
    done <"$work/depends"
}

# guest_archive FILE ITEM...: module:NAME, program:NAME, file:HERE:THERE
guest_archive() {
    local archive=$1 item rest
    shift
    guest_tree=$work/guest.tree
    rm -rf "$guest_tree"
    mkdir -p "$guest_tree"/{bin,sbin,dev,etc,proc,sys,tmp,run,mnt,root,modules}
    : >"$guest_tree/modules/order"
    cp "$(command -v busybox)" "$guest_tree/bin/busybox"
    cp "$top_srcdir/tests/guest/init" "$guest_tree/init"
    chmod 755 "$guest_tree/init"
    for item; do
        rest=${item#*:}
        case $item in
        module:*) guest_add_module "$rest" ;;
        program:*) guest_add_program "$rest" ;;
        file:*)
            mkdir -p "$guest_tree/$(dirname "${rest##*:}")"
            cp "${rest%%:*}" "$guest_tree/${rest##*:}"
            ;;
        *) fail "guest_archive knows no $item" ;;
        esac
    done
    (cd "$guest_tree" && find . | cpio --quiet -o -H newc) >"$archive" || fail "no archive"
    rm -rf "$guest_tree"
}

guest_is_alive() {
    local state
    state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$guest_pid/status" 2>/dev/null)
    [ -n "$state" ] && [ "$state" != Z ]
}

guest_fail() {
    tail -n 40 "$guest_console" "$work/qemu.log" >&2
    fail "$@"
}

# A line of the console, or the end of the guest.
guest_said() {
    grep -q "^$1" "$guest_console" || ! guest_is_alive
}

guest_expect() {
    within "$1" guest_said "$2" || guest_fail "the guest did not get to \"$2\" within $1 s"
    grep -q "^$2" "$guest_console" || guest_fail "the guest ended before \"$2\""
}

# No reboot: a panic ends QEMU, and guest_is_alive says so.  The kernel counts ticks while it busily waits, to see
# whether the timer works: on a busy host that is in vain, and it panics.
guest_boot() {
    local archive=$1
    shift
    rm -f "$work/guest.in"
    mkfifo "$work/guest.in"
    : >"$guest_console"
    echo 0 >"$work/guest.job"
    qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -accel "${guest_accel:-tcg,thread=multi}" -cpu max \
        -m "${guest_memory:-256}" -kernel "$guest_folder/vmlinux" -initrd "$archive" \
        -append "console=ttyS0 loglevel=2 panic=-1 mitigations=off nokaslr random.trust_cpu=on audit=0 no_timer_check" \
        -serial stdio "$@" <"$work/guest.in" >"$guest_console" 2>"$work/qemu.log" &
    guest_pid=$!
    children="$children $guest_pid"
    exec 9>"$work/guest.in"
    guest_expect 180 "@@ready"
}

# What the guest's init reads: a number and a command, on one line.
guest_start() {
    guest_job=$(($(cat "$work/guest.job") + 1)) # in a file: a command substitution counts too
    echo "$guest_job" >"$work/guest.job"
    echo "$guest_job $1" >&9
}

# guest_wait JOB SECONDS: prints what the command printed.
guest_wait() {
    local code
    guest_expect "$2" "@@$1 ended "
    sed -n "/^@@$1 begins/,/^@@$1 ended /p" "$guest_console" | sed '1d;$d'
    code=$(sed -n "s/^@@$1 ended //p" "$guest_console")
    return "$code"
}

guest() {
    guest_start "$2"
    guest_wait "$guest_job" "$1"
}

guest_off() {
    echo "0 poweroff -f" >&9
    within "$1" eval '! guest_is_alive' || guest_fail "the guest does not shut down"
    wait "$guest_pid" || guest_fail "QEMU ended with $?"
    exec 9>&-
}
