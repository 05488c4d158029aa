# shellcheck shell=bash
# Functions that the scripts in this folder share. They source this file.

say() { printf '%s\n' "$*"; }
die() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Prints the folder of the newest PostgreSQL server programs with version $1 or later. Fails if there are none.
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

# apt_install WHY PACKAGE...: announces and installs packages, or prints the command if it may not.
apt_install() {
    local why=$1 sudo=()
    shift
    local command="apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        die "$why This system is not Debian or Ubuntu. Install the equivalent of these Debian packages and try again:" "  $*"
    fi
    if [ -n "${NO_INSTALL:-}" ]; then
        die "$why NO_INSTALL is set, so nothing was installed. Run this command and try again:" \
            "  sudo apt-get update && sudo $command"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            sudo=(sudo -n)
        elif command -v sudo >/dev/null && [ -t 0 ]; then
            sudo=(sudo)
        else
            die "$why This user may not install packages. Run this command as root and try again:" \
                "  apt-get update && $command"
        fi
    fi
    say "$why Installing with apt-get: $*"
    "${sudo[@]}" apt-get update -qq
    keep_debian_from_starting_postgresql "${sudo[@]}"
    # UCF_FORCE_CONFFOLD keeps existing configuration files.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 $command
}

# Updates the package lists.
apt_update() {
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    [ -z "${NO_INSTALL:-}" ] || die "The package lists are too old, and NO_INSTALL is set. Run this command and try again:" \
        "  sudo apt-get update"
    say "Updating the package lists with apt-get update"
    "${sudo[@]}" apt-get update -qq
}

# By default Debian's package creates and starts a system-wide cluster, but the server needs only the programs. An
# existing file of the administrator stays as it is.
keep_debian_from_starting_postgresql() {
    local file=/etc/postgresql-common/createcluster.conf
    [ -e "$file" ] && return
    say "Writing $file (create_main_cluster = false), so that Debian starts no system-wide PostgreSQL"
    "$@" mkdir -p /etc/postgresql-common
    say 'create_main_cluster = false' | "$@" tee "$file" >/dev/null
}

# npm_install PACKAGE VERSION FOLDER: installs an npm package, unless this version is installed already.
npm_install() {
    local package=$1 version=$2 folder=$3
    local installed=$folder/node_modules/$package/package.json
    [ "$(sed -nE 's/^ *"version": "(.*)",?$/\1/p' "$installed" 2>/dev/null)" = "$version" ] && return
    say "Installing npm's $package $version in $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    npm install --silent --no-audit --no-fund --prefix "$folder" "$package@$version"
}

# Sets the variables of .env in this folder, if the file exists. Variables that are already set take precedence.
read_env() {
    local line name
    if [ -f .env ]; then
        while IFS= read -r line || [ -n "$line" ]; do
            line=${line%$'\r'}
            case $line in
                '' | '#'*) ;;
                [A-Za-z_]*=*)
                    name=${line%%=*}
                    [ -n "${!name+set}" ] || export "$name=${line#*=}"
                    ;;
                *) printf '.env: this line is not NAME=value: %s\n' "${line%%=*}" >&2 && exit 2 ;;
            esac
        done <.env
    fi
}
