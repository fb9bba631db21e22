#!/bin/sh
# A decoder that writes without end, where its last argument says or on standard output.
for out; do :; done
if [ -n "$out" ]; then exec yes >"$out"; else exec yes; fi
