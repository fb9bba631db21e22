#!/bin/sh
# Stands in for a program that knows WLT: a bitmap two pixels wide and one high,
# of the photo's first bytes. The argument is the width that it claims.
case $1 in
text) echo no image; exit ;;
fail) exit 3 ;;
esac
printf 'BM\076\0\0\0\0\0\0\0\066\0\0\0\050\0\0\0'"\\$1"'\0\0\0\001\0\0\0\001\0\030\0\0\0\0\0\010\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
head -c 6
printf '\0\0'
