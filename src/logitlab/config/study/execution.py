"""How a study is run: on what, and how many trials at a time. No part of the identity of any trial."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..validation import Configuration

EXECUTORS = ("process", "ray", "serial", "slurm")


class SlurmConfig(Configuration):
    """What the executor ``slurm`` asks of the cluster.

    Attributes:
        cluster: ``"slurm"``, or ``"local"`` for submitit's processes on this machine; None for Slurm where it is
            installed and local otherwise.
        array_tasks: jobs of the array that share the pending trials, at most.
        timeout_minutes: of a job; a trial that is cut off goes on from its last epoch in the next.
        partition: where the jobs run; None for the cluster's default.
        cpus_per_task: cores a job.
        memory_gb: memory a job.
        parameters: further parameters as submitit's ``update_parameters`` takes them (``slurm_account`` and so on).
    """

    cluster: Literal["slurm", "local"] | None = None
    array_tasks: int = Field(default=16, ge=1)
    timeout_minutes: int = Field(default=240, ge=1)
    partition: str | None = None
    cpus_per_task: int = Field(default=1, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)
    parameters: dict[str, Any] = Field(default_factory=dict)


class ExecutionConfig(Configuration):
    """How trials are delivered.

    Attributes:
        executor: ``"process"`` (a pool on this machine), ``"serial"`` (in this process), ``"ray"`` or ``"slurm"``;
            None for ``"ray"`` where RAY_ADDRESS is set, and ``"process"`` otherwise.
        workers: trials at a time; None for the executor's rule.
        device: a torch device; None for a GPU where there is one.
        gpus_per_trial: share of a GPU that Ray and Slurm reserve for a trial; None for one where ``device`` is CUDA.
        processes_per_trial: above 1, each trial is trained by so many processes, started by torchrun.
        attempts: how often a trial is begun whose process was killed or whose machine is gone, in all.
        slurm: what is asked of Slurm.
    """

    executor: Literal["process", "ray", "serial", "slurm"] | None = None
    workers: int | None = Field(default=None, ge=1)
    device: str | None = None
    gpus_per_trial: float | None = Field(default=None, ge=0)
    processes_per_trial: int = Field(default=1, ge=1)
    attempts: int = Field(default=3, ge=1)
    slurm: SlurmConfig = Field(default_factory=SlurmConfig)
