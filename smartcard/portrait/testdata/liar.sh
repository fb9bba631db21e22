#!/bin/sh
# A decoder that writes another image than it was asked for.
for out; do :; done
printf 'P5\n2 2\n255\nabcd' >"$out"
