"""The numbers of the paper (Rae et al. 2016, "Scaling memory-augmented neural networks with
sparse reads and writes", arXiv:1610.09027), each with where it stands."""

from __future__ import annotations

from dataclasses import dataclass

MILLION = 2**20
K64 = 2**16
MIB = 2**20
GIB = 2**30
FIGURE_1 = "Figure 1 and its caption"
FIGURE_7 = "Figure 7 and supplement D"
SECTION_41 = "section 4.1"

NTM_NOTE = (
    "The paper's NTM kept about 38 copies of the memory per step: 29 GiB / (100 steps * 7.8 MiB). "
    "A lean NTM keeps far fewer, so its ratios to SAM are smaller for a good reason. The paper "
    "ran Torch 7 and Eigen on a Xeon E5-1650, so absolute times are not comparable either."
)


@dataclass(frozen=True)
class Claim:
    """A ratio of two models (`denominator` given) or a value of one, at one memory size.

    `paper` is what the paper says, None where it says nothing; `text` is that as it says it.
    `headline` puts the claim at the top of the page. `memory` says what the memory holds at first,
    where that is part of the measurement.
    """

    key: str
    label: str
    quantity: str
    numerator: str
    denominator: str | None
    memory_size: int
    sequence_length: int | None
    paper: float | None = None
    text: str = "-"
    source: str = ""
    headline: bool = False
    memory: str | None = None


RATIOS: tuple[Claim, ...] = (
    Claim(
        "step_ntm_sam_linear", "Step time, NTM / SAM linear", "step_time", "ntm", "sam-exact",
        MILLION, 1, 100.0, ">100x", SECTION_41, headline=True,
    ),
    Claim(
        "step_ntm_sam_kd", "Step time, NTM / SAM k-d", "step_time", "ntm", "sam-kd_forest",
        MILLION, 1, 1600.0, "1,600x", FIGURE_1, headline=True,
    ),
    Claim(
        "step_dam_sam_linear", "Step time, DAM / SAM linear", "step_time", "dam", "sam-exact",
        MILLION, 1,
    ),
    Claim(
        "memory_ntm_sam", "Training memory, NTM / SAM linear", "training_peak", "ntm", "sam-exact",
        K64, 100, 3700.0, "3,700x", FIGURE_1, headline=True,
    ),
    Claim(
        "memory_dam_sam", "Training memory, DAM / SAM linear", "training_peak", "dam", "sam-exact",
        K64, 100,
    ),
    Claim(
        "memory_ntm_recomputing_sam", "Training memory, NTM with steps made again / SAM linear",
        "training_peak", "ntm-dp", "sam-exact", K64, 100,
    ),
    Claim(
        "step_ntm_recomputing", "Step time, NTM with steps made again / NTM", "step_time",
        "ntm-dp", "ntm", 1024, 100,
    ),
    Claim(
        "linked_dnc_sdnc", "Step time, DNC / SDNC linear", "linked_time", "dnc", "sdnc-exact",
        2048, 10, 440.0, "≈ 440x", FIGURE_7, headline=True,
    ),
    Claim(
        "total_dnc_sdnc_full", "Total memory, DNC / SDNC linear, full", "total_memory", "dnc",
        "sdnc-exact", 2048, 10, 240.0, "≈ 240x", FIGURE_7, headline=True, memory="full",
    ),
    Claim(
        "total_dnc_sdnc_empty", "Total memory, DNC / SDNC linear, empty", "total_memory", "dnc",
        "sdnc-exact", 2048, 10, 240.0, "≈ 240x", FIGURE_7, headline=True, memory="empty",
    ),
)  # fmt: skip

# What temporal links add: the time of SDNC less that of SAM, per step and batch element.
LINKS: tuple[Claim, ...] = (
    Claim(
        "links_linear", "Links' share of a step, SDNC - SAM linear", "linked_time", "sdnc-exact",
        "sam-exact", 2048, 10, 100e-6, "≈ 100 µs", FIGURE_7, headline=True,
    ),
    Claim(
        "links_kd", "Links' share of a step, SDNC - SAM k-d", "linked_time", "sdnc-kd_forest",
        "sam-kd_forest", MILLION, 10,
    ),
)  # fmt: skip

VALUES: tuple[Claim, ...] = (
    Claim(
        "step_ntm", "Step time, NTM", "step_time", "ntm", None, MILLION, 1,
        12.0, "12 s", FIGURE_1,
    ),
    Claim(
        "step_sam_kd", "Step time, SAM k-d", "step_time", "sam-kd_forest", None, MILLION, 1,
        0.007, "7 ms", FIGURE_1,
    ),
    Claim(
        "memory_ntm_64", "Training memory, NTM", "training_peak", "ntm", None, 64, 100,
        30.0 * MIB, "≈ 30 MiB", "section 1",
    ),
    Claim(
        "memory_ntm", "Training memory, NTM", "training_peak", "ntm", None, K64, 100,
        29.0 * GIB, "29 GiB", FIGURE_1,
    ),
    Claim(
        "memory_sam", "Training memory, SAM linear", "training_peak", "sam-exact", None, K64, 100,
        7.8 * MIB, "7.8 MiB", FIGURE_1,
    ),
    Claim(
        "initial_sam_64k", "Initialisation, SAM, unwritten", "initial_memory", "sam-exact", None,
        K64, None, 53.0 * MIB, "53 MiB", SECTION_41,
    ),
    Claim(
        "initial_sam_1m", "Initialisation, SAM, unwritten", "initial_memory", "sam-exact", None,
        MILLION, None,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A task of Figure 2: what its level counts, its bounds, settings that say the hardest."""

    unit: str
    easiest: int
    hardest: int
    level_settings: tuple[str, ...]


TASKS: dict[str, Task] = {
    "copy": Task("words", 1, 20, ("max_length",)),
    "associative_recall": Task("pairs", 3, 6, ("max_pairs",)),
    "priority_sort": Task("keys", 20, 20, ("max_keys", "keys")),
}

# Tasks of words and characters: what counts is the share of the answers that are wrong.
BABI, OMNIGLOT = "babi", "omniglot"
ANSWER_TASKS = (BABI, OMNIGLOT)

# How the paper trained (supplement C), by the names of a run's settings. It gives neither the
# size of the memory and its words in Figure 2 nor gradient clipping.
TRAINING: dict[str, str | float] = {
    "optimizer.name": "rmsprop",
    "optimizer.learning_rate": 1e-5,
    "batch_size": 8,
    "model_settings.hidden_size": 100,
    "model_settings.num_heads": 4,
    "model_settings.k": 4,
}
TRAINING_NOTE = (
    "The paper trained with RMSProp at a learning rate of 1e-5, minibatches of 8 on 8 asynchronous "
    "workers, an LSTM of 100 units, 4 heads and K = 4, 30 seeds in Figure 2 and 5 in Figure 3. In "
    "Figure 3 its dense models have 64 words and its sparse ones 2,000,000. Not given: the memory "
    "of Figure 2, budgets, gradient clipping, and the curriculum's threshold and window."
)
