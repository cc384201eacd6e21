#!/usr/bin/env bash
# A real Slurm on this one machine, to try sweeps on a cluster and to test them: scripts/slurm_local.sh up|down|status
#
# It listens on loopback only, and all it writes lies in one folder (SLURM_LOCAL, else slurm-local in TMPDIR or /tmp).
# `up` installs Slurm with apt where it is missing, hence needs root on Debian or Ubuntu, and prints what a shell must
# set: eval "$(scripts/slurm_local.sh up)". `down` stops every daemon and job and removes the folder.
# No accounting: sweeps must do without sacct.
set -euo pipefail

folder=${SLURM_LOCAL:-${TMPDIR:-/tmp}/slurm-local}
export SLURM_CONF=$folder/slurm.conf

fail() {
  echo "error: $*" >&2
  exit 1
}

await() { # seconds, what for, command...
  local tries=$(($1 * 10)) what=$2
  shift 2
  until "$@" &>/dev/null; do
    ((tries--)) || fail "waited in vain for $what; see $folder/log"
    sleep 0.1
  done
}

alive() { [ -s "$folder/run/$1.pid" ] && kill -0 "$(cat "$folder/run/$1.pid")"; } 2>/dev/null
gone() { ! alive "$1"; }
ready() { [[ $(sinfo --noheader --format=%T) =~ ^(idle|mixed|allocated)$ ]]; }
empty() { [ -z "$(squeue --noheader)" ]; }

install_slurm() {
  if command -v slurmctld slurmd munged >/dev/null; then return; fi
  command -v apt-get >/dev/null || fail "Slurm is not installed and there is no apt-get here to install it"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge; } \
    >"$folder/log/apt" 2>&1 || fail "apt-get cannot install slurm-wlm and munge; see $folder/log/apt"
}

write_settings() {
  local host memory
  host=$(hostname -s)
  memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  # cred_expire and KillWait (seconds) are short, so that a requeued task does not wait two minutes for its turn.
  cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthInfo=socket=$folder/run/munge.socket,cred_expire=5
KillWait=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1024
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory
PartitionName=local Nodes=$host Default=YES State=UP
CONF
}

start_munge() {
  head -c 1024 /dev/urandom >"$folder/run/munge.key"
  chmod 400 "$folder/run/munge.key"
  munged --force --key-file="$folder/run/munge.key" --socket="$folder/run/munge.socket" \
    --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged" --seed-file="$folder/run/munge.seed" \
    2>>"$folder/log/start"
}

up() {
  [ "$(id -u)" = 0 ] || fail "must be root, to install Slurm and to start its daemons"
  mkdir -p "$folder"/{log,run,state,spool}
  chmod 755 "$folder" "$folder"/{log,run}
  install_slurm
  [ -e "$SLURM_CONF" ] || write_settings
  alive munged || start_munge || fail "munged does not start; see $folder/log"
  alive slurmctld || slurmctld 2>>"$folder/log/start" || fail "slurmctld does not start; see $folder/log"
  alive slurmd || slurmd 2>>"$folder/log/start" || fail "slurmd does not start; see $folder/log"
  await 30 "a node that takes jobs" ready
  echo "export SLURM_CONF=$SLURM_CONF"
}

down() {
  if alive slurmctld; then
    scancel --user="$(id -un)"
    await 30 "the jobs to end" empty
  fi
  for daemon in slurmd slurmctld munged; do
    if alive "$daemon"; then
      kill "$(cat "$folder/run/$daemon.pid")"
      await 30 "$daemon to end" gone "$daemon"
    fi
  done
  rm -rf "$folder"
}

status() {
  alive slurmctld || fail "no Slurm in $folder; start one with $0 up"
  echo "SLURM_CONF=$SLURM_CONF"
  sinfo
  squeue
}

case ${1:-} in
  up | down | status) "$1" ;;
  *) fail "usage: $0 up|down|status" ;;
esac
