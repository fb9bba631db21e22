#!/bin/sh
# A decoder that takes 64 MiB of memory, and says so if it gets them.
x=0123456789abcdef
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do x=$x$x; done
echo got them
