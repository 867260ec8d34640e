# shellcheck shell=bash
# What the scripts in this folder share; sourced, never run.
#
# Every NAME-up script takes a data folder and a port of 127.0.0.1, prints one line, the PID of the server, once it
# answers, and leaves it running in a session of its own. Called again for the same folder it finds the server running,
# or starts it again on the same data. When it fails, nothing is left running and the end of DIR/server.log is shown.
set -euo pipefail
shopt -s inherit_errexit
services=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Downloads are kept here between runs; the folder may be removed at any time.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/webhook-dispatcher

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# need COMMAND PACKAGE: the command is there, or the message says which Debian package has it.
need() { command -v "$1" >/dev/null || die "$1 is missing; it is in Debian's package $2"; }

# service DIR PORT: sets $dir (made, absolute) and $port. Prints the PID and ends the script when the server runs already.
service() {
  [[ $# == 2 && $2 =~ ^[0-9]+$ ]] || die "want DIR and PORT, got: $*"
  dir=$(mkdir -p "$1" && cd "$1" && pwd) port=$2
  if running "$dir"; then exit 0; fi
  if answers "$port"; then die "port $port of 127.0.0.1 is taken"; fi
}

# running DIR: prints the PID of DIR's server, or fails. A PID that another process has by now does not count: every
# server here has "DIR/" in its command line.
running() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return
  if [[ $(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline") != *"$1/"* ]]; then return 1; fi
  echo "$pid"
}

answers() { (: 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# cached NAME COMMAND…: prints the cache folder NAME, which COMMAND fills the first time: it is called with an empty
# folder as its last argument. Half a folder is never seen, and two scripts at once do the work once.
cached() {
  local at=$cache/$1
  shift
  mkdir -p "$cache"
  (
    flock 9
    if [[ ! -d $at ]]; then
      rm -rf "$at.part"
      mkdir "$at.part"
      "$@" "$at.part" >&2 9>&-
      mv "$at.part" "$at"
    fi
  ) 9>"$at.lock"
  echo "$at"
}

# kafka_jars: prints the folder of Kafka's jars, downloaded when kafka/pom.xml is new or has changed.
kafka_jars() {
  local key
  need java openjdk-17-jre-headless
  key=$(sha256sum "$services/kafka/pom.xml" | cut -c1-12)
  cached "kafka-$key" download_kafka
}

download_kafka() {
  need mvn maven
  mvn -q -B -Dstyle.color=never -f "$services/kafka/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$1"
}

# registry_home: prints the folder of Apicurio Registry. 3.0.9 is the newest version that runs on Java 17.
registry_version=3.0.9
registry_home() {
  need java openjdk-17-jre-headless
  cached "apicurio-$registry_version" download_registry
}

# Version 2.10 of Maven's plugin: newer ones resolve a parent that the registry's artifact names and nobody publishes.
download_registry() {
  need mvn maven
  mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:2.10:copy \
    "-Dartifact=io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" "-DoutputDirectory=$1"
  tar xzf "$1"/*.tar.gz -C "$1"
  rm "$1"/*.tar.gz
}

# mysql_root: prints the folder that holds MySQL and all that it needs.
#
# Debian has MySQL in its unstable suite only. Its packages and all that they depend on, the C library included, are
# unpacked (400 MB, some 10 s) and run from there by their own dynamic loader: nothing is installed, no root is needed, and
# this machine's own packages stay as they are.
mysql_root() { cached "mysql-$(dpkg --print-architecture)" unpack_mysql; }

# unpack_mysql downloads with an APT of its own, from the mirror that this machine's APT uses.
unpack_mysql() {
  local apt=$1/apt mirror options deb
  need apt-get apt
  # shellcheck disable=SC2016  # APT fills it in, not this shell
  read -r mirror < <(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian') ||
    die "this machine's APT knows no Debian mirror; run apt-get update"
  mkdir -p "$apt"/etc/{apt.conf.d,preferences.d,trusted.gpg.d} "$apt"/state/lists/partial "$apt"/cache/archives/partial
  : >"$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror unstable main" >"$apt/etc/sources.list"
  options=(-q -o "Dir::Etc=$apt/etc" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" -y --no-install-recommends --download-only install mysql-server-core mysql-client-core
  for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$1"; done
  rm -rf "$apt"
}

# launch READY COMMAND…: starts COMMAND as $dir's server and waits until the command READY succeeds.
launch() {
  local ready=$1 server
  shift
  setsid "$@" >>"$dir/server.log" 2>&1 </dev/null &
  server=$!
  echo "$server" >"$dir/pid"
  # shellcheck disable=SC2064  # the PID is meant as it is now
  trap "kill -KILL $server 2>/dev/null || true; rm -f '$dir/pid'" EXIT
  trap 'exit 1' INT TERM
  for ((SECONDS = 0; SECONDS < 120; )); do
    kill -0 "$server" 2>/dev/null || break
    if "$ready" >/dev/null 2>&1; then
      trap - EXIT
      echo "$server"
      return
    fi
    sleep 0.1
  done
  tail -n 30 "$dir/server.log" >&2
  die "no server on 127.0.0.1:$port; its log is $dir/server.log"
}
