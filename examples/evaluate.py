"""Errors of a policy per joint, in robot units: python evaluate.py POLICY DATASET [EPISODES]

EPISODES: `held-out` (those that the policy was not trained on), `all`, or a list such as 0,3,7-9. A policy is worth its
time when it beats holding the current state.
"""

import sys

from smolpilot.datasets import open_dataset
from smolpilot.evaluation import embodiment_of, evaluate
from smolpilot.policies import open_policy


def main(source: str, folder: str, episodes: str = "held-out") -> None:
    dataset = open_dataset(folder)
    policy = open_policy(source, embodiment=embodiment_of(dataset.meta))
    result = evaluate(policy, dataset, episodes, max_frames=200).document
    policy.close()
    print(f"{result['frames']} frames, {result['split']['text']}")
    for joint in result["joints"]:
        print(f"{joint['name']}: MAE {joint['mae']:.4f} {joint['unit']}, holding still {joint['hold_mae']:.4f}")
    for warning in result["warnings"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    main(*sys.argv[1:])
