# shellcheck shell=bash
# What the tests need beyond a bare Debian 12, from its package registries alone. Sourced by tests/run and .ci/run, from
# the root of the tree.

cache_dir=${TAILRACE_CACHE:-$PWD/.cache}

# What a build needs. deploy/packages, when it is there, is the list that deploy/demo installs from.
build_packages() {
    if [[ -f deploy/packages ]]; then
        sed -e 's/#.*//' deploy/packages
    else
        echo gcc g++ meson ninja-build pkg-config libgrpc-dev libssl-dev libevent-dev libc-ares-dev libjansson-dev libyaml-dev libxxhash-dev \
            libprotobuf-c-dev protobuf-c-compiler libre2-dev libdeflate-dev libcmocka-dev
    fi
}

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "neither root nor sudo: cannot run $*" >&2
        return 1
    fi
}

# one_at_a_time NAME COMMAND...: suites that run side by side install one after the other.
one_at_a_time() {
    local name=$1
    shift
    mkdir -p "$cache_dir"
    (
        flock 9
        "$@" 9>&-
    ) 9>"$cache_dir/.$name.lock"
}

# try_again COMMAND...: a registry, or the way to it, may fail for a moment.
try_again() {
    local pause

    for pause in 5 15 45; do
        if "$@"; then return 0; fi
        echo "failed, again in $pause s: $*" >&2
        sleep "$pause"
    done
    if "$@"; then return 0; fi
    echo "failed four times: $*" >&2
    return 1
}

# apt_get WORD...: waits for another's lock, and says nothing while all is well.
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >/dev/null
}

# Installs those that are missing, and says which.
install_packages() { one_at_a_time packages install_packages_now "$@"; }

install_packages_now() {
    local package missing=()

    for package in "$@"; do
        if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
            missing+=("$package")
        fi
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    echo "installing from Debian: ${missing[*]}"
    try_again install_from_debian "${missing[@]}"
}

install_from_debian() { apt_get update && apt_get install -y --no-install-recommends "$@"; }

# unpack_program PACKAGE PATH: prints where a program of a Debian package is, unpacked into the cache and not installed: the
# package would start a service.
unpack_program() { one_at_a_time packages unpack_program_now "$@"; }

unpack_program_now() {
    local dir=$cache_dir/debian/$1

    if [[ ! -x $dir/$2 ]]; then
        [[ ${install:-yes} ]] || { echo "$1 is not unpacked" >&2; return 1; }
        echo "unpacking from Debian: $1" >&2
        rm -rf "$dir" && mkdir -p "$dir"
        if ! download_into "$dir" "$1" 2>/dev/null; then
            try_again update_and_download "$dir" "$1" || return 1
        fi
        dpkg-deb -x "$dir/$1"_*.deb "$dir" || return 1
    fi
    echo "$dir/$2"
}

download_into() { (cd "$1" && apt-get -qq download "$2") </dev/null >/dev/null; }
update_and_download() { apt_get update && download_into "$@"; }

# Prints the Python of a venv that holds tests/kit/requirements.txt, made anew when that file changes.
make_venv() { one_at_a_time venv make_venv_now; }

make_venv_now() {
    local stamp venv="$cache_dir/venv"

    stamp=$(cksum <tests/kit/requirements.txt)
    if [[ ! -f $venv/stamp || $(<"$venv/stamp") != "$stamp" ]]; then
        echo "installing from PyPI: $(sed -e 's/#.*//' tests/kit/requirements.txt | xargs)" >&2
        rm -rf "$venv"
        mkdir -p "$cache_dir"
        /usr/bin/python3 -m venv "$venv" >&2 || return 1
        try_again "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input -r tests/kit/requirements.txt >&2 </dev/null || return 1
        echo "$stamp" >"$venv/stamp"
    fi
    echo "$venv/bin/python3"
}

# find_go DIR: prints the folder of a `go` that can build the module in DIR. One on the PATH from 1.21 on fetches the
# toolchain that go.mod names by itself. Debian 12's 1.19 does not, but it can fetch that toolchain as a module,
# checksum and all.
find_go() {
    local want module dir minor

    want=$(sed -n -E 's/^toolchain go([0-9.]+)$/\1/p' "$1/go.mod" 2>/dev/null)
    want=${want:-$(sed -n -E 's/^go ([0-9.]+)$/\1/p' "$1/go.mod" 2>/dev/null)}
    [[ $want ]] || { echo "$1/go.mod names no Go version" >&2; return 1; }
    if command -v go >/dev/null; then
        minor=$(cd / && GOTOOLCHAIN=local go env GOVERSION | sed -n -E 's/^go1\.([0-9]+).*/\1/p')
        if ((${minor:-0} >= 21)); then
            dirname "$(command -v go)"
            return 0
        fi
    elif [[ ${install:-yes} ]]; then
        install_packages golang-go >&2 || return 1
    fi
    command -v go >/dev/null || { echo "no go on the PATH" >&2; return 1; }
    module=golang.org/toolchain@v0.0.1-go$want.linux-$(dpkg --print-architecture)
    dir=$cache_dir/go/$module
    one_at_a_time go fetch_go "$want" "$module" "$dir" || return 1
    echo "$dir/bin"
}

download_go() { (cd / && GOMODCACHE=$cache_dir/go GOFLAGS=-modcacherw go mod download "$1") </dev/null >&2; }

fetch_go() { # VERSION MODULE DIR
    [[ ! -x $3/bin/go ]] || return 0
    echo "fetching Go $1 through the module proxy" >&2
    mkdir -p "$cache_dir/go"
    try_again download_go "$2" || return 1
    # A module's files carry no execute bits.
    chmod +x "$3"/bin/* || return 1
    find "$3/pkg/tool" -type f -exec chmod +x {} + || return 1
}
