#!/bin/sh
# First process of the VM that is measured: loads the drivers, sets up QEMU's user network, and runs each line that
# comes over the serial console. Before and after what a line prints stand marks that the other side waits for.
PATH=/usr/bin:/usr/sbin:/bin
export PATH
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o size=75% tmp /tmp
while read -r name; do insmod "/mod/$name.ko"; done < /mod/order
hostname bench
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
stty -echo -icrnl -onlcr < /dev/ttyS0
exec < /dev/ttyS0 > /dev/ttyS0 2>&1
echo "@bench-up"
while read -r line; do
    echo "@bench-begin"
    sh -c "$line"
    echo "@bench-end $?"
done
poweroff -f
