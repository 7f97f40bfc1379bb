"""The coarse classifier: trained, stored, and what its explanations say of a planted rule."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from planted import LABELS, MOTIF, NOISE, has_motif, planted_graphs

from raymat.errors import ModelFileError
from raymat.explain.coarse_classifier import CoarseCGCNN, CoarseConfig
from raymat.explain.coarse_training import (
    TRAINING,
    CoarseFacts,
    load_coarse,
    randomise,
    read_outputs,
    save_coarse,
    train_coarse,
)
from raymat.explain.explanations import Task, explanation_seed
from raymat.explain.generate import SURE, GrowConfig, grow
from raymat.explain.growing_graphs import GrowingGraphs
from raymat.explain.rules import Rules
from raymat.explain.scoring import CoarseScorer, score_graphs
from raymat.features.coarse_graphs import N_LABELS
from raymat.features.store import FeatureStore
from raymat.training.fit import FitData

CONFIG = CoarseConfig(labels=LABELS, atom_dim=32, hidden_dim=32)
N_GRAPHS = 3000
EPOCHS = 15
FACTS = CoarseFacts("planted", None, 0, "data", "split", 1)
GROWN = GrowConfig(episodes=20, steps=12, rollouts=4)
N_GROWN = 40


@pytest.fixture(scope="module")
def data():
    crystals, table, targets = planted_graphs(N_GRAPHS, seed=0)
    rows, cut = np.arange(N_GRAPHS), int(0.8 * N_GRAPHS)
    features = FeatureStore(crystals, (table,))
    return FitData(
        features, targets, train=rows[:cut], validation=rows[cut:], task="classification"
    )


@pytest.fixture(scope="module")
def result(data, tmp_path_factory):
    training = TRAINING.model_copy(update={"epochs": EPOCHS, "batch_size": 64})
    return train_coarse(CONFIG, training, data, seed=0, folder=tmp_path_factory.mktemp("coarse"))


def test_planted_rule_is_learned(result, data):
    said = result.predictions[data.validation] > 0.5
    assert (said == data.targets[data.validation]).mean() > 1 - 2 * NOISE


def test_stored_classifier_says_the_same(result, tmp_path):
    save_coarse(result, FACTS, tmp_path / "period-0")
    again = load_coarse(tmp_path / "period-0")
    graphs = GrowingGraphs.start(torch.arange(N_LABELS[LABELS]), 6)
    assert np.array_equal(score_graphs(again, graphs), score_graphs(result.network.eval(), graphs))
    assert np.array_equal(read_outputs(tmp_path / "period-0"), result.predictions)


@pytest.mark.parametrize("name", ["model.safetensors", "coarse.json"])
def test_damaged_classifier_is_told(result, tmp_path, name):
    save_coarse(result, FACTS, tmp_path / "period-0")
    (tmp_path / "period-0" / name).write_text("torn", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"period-0: the classifier cannot be read"):
        load_coarse(tmp_path / "period-0")


def test_interrupted_training_is_the_whole_training(data, tmp_path):
    training = TRAINING.model_copy(update={"epochs": 3, "batch_size": 128})
    few = replace(data, train=data.train[:200])
    whole = train_coarse(CONFIG, training, few, seed=1, folder=tmp_path / "whole")

    class Killed(Exception):
        pass

    def stop(epoch):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_coarse(CONFIG, training, few, seed=1, folder=tmp_path / "cut", on_epoch=stop)
    resumed = train_coarse(CONFIG, training, few, seed=1, folder=tmp_path / "cut")
    assert np.array_equal(resumed.predictions, whole.predictions)


def grown_for_class_1(classifier):
    """Grow graphs that are to be of class 1."""
    task, n = Task(LABELS, 1), N_LABELS[LABELS]
    seeds = [explanation_seed(0, task, number, 0) for number in range(N_GROWN)]
    score = CoarseScorer(classifier, 1)
    return grow(seeds, score, n_labels=n, rules=Rules((4,) * n), config=GROWN)


def share_with(grown, rows, pair=MOTIF):
    return float(np.mean([has_motif(grown.graphs, row, pair) for row in rows]))


def test_explanations_hold_the_planted_motif_and_those_of_random_weights_do_not(result):
    """The sanity check of Adebayo et al.: without what was learned, the motif is met by chance.

    Chance is how often two other labels are joined.
    """
    assert isinstance(result.network, CoarseCGCNN)
    learned = grown_for_class_1(result.network.eval())
    sure = np.flatnonzero(learned.probability.numpy() > SURE)
    assert len(sure) >= 8
    assert share_with(learned, sure) >= 0.8
    others = [pair for pair in combinations(range(1, N_LABELS[LABELS] + 1), 2) if pair != MOTIF]
    recovered, chance = [], []
    for seed in range(3):
        random = grown_for_class_1(randomise(result.network, seed))
        recovered.append(share_with(random, range(N_GROWN)))
        chance += [share_with(random, range(N_GROWN), pair) for pair in others]
    assert np.mean(recovered) == pytest.approx(np.mean(chance), abs=0.15)
    assert np.mean(recovered) < 0.4
