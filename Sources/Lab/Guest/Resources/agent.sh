#!/bin/sh
# Runs commands that come over the second serial port: a line "NUMBER BYTES\n" and so many bytes of script, answered by
# "NUMBER STATUS BYTES\n" and so many bytes of output.
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while read -r number count <&3; do
  # Byte by byte: what reads in blocks takes the start of the next command too, and throws it away.
  dd bs=1 count="$count" <&3 > /tmp/.command 2> /dev/null
  sh /tmp/.command < /dev/null > /tmp/.output 2>&1
  status=$?
  echo "$number $status $(wc -c < /tmp/.output)" >&3
  cat /tmp/.output >&3
done
