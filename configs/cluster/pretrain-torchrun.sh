#!/bin/bash
# Pre-training under torchrun, which restarts all ranks from the last checkpoint when one is lost. To be started on each node:
#
#   NODES=2 HEAD=node1:29400 configs/cluster/pretrain-torchrun.sh configs/pretrain/jmp-s.toml runs/jmp-s [options of pretrain]
#
# On one machine leave NODES and HEAD out. torchrun comes with a full PyTorch (pip install torch==2.13.0); jmp-train itself
# does not need Python. RANKS is the number of ranks of a node, by default that of its GPUs, or 1 without any.

set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: [NODES=N HEAD=HOST:PORT] [RANKS=N] $0 CONFIG.toml RUN-DIRECTORY [options of jmp-train pretrain]" >&2
    exit 2
fi
config=$1 run=$2
shift 2

gpus() { nvidia-smi --list-gpus 2>/dev/null | wc -l; }
ranks=${RANKS:-$(gpus)}
[[ $ranks -gt 0 ]] || ranks=1
if [[ ${NODES:-1} -gt 1 ]]; then
    where=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "${HEAD:?HOST:PORT of the first node}")
else
    where=(--standalone)
fi

# A restarted attempt must go on, not begin anew: the choice is made when an attempt starts, not here.
export config run
# shellcheck disable=SC2016  # expanded by each rank
exec torchrun "${where[@]}" --no-python --nproc-per-node "$ranks" --max-restarts "${RESTARTS:-3}" \
    bash -c '
        if compgen -G "$run/checkpoints/step-*/state.json" >/dev/null; then
            exec jmp-train pretrain "$config" --resume "$run" "$@"
        fi
        exec jmp-train pretrain "$config" --set "run.dir=$run" "$@"' rank "$@"
