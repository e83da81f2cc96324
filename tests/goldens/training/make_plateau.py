"""Writes plateau.json: PyTorch's ReduceLROnPlateau on random sequences of metrics, with random settings.

usage: python make_plateau.py > plateau.json        (needs numpy and torch; plateau.json names the version that made it)

A run holds the settings, the first learning rates of two groups, the metrics (NaN and infinity as text), the count of bad
validations after each, and the rates where they changed.
"""
import json
import math

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

RUNS, LENGTH = 120, 60


def metrics(draw, kind):
    """Five kinds: falling with noise, a random walk (through zero), few values with many ties, rising, with faults."""
    steps = np.arange(LENGTH)
    noise = draw.normal(size=LENGTH)
    values = [
        np.exp(-steps / 15) + 0.05 * noise,
        np.cumsum(noise),
        draw.integers(0, 4, LENGTH) / 4,
        steps / LENGTH + 0.1 * noise,
        np.exp(-steps / 10) + 0.02 * noise,
    ][kind]
    values = [float("%.6g" % value) for value in values]
    if kind == 4:
        for place, fault in zip(draw.choice(LENGTH, 9, replace=False), [math.nan, math.inf, -math.inf] * 3):
            # A metric of −∞ is the best for ever; it comes late.
            values[place if fault != -math.inf else LENGTH - 3] = fault
        if draw.random() < 0.5:
            values[0] = draw.choice([math.nan, math.inf])
    return values


def written(value):
    return value if math.isfinite(value) else str(value)


def run(number):
    draw = np.random.default_rng(number)
    rule = dict(mode=["min", "max"][number // 5 % 2], factor=float(draw.choice([0.1, 0.5, 0.8])),
                patience=int(draw.choice([0, 1, 3, 5])), threshold=float(draw.choice([0, 1e-4, 1e-2, 0.2])),
                cooldown=int(draw.choice([0, 0, 1, 4])), min_lr=float(draw.choice([0, 1e-6, 3e-5])),
                eps=float(draw.choice([1e-8, 1e-8, 1e-6])))
    rates = [8e-5, float("%.3g" % (8e-5 * draw.uniform(0.05, 1)))]
    optimizer = torch.optim.AdamW([dict(params=[torch.zeros(1)], lr=lr) for lr in rates])
    scheduler = ReduceLROnPlateau(optimizer, **rule)
    given, bad, changes, now = metrics(draw, number % 5), [], [], rates
    for place, value in enumerate(given):
        scheduler.step(value)
        bad.append(scheduler.num_bad_epochs)
        after = [group["lr"] for group in optimizer.param_groups]
        if after != now:
            changes.append([place, after])
            now = after
    return dict(rule=rule, lr_initial=rates, metrics=[written(value) for value in given], bad_after=bad, changes=changes)


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(run(number), separators=(",", ":")) for number in range(RUNS))
    print('{"torch": "%s", "runs": [\n%s\n]}' % (torch.__version__, lines))
