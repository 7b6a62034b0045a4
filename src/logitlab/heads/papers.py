"""The papers that the sources of heads abbreviate."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication.

    Attributes:
        authors: as they are cited.
        title: in full.
    """

    authors: str
    title: str

    def __str__(self) -> str:
        return f'{self.authors}, "{self.title}"'


#: What the letters and names of ``NamedHead.source`` stand for.
PAPERS: dict[str, Paper] = {
    "W": Paper(
        "Simon Kornblith, Honglak Lee, Ting Chen and Mohammad Norouzi",
        "What's in a Loss Function for Image Classification?",
    ),
    "T": Paper("Takumi Kobayashi", "Temperature in Cosine-based Softmax Loss"),
    "L": Paper(
        "Weiyang Liu, Yandong Wen, Zhiding Yu and Meng Yang",
        "Large-Margin Softmax Loss for Convolutional Neural Networks",
    ),
    "Lin": Paper(
        "Tsung-Yi Lin, Priya Goyal, Ross Girshick, Kaiming He and Piotr Dollár",
        "Focal Loss for Dense Object Detection",
    ),
    "Deng": Paper(
        "Jiankang Deng, Jia Guo, Tongliang Liu, Mingming Gong and Stefanos Zafeiriou",
        "Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces",
    ),
    "Menon": Paper(
        "Aditya Krishna Menon, Sadeep Jayasumana, Ankit Singh Rawat, Himanshu Jain, Andreas Veit and Sanjiv Kumar",
        "Long-tail learning via logit adjustment",
    ),
    "Cao": Paper(
        "Kaidi Cao, Colin Wei, Adrien Gaidon, Nikos Arechiga and Tengyu Ma",
        "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
    ),
    "G": Paper("Takumi Kobayashi", "Group Softmax Loss with Discriminative Feature Grouping"),
}


def papers_of(source: str) -> dict[str, Paper]:
    """Return the papers that a source such as ``"W (7), T (1), (2)"`` abbreviates, in its order.

    >>> [paper.authors for paper in papers_of("T (11), Table 2 (2κ*)").values()]
    ['Takumi Kobayashi']
    """
    letters = dict.fromkeys(re.findall(r"\b([A-Z][a-z]*)\b(?= [(§])", source))
    return {letter: PAPERS[letter] for letter in letters if letter in PAPERS}


def full_source(source: str) -> str:
    """Write a source with its papers spelt out, for a reader who has nothing else before them.

    >>> full_source("T (10), (11)")
    'T (10), (11), where T is Takumi Kobayashi, "Temperature in Cosine-based Softmax Loss"'
    """
    spelt = "; ".join(f"{letter} is {paper}" for letter, paper in papers_of(source).items())
    return f"{source}, where {spelt}" if spelt else source
