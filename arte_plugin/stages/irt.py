"""Two-parameter logistic item response theory: how well each validation question tells good respondents from bad."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from arte_plugin.errors import DataError

#: log α ~ N(0, 0.5²), β ~ N(0, 1.5²), θ ~ N(0, 1): wide enough for real questions, tight enough that a question which
#: everybody or nobody gets right stays where the prior is.
LOG_DISCRIMINATION_SD = 0.5
DIFFICULTY_SD = 1.5


@dataclass(frozen=True)
class IRTFit:
    """The fitted model; arrays of length items (discrimination, difficulty) and respondents (ability)."""

    discrimination: np.ndarray
    difficulty: np.ndarray
    ability: np.ndarray
    log_posterior: float
    converged: bool
    iterations: int


def fit(correct: np.ndarray) -> IRTFit:
    """Fit P(correct) = σ(α (θ - β)) to a respondents × items matrix of booleans, by maximum a posteriori.

    Birnbaum's model (1968) as in the paper's section 3.2. Priors, which the paper leaves open, keep α finite: 20
    respondents do not pin down 2 × 100 parameters. Raises `DataError` for fewer than 2 respondents or no items.
    """
    respondents, items = correct.shape if correct.ndim == 2 else (0, 0)
    if respondents < 2 or items < 1:
        raise DataError(
            f"An IRT fit needs at least 2 respondents and 1 question, found {respondents} and {items}. "
            "Give more `preference_set.respondents` or shots, or take `preference_set.method: random`."
        )
    outcome = correct.astype(float)
    # Abilities start at each respondent's share of right answers; all else at the prior's middle.
    share = outcome.mean(axis=1)
    spread = share.std()
    start = np.concatenate([np.zeros(2 * items), (share - share.mean()) / spread if spread > 0 else share * 0.0])
    found = minimize(
        negative_log_posterior, start, args=(outcome,), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
    )
    log_alpha, beta, theta = np.split(found.x, [items, 2 * items])
    return IRTFit(np.exp(log_alpha), beta, theta, -float(found.fun), bool(found.success), int(found.nit))


def negative_log_posterior(parameters: np.ndarray, outcome: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient at `(log α, β, θ)`, for the optimiser. `outcome` is respondents × items, 0 or 1."""
    items = outcome.shape[1]
    log_alpha, beta, theta = np.split(parameters, [items, 2 * items])
    alpha = np.exp(log_alpha)
    gap = theta[:, None] - beta[None, :]
    logit = alpha * gap
    # log σ(x) = -log(1 + exp(-x)), without overflow
    value = np.sum(np.logaddexp(0.0, logit) - outcome * logit)
    value += 0.5 * np.sum((log_alpha / LOG_DISCRIMINATION_SD) ** 2)
    value += 0.5 * np.sum((beta / DIFFICULTY_SD) ** 2) + 0.5 * np.sum(theta**2)
    error = expit(logit) - outcome
    gradient = np.concatenate(
        [
            np.sum(error * gap, axis=0) * alpha + log_alpha / LOG_DISCRIMINATION_SD**2,
            -np.sum(error, axis=0) * alpha + beta / DIFFICULTY_SD**2,
            np.sum(error * alpha, axis=1) + theta,
        ]
    )
    return float(value), gradient
