#!/usr/bin/env bash
# install.sh PROGRAM DIRECTORY: puts mef, its other names and the files of rootfs/ below DIRECTORY.
# A configuration file that is there already stays as it is. The service rules are inside the program: a copy
# in rules.d would take their place, and would not change with the program.
source "$(dirname "$0")/lib.sh"
program=${1:?usage: install.sh PROGRAM DIRECTORY}
to=${2:-}

install -D -m 755 "$program" "$to/usr/sbin/mef"
for name in mefdaemon mefctl; do
    ln -sfn mef "$to/usr/sbin/$name"
done

cd "$root/rootfs" 2>/dev/null || exit 0
find . -type f -not -path './etc/mef/rules.d/*' | while read -r file; do
    file=${file#./}
    case $file in etc/*) [ ! -e "$to/$file" ] || continue ;; esac
    mode=644
    [ ! -x "$file" ] || mode=755
    install -D -m "$mode" "$file" "$to/$file"
done
install -d -m 755 "$to/etc/mef/rules.d"
