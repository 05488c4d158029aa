# shellcheck shell=bash
# Functions that the scripts here share. They source this file.

say() { printf '%s\n' "$*"; }
die() {
    printf '%s\n' "$@" >&2
    exit 1
}

# The PostgreSQL server programs' folder with the highest version of at least $1; fails when there is none.
postgres_bin() {
    local least=$1 best='' best_major=0 folder major program
    local folders=(/usr/lib/postgresql/*/bin /usr/pgsql-*/bin)
    program=$(command -v postgres) && folders+=("$(dirname "$program")")
    for folder in "${folders[@]}"; do
        [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] || continue
        major=$("$folder/postgres" --version | sed -nE 's/.*\) ([0-9]+).*/\1/p')
        if [ "${major:-0}" -ge "$least" ] && [ "$major" -gt "$best_major" ]; then
            best=$folder best_major=$major
        fi
    done
    [ -n "$best" ] && say "$best"
}

# apt_install WHY PACKAGE...: says what it is about to do, then does it, or says which command would.
apt_install() {
    local why=$1 sudo=()
    shift
    local command="apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        die "$why, and this is no Debian or Ubuntu. Install the equivalent of these Debian packages and try again:" "  $*"
    fi
    if [ -n "${NO_INSTALL:-}" ]; then
        die "$why, and NO_INSTALL is set. Type this and try again:" "  sudo apt-get update && sudo $command"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            sudo=(sudo -n)
        elif command -v sudo >/dev/null && [ -t 0 ]; then
            sudo=(sudo)
        else
            die "$why, and this user may not install it. As root, type this and try again:" \
                "  apt-get update && $command"
        fi
    fi
    say "$why. About to install with apt-get: $*"
    "${sudo[@]}" apt-get update -qq
    keep_debian_from_starting_postgresql "${sudo[@]}"
    # UCF_FORCE_CONFFOLD: a configuration file that is there already stays as it is.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 $command
}

# Fetches the lists of packages; needs no package to be installed.
apt_update() {
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    [ -z "${NO_INSTALL:-}" ] || die "The lists of packages are too old, and NO_INSTALL is set. Type this and try again:" \
        "  sudo apt-get update"
    say "Updating the lists of packages with apt-get update"
    "${sudo[@]}" apt-get update -qq
}

# Debian's package creates and starts a cluster of the system's unless told otherwise; only the programs are wanted.
# A file that the administrator wrote decides for itself.
keep_debian_from_starting_postgresql() {
    local file=/etc/postgresql-common/createcluster.conf
    [ -e "$file" ] && return
    say "Writing $file (create_main_cluster = false), so that no system-wide PostgreSQL is started"
    "$@" mkdir -p /etc/postgresql-common
    say 'create_main_cluster = false' | "$@" tee "$file" >/dev/null
}

# npm_install PACKAGE VERSION FOLDER: installs one npm package there, unless that version is installed already.
npm_install() {
    local package=$1 version=$2 folder=$3
    local installed=$folder/node_modules/$package/package.json
    [ "$(sed -nE 's/^ *"version": "(.*)",?$/\1/p' "$installed" 2>/dev/null)" = "$version" ] && return
    say "Installing npm's $package $version under $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    npm install --silent --no-audit --no-fund --prefix "$folder" "$package@$version"
}
