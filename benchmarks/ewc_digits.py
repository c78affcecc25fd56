"""Our EWC beside Avalanche's: five permutations of scikit-learn's digits, learned one after the other.

python -m benchmarks.ewc_digits    (about 20 minutes on one core)

Every method trains in Avalanche's own loop, from the same weights and on the same batches in the same order, so that only the
penalty differs. Epochs and strength are chosen for each method by itself, on other seeds and on images that are held back from
the training images; the test images are not looked at until then.
"""

import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from personacore.files import write_json
from personacore.memory.ewc import EWC, diagonal_fisher
from personacore.training.loss import assemble_loss

try:
    # PyPI's torchvision loads its operators beside PyPI's torch only; beside another build, such as one for CPUs, its import
    # fails unless these two are declared. Nothing here calls them.
    if version("torch").partition("+")[2] != version("torchvision").partition("+")[2]:
        OPERATORS = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    warnings.filterwarnings("ignore", message="no QP solver found|No loggers specified")
    from avalanche.benchmarks import tensors_benchmark
    from avalanche.core import SupervisedPlugin
    from avalanche.training.plugins import EvaluationPlugin, EWCPlugin
    from avalanche.training.supervised import Naive
    from sklearn.datasets import load_digits
except (ImportError, PackageNotFoundError) as error:
    sys.exit(f"this benchmark needs more packages, `pip install avalanche-lib scikit-learn` ({error})")

METRICS = Path("metrics/ewc_digits.json")
TASKS = 5
SEEDS = range(5)
TUNING_SEEDS = range(100, 103)
TRAIN, VALID = 1150, 287  # images of a task; the other 360 are for the test
BATCH_SIZE, WIDTH, LR = 32, 100, 0.003
EPOCHS = (5, 10, 20)  # for each task
# Half a decade apart and the best one inside. Avalanche's are larger: it leaves out the half, and takes the squares of the
# gradients of whole batches, which are smaller by about the size of the batch.
STRENGTHS = {
    "naive": (0.0,),
    "ours": (10.0, 30.0, 100.0, 300.0, 1000.0),
    "avalanche": (100.0, 300.0, 1000.0, 3000.0, 10000.0),
    "joint": (0.0,),
}

Task = tuple[Tensor, Tensor]  # images (N, 64), digits (N,)


class OurEWC(SupervisedPlugin):
    """Our penalty in Avalanche's loop: one more for every task."""

    def __init__(self, tasks: Sequence[Task], strength: float) -> None:
        super().__init__()
        self.tasks, self.strength = tasks, strength
        self.penalties: list[EWC] = []

    def before_backward(self, strategy: Naive, **_: object) -> None:
        strategy.loss = assemble_loss(strategy.loss, self.penalties)

    def after_training_exp(self, strategy: Naive, **_: object) -> None:
        examples = zip(*self.tasks[len(self.penalties)], strict=True)
        fisher = diagonal_fisher(
            strategy.model, lambda model, pair: functional.cross_entropy(model(pair[0]), pair[1]), examples
        )
        self.penalties.append(EWC(strategy.model, fisher, self.strength))


def permuted(seed: int) -> Iterator[Task]:
    """All images once for every task, in an order that is always the same, their pixels in one that is the task's own."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16 - 0.3, torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(TASKS):
        pixels = torch.randperm(images.shape[1], generator=generator)
        yield images[order][:, pixels], labels[order]


def accuracy(method: str, seed: int, epochs: int, strength: float, train: slice, test: slice) -> float:
    """The share of the test images of all tasks that a network names rightly after the last task."""
    tasks = list(permuted(seed))
    learned = [(images[train], labels[train]) for images, labels in tasks]
    if method == "joint":
        learned = [(torch.cat([images for images, _ in learned]), torch.cat([labels for _, labels in learned]))]
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)
    )  # one head: nothing tells the network which task an image is of
    plugins = {"ours": lambda: [OurEWC(learned, strength)], "avalanche": lambda: [EWCPlugin(strength)]}
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=LR),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH_SIZE,
        train_epochs=epochs,
        plugins=plugins.get(method, list)(),
        evaluator=EvaluationPlugin(),
    )
    stream = tensors_benchmark(train_tensors=learned, test_tensors=learned, task_labels=[0] * len(learned)).train_stream
    for number, experience in enumerate(stream):
        torch.manual_seed(1000 * seed + number)  # the order of the batches, whatever a plugin drew before
        strategy.train(experience)
    with torch.no_grad():
        right = [(model(images[test]).argmax(dim=1) == labels[test]).float().mean() for images, labels in tasks]
    return torch.stack(right).mean().item()


def main() -> None:
    """Choose, measure, print, and write the metrics."""
    torch.set_num_threads(1)
    chosen, measured = {}, {}
    for method, strengths in STRENGTHS.items():
        tuned = {}
        for epochs, strength in itertools.product(EPOCHS, strengths):
            train, valid = slice(0, TRAIN), slice(TRAIN, TRAIN + VALID)
            found = [accuracy(method, seed, epochs, strength, train, valid) for seed in TUNING_SEEDS]
            tuned[epochs, strength] = sum(found) / len(found)
            print(f"tuning {method:9}  epochs {epochs:2}  strength {strength:7}  {tuned[epochs, strength]:.4f}", flush=True)
        chosen[method] = max(tuned, key=tuned.__getitem__)
        train, test = slice(0, TRAIN + VALID), slice(TRAIN + VALID, None)
        measured[method] = [round(accuracy(method, seed, *chosen[method], train, test), 4) for seed in SEEDS]
    means = {method: round(sum(values) / len(values), 4) for method, values in measured.items()}
    for method, values in measured.items():
        epochs, strength = chosen[method]
        seeds = "  ".join(f"{value:.4f}" for value in values)
        print(f"{method:9}  {seeds}  mean {means[method]:.4f}  (epochs {epochs}, strength {strength:g})")
    described = {f"{method}_accuracy": mean for method, mean in means.items()}
    described |= {"by_seed": measured, "seeds": list(SEEDS), "tasks": TASKS}
    described["epochs"] = {method: epochs for method, (epochs, _) in chosen.items()}
    described["strength"] = {method: chosen[method][1] for method in ("ours", "avalanche")}
    described |= {f"{name}_version": version(package) for name, package in (("avalanche", "avalanche-lib"), ("torch", "torch"))}
    write_json(METRICS, described)


if __name__ == "__main__":
    main()
