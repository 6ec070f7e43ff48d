"""Estimators with the interface of scikit-learn."""

from chainrule.estimators.hmm import HMM

__all__ = ["HMM"]
