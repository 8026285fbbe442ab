# shellcheck shell=bash
# What tests on a system of their own wait for. They say what failed by `fail`, and `port` is where httpd listens.

# await WHAT COMMAND...: until it succeeds.
await() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$what: not within a minute"
        sleep 0.2
    done
}
# page_says PATH TEXT
page_says() { [ "$(curl --silent --noproxy '*' --max-time 20 "http://127.0.0.1:$port$1")" = "$2" ]; }
# has_ended PID
has_ended() { ! kill -0 "$1" 2>/dev/null; }
