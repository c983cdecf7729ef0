# What the scripts of this folder share; they source it. Each one is for one S3 server on loopback:
#
#   NAME.sh start   starts it in the background and prints shell commands for `eval`: how to reach it, and as whom
#   NAME.sh stop    ends it and removes its data
#   NAME.sh run     the same two, for as long as standard input is open; prints `name=value` lines, then `ready`
#
# A script says in `serve` what is to be launched, and in `make_bucket` how a bucket comes to be. Ports are free ones
# (PORT=9000 chooses that of S3). Programs are those that tests/run.sh installs.
set -euo pipefail

name=$(basename "$0" .sh)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
tools=$target/test-tools
bucket=lfs-test
access_key=testkey0testkey0
secret_key=testsecret0testsecret0

fail() { printf '%s.sh: %s\n' "$name" "$*" >&2; exit 1; }

# Finds a program: by the variable that tests/run.sh sets, else where it installs to.
find_tool() {
    local variable=$1 place=$2 path
    path=${!variable:-$tools/$place}
    [[ -x $path ]] || fail "there is no $path: run tests/run.sh once, which installs it"
    realpath "$path"
}

# Prints so many free ports, held together until all are known, so that they differ.
free_ports() {
    python3 - "$1" << 'END'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
END
}

# Starts a program of the server under a name of its own. Its log is beside its data.
launch() {
    local part=$1
    shift
    "$@" > "$dir/$part.log" 2>&1 < /dev/null &
    echo $! > "$dir/$part.pid"
    disown
}

answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# Waits until a command works; shows the logs if it never does, or if a program of the server has ended.
wait_for() {
    local tries file
    for ((tries = 0; tries < 600; tries++)); do
        if "$@" > /dev/null 2>&1; then
            return
        fi
        for file in "$dir"/*.pid; do
            kill -0 "$(< "$file")" 2> /dev/null || break 2
        done
        sleep 0.1
    done
    tail -n 20 "$dir"/*.log >&2
    stop
    fail "does not start"
}

# Ends what was launched, and nothing else: a number may belong to somebody else by now.
stop() {
    local file pid
    for file in "$dir"/*.pid; do
        [[ -e $file ]] || continue
        pid=$(< "$file")
        if ps -p "$pid" -o args= 2> /dev/null | grep --quiet --fixed-strings "$dir"; then
            kill -KILL "$pid" 2> /dev/null || true
            while kill -0 "$pid" 2> /dev/null; do sleep 0.02; done
        fi
    done
    rm -rf "$dir"
}

start() {
    mkdir -p "$dir/data"
    port=${PORT:-$(free_ports 1)}
    serve
    wait_for answers "$port"
    wait_for make_bucket
}

url() { echo "http://127.0.0.1:$port"; }

main() {
    case ${1:-} in
        start)
            dir=$target/test-servers/$name
            [[ ! -e $dir ]] || fail "runs already, or did not end well: $0 stop"
            start >&2
            cat << END
export AWS_ACCESS_KEY_ID=$access_key AWS_SECRET_ACCESS_KEY=$secret_key AWS_REGION=us-east-1
export STORE='s3://$bucket/demo?endpoint=$(url)'
END
            ;;
        stop)
            dir=$target/test-servers/$name
            stop
            ;;
        run)
            dir=$(mktemp -d "${TMPDIR:-/tmp}/lfs-delta-$name.XXXXXX")
            trap stop EXIT
            start >&2
            printf '%s\n' "url=$(url)" "access_key=$access_key" "secret_key=$secret_key" "bucket=$bucket" "dir=$dir"
            echo ready
            cat > /dev/null
            ;;
        *)
            sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
            fail "expected start, stop or run"
            ;;
    esac
}
