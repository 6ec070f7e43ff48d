"""Compiled loops over time for linear-Gaussian state spaces; equations in ``chainrule.models.kalman``.

Import inside functions only: loading the compiler takes a second.
"""

from __future__ import annotations

import numpy as np

from chainrule.counting.kernels import compiled


@compiled
def filter_forwards(
    values_T: np.ndarray,
    F_NN: np.ndarray,
    H_N: np.ndarray,
    Q_NN: np.ndarray,
    R: float,
    mean_N: np.ndarray,
    cov_NN: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return predicted means and covariances, innovations, their variances, and gains F k, at each time."""
    T, N = len(values_T), len(H_N)
    mean_TN, cov_TNN, gain_TN = np.empty((T, N)), np.empty((T, N, N)), np.zeros((T, N))
    error_T, variance_T = np.empty(T), np.empty(T)
    for t in range(T):
        mean_TN[t], cov_TNN[t] = mean_N, cov_NN
        seen_N = cov_NN @ H_N
        f = seen_N @ H_N + R
        e = values_T[t] - mean_N @ H_N
        variance_T[t], error_T[t] = f, e
        if not np.isnan(e):
            k_N = seen_N / f
            gain_TN[t] = F_NN @ k_N
            mean_N, cov_NN = mean_N + k_N * e, cov_NN - np.outer(k_N, seen_N)
        mean_N, cov_NN = F_NN @ mean_N, F_NN @ cov_NN @ F_NN.T + Q_NN
    return mean_TN, cov_TNN, error_T, variance_T, gain_TN


@compiled
def smooth_backwards(
    F_NN: np.ndarray,
    H_N: np.ndarray,
    mean_TN: np.ndarray,
    cov_TNN: np.ndarray,
    error_T: np.ndarray,
    variance_T: np.ndarray,
    gain_TN: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return smoothed means and covariances, and the gradient of log p by the diagonal of Q and by R."""
    T, N = mean_TN.shape
    r_N, N_NN = np.zeros(N), np.zeros((N, N))
    smooth_TN, smooth_TNN = np.empty((T, N)), np.empty((T, N, N))
    score_Q_N, score_R = np.zeros(N), 0.0
    for t in range(T - 1, -1, -1):
        e, f, gain_N = error_T[t], variance_T[t], gain_TN[t].copy()
        score_Q_N += 0.5 * (r_N * r_N - np.diag(N_NN))  # w_t led to z_{t+1}; the last one to nothing seen: r = N = 0
        L_NN = F_NN - np.outer(gain_N, H_N)
        seen = not np.isnan(e)
        if seen:
            u = e / f - gain_N @ r_N
            score_R += 0.5 * (u * u - 1 / f - gain_N @ (N_NN @ gain_N))
        r_N, N_NN = L_NN.T @ r_N, L_NN.T @ N_NN @ L_NN
        if seen:
            r_N, N_NN = r_N + H_N * (e / f), N_NN + np.outer(H_N, H_N) / f
        cov_NN = cov_TNN[t].copy()
        smooth_TN[t], smooth_TNN[t] = mean_TN[t] + cov_NN @ r_N, cov_NN - cov_NN @ N_NN @ cov_NN
    return smooth_TN, smooth_TNN, score_Q_N, score_R
