"""Registration of subjects, by the task whose models they ask."""

from __future__ import annotations

from chainrule.core.task_registry import Registry
from chainrule.laws.subject import Subject

SUBJECTS: Registry[type[Subject]] = Registry("laws")
"""Subjects by task: each knows the inputs and the questions for the models of its task."""
register_subject = SUBJECTS.register
"""Class decorator: register the subject for the models of a task, by the task's name."""
