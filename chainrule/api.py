"""Every command as a Python function with its options as keywords, and ``Run``, which has them as methods.

Each returns the object that the command prints with ``--json``, as a ``dict``; arrays are in it too.
"""

from __future__ import annotations

import html
import inspect
import os
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from chainrule import commands, options
from chainrule.core import ModelType, UserError, load_file
from chainrule.core.files import FolderLock
from chainrule.data.lines import check_file, is_path
from chainrule.data.memory import STEM, check_path, materialize, unit_of
from chainrule.options import Options
from chainrule.runs.run import Run as RunData
from chainrule.tasks import base, setup

MACHINE = ("device", "precision", "threads", "plugin")


class Run(RunData):
    """A trained model with what is needed to use it; each command that takes a run is a method."""

    def _repr_html_(self) -> str:
        """A card, for notebooks."""
        rows = {
            "model": self.name,
            "task": self.task,
            "parameters": f"{_parameters(self):,}",
            "data": self.settings.get("data"),
            "tokenizer": self.processor.spec,
            "computed on": str(self.compute),
        }
        cells = "".join(f"<tr><th>{k}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows.items() if v)
        return f"<table>{cells}</table>"


def _parameters(run: RunData) -> int:
    return sum(p.numel() for p in run.model.parameters())


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    plugin: str | None = None,
) -> Run:
    """Load a run folder, every file verified against its SHA-256. No code of the folder is run.

    Args:
        path: the folder of a run; ``board/best`` for the winner of a comparison.
        device: auto, cpu or cuda.
        precision: auto, fp32 or bf16.
        threads: processor threads; None: all.
        plugin: a Python file that registers the model type, where it is your own.

    Raises:
        UserError: no run, a damaged one, or one of an unknown model type.
    """
    use_plugin(plugin)
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"load: {path!r} is no path; give the folder of a run, such as 'board/best'")
    found = setup.load(Path(path), device=device, precision=precision, threads=threads)
    return Run(**{f.name: getattr(found, f.name) for f in fields(found)})


def use_plugin(path: str | None) -> None:
    """Run a file that registers a model type."""
    if path:
        load_file(Path(path), task=None)


# --- from a call to a command -----------------------------------------------------------------------------------------

Body = Callable[[Any], dict[str, Any]]
BODIES: dict[type[Options], Body] = {}


def call(given: Options) -> dict[str, Any]:
    """Do what a command does.

    Args:
        given: the options of the command.

    Returns:
        The object that ``--json`` prints, arrays included.
    """
    return options.answer(given.result, BODIES[type(given)](given))


def _function(command: type[Options], leave_out: tuple[str, ...] = ()) -> Callable[..., dict[str, Any]]:
    """The Python function of a command; a method of a run where ``run`` is given by the caller."""
    shown = options.signature(command, leave_out)

    def function(*args: Any, **keywords: Any) -> dict[str, Any]:
        run = {"run": args[0]} if "run" in leave_out else {}
        try:
            given = options.make(command, {**run, **options.bind(command, shown, args[len(run) :], keywords)})
        except TypeError as error:
            raise UserError(str(error)) from None
        if isinstance(getattr(given, "data", None), str):
            check_path(given.data)
        return call(given)

    me = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)] if "run" in leave_out else []
    function.__module__, function.__name__, function.__doc__ = (
        __name__,
        command.function,
        _documentation(command, leave_out),
    )
    function.__qualname__ = f"Run.{command.function}" if me else command.function
    function.__signature__ = shown.replace(parameters=[*me, *shown.parameters.values()])  # type: ignore[attr-defined]
    return function


def _documentation(command: type[Options], leave_out: tuple[str, ...]) -> str:
    summary = str(command.__doc__)
    told = [f"    {o.name}: {o.help}" for o in options.options_of(command) if o.name not in leave_out]
    answers = [f"    {f.name}: {f.metadata['help']}" for f in fields(command.result)]
    more = [f"    and {command.result.more}"] if command.result.more else []
    return "\n".join([summary[0].upper() + summary[1:] + ".", "", "Args:", *told, "", "Returns:", *answers, *more])


