#!/usr/bin/env bash
# A throw-away Slurm on this machine for tests: a controller and two nodes of 8 claimed processors, without systemd, cgroups or
# accounting. Needs root, since slurmd starts tasks as their user.
#
# usage: cluster.sh start|stop FOLDER     everything lies in FOLDER; start prints the SLURM_CONF to use
set -euo pipefail
action="${1:?start or stop}" folder="${2:?a folder}"
readonly nodes=2 port=18817
export SLURM_CONF="$folder/etc/slurm.conf"

alive() { [[ -s $1 ]] && kill -0 "$(< "$1")" 2> /dev/null; }

write_config() {
    mkdir -p "$folder"/{etc,munge,state,log,run}
    chmod 755 "$folder" "$folder"/*
    (umask 077; head -c 1024 /dev/urandom > "$folder/munge/key")
    local host cgroup=disabled
    host="$(hostname -s)"
    cat > "$SLURM_CONF" << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job waits for cred_expire seconds, of which Slurm takes 5 at least (else it waits for 120)
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
TmpFS=$folder/tmp.%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$folder/etc/task-prolog.sh
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
CONF
    for ((i = 1; i <= nodes; ++i)); do
        echo "NodeName=node$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=8 RealMemory=8000 State=UNKNOWN" >> "$SLURM_CONF"
    done
    echo "PartitionName=test Nodes=node[1-$nodes] Default=YES MaxTime=INFINITE DefaultTime=10 State=UP" >> "$SLURM_CONF"
    # Two nodes share this host: the shared memory of Open MPI's ranks is named by host and local rank.
    printf '#!/bin/sh\necho "export OMPI_MCA_btl_vader_backing_directory=%s/tmp.$SLURMD_NODENAME"\n' "$folder" > "$folder/etc/task-prolog.sh"
    chmod 755 "$folder/etc/task-prolog.sh"
    if [[ $(slurmd -V) == *' 22.'* ]]; then cgroup=cgroup/v1; fi # 'disabled' came with 23.02; v1 does nothing here
    if [[ $(slurmd -V) == *' 21.'* ]]; then : > "$folder/etc/cgroup.conf"; else echo "CgroupPlugin=$cgroup" > "$folder/etc/cgroup.conf"; fi
}

start() {
    write_config
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed" --num-threads=2
    slurmctld -c -f "$SLURM_CONF"
    for ((i = 1; i <= nodes; ++i)); do
        mkdir -p "$folder/spool.node$i" "$folder/tmp.node$i"
        chmod 1777 "$folder/tmp.node$i"
        slurmd -c -f "$SLURM_CONF" -N "node$i"
    done
    for ((i = 0; i < 150; ++i)); do
        if [[ $(sinfo -h -N -o %T 2> /dev/null | grep -c idle) == "$nodes" ]]; then
            echo "$SLURM_CONF"
            return
        fi
        sleep 0.2
    done
    tail -n 20 "$folder"/log/*.log >&2
    echo 'cluster: the nodes did not come up' >&2
    exit 1
}

stop() {
    scancel --quiet --me 2> /dev/null || true
    local pid_file pid
    for pid_file in "$folder"/run/slurmd.*.pid "$folder/run/slurmctld.pid" "$folder/run/munged.pid"; do
        alive "$pid_file" || continue
        pid="$(< "$pid_file")"
        kill "$pid" || true
        for ((i = 0; i < 100; ++i)); do alive "$pid_file" || break; sleep 0.1; done
        if kill -0 "$pid" 2> /dev/null; then kill -9 "$pid" || true; fi
    done
}

case "$action" in
    start) start ;;
    stop) stop ;;
    *) echo "cluster: unknown action '$action'" >&2; exit 2 ;;
esac
