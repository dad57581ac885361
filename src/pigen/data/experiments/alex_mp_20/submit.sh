#!/bin/bash
# The whole campaign, each step after the one before: run it in a copy of this folder, after
# `pigen data fetch alex-mp-20 -o .` where there is internet.
set -euo pipefail
mkdir -p logs models
after=""
for step in label merge_labels train sample filter relax seeds search; do
    job=$(sbatch --parsable ${after:+--dependency="afterok:$after"} "$step.sbatch")
    echo "$step: job $job"
    after=$job
done