def _does(command: type[Options]) -> Callable[[Body], Callable[..., dict[str, Any]]]:
    """Decorator: what a command does; becomes its Python function, and a method of ``Run`` where it takes a run."""

    def decorate(body: Body) -> Callable[..., dict[str, Any]]:
        BODIES[command] = body
        if issubclass(command, commands.UsesRun):
            setattr(Run, command.function, _function(command, ("run", *MACHINE)))
        return _function(command)

    return decorate


def _run_of(given: Any) -> RunData:
    """The run of a command: loaded where it is given by its folder."""
    machine = {name: value for name, value in given.given().items() if name in MACHINE}
    if is_path(given.run):
        return load(given.run, **machine)
    if machine:
        raise UserError(f"{', '.join(machine)}: the run is loaded already; give them to load")
    return given.run


def _answered(given: Any) -> dict[str, Any]:
    """By the function of the run's task."""
    from chainrule.tasks.inference import answer

    if is_path(getattr(given, "input", None)):
        check_file(given.input)  # said before a run is loaded
    return answer(_run_of(given), replace(given, **dict.fromkeys(MACHINE)))


Given = TypeVar("Given", bound=commands.Records)


def _stored(o: Given, data: Any, folder: Path, *, overwrite: bool = False) -> tuple[Given, str | None]:
    """The path of DATA, and the options with the unit of records in memory.

    What is in memory is written once under ``folder``, or anew where a run or a board is overwritten.
    """
    if data is None or is_path(data):
        return o, None if data is None else os.fspath(data)
    if overwrite and any((folder.parent / name).exists() for name in ("MANIFEST.json", "board.json")):
        with FolderLock(folder.parent):
            for old in folder.glob(f"{STEM}.*"):
                old.unlink()
    return replace(o, unit=o.unit or unit_of(data)), materialize(data, folder)


# --- training ---------------------------------------------------------------------------------------------------------


@_does(commands.Compare)
def compare(o: commands.Compare) -> dict[str, Any]:
    from chainrule import experiment
    from chainrule.data import plays
    from chainrule.tasks.options import settings_of
    from chainrule.tasks.settings import RunConfig

    use_plugin(o.plugin)
    o, data = _stored(o, o.data, Path(o.out) / "data", overwrite=o.overwrite)
    values = {**settings_of(o, data), "data": data or str(plays()), "model_type": "ngram"}
    return experiment.compare(
        RunConfig.make(values).infer_task(),
        o.models,
        o.out,
        seeds=1 if o.seeds is None else o.seeds,
        lang=o.lang or "en",
        workers=o.workers or 0,
        overwrite=o.overwrite,
        plugin=o.plugin,
    )


@_does(commands.Train)
def train(o: commands.Train) -> dict[str, Any]:
    from chainrule.core import model_type
    from chainrule.tasks.options import settings_of
    from chainrule.tasks.settings import RunConfig
    from chainrule.tasks.train import train

    use_plugin(o.plugin)
    o, data = _stored(o, o.data, Path(o.out) / "data", overwrite=o.overwrite)
    values = settings_of(o, data)
    task = base.find_task(values["task"])
    settings = RunConfig.make({**values, "model_type": model_type(o.model, task.name).name})
    trainer = train(settings, o.out, resume=o.resume or "never", overwrite=o.overwrite)
    p, counted = trainer.progress, trainer.run.read_json("data.json")["counted"]
    return {
        "run": str(o.out), "steps": p.step, "tokens": p.tokens, "seconds": p.seconds, "best": p.best,
        "best_step": p.best_step, "metric": task.validation(counted).to_json(),
    }  # fmt: skip


# --- data and conformance ---------------------------------------------------------------------------------------------


