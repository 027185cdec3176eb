"""Trains a network: benign, PGD (Madry et al. 2017) or TRADES (Zhang et al. 2019), all L2, resumable by epochs."""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustness_core import datasets
from robustness_core.errors import StrataError
from robustness_core.files import write_whole
from robustness_core.networks import Network, build
from robustness_core.spec.threat import NORMS
from robustness_core.training.attacks import half, pgd

METHODS = ("benign", "pgd", "trades")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_MOMENTUM = 0.9
_RAMP = 1 / 3  # share of the steps in which the budget grows from 0; at once, training stays at chance
HELD_OUT = 500  # test images that are looked at after each epoch
HELD_OUT_STEPS = 10


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that decides the weights. `epsilon`: budget on pixels in [0, 1], in the norm `threat`.

    `limit`: images used (None: all).

    `beta`: weight of the TRADES term (0: benign, large: robust at the price of accuracy). `precision` bfloat16 runs
    the passes at half cost where the processor has it; weights stay float32. The seed draws the start, the order of
    the images, their augmentation and the attacks. Raises StrataError with one sentence.
    """

    architecture: str
    dataset: str
    method: str
    epsilon: float = 2.0
    epochs: int = 10
    attack_steps: int = 5
    beta: float = 6.0
    batch: int = 128
    learning_rate: float = 0.01
    seed: int = 0
    limit: int | None = None
    precision: str = "float32"
    threat: str = "l2"

    def __post_init__(self) -> None:
        def require(condition: bool, sentence: str) -> None:
            if not condition:
                raise StrataError(sentence)

        require(self.method in METHODS, f"The method {self.method!r} is not one of {', '.join(METHODS)}.")
        require(self.threat in NORMS, f"The norm {self.threat!r} is not one of {', '.join(NORMS)}.")
        require(
            math.isfinite(self.epsilon) and self.epsilon >= 0,
            f"The budget ε is {self.epsilon:g}; it must be 0 or more.",
        )
        require(math.isfinite(self.beta) and self.beta >= 0, f"The weight β is {self.beta:g}; it must be 0 or more.")
        require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"The learning rate is {self.learning_rate:g}; it must be above 0.",
        )
        require(
            self.precision in PRECISIONS, f"The precision {self.precision!r} is not one of {', '.join(PRECISIONS)}."
        )
        for name, value in (
            ("number of epochs", self.epochs),
            ("number of attack steps", self.attack_steps),
            ("batch size", self.batch),
            ("limit of images", 1 if self.limit is None else self.limit),
        ):
            require(value >= 1, f"The {name} is {value}; it must be 1 or more.")
        require(0 <= self.seed < 2**63, f"The seed is {self.seed}; it must be from 0 to 2^63 - 1.")

    @property
    def attacked(self) -> bool:
        return self.method != "benign" and self.epsilon > 0


@dataclass(frozen=True)
class EpochReport:
    """One epoch: mean training loss, accuracy on held-out images, clean and under a short PGD, seconds it took.

    A run may go on elsewhere, so each epoch says with how many `threads` and which `torch` it was made.
    """

    epoch: int
    loss: float
    clean: float
    robust: float
    seconds: float
    threads: int
    torch: str


@dataclass(frozen=True)
class Trained:
    """A trained network with the story of its epochs; how many images it has seen, out of which (`source`)."""

    network: Network
    history: list[EpochReport]
    images: int
    source: str


@dataclass
class _State:
    """What an epoch checkpoint holds. `images`: the SHA-256 of the pixels and labels of the training images."""

    network: Network
    optimiser: torch.optim.Optimizer
    images: str
    history: list[EpochReport] = field(default_factory=list)


def cosine(start: float, progress: float) -> float:
    """Half a cosine from `start` at progress 0 to 0 at progress 1."""
    return start * 0.5 * (1 + math.cos(math.pi * progress))


def ramp(epsilon: float, progress: float) -> float:
    """The budget in use: linear from 0 to epsilon over the first third of training."""
    return epsilon * min(1.0, progress / _RAMP)


def trades_loss(clean_logits: Tensor, adversarial_logits: Tensor, labels: Tensor, beta: float) -> Tensor:
    """Cross-entropy of the clean logits + beta · KL(clean ‖ adversarial), mean over the batch (Zhang et al. 2019)."""
    natural = functional.cross_entropy(clean_logits, labels)
    return natural + beta * divergence(clean_logits, adversarial_logits).mean()


def divergence(clean_logits: Tensor, adversarial_logits: Tensor) -> Tensor:
    """KL(softmax(clean) ‖ softmax(adversarial)) of each image, (B, classes) twice -> (B,), in nats."""
    clean, adversarial = clean_logits.log_softmax(1), adversarial_logits.log_softmax(1)
    return (clean.exp() * (clean - adversarial)).sum(1)


def crop_and_flip(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image (B, C, H, W) shifted by up to four pixels (zeros move in), half of them mirrored."""
    B, _, H, W = pixels.shape  # images, channels, rows, columns
    padded = functional.pad(pixels, (4, 4, 4, 4))
    rows = torch.from_numpy(rng.integers(0, 9, B))[:, None] + torch.arange(H)
    columns = torch.from_numpy(rng.integers(0, 9, B))[:, None] + torch.arange(W)
    mirrored = torch.from_numpy(rng.random(B) < 0.5)[:, None]
    columns = torch.where(mirrored, columns.flip(1), columns)
    picked = padded.permute(0, 2, 3, 1)[torch.arange(B)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def start_weights(network: Network) -> None:
    """Kaiming's normal start for every convolution and fully connected layer, biases 0 (from torch's generator)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def train(
    spec: TrainingSpec,
    checkpoint: Path | None = None,
    *,
    on_batch: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    stop_after: int | None = None,
) -> Trained:
    """Train the network that `spec` asks for on the CPU.

    SGD with momentum 0.9, cosine schedule, Kaiming start; the budget grows from 0 over the first third of the steps.
    After each epoch the state goes to `checkpoint` (whole or not at all) and a later call with the same spec and images
    goes on from there: with the same number of threads and the same torch the weights come out the same bit by bit,
    since every epoch draws from its own generator. `on_batch(done, total)` counts batches of all epochs; `stop_after`
    ends early after that epoch.
    Cost of a step in passes over the batch: benign 3, pgd 2·attack_steps + 3, trades 2·attack_steps + 7.
    Raises StrataError.
    """
    data, held_out = datasets.fetch(spec.dataset, "train"), datasets.fetch(spec.dataset, "test")
    images = len(data) if spec.limit is None else spec.limit
    if images > len(data):
        raise StrataError(f"The limit is {images:,} images, but {spec.dataset} has {len(data):,} training images.")
    # A random choice, the same for every seed of training, so that all classes are there.
    chosen = np.sort(np.random.default_rng(0).permutation(len(data))[:images])
    pixels = torch.from_numpy(datasets.to_float(data.pixels[chosen]))
    labels = torch.from_numpy(data.labels[chosen])

    seen = hashlib.sha256(data.pixels[chosen].tobytes() + data.labels[chosen].tobytes()).hexdigest()

    state = _start(spec, seen)
    with torch.no_grad():
        outputs = state.network(pixels[:1]).shape[1]
    if outputs < (classes := len(datasets.get(spec.dataset).class_names)):
        raise StrataError(f"The architecture has {outputs} outputs; the data set {spec.dataset} has {classes} classes.")
    if checkpoint is not None and checkpoint.is_file():
        _resume(state, spec, checkpoint)
    batches = math.ceil(images / spec.batch)
    for epoch in range(len(state.history), spec.epochs if stop_after is None else stop_after):
        begun = time.monotonic()
        loss = _epoch(state, spec, pixels, labels, epoch, batches, on_batch)
        weights_finite = all(bool(parameter.isfinite().all()) for parameter in state.network.parameters())
        if not (math.isfinite(loss) and weights_finite):
            raise StrataError(f"The loss is no longer finite after epoch {epoch + 1}; lower the learning rate.")
        clean, robust = _look(state.network, held_out, spec)
        seconds = time.monotonic() - begun
        report = EpochReport(epoch + 1, loss, clean, robust, seconds, torch.get_num_threads(), str(torch.__version__))
        state.history.append(report)
        if checkpoint is not None:
            _keep(state, spec, checkpoint)
        if on_epoch is not None:
            on_epoch(report)
    return Trained(state.network.eval(), state.history, images, data.source)


def _start(spec: TrainingSpec, images: str) -> _State:
    entry = datasets.get(spec.dataset)
    mean, std = (None, None) if entry.input_shape[0] == 1 else entry.normalisation  # digits go in as they are
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = build(spec.architecture, entry.input_shape, len(entry.class_names), mean=mean, std=std)
        start_weights(network)
    # An eighth faster on the CPU; torch's stubs do not know the keyword.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(network.parameters(), lr=spec.learning_rate, momentum=_MOMENTUM)
    return _State(network, optimiser, images)


def _epoch(
    state: _State,
    spec: TrainingSpec,
    pixels: Tensor,
    labels: Tensor,
    epoch: int,
    batches: int,
    on_batch: Callable[[int, int], None] | None,
) -> float:
    """One pass over the images; returns the mean loss."""
    rng = np.random.default_rng([spec.seed, epoch])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    order = torch.from_numpy(rng.permutation(len(labels)))
    total = 0.0
    state.network.train()
    for index, members in enumerate(torch.split(order, spec.batch)):
        progress = (epoch * batches + index) / (spec.epochs * batches)
        for group in state.optimiser.param_groups:
            group["lr"] = cosine(spec.learning_rate, progress)
        inputs, targets = pixels[members], labels[members]
        if inputs.shape[1] == 3:  # photographs; a digit moved or mirrored may be another
            inputs = crop_and_flip(inputs, rng)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        loss = _loss(state.network, inputs, targets, ramp(spec.epsilon, progress), spec, generator)
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        total += float(loss.detach()) * len(members)
        if on_batch is not None:
            on_batch(epoch * batches + index + 1, spec.epochs * batches)
    return total / len(labels)


def _loss(
    network: Network, pixels: Tensor, labels: Tensor, epsilon: float, spec: TrainingSpec, generator: torch.Generator
) -> Tensor:
    precision = PRECISIONS[spec.precision]

    def logits_of(inputs: Tensor) -> Tensor:
        with half(inputs.device, precision):
            logits: Tensor = network(inputs)
        return logits.float()

    if not spec.attacked:
        return functional.cross_entropy(logits_of(pixels), labels)
    objective = None
    if spec.method == "trades":
        with torch.no_grad():
            fixed = logits_of(pixels)

        def objective(logits: Tensor) -> Tensor:
            return divergence(fixed, logits)

    adversarial = pgd(
        network,
        pixels,
        labels,
        epsilon,
        steps=spec.attack_steps,
        generator=generator,
        norm=spec.threat,
        objective=objective,
        keep_best=False,
        precision=precision,
    )
    if spec.method == "pgd":
        return functional.cross_entropy(logits_of(adversarial), labels)
    return trades_loss(logits_of(pixels), logits_of(adversarial), labels, spec.beta)


def _look(network: Network, held_out: datasets.Dataset, spec: TrainingSpec) -> tuple[float, float]:
    """Accuracy on the first held-out images, clean and under a short PGD at the trained budget."""
    # Spread over the split, since the bundled digits lie class by class.
    chosen = np.linspace(0, len(held_out) - 1, min(HELD_OUT, len(held_out))).astype(int)
    pixels = torch.from_numpy(datasets.to_float(held_out.pixels[chosen]))
    labels = torch.from_numpy(held_out.labels[chosen])
    network.eval()
    with torch.no_grad():
        clean = float((network(pixels).argmax(1) == labels).double().mean())
    if spec.epsilon == 0:
        return clean, clean
    generator = torch.Generator().manual_seed(0)
    attacked = pgd(network, pixels, labels, spec.epsilon, steps=HELD_OUT_STEPS, generator=generator, norm=spec.threat)
    with torch.no_grad():
        return clean, float((network(attacked).argmax(1) == labels).double().mean())


def _keep(state: _State, spec: TrainingSpec, checkpoint: Path) -> None:
    content = io.BytesIO()
    torch.save(
        {
            "spec": json.dumps(asdict(spec)),
            "images": state.images,
            "network": state.network.body.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "history": [asdict(report) for report in state.history],
        },
        content,
    )
    write_whole(checkpoint, content.getvalue())


def _resume(state: _State, spec: TrainingSpec, checkpoint: Path) -> None:
    try:
        kept = torch.load(checkpoint, weights_only=True)
        if {"threat": "l2", **json.loads(kept["spec"])} != asdict(spec):  # of before it was asked
            raise StrataError(
                f"The epoch checkpoint {checkpoint} belongs to other settings; remove it or choose another --out."
            )
        if kept["images"] != state.images:
            raise StrataError(
                f"The epoch checkpoint {checkpoint} belongs to other images of {spec.dataset} than those at hand now; "
                "bring them back, or remove it to start again."
            )
        state.network.body.load_state_dict(kept["network"])
        state.optimiser.load_state_dict(kept["optimiser"])
        state.history = [EpochReport(**report) for report in kept["history"]]
    except StrataError:
        raise
    except Exception as error:  # torch.load raises many kinds on a damaged file
        raise StrataError(f"The epoch checkpoint {checkpoint} cannot be read; remove it to start again.") from error
