#!/bin/sh
# First process of Innkeeper's demo VM: loads the drivers, answers the power button, and keeps the
# machine gently busy so that every chart has something to show.
PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o size=75% tmp /tmp
while read -r name; do insmod "/mod/$name.ko"; done < /mod/order
hostname demo-vm
acpid -c /etc/acpi -p /tmp/acpid.pid -l /tmp/acpid.log
ip link set lo up
option() { sed -n "s/.*innkeeper\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    address=$(option address)
    [ -n "$address" ] && ip addr add "$address" dev eth0
fi
echo "innkeeper demo: up after $(cut -d' ' -f1 /proc/uptime) s, $(uname -r), $(nproc) CPU"

spin() {  # $1: rounds of pure CPU work
    n=0
    while [ $n -lt "$1" ]; do n=$((n + 1)); done
}

breathe() {  # CPU: a slow wave, each beat a longer or shorter burst
    while :; do
        for burst in 1 2 3 5 8 10 8 5 3 2 1 1; do
            spin $((burst * 1500))
            sleep 0.3
        done
    done
}

fill() {  # memory: take 8 MiB at a time up to 64, then give them back
    while :; do
        for part in 1 2 3 4 5 6 7 8; do
            dd if=/dev/zero of=/tmp/part$part bs=1M count=8 2> /dev/null
            sleep 4
        done
        rm -f /tmp/part*
        sleep 4
    done
}

scribble_once() {  # disk: write so many MiB past the page cache and read half of them back
    dd if=/dev/zero of=/dev/vda bs=256k count=$(($1 * 4)) oflag=direct conv=notrunc 2> /dev/null
    dd if=/dev/vda of=/dev/null bs=256k count=$(($1 * 2)) iflag=direct 2> /dev/null
}

scribble() {
    while :; do
        for megabytes in 1 2 4 2 1; do
            scribble_once $megabytes
            sleep 2
        done
    done
}

chatter() {  # network: one large ping a second to whoever shares the link
    while :; do
        ping -6 -q -s 1000 -c 30 -I eth0 ff02::1 > /dev/null 2>&1 || sleep 5
    done
}

case "$(option load)" in
    none) ;;
    disk) while :; do scribble_once 8; done & ;;
    cpu) while :; do :; done & ;;
    *)
        breathe & fill &
        [ -b /dev/vda ] && scribble &
        [ -e /sys/class/net/eth0 ] && chatter &
        (while sleep 10; do
            echo "innkeeper demo: $(date +%T) load $(cut -d' ' -f1-3 /proc/loadavg)," \
                "$(free -m | awk '/^Mem/ { print $4 }') MiB free"
        done > /dev/console) &
        ;;
esac
while :; do setsid cttyhack sh; sleep 1; done
