#!/bin/sh
# A decoder that leaves a process behind, and its number.
sleep 600 &
echo $!
