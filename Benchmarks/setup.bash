# Sourced by the scripts of this folder: installing what is missing, with apt-get, as root or by sudo.

install_missing() { # packages...
    if [ $# -eq 0 ]; then return 0; fi
    local as_root=() cluster=/etc/postgresql-common/createcluster.conf is_first=false status=0
    echo "Missing, to be installed with apt-get: $*" >&2
    if ! command -v apt-get >/dev/null; then
        echo "There is no apt-get here; install the equivalents of these Debian packages and start again." >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "That needs root or sudo. As root: apt-get install $*" >&2
            return 1
        fi
        as_root=(sudo)
        if [ ! -t 0 ]; then as_root+=(-n); fi
    fi
    apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends "$@" >&2; }
    apt update || echo "apt-get update failed; trying with the lists there are" >&2
    if [[ " $* " == *" postgresql "* ]] && [ ! -e "$cluster" ]; then
        # Benchmarks start servers of their own: no cluster is to be made and started by the package, this once.
        is_first=true
        apt install postgresql-common
        "${as_root[@]}" sed -i 's/^#create_main_cluster = .*/create_main_cluster = false/' "$cluster"
    fi
    apt install "$@" || status=$?
    if $is_first; then
        "${as_root[@]}" sed -i 's/^create_main_cluster = false/#create_main_cluster = true/' "$cluster"
    fi
    if [ "$status" -ne 0 ]; then echo "apt-get install failed" >&2; fi
    return "$status"
}

has_server() {
    local folder
    if [ -n "${POSTGRES_BIN:-}" ]; then
        [ -x "$POSTGRES_BIN/initdb" ] && [ -x "$POSTGRES_BIN/postgres" ]
        return
    fi
    if command -v initdb >/dev/null && command -v postgres >/dev/null; then return 0; fi
    for folder in /usr/lib/postgresql/*/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then return 0; fi
    done
    return 1
}

# Sets `program` to the release build. Further packages are checked for by the caller. LIBPQ names the folder of another
# libpq.so.5 than the system's: what is built runs with it, and tells its version.
build_benchmarks() { # folder, further packages...
    local folder=$1 packages=("${@:2}")
    if ! command -v swift >/dev/null; then
        echo "There is no 'swift' in PATH. Install a Swift 6.2 or later toolchain: https://www.swift.org/install/" >&2
        return 1
    fi
    command -v pkg-config >/dev/null || packages+=(pkg-config)
    [ -e /usr/include/openssl/ssl.h ] || packages+=(libssl-dev)
    [ -e /usr/include/postgresql/libpq-fe.h ] || pkg-config --exists libpq 2>/dev/null || packages+=(libpq-dev)
    has_server || packages+=(postgresql)
    install_missing "${packages[@]}" || return 1
    echo "Building (release) ..." >&2
    swift build -c release --package-path "$folder" --product upsert-bench >&2 || return 1
    program=$(swift build -c release --package-path "$folder" --show-bin-path)/upsert-bench
    if [ -n "${LIBPQ:-}" ]; then
        if [ ! -e "$LIBPQ/libpq.so.5" ]; then
            echo "There is no libpq.so.5 in $LIBPQ, which LIBPQ names." >&2
            return 1
        fi
        export LD_LIBRARY_PATH="$LIBPQ${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
}
