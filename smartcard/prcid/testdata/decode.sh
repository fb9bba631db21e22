#!/bin/sh
# Stands in for a program that knows WLT: a bitmap two pixels wide and one high,
# of the photo's first bytes, or one that claims 258 by 65537 pixels, or none.
width='\002\0' height='\001\0\0'
case $1 in
large) width='\002\001' height='\001\0\001' ;;
text) echo no image; exit ;;
fail) exit 3 ;;
esac
printf 'BM\076\0\0\0\0\0\0\0\066\0\0\0\050\0\0\0'"$width"'\0\0'"$height"'\0\001\0\030\0\0\0\0\0\010\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
head -c 6
printf '\0\0'
