#!/bin/sh
# A decoder that never ends.
while :; do :; done
