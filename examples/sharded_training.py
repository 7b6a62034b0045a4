"""Train a head whose classes are split over the processes of a group; the backbone is the same on all of them.

    torchrun --nproc-per-node 2 examples/sharded_training.py --data omniglot
    torchrun --nproc-per-node 2 examples/sharded_training.py --data synthetic --classes 100000

Omniglot (964 written characters, 20 pictures of each) is read from ``omniglot/omniglot_28.npz`` in the folder that
LOGITLAB_DATA names; the synthetic classes are points with noise around them, and need no file. Without torchrun one
process has all classes. On a machine with a GPU for each process it uses NCCL, elsewhere gloo.

At the end each process says how much memory its part of the head takes, with the gradient and what the optimiser keeps,
and by how much the process has grown since the backbone was there.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import logitlab as ll

MEGABYTE = 1e6
DRAWERS_OF_TRAINING = 15


class Task(NamedTuple):
    """What is learned.

    Attributes:
        batches: inputs and classes of this process, step after step; the argument is the number of steps.
        test: inputs and classes of this process.
        backbone: from inputs to features.
        num_classes: C.
    """

    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]]
    test: tuple[Tensor, Tensor]
    backbone: nn.Module
    num_classes: int


def omniglot(features: int, batch: int, rank: int, ranks: int) -> Task:
    import numpy

    path = Path(os.environ.get("LOGITLAB_DATA") or "data").expanduser() / "omniglot" / "omniglot_28.npz"
    if not path.is_file():
        sys.exit(f"Cannot find '{path}'. Set LOGITLAB_DATA to the folder that holds it, or use --data synthetic.")
    with numpy.load(path) as file:
        images = torch.from_numpy(file["x_background"]).unsqueeze(1).float() / 255
        classes = torch.from_numpy(file["y_background"]).long()
        training = torch.from_numpy(file["drawer_background"]) <= DRAWERS_OF_TRAINING
    images, classes, test = images[training], classes[training], (images[~training], classes[~training])

    def batches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(images), generator=generator)
        for _ in range(steps):
            if len(order) < batch * ranks:
                order = torch.randperm(len(images), generator=generator)
            mine, order = order[rank * batch : (rank + 1) * batch], order[batch * ranks :]
            shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
            yield torch.roll(images[mine], shift, dims=(2, 3)), classes[mine]

    layers: list[nn.Module] = []
    for before, after in ((1, 32), (32, 64), (64, 128)):
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(8, after), nn.ReLU(), nn.MaxPool2d(2)]
    backbone = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 9, features, bias=False))
    return Task(batches, (test[0][rank::ranks], test[1][rank::ranks]), backbone, 964)


def synthetic(features: int, batch: int, rank: int, num_classes: int) -> Task:
    size = 32
    centers = torch.randn(num_classes, size, generator=torch.Generator().manual_seed(1))

    def draw(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        classes = torch.randint(num_classes, (number,), generator=generator)
        return centers[classes] + 0.2 * torch.randn(number, size, generator=generator), classes

    def batches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(100 + rank)
        for _ in range(steps):
            yield draw(batch, generator)

    # One layer keeps what is far apart far apart: classes that were never seen are told from each other too.
    backbone = nn.Sequential(nn.Linear(size, features, bias=False))
    return Task(batches, draw(512, torch.Generator().manual_seed(200 + rank)), backbone, num_classes)


def resident() -> float:
    """Largest memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def head_memory(head: ll.ShardedHead, optimizer: torch.optim.Optimizer) -> float:
    """Megabytes of the weight here, its gradient, and what the optimiser keeps of it."""
    tensors = []
    for parameter in (head.weight, head.bias):
        if parameter is not None:
            tensors += [parameter, parameter.grad, *optimizer.state[parameter].values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor)) / MEGABYTE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("omniglot", "synthetic"), default="synthetic")
    parser.add_argument("--classes", type=int, default=100_000, help="of the synthetic data (default: %(default)s)")
    parser.add_argument("--features", type=int, default=128, help="length of a feature vector (default: %(default)s)")
    parser.add_argument("--head", default="cosine_ls", help="cosine_ls, cosface, arcface, ... (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=256, help="samples of all processes (default: %(default)s)")
    parser.add_argument("--sample-share", type=float, default=1.0, help="share of the classes in a step")
    parser.add_argument("--save", metavar="FOLDER", help="keep a checkpoint that any number of processes can load")
    options = parser.parse_args()

    several = "RANK" in os.environ
    if several:
        dist.init_process_group("nccl" if torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"]) else "gloo")
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
    on_gpu = several and dist.get_backend() == "nccl"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)

    torch.manual_seed(0)
    batch = options.batch // ranks
    if options.data == "omniglot":
        task = omniglot(options.features, batch, rank, ranks)
    else:
        task = synthetic(options.features, batch, rank, options.classes)
    backbone: nn.Module = task.backbone.to(device)
    if several:
        backbone = DistributedDataParallel(backbone)
    before = resident()
    # On the meta device the whole head takes no memory; each process draws its own part.
    template = ll.create_head(options.head, options.features, task.num_classes, device="meta")
    head = ll.ShardedHead(template, sample_share=options.sample_share, device=device)
    model = ll.Classifier(backbone, head)
    optimizer = torch.optim.AdamW(ll.param_groups(model, weight_decay=1e-4), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=options.steps)

    start = time.perf_counter()
    for step, (inputs, classes) in enumerate(task.batches(options.steps), 1):
        loss = model(inputs.to(device), classes.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if rank == 0 and (step % max(options.steps // 10, 1) == 0 or step == 1):
            kappa = "" if head.kappa is None else f", κ {float(head.kappa):.2f}"
            print(f"step {step}: loss {float(loss.detach()):.3f}{kappa}", flush=True)
    seconds = time.perf_counter() - start

    model.eval()
    right = torch.zeros(2, device=device)
    with torch.no_grad():
        for inputs, classes in zip(task.test[0].split(128), task.test[1].split(128)):
            found = head.predict(model.features(inputs.to(device)))
            right += torch.stack([(found == classes.to(device)).sum(), torch.tensor(len(classes), device=device)])
    if several:
        dist.all_reduce(right)
    if options.save:
        ll.save_sharded(options.save, model, optimizer, steps=options.steps)
    line = (
        f"rank {rank} of {ranks}: classes {head.classes.start} to {head.classes.end - 1}, head, gradient and optimiser "
        f"{head_memory(head, optimizer):.1f} MB, process grown by {resident() - before:.0f} MB"
    )
    for turn in range(ranks):
        if turn == rank:
            print(line, flush=True)
        if several:
            dist.barrier()
    if rank == 0:
        accuracy = 100 * float(right[0] / right[1])
        print(
            f"{task.num_classes} classes, {ranks} process{'es' * (ranks > 1)}: accuracy {accuracy:.1f} % of "
            f"{int(right[1])}, {1000 * seconds / options.steps:.0f} ms a step"
        )
    if several:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
