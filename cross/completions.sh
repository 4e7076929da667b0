#!/usr/bin/env bash
# completions.sh MEF DIRECTORY: writes the completions for bash, zsh and fish below DIRECTORY, made from what
# MEF says of its commands and options itself.
source "$(dirname "$0")/lib.sh"
program=${1:?usage: completions.sh MEF DIRECTORY}
to=${2:?usage: completions.sh MEF DIRECTORY}

# What is offered for a value, by its kind.
choices="init auto systemd openrc runit s6 procd sysvinit busybox none;"
choices+="family inet ip ip6 arp bridge netdev;scope boot daemon lifetime;time 10m 1h 1d 7d 30d"
# For awk: makes of it the array `offered`.
readonly known='
    BEGIN {
        count_of_kinds = split(choices, lines, ";")
        for (i = 1; i <= count_of_kinds; i++) {
            kind = substr(lines[i], 1, index(lines[i], " ") - 1)
            offered[kind] = substr(lines[i], length(kind) + 2)
        }
    }'

# From the help: lines of COMMAND, then `about` TEXT, `operand` NAME, or an option with what it takes and its
# description, between tabs.
facts() {
    local command
    "$program" help | awk '/^  [a-z]/ { name = $1; sub(/^ *[a-z-]+ */, ""); print name "\tabout\t\t" $0 }'
    for command in $("$program" help | awk '/^  [a-z]/ { print $1 }'); do
        "$program" "$command" --help | awk -v command="$command" '
            NR == 1 {
                if (match($0, /\[--\] \[<[A-Za-z ]+/))
                    print command "\toperand\t\t" substr($0, RSTART + 7, RLENGTH - 7)
                while (match($0, /\[--[a-z0-9-]+ <[^>]*>/)) {
                    split(substr($0, RSTART + 1, RLENGTH - 2), pair, " <")
                    takes[pair[1]] = pair[1] ~ /^--(rule|init)$/ ? substr(pair[1], 3) : pair[2]
                    $0 = substr($0, RSTART + RLENGTH)
                }
            }
            /^[A-Z]/ { part = $1 }
            part != "Options:" { next }
            /^  -/ {
                show()
                option = $1 == "-h," ? $2 : $1
                sub(/^  (-h, )?--[a-z0-9-]+ */, "")
                text = $0
                next
            }
            /^    / { sub(/^ */, ""); text = text " " $0 }
            /^$/ { show() }
            function show() {
                if (option != "") print command "\t" option "\t" takes[option] "\t" text
                option = ""
            }'
    done
}

# The commands, and for each its options and what its operands are.
bash_words() {
    awk -F '\t' '
        $2 == "about" { commands = commands " " $1; order[++count] = $1; next }
        $2 == "operand" { operands[$1] = $4; next }
        { options[$1] = options[$1] " " $2 }
        END {
            printf "    local commands=\"%s help\"\n    case ${words[1]} in\n", substr(commands, 2)
            for (i = 1; i <= count; i++)
                printf "    %s) options=\"%s\" operands=\"%s\" ;;\n", order[i], \
                    substr(options[order[i]], 2), operands[order[i]]
            print "    esac"
        }' <<<"$facts"
    printf '    case %s in\n' "\$before"
    # Options that take something take the same kind of thing wherever they stand.
    awk -F '\t' '
        $3 != "" && !seen[$2]++ { names[$3] = names[$3] (names[$3] == "" ? "" : " | ") $2; last[$3] = $3 }
        END { for (kind in names) print "    " names[kind] ") kind=\x27" kind "\x27 ;;" }' <<<"$facts" |
        sort
    echo '    esac'
}

write_bash() {
    cat <<'END'
# bash completion for mef. Made by cross/completions.sh from mef's own help: do not edit.

# What stands for KIND, one a line.
_mef_words() {
    case $1 in
    "RULE FILE" | rule | NAME) _mef_rules ;;
END
    tr ';' '\n' <<<"$choices" | sed "s/^\([a-z]*\) \(.*\)/    \1) printf '%s\\\\n' \2 ;;/"
    cat <<'END'
    BANNED) mef bans --json 2>/dev/null | sed -n 's/^{"address":"\([^"]*\)".*/\1/p' ;;
    esac
}

_mef_rules() {
    mef rules --json 2>/dev/null | sed -n 's/^{"rule":"\([^"]*\)".*/\1/p'
}

_mef() {
    COMPREPLY=()
    local line=${COMP_LINE:0:COMP_POINT} options='' operands='' kind='' words word before
    read -ra words <<<"$line"
    # What bash has quoted is compared without its quotes.
    word=${line##*[[:space:]]} word=${word//\\/}
    [[ -n $word ]] && unset 'words[-1]'
    before=${words[-1]}
END
    bash_words
    cat <<'END'
    if ((${#words[@]} == 1)) || [[ ${words[1]} == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
        return
    fi
    if [[ -z $kind && $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        return
    fi
    [[ -n $kind ]] || kind=$operands
    [[ ${words[1]} == test && $kind == "RULE FILE" && ${#words[@]} -gt 2 && $before != -* ]] && kind=FILE
    [[ ${words[1]} =~ ^(unban|bans|why|history)$ && $kind == ADDR* ]] && kind=BANNED
    case $kind in
    file | FILE*)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        ;;
    dir)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        ;;
    *)
        local known
        while read -r known; do
            [[ $known == "$word"* ]] && COMPREPLY+=("$known")
        done < <(_mef_words "$kind")
        ;;
    esac
    # The colons of IPv6 addresses are word breaks to bash: what stands before the last one is there already.
    local typed=${word%"${word##*:}"}
    COMPREPLY=("${COMPREPLY[@]#"$typed"}")
}

complete -F _mef mef
END
}

write_zsh() {
    cat <<'END'
#compdef mef
# zsh completion for mef. Made by cross/completions.sh from mef's own help: do not edit.

_mef_rules() {
    local -a rules
    rules=(${(f)"$(mef rules --json 2>/dev/null | sed -n 's/^{"rule":"\([^"]*\)".*/\1/p')"})
    _describe 'service rule' rules
}

_mef_banned() {
    local -a banned
    banned=(${(f)"$(mef bans --json 2>/dev/null | sed -n 's/^{"address":"\([^"]*\)".*/\1/p')"})
    compadd -a banned
}

_mef() {
    local -a commands
    commands=(
END
    awk -F '\t' '$2 == "about" { printf "        %s\n", quoted($1 ":" $4) }
        function quoted(text) { gsub(/\x27/, "\x27\\\x27\x27", text); return "\x27" text "\x27" }' <<<"$facts"
    cat <<'END'
        'help:what a command does'
    )
    if ((CURRENT == 2)) || [[ ${words[2]} == help ]]; then
        _describe command commands
        return
    fi
    local command=${words[2]}
    shift words
    ((CURRENT--))
    case $command in
END
    awk -F '\t' -v choices="$choices" "$known"'
        $2 == "about" { order[++count] = $1; next }
        $2 == "operand" { operands[$1] = $4; next }
        {
            text = $4
            gsub(/\\/, "\\\\", text)
            gsub(/\[/, "\\[", text)
            gsub(/\]/, "\\]", text)
            gsub(/:/, "\\:", text)
            gsub(/\x27/, "\x27\\\x27\x27", text)
            options[$1] = options[$1] sprintf(" \\\n            \x27%s[%s]%s\x27", $2, text, value($3))
        }
        function value(kind) {
            if (kind == "") return ""
            if (kind == "file") return ":" kind ":_files"
            if (kind == "dir") return ":" kind ":_files -/"
            if (kind in offered) return ":" kind ":(" offered[kind] ")"
            if (kind == "rule") return ":" kind ":_mef_rules"
            return ":" kind ": "
        }
        function operand(command) {
            kind = operands[command]
            if (kind == "") return ""
            if (kind == "RULE FILE") return " \\\n            \x271:rule:_mef_rules\x27 \x27*:file:_files\x27"
            if (kind == "NAME") return " \\\n            \x271:rule:_mef_rules\x27"
            if (kind ~ /^FILE/) return " \\\n            \x27*:file:_files\x27"
            if (command !~ /^(unban|bans|why|history)$/) return ""
            return " \\\n            \x27*:address:_mef_banned\x27"
        }
        END {
            for (i = 1; i <= count; i++)
                printf "    %s)\n        _arguments%s%s\n        ;;\n", order[i], options[order[i]], \
                    operand(order[i])
        }' <<<"$facts"
    printf '    esac\n}\n\n_mef "$@"\n'
}

write_fish() {
    cat <<'END'
# fish completion for mef. Made by cross/completions.sh from mef's own help: do not edit.

function __mef_rules
    mef rules --json 2>/dev/null | string replace -rf '^\{"rule":"([^"]*)".*' '$1'
end

function __mef_banned
    mef bans --json 2>/dev/null | string replace -rf '^\{"address":"([^"]*)".*' '$1'
end

complete -c mef -f
complete -c mef -n '__fish_is_first_arg' -a help -d 'what a command does'
END
    awk -F '\t' -v choices="$choices" "$known"'
        function quoted(text) { gsub(/[\\\x27]/, "\\\\&", text); return "\x27" text "\x27" }
        $2 == "about" {
            printf "complete -c mef -n \x27__fish_is_first_arg\x27 -a %s -d %s\n", $1, quoted($4)
            printf "complete -c mef -n \x27__fish_seen_subcommand_from help\x27 -a %s\n", $1
            next
        }
        { seen = "complete -c mef -n \x27__fish_seen_subcommand_from " $1 "\x27" }
        $2 == "operand" {
            if ($4 == "RULE FILE") print seen " -a \x27(__mef_rules)\x27 -F"
            else if ($4 == "NAME") print seen " -a \x27(__mef_rules)\x27"
            else if ($4 ~ /^FILE/) print seen " -F"
            else if ($1 ~ /^(unban|bans|why|history)$/) print seen " -a \x27(__mef_banned)\x27"
            next
        }
        {
            value = ""
            if ($3 == "file" || $3 == "dir") value = " -r -F"
            else if ($3 in offered) value = " -x -a \x27" offered[$3] "\x27"
            else if ($3 == "rule") value = " -x -a \x27(__mef_rules)\x27"
            else if ($3 != "") value = " -x"
            printf "%s -l %s%s -d %s\n", seen, substr($2, 3), value, quoted($4)
        }' <<<"$facts"
}

facts=$(facts)
mkdir -p "$to/bash-completion/completions" "$to/zsh/site-functions" "$to/fish/vendor_completions.d"
write_bash >"$to/bash-completion/completions/mef"
write_zsh >"$to/zsh/site-functions/_mef"
write_fish >"$to/fish/vendor_completions.d/mef.fish"
