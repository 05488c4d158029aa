#!/bin/sh
# Installs the servers that `loadtest compare` compares with: from Debian's packages and npm, on Debian 12 or newer.
#
#   loadtest/peers/install.sh                 all of them
#   loadtest/peers/install.sh uws nats        some of them
#
# apt-get installs the packages of this machine's Debian (as root) without starting their services. Newer programs go to
# target/peers (or $LOADTEST_PEERS) and change nothing else:
# - NATS before 2.10 (Debian 12) cannot sync every message: 2.10 comes from Debian 13;
# - the npm package of uWebSockets.js needs glibc 2.38: with an older one, Debian 13's libraries go next to it.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
peers=${LOADTEST_PEERS:-$root/target/peers}
newer_suite=trixie
mkdir -p "$peers"

apt_install() {
  # RUNLEVEL=1 keeps the maintainer scripts from starting the services.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# Unpacks packages of a newer Debian into $peers/newer, with lists and cache of their own.
newer_install() {
  apt="$peers/apt"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/packages"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $newer_suite main" \
    > "$apt/sources.list"
  options="-o Dir::Etc::sourcelist=$apt/sources.list -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists=$apt/lists -o Dir::Cache=$apt/cache -o APT::Sandbox::User=root"
  # shellcheck disable=SC2086 # several options, none with blanks inside
  apt-get $options update
  for package in "$@"; do
    # shellcheck disable=SC2086
    (cd "$apt/packages" && rm -f "${package}"_*.deb && apt-get $options download "$package/$newer_suite")
    dpkg-deb -x "$apt/packages/${package}"_*.deb "$peers/newer"
  done
}

install_mosquitto() {
  apt_install mosquitto
}

install_ejabberd() {
  apt_install ejabberd erlang-p1-pgsql postgresql
}

install_tungstenite() {
  apt_install postgresql
}

install_nats() {
  newest=$(apt-cache policy nats-server | sed -n 's/^  Candidate: //p')
  if [ -n "$newest" ] && dpkg --compare-versions "$newest" ge 2.10; then
    apt_install nats-server
  else
    newer_install nats-server
  fi
}

install_uws() {
  command -v node > /dev/null && command -v npm > /dev/null || apt_install nodejs npm
  npm install --prefix "$peers/uws" --no-audit --no-fund @btc-vision/uwebsockets.js@20.57.0
  if ! (cd "$peers/uws" && node -e "require('@btc-vision/uwebsockets.js')" 2> /dev/null); then
    newer_install libc6 libstdc++6 libgcc-s1
  fi
}

[ $# -gt 0 ] || set -- uws mosquitto nats ejabberd tungstenite
for peer in "$@"; do
  case $peer in
    uws | mosquitto | nats | ejabberd | tungstenite) "install_$peer" ;;
    *)
      echo "install.sh: no peer is called $peer; there are uws, mosquitto, nats, ejabberd, tungstenite" >&2
      exit 2
      ;;
  esac
done
