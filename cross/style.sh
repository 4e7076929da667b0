#!/usr/bin/env bash
# style.sh width|shellcheck: what has to hold of texts and scripts beside rustfmt and clippy.
source "$(dirname "$0")/lib.sh"
cd "$root"

# too_wide FILE...: lines of more than 110 columns, but for those that cannot be broken or are records:
#   - one word, such as an address of the web, behind whatever begins a comment;
#   - a row of a table in Markdown;
#   - in configuration, a key with its value, and an example of a log (#+, #-, #=), which are one line each;
#   - in Rust, a raw string that has a line for itself: a record, as another program writes it;
#   - in a script, a file that it writes (a here-document), and an argument in quotes that begins the line.
too_wide() {
    # In columns, not in bytes.
    LC_ALL=C.UTF-8 grep -nE '^.{111}' /dev/null "$@" | awk -F : '
        {
            file = $1
            number = $2
            text = substr($0, length(file) + length(number) + 3)
        }
        text ~ /^[ \t]*((\/\/[\/!]?|#|\.\\"|[-*]) )?[^ \t]+$/ { next }
        file ~ /\.md$/ && text ~ /^\|/ { next }
        file ~ /\.conf$/ && text ~ /^(#[-+=](\[[a-z]+\])? |(# *)?[a-z_]+(\[[a-z]+\])?(@[0-9]+)?=)/ { next }
        file ~ /\.rs$/ && text ~ /^ *b?r#*".*"#*,?$/ { next }
        file ~ /\.sh$/ && (in_document(file, number) || text ~ /^[ \t]*["\047]/) { next }
        { print file ":" number ": " text; found = 1 }
        END { exit found }
        # Whether that line of a script is in a here-document.
        function in_document(file, number, line, at, ends) {
            if (file != read) {
                delete inside
                ends = ""
                read = file
                for (at = 1; (getline line < file) > 0; at++) {
                    if (ends != "") {
                        inside[at] = 1
                        sub(/^\t+/, "", line)
                        if (line == ends) ends = ""
                    } else if (line !~ /<<</ && match(line, /<<-?["\047]?[A-Za-z]+/)) {
                        ends = substr(line, RSTART, RLENGTH)
                        gsub(/[^A-Za-z]/, "", ends)
                    }
                }
                close(file)
            }
            return number in inside
        }'
}

case ${1:?usage: style.sh width|shellcheck} in
    width)
        mapfile -t files < <(git ls-files '*.rs' '*.sh' '*.md' '*.conf' .ci/run 'rootfs/usr/share/man/*')
        [ ${#files[@]} -gt 100 ] || die "there are no files to look at: this is no clone"
        too_wide "${files[@]}" || die "these lines are too wide: 110 columns at most"
        # The rule finds what it is for.
        probe=$(mktemp --suffix .rs)
        trap 'rm -f "$probe"' EXIT
        printf '// %0111d x\n// %0111d\n' 1 2 >"$probe"
        [ "$(too_wide "$probe" | wc -l)" = 1 ] || die "the width of lines is not checked rightly"
        ;;
    shellcheck)
        mapfile -t scripts < <(git ls-files '*.sh' .ci/run tests/vm/init tests/vm/initramfs)
        # SC2317: functions are called by their names, which shellcheck takes for no call at all.
        shellcheck -x -P SCRIPTDIR -P SCRIPTDIR/.. -P SCRIPTDIR/../.. -e SC2317 "${scripts[@]}"
        ;;
    *) die "style.sh knows width and shellcheck" ;;
esac
