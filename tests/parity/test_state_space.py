"""AR and Kalman against statsmodels, against one dense joint Gaussian, and against hand-made cases."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from chainrule.core import Batch, UserError
from chainrule.models.ar import AR, ARConfig
from chainrule.models.kalman import Kalman, KalmanConfig, System, kalman_filter, likely_seasons, smooth

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    statsmodels = pytest.importorskip("statsmodels.api")
    from statsmodels.tsa.ar_model import AutoReg, ar_select_order


def batch(*records: np.ndarray) -> Batch:
    """Records in rows, each behind its start symbol."""
    longest = max(map(len, records))
    inputs_BT, targets_BT = (torch.full((len(records), longest), math.nan, dtype=torch.float64) for _ in range(2))
    for b, values in enumerate(records):
        inputs_BT[b, 1 : len(values)] = torch.from_numpy(values[:-1])
        targets_BT[b, : len(values)] = torch.from_numpy(values)
    return Batch(inputs_BT, targets_BT, torch.tensor([len(values) for values in records]))


def fitted(values: np.ndarray, **settings: object) -> AR:
    model = AR(ARConfig.make(settings))
    return model.update(model.summarize(batch(values)))


def cycle(length: int, seed: int = 5) -> np.ndarray:
    rng, x = np.random.default_rng(seed), [0.3, 0.1]
    while len(x) < length:
        x.append(0.4 + 1.3 * x[-1] - 0.7 * x[-2] + 0.5 * rng.normal())
    return np.array(x)


# ------------------------------------------------------------------------------------------------------------------- AR


@pytest.mark.parametrize("order", [0, 1, 2, 7])
def test_least_squares_is_that_of_autoreg(order: int) -> None:
    x = cycle(211)
    model, oracle = fitted(x, order=order), AutoReg(x, order).fit()
    np.testing.assert_allclose(model.weights[order].numpy(), oracle.params, atol=1e-8)
    assert float(model.scales[order]) ** 2 == pytest.approx(oracle.sigma2, abs=1e-8)
    prediction, _ = model(batch(x).inputs_BT)
    np.testing.assert_allclose(prediction.mean_BT[0, order:].numpy(), oracle.fittedvalues, atol=1e-8)


@pytest.mark.parametrize("order", [1, 2, 7])
def test_yule_walker_is_that_of_statsmodels_and_always_stationary(order: int) -> None:
    x = cycle(211)
    model = fitted(x, order=order, method="yule_walker")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        phi, sigma = statsmodels.regression.yule_walker(x, order, method="mle")
    np.testing.assert_allclose(model.weights[order, 1:].numpy(), phi, atol=1e-8)
    assert float(model.scales[order]) == pytest.approx(sigma, abs=1e-8)
    roots = np.roots(np.concatenate([[1.0], -model.weights[order, 1:].numpy()]))
    assert np.abs(roots).max() < 1


def test_aic_chooses_the_order_that_statsmodels_chooses() -> None:
    for seed in (1, 2, 3):
        x = cycle(307, seed)
        model = fitted(x, longest=13)
        assert list(range(1, int(model.order) + 1)) == ar_select_order(x, 13, ic="aic").ar_lags


def test_a_simulated_process_is_recovered() -> None:
    """Standard errors of both weights are about 0.007 for 10,007 values; five of them are allowed."""
    model = fitted(cycle(10_007), order=2)
    np.testing.assert_allclose(model.weights[2].numpy(), [0.4, 1.3, -0.7], atol=0.036)
    assert float(model.scales[2]) == pytest.approx(0.5, abs=0.02)


def test_moments_of_two_records_are_one_regression_over_both() -> None:
    """The rows of both regressions, stacked by hand."""
    one, two = cycle(53, 1), cycle(31, 2)
    model = AR(ARConfig(order=3))
    model.update(model.summarize(batch(one)) + model.summarize(batch(two)))
    rows = [[1, x[t - 1], x[t - 2], x[t - 3], x[t]] for x in (one, two) for t in range(3, len(x))]
    design = np.array(rows)
    want = np.linalg.lstsq(design[:, :4], design[:, 4], rcond=None)[0]
    np.testing.assert_allclose(model.weights[3].numpy(), want, atol=1e-9)


def test_a_beginning_is_predicted_by_the_shorter_regression() -> None:
    """The first value by N(mean, variance), the second by AR(1)."""
    x = cycle(101)
    model = fitted(x, order=2)
    prediction, _ = model(torch.tensor([[math.nan, 1.7]], dtype=torch.float64))
    first = AutoReg(x, 1).fit()
    assert float(prediction.mean_BT[0, 0]) == pytest.approx(x.mean())
    assert float(prediction.scale_BT[0, 0]) == pytest.approx(x.std())
    assert float(prediction.mean_BT[0, 1]) == pytest.approx(first.params @ [1, 1.7])


def test_an_exact_recurrence_is_no_infinite_certainty() -> None:
    model = fitted(np.arange(60.0) % 7, order=7)
    assert 0 < float(model.scales[7]) < 1e-3
    assert math.isfinite(float(model(batch(np.arange(60.0) % 7).inputs_BT)[0].log_prob(torch.ones(1, 60)).sum()))


def test_an_order_too_long_for_the_data_says_so_and_aic_shrinks() -> None:
    with pytest.raises(UserError, match="order 30 needs at least 62 values"):
        fitted(cycle(40), order=30)
    assert int(fitted(cycle(40), longest=36).order) <= 9


# --------------------------------------------------------------------------------------------------------------- Kalman


def some_system(seed: int, size: int = 3) -> System:
    rng = np.random.default_rng(seed)
    F_NN = rng.normal(size=(size, size)) / size
    root_NN = rng.normal(size=(size, size))
    return System(
        F_NN, rng.normal(size=size), rng.uniform(0.1, 1, size), 0.7, rng.normal(size=size), root_NN @ root_NN.T
    )


def dense(s: System, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and covariance of (z_1 .. z_T, x_1 .. x_T) written out: z is linear in (z_1, w_1, .., w_{T-1}), x = H z +
    v.
    """
    N = len(s.H_N)
    powers = [np.linalg.matrix_power(s.F_NN, k) for k in range(length)]
    map_ZE = np.block([[powers[t - k] if k <= t else np.zeros((N, N)) for k in range(length)] for t in range(length)])
    noise_EE = np.zeros((N * length, N * length))
    for k in range(length):
        noise_EE[k * N : k * N + N, k * N : k * N + N] = s.cov_NN if k == 0 else np.diag(s.Q_N)
    cov_ZZ, see_TZ = map_ZE @ noise_EE @ map_ZE.T, np.kron(np.eye(length), s.H_N)
    mean_Z = map_ZE[:, :N] @ s.mean_N
    return mean_Z, cov_ZZ, see_TZ, see_TZ @ cov_ZZ @ see_TZ.T + s.R * np.eye(length)


