"""What the studies of few labels share: the small network, and fits of so many updates."""

from collections.abc import Callable, Iterator

import numpy as np
from ml_collections import ConfigDict

from densityjax.configs import elastic_paper
from densityjax.results.predictions import Predictions, selection_loss
from densityjax.step import parallel
from densityjax.step.train_state import TrainState
from densityjax.training.setup import FittedInputs

DATASET = "elastic_densities/grid24"
TRAIN_FOLDS, NEW_FOLD = (2, 3, 4), 1


def base_config(data_dir: str) -> ConfigDict:
    """configs/elastic_paper.py with the small trunk, without fold 0."""
    config = elastic_paper.get_config()
    config.yardsticks = ()
    config.data.name, config.data.data_dir = DATASET, data_dir
    config.data.train_folds, config.data.validation_fold = TRAIN_FOLDS, NEW_FOLD
    config.data.test_fold = -1
    config.view.size, config.view.spacing, config.view.evaluation_views = 12, 0.6, 4
    config.model.widths, config.model.blocks = (16, 32), (1, 1)
    return config


def states(inputs: FittedInputs, steps: int) -> Iterator[TrainState]:
    """The state before the first step and after each; a step overwrites the one before."""
    step = parallel.mapped_train_step(inputs.task)
    state = parallel.replicate(inputs.initial_state())
    yield state
    for number in range(steps):
        state, _ = step(state, parallel.split_batch(inputs.source[number], 1))
        yield state


def last_state(inputs: FittedInputs, steps: int) -> TrainState:
    """The state after all steps."""
    for state in states(inputs, steps):  # noqa: B007  one at a time is in memory
        pass
    return state


def said_by_best(
    inputs: FittedInputs, steps: int, evaluations: int,
    choose: Callable[[TrainState], Predictions], judge: Callable[[TrainState], Predictions],
) -> Predictions:
    """What `judge` says of the state, of so many, whose loss on the rows of `choose` is least."""
    best, said = np.inf, None
    for number, state in enumerate(states(inputs, steps)):
        if number and number % (steps // evaluations) == 0:
            loss = selection_loss(choose(state), inputs.specs, inputs.task.loss)
            if loss < best:
                best, said = loss, judge(state)
    return said