@_does(commands.Data)
def data_card(o: commands.Data) -> dict[str, Any]:
    from chainrule.tasks.cards import card

    with tempfile.TemporaryDirectory() as folder:
        return card(*_stored(o, o.data, Path(folder)))


@_does(commands.MakeData)
def make_data(o: commands.MakeData) -> dict[str, Any]:
    from chainrule.data.making import make

    return make(**o.given())


@_does(commands.Laws)
def check_laws(o: commands.Laws) -> dict[str, Any]:
    from chainrule.laws import check, named

    def label(chosen: ModelType) -> str:
        return chosen.name if chosen.task == "generate" else f"{chosen.name} ({chosen.task})"

    return {"model_types": {label(found): [vars(v) for v in check(found)] for found in named(o.name)}}


# --- using a run ------------------------------------------------------------------------------------------------------


@_does(commands.Evaluate)
def evaluate(o: commands.Evaluate) -> dict[str, Any]:
    from chainrule.tasks.evaluate import evaluate
    from chainrule.tasks.options import check_used

    with tempfile.TemporaryDirectory() as folder:
        run = _run_of(o)
        check_used(run.task, o)
        o, data = _stored(o, o.data, Path(folder))
        used = {name: value for name, value in o.given().items() if name not in ("run", "data", *MACHINE)}
        return evaluate(run, str(data), **used)


score = _does(commands.Score)(_answered)
generate = _does(commands.Generate)(_answered)
predict = _does(commands.Predict)(_answered)
translate = _does(commands.Translate)(_answered)
tag = _does(commands.Tag)(_answered)
classify = _does(commands.Classify)(_answered)
fill = _does(commands.Fill)(_answered)


@_does(commands.Embed)
def embed(o: commands.Embed) -> dict[str, Any]:
    from chainrule.tasks.fill.inference import embed, write_vectors

    found = embed(_run_of(o), o.input, per=o.per or "text")
    if o.out is not None:
        write_vectors(o.out, found["vectors"])
    return {**found, "out": o.out}


@_does(commands.Draw)
def draw(o: commands.Draw) -> dict[str, Any]:
    from chainrule.tasks.images import check_places, write_images

    if o.n is not None and not 1 <= o.n <= 1024:
        raise UserError(f"-n {o.n}: allowed is 1 to 1024")
    if bool(o.caption) == bool(o.symbols):
        told = "captions and --symbols exclude each other: leave out one of them"
        raise UserError(f"draw: {told if o.caption else 'give a caption, or --symbols FILE.jsonl with a codec'}")
    check_places(o.out, o.each)
    found = _answered(replace(o, out=None, each=None))
    write_images(found["images"], o.out, o.each, o.n or (None if o.symbols else 1))
    return {**found, "out": o.out}


@_does(commands.Export)
def export(o: commands.Export) -> dict[str, Any]:
    from chainrule.tasks.export import export

    used = {name: value for name, value in o.given().items() if name not in ("run", *MACHINE)}
    return export(_run_of(o), **used)


@_does(commands.Import)
def import_run(o: commands.Import) -> dict[str, Any]:
    from chainrule.tasks.generate.arpa import import_arpa

    return import_arpa(o.path, o.out, overwrite=o.overwrite)


def forecast(run: Any, max_tokens: int = 24, *, prompt: Any = (), n: int = 1, seed: int = 42) -> dict[str, Any]:
    """Continue a series by ``max_tokens`` values: ``generate``, for runs of ``series`` alone.

    Args:
        run: a run, or its folder.
        max_tokens: the horizon.
        prompt: series to continue, "112 118 132" each, instead of the run's own.
        n: sampled paths of each.
        seed: of the samples.
    """
    run = load(run) if is_path(run) else run
    if run.task != "series":
        raise UserError(f"forecast: this run's task is {run.task}; a run of --task series can be forecast")
    return generate(run, prompt, max_tokens=max_tokens, n=n, seed=seed)
