#!/usr/bin/env bash
# Starts build/aimerge on several ranks with mpirun, one per GPU, or on as many as are asked for.
#
# usage: launch/run.sh [-n RANKS] [--hostfile FILE] COMMAND [options of aimerge]
#   -n RANKS         ranks in all (default: the GPUs of this machine, times the hosts of the file; without GPUs 1)
#   --hostfile FILE  one line per machine: launch/hostfile.example. They share the file system of this folder
#   e.g.             launch/run.sh merge configs/smollm2-ties-aim.yaml --out merged/
#
# AIMERGE_BINARY: another binary than build/aimerge. Ranks are not bound to cores, since each has threads; SIGUSR1 or SIGTERM to this
# script stops the job at a safe point (exit code 75, run again to continue).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

fail() { printf 'run: %s\n' "$*" >&2; exit 2; }

ranks='' hostfile=''
while (($#)); do
    case "$1" in
        -n) ranks="${2:?run: -n needs a number}"; shift 2 ;;
        --hostfile) hostfile="${2:?run: --hostfile needs a file}"; shift 2 ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        -*) fail "unknown option '$1'; options of aimerge come behind its command" ;;
        *) break ;;
    esac
done
(($#)) || fail "no command; see launch/run.sh --help"
[[ -z $hostfile || -r $hostfile ]] || fail "$hostfile: cannot be read"
[[ -z $ranks || $ranks =~ ^[1-9][0-9]*$ ]] || fail "-n '$ranks' is no number of ranks"

binary="${AIMERGE_BINARY:-$here/build/aimerge}"
[[ -x $binary ]] || fail "$binary is not there; build it with launch/build.sh"

gpus="$({ nvidia-smi --list-gpus 2> /dev/null || true; } | grep -c '^GPU ' || true)"
if [[ -z $ranks ]]; then
    hosts=1
    if [[ -n $hostfile ]]; then hosts="$(grep -cvE '^[[:space:]]*(#|$)' "$hostfile" || true)"; fi
    ranks=$(((gpus > 0 ? gpus : 1) * (hosts > 0 ? hosts : 1)))
fi

# A rank has threads: it is bound to nothing, or would see one core. The network's own choice of Open MPI is left alone.
options=(-n "$ranks" --bind-to none)
if [[ -n $hostfile ]]; then
    options+=(--hostfile "$hostfile" --map-by slot)
    # A machine that is gone is noticed after 10 + 6 * 5 s, not after the 8 minutes of Open MPI.
    options+=(--mca oob_tcp_keepalive_time 10 --mca oob_tcp_keepalive_intvl 5 --mca oob_tcp_keepalive_probes 6)
    for name in AIMERGE_CACHE_DIR AIMERGE_COLLECTIVE_TIMEOUT AIMERGE_PYTHON AIMERGE_SCRATCH_DIR HF_HOME HF_HUB_CACHE LD_LIBRARY_PATH; do
        if [[ -n ${!name:-} ]]; then options+=(-x "$name"); fi
    done
else
    options+=(--oversubscribe)
fi
if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

# mpirun hands SIGTERM on with SIGKILL a second later, and SIGUSR1 alone.
mpirun "${options[@]}" "$binary" "$@" <&0 &
pid=$!
trap 'kill -USR1 "$pid" 2> /dev/null || true' USR1 TERM
trap : INT # which a terminal sends to mpirun, too
while :; do
    rc=0
    wait "$pid" || rc=$?
    kill -0 "$pid" 2> /dev/null || exit "$rc" # else a signal ended the wait, not the ranks
done
