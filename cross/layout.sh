#!/usr/bin/env bash
# layout.sh MAP: whether every function that link.ld names is there, by the linker's map of the last build.
# One that was renamed is no error to the linker, and costs 8 kB of the idle daemon's memory.
source "$(dirname "$0")/lib.sh"
map=${1:?usage: layout.sh MAP}
missing=0
# The map shows the script itself, too.
sections=$(grep -v '\*(' "$map")
while read -r pattern; do
    # What is a star to the linker is anything within a name.
    expression=$(sed -e 's/[.[\]$^]/\\&/g' -e 's/\*/[^ ]*/g' <<<"$pattern")
    if ! grep -qE "(^| )$expression( |\$)" <<<"$sections"; then
        say "link.ld: nothing of the program is called $pattern"
        missing=1
    fi
done < <(grep -oE '\.(text|rodata)\.\*[A-Za-z0-9_*]+' "$root/cross/link.ld" | sort -u)
[ "$missing" = 0 ]
