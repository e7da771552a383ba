#!/bin/sh
# Runs commands that come over the second serial port: a line "BYTES\n" and so many bytes of script, answered by
# "STATUS BYTES\n" and so many bytes of output.
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while read -r count <&3; do
  head -c "$count" <&3 > /tmp/.command
  sh /tmp/.command < /dev/null > /tmp/.output 2>&1
  status=$?
  echo "$status $(wc -c < /tmp/.output)" >&3
  cat /tmp/.output >&3
done
