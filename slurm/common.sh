# Sourced by the batch scripts of this folder. Settings come from the environment; docs/cluster.md has the table.

: "${AIMERGE_HOME:=$SLURM_SUBMIT_DIR}"
: "${AIMERGE_BINARY:=$AIMERGE_HOME/build/aimerge}"
: "${AIMERGE_LOG_DIR:=$SLURM_SUBMIT_DIR/aimerge-logs/$SLURM_JOB_ID}"

# Modules or a container of the site, for example:
#   module load openmpi/4.1 hdf5 cuda/13
#   AIMERGE_WRAPPER="apptainer exec --nv $AIMERGE_HOME/aimerge.sif"
if [[ -n ${AIMERGE_MODULES:-} ]]; then
    # shellcheck disable=SC2086  # a list of modules
    module load $AIMERGE_MODULES
fi

say() { printf '[%s] %s %s: %s\n' "$(date '+%F %T')" "$SLURM_JOB_NAME" "$SLURM_JOB_ID" "$*"; }

# on_all_ranks COMMAND...: aimerge on every task of the job. Interrupted in a resumable state (75: a signal before the time limit, or
# a preemption), the job goes back into the queue and continues where it stopped.
on_all_ranks() {
    local rc=0 pid
    say "aimerge $*"
    # shellcheck disable=SC2086  # a command with options
    srun --mpi=pmix --kill-on-bad-exit=1 ${AIMERGE_WRAPPER:-} "$AIMERGE_BINARY" "$@" --threads "${AIMERGE_THREADS:-${SLURM_CPUS_PER_TASK:-1}}" \
        --log-dir "$AIMERGE_LOG_DIR" ${AIMERGE_OPTIONS:-} &
    pid=$!
    # The batch shell gets the signal (B:USR1) and hands it on to the ranks.
    trap 'say "asked to stop"; kill -USR1 "$pid" 2> /dev/null || true' USR1 TERM
    while :; do
        rc=0
        wait "$pid" || rc=$?
        kill -0 "$pid" 2> /dev/null || break # a signal ended the wait, not the ranks
    done
    trap - USR1 TERM
    if ((rc == 75)); then
        say "interrupted; back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
        sleep 60 # until Slurm ends this script
    fi
    say "ended with $rc"
    return "$rc"
}
