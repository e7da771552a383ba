#!/bin/sh
# The first process of a guest: file systems, a workload to look at, and the agent that runs the lab's commands.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /tmp
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
hostname grass-guest
for module in $(cat /etc/modules); do insmod "/modules/$module"; done
if [ -d /disk ]; then
  # Debian takes over, with the agent and the laboratory's programs as if they had been installed.
  mount -t ext4 /dev/vda /disk
  cp /bin/agent /disk/usr/local/bin/
  [ ! -x /bin/breaker ] || cp /bin/breaker /disk/usr/local/bin/
  [ ! -x /bin/workload ] || cp /bin/workload /etc/workload /disk/usr/local/bin/
  cp -r /modules /disk/
  cp /etc/agent.service /disk/etc/systemd/system/
  mkdir -p /disk/etc/systemd/system/multi-user.target.wants
  ln -s ../agent.service /disk/etc/systemd/system/multi-user.target.wants/
  for mounted in /dev/shm /dev/pts /tmp /dev /sys /proc; do umount "$mounted"; done
  exec switch_root /disk /sbin/init
fi
if [ -e /etc/address ]; then
  ip link set lo up
  ip link set eth0 up
  ip addr add "$(cat /etc/address)/24" dev eth0
  rdma link add rxe0 type rxe netdev eth0
fi
echo 0 > /proc/sys/kernel/hung_task_timeout_secs 2>/dev/null
[ -x /bin/workload ] && /bin/workload $(cat /etc/workload) > /dev/console 2>&1
/bin/agent &
# Reaps whatever loses its parent.
while :; do wait; sleep 1; done
