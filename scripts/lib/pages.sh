# shellcheck shell=bash
# The blocks of the documentation that tests/docs does not run: those that change the system (`sh,system,id=NAME`),
# for tests that have one to change, and those that take minutes (`sh,minutes,id=NAME`).

# block PAGE ID: its text.
block() {
    awk -v id="id=$2" '
        /^```/ && inside { exit }
        inside { print; found = 1 }
        /^```/ { count = split(substr($0, 4), words, ","); for (i = 2; i <= count; i++) inside = inside || words[i] == id }
        END { exit !found }
    ' "$root/$1" || die "$1 has no block with id=$2"
}

# follow PAGE ID [OPTION]: does what it says, from where the reader is; with an option behind its last command.
follow() {
    local text
    text=$(block "$1" "$2")${3:+ $3}
    step "$1: ${text//$'\n'/; }"
    bash -euo pipefail -c "$text" </dev/null
}
