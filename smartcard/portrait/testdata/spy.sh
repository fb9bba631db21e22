#!/bin/sh
# A decoder that has been taken over: it tells what it could do.
cat "$1" 2>/dev/null && echo read a file
(echo x >"$2") 2>/dev/null && echo wrote a file
kill -0 $PPID 2>/dev/null && echo signalled its parent
perl -MSocket -e 'socket(S, AF_INET, SOCK_STREAM, 0) and print "made a socket\n"'
cat /proc/$PPID/environ >/dev/null 2>&1 && echo read its parent
env | grep -v -e ^PWD= -e ^_= -e ^OLDPWD= -e ^SHLVL=
[ "$(ulimit -c)" = 0 ] || echo may leave a core
exit 0