@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_filter_and_smoother_are_the_conditionals_of_one_joint_gaussian(length: int) -> None:
    s, x = some_system(length), np.random.default_rng(3).normal(size=length)
    x[2:3] = math.nan
    mean_Z, cov_ZZ, see_TZ, cov_TT = dense(s, length)
    seen, run = ~np.isnan(x), kalman_filter(s, x)
    gap, cov = (x - see_TZ @ mean_Z)[seen], cov_TT[np.ix_(seen, seen)]
    log_prob = -0.5 * (gap @ np.linalg.solve(cov, gap) + np.linalg.slogdet(2 * math.pi * cov)[1])
    assert run.log_prob == pytest.approx(log_prob, abs=1e-10)
    back, gain = smooth(s, run), cov_ZZ @ see_TZ[seen].T @ np.linalg.inv(cov)
    np.testing.assert_allclose(back.mean_TN.ravel(), mean_Z + gain @ gap, atol=1e-9)
    covs = (cov_ZZ - gain @ see_TZ[seen] @ cov_ZZ).reshape(length, 3, length, 3)
    np.testing.assert_allclose(back.cov_TNN, [covs[t, :, t] for t in range(length)], atol=1e-9)


def test_the_score_is_the_slope_of_the_likelihood() -> None:
    """Central differences of log p over 37 values; steps of 1e-5 leave an error near 1e-7."""
    x = np.random.default_rng(4).normal(size=37)
    x[11] = math.nan
    s = some_system(9)
    back = smooth(s, kalman_filter(s, x))

    def log_prob(Q_N: np.ndarray, R: float) -> float:
        return kalman_filter(System(s.F_NN, s.H_N, Q_N, R, s.mean_N, s.cov_NN), x).log_prob

    for i, step_N in enumerate(1e-5 * np.eye(3)):
        slope = (log_prob(s.Q_N + step_N, s.R) - log_prob(s.Q_N - step_N, s.R)) / 2e-5
        assert back.score_Q_N[i] == pytest.approx(slope, abs=1e-5)
    assert back.score_R == pytest.approx((log_prob(s.Q_N, s.R + 1e-5) - log_prob(s.Q_N, s.R - 1e-5)) / 2e-5, abs=1e-5)


