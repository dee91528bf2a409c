"""Fine-tune a policy on a dataset: python fine_tune.py DATASET POLICY RUN [STEPS]

POLICY is a bundle, a LeRobot checkpoint folder or a hub id such as lerobot/smolvla_base. The options are those of
`smolpilot train --help`. `smolpilot train --resume --out RUN` resumes a run that was stopped.
"""

import sys
from pathlib import Path

from smolpilot.training import TrainOptions, train


def main(dataset: str, policy: str, run: str, steps: str = "20000") -> None:
    options = TrainOptions(
        dataset=Path(dataset),
        policy=policy,
        out=Path(run),
        steps=int(steps),
        batch_size=32,
        held_out=0.1,  # a tenth of the episodes is never trained on
        workers=2,
    )
    folder = train(options)
    print(f"The best policy so far: {folder / 'checkpoints' / 'best'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
