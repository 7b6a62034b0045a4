"""What a page says of its head beyond what the code can tell: formula, when to use it, what inference returns."""

from __future__ import annotations

from dataclasses import dataclass

SOFTMAX = "the logits $\\ell$; probabilities are their softmax."
COSINES = "$\\kappa\\cos\\theta_c$ (plus a bias if it has one); probabilities are their softmax. κ is {kappa}."
MEAN = 'the running mean of κ*, or the search for each sample with `inference_kappa="per_sample"`'
NO_MARGIN = " No margin: it needs a target."


@dataclass(frozen=True)
class Text:
    """One page.

    Attributes:
        title: in the words of the field.
        formula: the loss of one sample with target y, in TeX.
        when: when to use it, with the source of the claim.
        inference: what ``head(features)`` returns.
        notes: what to know.
    """

    title: str
    formula: str
    when: str
    inference: str = SOFTMAX
    notes: str = ""


TEXTS: dict[str, Text] = {
    "softmax": Text(
        "Softmax cross-entropy",
        r"L = \log\sum_c e^{\ell_c} - \ell_y, \qquad \ell = \mathbf{Wx} + \mathbf b",
        "The baseline. In W its features transfer best to other tasks (W Table 5), while many alternatives, when tuned, are "
        "somewhat more accurate on the training task (W Table 1).",
        notes="Computed as softplus of the rivals' log-sum-exp less the target's logit: a loss of 1e-10 keeps its digits.",
    ),
    "label_smoothing": Text(
        "Label smoothing",
        r"L = \frac{1}{1-\alpha}\,L_\mathrm{softmax}\big(\ell, (1-\alpha)\mathbf t + \alpha/K\big)",
        "Above softmax in W Table 1, and a much lower expected calibration error (W Table 3); its features transfer worse (W Table 5).",
        notes="Scaled by 1/(1-α) as in the paper; torch's `label_smoothing` is not.",
    ),
    "dropout": Text(
        "Dropout on the features",
        r"L = \mathbb E_{\boldsymbol\xi}\, L_\mathrm{softmax}\big(\mathbf W(\mathbf x\odot\boldsymbol\xi/\rho) + "
        r"\mathbf b, \mathbf t\big), \quad \xi_i \sim \mathrm{Bernoulli}(\rho)",
        "A regularizer of the last layer; in W it acts much like `final_l2` (W §2).",
        notes="ρ is the probability to keep a feature, not to drop it.",
    ),
    "final_l2": Text(
        "Extra L2 on the last layer",
        r"L = L_\mathrm{softmax} + \tfrac{\lambda_\mathrm{final}}{2}\,\|\mathbf W\|^2",
        "W §2: greater L2 regularization of the last layer than of the others can improve performance (W Table 1).",
        notes="On the weight alone, never the bias. It adds to the optimiser's weight decay.",
    ),
    "logit_penalty": Text(
        "Logit penalty",
        r"L = L_\mathrm{softmax} + \beta\|\ell\|^2",
        "Frequently among the top-performing losses of W (§3.1, Table 1).",
        notes="The authors' published code has β/2; the paper, and this head, β.",
    ),
    "logit_norm": Text(
        "Logit normalization",
        r"L = L_\mathrm{softmax}\big(\ell/(\tau\|\ell\|), \mathbf t\big)",
        "W Table 2: with cosine softmax typically the best on out-of-distribution test sets.",
        r"$\ell/(\tau\|\ell\|)$; probabilities are their softmax.",
    ),
    "cosine": Text(
        "Cosine softmax, fixed temperature",
        r"L = L_\mathrm{softmax}\big(\kappa\cos\theta_c + b_c, \mathbf t\big)",
        "0.9 points above softmax on ImageNet in W Table 1. κ rules what the features become: near κ* they are compact and "
        "the confidence is honest, larger κ spreads them and they transfer better (T §3.2, Tables 3 and 4).",
        COSINES.format(kappa="the constant"),
    ),
    "cosine_ls": Text(
        "Cosine softmax, least-squares temperature",
        r"L = L_\mathrm{softmax}\big(\kappa^*\cos\theta_c, \mathbf t\big), \quad \kappa^* = \arg\min_\kappa \tfrac12"
        r"\Big\|\tilde{\mathbf x} - \sum_c \mathrm{softmax}_c(\kappa\mathbf z)\,\tilde{\mathbf w}_c\Big\|^2",
        "When nobody wants to tune κ, and confidence counts: κ* is the lower bound of the κ that serve accuracy "
        "(T Table 2) and serves the rejection of mistakes and strange inputs (T §3.2.1).",
        COSINES.format(kappa=MEAN),
        "κ* is detached and needs no label: it works under Mixup.",
    ),
    "cosine_2ls": Text(
        "Cosine softmax, twice the least-squares temperature",
        r"L = L_\mathrm{softmax}\big(2\kappa^*\cos\theta_c, \mathbf t\big)",
        "When accuracy counts: T finds the best accuracy at κ between κ* and 2κ* (T Table 2, §3.2.3).",
        COSINES.format(kappa="twice " + MEAN),
    ),
    "sigmoid": Text(
        "Sigmoid cross-entropy, one against the rest",
        r"L = -\sum_k \big(t_k\log\sigma(\ell_k) + (1-t_k)\log(1-\sigma(\ell_k))\big)",
        "With cosine softmax the most accurate on ImageNet in W Table 1, 0.9 points above softmax.",
        "the logits; probabilities are the sigmoids divided by their sum (W Table 3).",
        "The bias starts at -log C, so that the first loss is not that of C certain mistakes.",
    ),
    "squared_error": Text(
        "Squared error",
        r"L = \tfrac1K\Big(\kappa\,(\ell_y - M)^2 + \sum_{c\neq y}\ell_c^2\Big)",
        "W Table 1: slightly above softmax on ImageNet, below it on CIFAR-100. Greater weight on the right class helps (W §2).",
        "the logits; they define no probabilities (`link` is `none`).",
        "No default suits every number of classes: ask for a preset, or give `target_weight` (κ) and `target_value` (M).",
    ),
    "lsoftmax": Text(
        "L-Softmax: large-margin softmax",
        r"L = L_\mathrm{softmax} \text{ with } \ell_y \to \|\mathbf w_y\|\|\mathbf x\|\,"
        r"\frac{\lambda\cos\theta_y + \psi(\theta_y)}{1+\lambda}, \qquad \psi(\theta) = (-1)^k\cos(m\theta) - 2k",
        "Compact classes and less overfitting (L): the target must win at m times its angle. Verification of faces in L "
        "Table 5.",
        SOFTMAX + NO_MARGIN,
        "Weights keep their lengths, so classes keep unequal angles. A temperature replaces both lengths by κ. λ falls "
        "with the steps of the optimiser (`annealing`) and must start large: from 0.1, m = 4 reached 71 % on MNIST because some "
        "classes lost their weight; from 1000, 98.8 % (`benchmarks/lsoftmax_mnist.py`, [picture](../lsoftmax_mnist.png)). k stays below m at θ = π, where "
        "pytorch-metric-learning's slope has the wrong sign.",
    ),
    "sphereface": Text(
        "SphereFace (A-Softmax)",
        r"L = L_\mathrm{softmax} \text{ with } \ell_c = \|\mathbf x\|\cos\theta_c,\; \ell_y \to \|\mathbf x\|\,"
        r"\frac{\lambda\cos\theta_y + \psi(\theta_y)}{1+\lambda}",
        "L-Softmax on weights of unit length: every class has the same share of angles. Also called `asoftmax`.",
        r"$\|\mathbf x\|\cos\theta_c$; probabilities are their softmax." + NO_MARGIN,
        "A temperature replaces ‖x‖ by κ.",
    ),
    "cosface": Text(
        "CosFace (AM-Softmax)",
        r"L = L_\mathrm{softmax} \text{ with } \ell_c = \kappa\cos\theta_c,\; \ell_y \to \kappa(\cos\theta_y - m)",
        "Embeddings to be compared, as of faces; T §3.4.1 trains it with κ by least squares. Also called `amsoftmax`.",
        COSINES.format(kappa=MEAN) + NO_MARGIN,
        "κ = 64, the published value, is too large for few classes; least squares is the default here. `margin` may be "
        "one number a class.",
    ),
    "arcface": Text(
        "ArcFace",
        r"L = L_\mathrm{softmax} \text{ with } \ell_c = \kappa\cos\theta_c,\; \ell_y \to \kappa\cos(\theta_y + m)",
        "As CosFace, with the margin on the angle.",
        COSINES.format(kappa=MEAN) + NO_MARGIN,
        "m is in radians (pytorch-metric-learning: degrees). Past θ + m = π the logit goes on falling, without a jump, as "
        "κ(cos θ + cos m - 1); others take κ(cos θ - m sin m). `detach_margin=true` trains with the gradient of the "
        "cosine, as insightface does. At |cos| = 1 the gradient is finite; pytorch-metric-learning takes acos of a clamped "
        "cosine there: NaN in about 40 % of rows with x = k·W_y on older torch, no gradient on 2.15 "
        "(`benchmarks/numerics_vs_peers.py`).",
    ),
    "group_softmax": Text(
        "Group softmax with discriminative feature grouping",
        r"\ell^{I} = \tfrac1G\sum_i L_\mathrm{softmax}(G\bar{\mathbf z}^i), \qquad "
        r"\ell^{II} = \sum_i L_\mathrm{softmax}(\bar{\mathbf z}^i), \qquad \bar z^i_c = \sum_{j\in\mathcal G^i} W_{cj}x_j",
        "Few classes or few samples: G finds type II better below some 500,000 training samples and type I above "
        "(G Table B.2).",
        "the whole logits $\\mathbf{Wx} + \\mathbf b$; probabilities are their softmax.",
        "The number of groups must divide the number of features. Softmax <= type I <= type II for every grouping.",
    ),
    "focal_loss": Text(
        "Focal loss",
        r"L = -(1 - p_y)^\gamma \log p_y, \qquad p = \mathrm{softmax}(\ell)",
        "Many easy samples beside few hard ones: what is right already counts less (Lin et al. 2017).",
        notes="Larger γ makes the confidence more modest. T §3.2 compares it with a large κ.",
    ),
    "subcenter_arcface": Text(
        "Sub-centre ArcFace",
        r"L = L_\mathrm{softmax} \text{ with } \cos\theta_c = \max_k \cos(\mathbf x, \mathbf w_{ck}),\; "
        r"\ell_y \to \kappa\cos(\theta_y + m)",
        "Classes that are several kinds of things, or noisy labels: a class has several centres, and a sample joins the "
        "nearest (Deng et al. 2020).",
        COSINES.format(kappa="AdaCos's constant, √2 log(C - 1)") + NO_MARGIN,
        "Least squares rebuilds a feature from one weight a class and is refused here. The κ* that tables show is measured over "
        "all centres.",
    ),
    "logit_adjustment": Text(
        "Logit adjustment",
        r"L = L_\mathrm{softmax}(\ell_c + \tau\log\pi_c, \mathbf t)",
        "Long tails, when every class shall count alike at inference: the class frequencies π are part of the loss and "
        "not of the logits (Menon et al. 2021).",
        notes="`class_counts` are the images of each class in the training set; without them π is uniform and this is "
        "softmax.",
    ),
    "ldam": Text(
        "LDAM: label-distribution-aware margin",
        r"L = L_\mathrm{softmax} \text{ with } \ell_c = \kappa\cos\theta_c,\; \ell_y \to "
        r"\kappa(\cos\theta_y - m_y), \qquad m_y = m_{\max}\,(n_{\min}/n_y)^{1/4}",
        "Long tails: the rarer the class, the larger its margin (Cao et al. 2019).",
        COSINES.format(kappa="the constant 30") + NO_MARGIN,
        "`class_counts` are the images of each class in the training set; without them every class has the largest margin.",
    ),
}
