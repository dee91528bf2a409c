"""A policy in closed loop, without a server: python control_loop.py POLICY [ENVIRONMENT] [EPISODES]

The loop is that of a robot: observe, ask for one action, execute it. `ActionQueue` plans a chunk when the last one is
used up. Replace `environment.step` by your robot's command, and wait for its next tick (1 / spec.rate seconds).
"""

import sys

from smolpilot.contracts import ActionQueue
from smolpilot.environments import make_environment
from smolpilot.evaluation import embodiment_in
from smolpilot.policies import open_policy


def main(source: str, name: str = "tabletop", episodes: str = "3") -> None:
    environment = make_environment(name)
    # The environment says which joints and cameras there are; a policy that does not fit is refused here.
    policy = open_policy(source, embodiment=embodiment_in(environment.spec))
    queue = ActionQueue(policy)
    successes = 0
    for seed in range(int(episodes)):
        observation, info = environment.reset(seed)
        policy.reset()
        queue.clear()
        outcome = None
        while outcome is None:
            action = queue.select_action(observation, seed=seed)  # float32 [A], robot units
            observation, outcome = environment.step(action)
        successes += outcome.success
        print(f'"{info.instruction}": {outcome.label}')
    print(f"{successes} of {episodes} episodes succeeded")
    environment.close()
    policy.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