def drifting(length: int = 101) -> np.ndarray:
    rng, t = np.random.default_rng(8), np.arange(length)
    return 0.3 * rng.normal(size=length).cumsum() + np.sin(2 * np.pi * t / 12) + 0.2 * rng.normal(size=length)


def test_likelihood_and_its_maximum_are_those_of_statsmodels() -> None:
    x = drifting()
    model = Kalman(KalmanConfig(season=12, harmonics=2))
    model.update(model.summarize(batch(x)))
    oracle = statsmodels.tsa.UnobservedComponents(x, "lltrend", freq_seasonal=[{"period": 12, "harmonics": 2}])
    s = model.system()
    oracle.ssm.initialize_known(s.mean_N, s.cov_NN)
    oracle.loglikelihood_burn = 0
    own = kalman_filter(s, x).log_prob
    assert own == pytest.approx(oracle.loglike(model.variances.numpy()), abs=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = oracle.fit(disp=0, maxiter=200, start_params=model.variances.numpy()).llf
    assert own > best - 1e-3
    states = oracle.smooth(model.variances.numpy()).states.smoothed
    system = model.system()
    np.testing.assert_allclose(smooth(system, kalman_filter(system, x)).mean_TN, states, atol=1e-7)


def test_the_model_predicts_what_its_filter_predicts() -> None:
    x = drifting(67)
    model = Kalman(KalmanConfig(season=12))
    model.update(model.summarize(batch(x)))
    prediction, _ = model(batch(x).inputs_BT)
    nats: Tensor = prediction.log_prob(torch.from_numpy(x)[None])
    assert float(nats.sum()) == pytest.approx(kalman_filter(model.system(), x).log_prob, abs=1e-9)


def test_it_does_not_matter_who_counted_first() -> None:
    one, two, three = ((piece,) for piece in np.split(drifting(67), [31, 54]))
    first = Kalman(KalmanConfig(season=0)).update(one + two + three).variances
    assert torch.equal(first, Kalman(KalmanConfig(season=0)).update(three + one + two).variances)


def test_a_season_is_found_and_kept_only_where_it_pays() -> None:
    x = drifting(151)
    assert min(abs(s - 12) for s in likely_seasons(x)) < 0.2
    model = Kalman(KalmanConfig())
    assert float(model.update(model.summarize(batch(x))).season) == pytest.approx(12, abs=0.2)
    walk = np.random.default_rng(2).normal(size=151).cumsum() / 5
    assert float(model.update(model.summarize(batch(walk))).season) == 0
