#!/bin/bash
# A search on several nodes of a SLURM cluster. Change what is marked CHANGE, then
#
#   sbatch clusters/slurm.sh /shared/runs/first
#
# The same line continues a run that was interrupted. The run directory, the data and the virtual
# environment lie on storage that every node sees under the same path: trials write their checkpoints
# into the run directory, from whichever node they are on.

# CHANGE: how many nodes, what each of them has, and for how long.
#SBATCH --job-name=raymat
#SBATCH --nodes=2
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00

# One Ray per node, and no other job beside it: Ray stops every Ray process of the user on a node.
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive

# After the loss of a node SLURM starts the job again, on other nodes; its output goes on in one file.
#SBATCH --requeue
#SBATCH --open-mode=append

# Five minutes before the time limit this script is told, and nothing else. USR1 and not TERM, which
# `scancel` sends: a job that was cancelled must not come back.
#SBATCH --signal=B:USR1@300

set -euo pipefail

run=$(realpath -m "${1:?usage: sbatch clusters/slurm.sh RUN_DIRECTORY}")
# shellcheck source=/dev/null
source /shared/raymat-venv/bin/activate   # CHANGE

if [ -e "$run/run.json" ]; then
    command=(raymat resume "$run")
else
    # `auto`, not HOST:PORT: the run remembers it, and a requeued job has other nodes.
    command=(raymat tune --address auto --out "$run"
        --space cgcnn --data /shared/crystals.parquet --target log10_G_VRH)   # CHANGE
fi

# The first node's address that the others reach, and a port that no other job of the cluster has.
head=$(hostname -I | cut -d ' ' -f 1)   # CHANGE if the first of its addresses is in another network
address=$head:$((20000 + SLURM_JOB_ID % 10000))

# A token of its own for every job: all users of the cluster can reach the ports of its nodes.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
export RAY_TMPDIR=/tmp/raymat-$SLURM_JOB_ID
export RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300   # s; nodes import Python from shared storage slowly

ulimit -Sn hard   # Ray opens many files
mkdir -p "$RAY_TMPDIR"
pid_file=$RAY_TMPDIR/raymat.pid

# shellcheck disable=SC2016  # expanded by the inner shell, which raymat then replaces
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" -- \
    env RAY_ADDRESS="$address" bash -c 'echo $$ > "$0"; exec "$@"' "$pid_file" "${command[@]}" &
step=$!

# raymat takes SIGTERM like Ctrl-C: it leaves a run that `raymat resume` continues.
limit_is_near=
trap 'limit_is_near=yes; kill -TERM "$(cat "$pid_file")" || kill -TERM "$step"' USR1

status=0
wait "$step" || status=$?
while kill -0 "$step" 2> /dev/null; do   # the signal has ended `wait`, not yet the run
    status=0
    wait "$step" || status=$?
done
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 rm -rf "$RAY_TMPDIR" || true

if [ -n "$limit_is_near" ] && [ "$status" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
