/// The program of the supervisor process, for any POSIX shell.
///
/// Theory of operation: the loop at the end reads commands until end of file; then, or after SIGTERM, `clean_up` runs.
/// Nothing in the loop blocks longer than `initdb` or a copy takes, so the end of the owner is always noticed. `pid`
/// is the postmaster, our own child (`setpriv` and the subshell both exec), or empty. The owner's death in the middle
/// of a command only breaks the answer, and SIGPIPE is ignored.
let supervisorScript = #"""
    set -u
    umask 077
    trap '' PIPE HUP INT
    trap 'clean_up; exit 0' TERM

    bin=$1 user=$2 group=$3 parent=$4
    shift 4
    folder= pid=

    as_server() {
        if [ -n "$user" ]; then
            exec setpriv --reuid "$user" --regid "$group" --clear-groups -- "$@"
        else
            exec "$@"
        fi
    }

    # State and parent of process $1, from /proc: "pid (name) state parent ...".
    look_up() {
        state=gone parent_of=
        line=
        { read -r line < "/proc/$1/stat"; } 2>/dev/null
        [ -n "$line" ] || return 0
        set -- ${line##*) }
        state=$1 parent_of=$2
    }

    running() {
        [ -n "$pid" ] || return 1
        look_up "$pid"
        [ "$parent_of" = "$$" ] || return 1
        case $state in Z|X|gone) return 1 ;; esac
    }

    children_of() {
        for entry in /proc/[0-9]*; do
            look_up "${entry#/proc/}"
            [ "$parent_of" = "$1" ] && printf ' %s' "${entry#/proc/}"
        done
    }

    # SIGKILL for the postmaster and what it started. Stopped first, so that it starts nothing meanwhile.
    kill_all() {
        kill -s STOP "$pid"
        victims=$(children_of "$pid")
        kill -s KILL "$pid"
        [ -z "$victims" ] || kill -s KILL $victims
        wait "$pid"
        pid=
        for victim in $victims; do
            tries=500
            while [ $tries -gt 0 ]; do
                look_up "$victim"
                case $state in Z|X|gone) break ;; esac
                sleep 0.01
                tries=$((tries - 1))
            done
        done
    }

    # A killed postmaster leaves its System V memory segment; its number is on line 7 of the lock file.
    remove_segment() {
        [ -f "$folder/data/postmaster.pid" ] || return 0
        number=0
        while read -r first second; do
            number=$((number + 1))
            [ $number -eq 7 ] && [ -n "$second" ] && ipcrm -m "$second"
        done < "$folder/data/postmaster.pid"
    }

    clean_up() {
        if running; then
            tries=1000
            while running && [ $tries -gt 0 ]; do
                # Again and again: until the postmaster has a handler, it ignores the signal, as all that a shell starts with "&".
                kill -s QUIT "$pid"
                sleep 0.01
                tries=$((tries - 1))
            done
            if running; then kill_all; fi
        fi
        if [ -n "$folder" ]; then
            remove_segment
            cd /
            rm -rf -- "$folder" || { sleep 0.1; rm -rf -- "$folder"; }
        fi
    }

    for place in "$parent" /tmp; do
        folder=$(mktemp -d "$place/pg.XXXXXX") || { folder=; continue; }
        [ -n "$user" ] || break
        chown "$user:$group" "$folder" && (as_server test -x "$folder/.") && break
        rm -rf -- "$folder"
        folder=
    done
    [ -n "$folder" ] || { echo none; exit 1; }
    cd "$folder"
    echo "folder $folder"

    while read -r command argument; do
        case $command in
        initdb)
            (as_server "$bin/initdb" -D "$folder/data" "$@") </dev/null >"$folder/initdb.log" 2>&1
            echo "status $?" ;;
        copy)
            cp -a "$argument" "$folder/data" 2>"$folder/initdb.log"
            echo "status $?" ;;
        start)
            (as_server "$bin/postgres" -D "$folder/data") </dev/null >>"$folder/server.log" 2>&1 &
            pid=$!
            echo "pid $pid" ;;
        signal)
            running && kill -s "$argument" "$pid"
            echo "status $?" ;;
        state)
            if running; then
                echo running
            elif [ -n "$pid" ]; then
                wait "$pid"
                echo "ended $?"
                pid=
            else
                echo "ended 0"
            fi ;;
        kill)
            if running; then kill_all; fi
            echo "status 0" ;;
        *)
            echo "status 127" ;;
        esac
    done
    clean_up
    """#
