"""``agentserve calibrate``: coefficients from profile tables, kernel tables, or a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.files import require_replaceable
from agentserve_gym.hardware import CompactFile, accelerator, link, model, write_compact_file
from agentserve_gym.messages import unknown

if TYPE_CHECKING:
    from agentserve_gym.calibration.check import CheckedStep

STEP_KINDS = ("decode", "prefill", "mixed")

calibrate = typer.Typer(
    name="calibrate",
    help="Make timing coefficients from profile tables, kernel tables, or your own GPU.",
    no_args_is_help=True,
    add_completion=False,
)

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="The coefficient file to write, ending in .toml.")
]
TensorParallelOption = Annotated[int, typer.Option("--tp", help="Tensor parallelism.")]
KvDtypeOption = Annotated[
    str | None, typer.Option(help="Precision of the KV, bf16 or fp8; default the model's own.")
]
ModelOption = Annotated[str, typer.Option(help="Name in the catalogue.")]


class Attention(StrEnum):
    """Whose attention kernels an import takes."""

    default = "default"
    flashinfer = "flashinfer"


@calibrate.command("fit")
def fit(
    profile: Annotated[
        Path, typer.Argument(help="Profile folder, named <accelerator>/<model>/tp<k>.")
    ],
    output: OutputOption,
    accelerator: Annotated[
        str | None, typer.Option(help="What the profile is of, where its path does not say.")
    ] = None,
    of_model: Annotated[str | None, typer.Option("--model", help="Likewise.")] = None,
    tp: Annotated[int | None, typer.Option(help="Likewise.")] = None,
    json: JsonOption = False,
) -> None:
    """Fit the compact form to a folder of profile tables."""
    from agentserve_gym.calibration.fit import ProfileCase, calibrate_fit

    given = (accelerator, of_model, tp)
    case = None
    if accelerator is not None and of_model is not None and tp is not None:
        case = ProfileCase(accelerator, of_model, tp)
    elif any(value is not None for value in given):
        raise ValueError("give all of --accelerator, --model and --tp, or none of them")
    _require_toml(output)
    _write(calibrate_fit(profile, case), output, json)


@calibrate.command("import")
def import_kernels(
    accelerator: Annotated[str, typer.Option(help="Name in the catalogue.")],
    of_model: Annotated[str, typer.Option("--model", help="Name in the catalogue.")],
    output: OutputOption,
    tp: TensorParallelOption = 1,
    kv_dtype: KvDtypeOption = None,
    attention: Annotated[
        Attention, typer.Option(help="Attention kernels: vLLM's default, or FlashInfer's own.")
    ] = Attention.default,
    software: Annotated[
        str | None, typer.Option(help="Serving software whose host time is added to its steps.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Sample aiconfigurator-core's kernel tables (extra: calibration) and fit the compact form."""
    from agentserve_gym.calibration.flashinfer_kernels import import_flashinfer
    from agentserve_gym.calibration.kernels import calibrate_import

    _require_toml(output)
    case = (accelerator, of_model, tp, kv_dtype, software)
    importer = import_flashinfer if attention is Attention.flashinfer else calibrate_import
    _write(importer(*case), output, json)


@calibrate.command("host")
def host(
    runs: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of closed-loop runs, <model>_<accelerator>_<software>; default: the data "
            "set agentic-runs."
        ),
    ] = None,
    clients: Annotated[
        list[int] | None, typer.Option(help="Runs to use, by their clients; default 16 and 32.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure a serving software's host time on closed-loop runs (extra: calibration).

    The engines must run FlashInfer's attention, and CUDA graphs in pure decode steps only.
    """
    from agentserve_gym.datasets import require_data_set
    from agentserve_gym.validation.conversation_cells import find_cells, read_cell
    from agentserve_gym.validation.host_time import measure_host_time

    wanted = clients or [16, 32]
    cells = [read_cell(path) for path in find_cells(runs or require_data_set("agentic-runs"))]
    used = [c for c in cells if c.settings.clients in wanted and c.settings.host_gib is None]
    if not used:
        there = sorted({cell.settings.clients for cell in cells})
        raise ValueError(f"clients is {wanted}; allowed: runs without host memory, of {there}")
    with reporting() as report:
        found = measure_host_time(used, report)
    if json:
        print_json({"cells": [asdict(each) for each in found]})
        return
    table = Figures("Host time", ["clients", "every step, ms", "launches a layer, ms"])
    for each in found:
        row = (each.clients, f"{each.step_s * 1e3:.2f}", f"{each.layer_launch_s * 1e3:.3f}")
        table.rows.append(list(map(str, row)))
    step_s = sum(each.step_s for each in found) / len(found)
    launch_s = sum(each.layer_launch_s for each in found) / len(found)
    table.remarks.append(f"mean: step_s = {step_s:.2g}, layer_launch_s = {launch_s:.2g}")
    table.print(console())


@calibrate.command("measure")
def measure(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Profile folder to write; name it <accelerator>/<model>/tp<k>."
        ),
    ],
    of_model: Annotated[
        str, typer.Option("--model", help="Name in the catalogue.")
    ] = "llama-3.1-8b",
    tp: TensorParallelOption = 1,
    kv_dtype: KvDtypeOption = None,
    device: Annotated[str, typer.Option(help="A torch device: cuda, or cpu to try it.")] = "cuda",
    quick: Annotated[bool, typer.Option(help="A tiny grid: tries it out, fits nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Time layers, attention and host copies on this machine's GPU (extra: train).

    Weights and KV are kept in the model's precisions: bf16, fp8 or nvfp4, as far as the GPU can.
    """
    from agentserve_gym.calibration.measure import MeasureGrid, measure_profile

    grid = MeasureGrid()
    if quick:
        grid = MeasureGrid(
            tokens=(1, 16),
            sequences=(1, 2),
            chunks=(16,),
            histories=(0, 16),
            counts=(1, 2),
            contexts=(16, 32),
            copy_mib=(1,),
            block_kib=(32, 256),
            blocks_mib=1,
            steps=(),
            repeats=1,
        )
    with reporting() as report:
        folder = measure_profile(device, output, grid, model(of_model, kv_dtype), tp, report)
    files = sorted(path.name for path in folder.iterdir())
    if json:
        print_json({"folder": str(folder), "files": files})
        return
    typer.echo(f"{folder}: {', '.join(files)}")
    typer.echo(f"next: agentserve calibrate fit {folder} -o FILE.toml")


@calibrate.command("check")
def check(
    profile: Annotated[
        Path | None,
        typer.Argument(
            help="Profile folder that `measure` wrote, <accelerator>/<model>/tp<k>, or the name of "
            "one of the package's; default: the means of all of these."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Hold whole steps that `measure` timed against the tables, the catalogue and the roofline."""
    from agentserve_gym.calibration.check import check_steps
    from agentserve_gym.hardware.sources import MEASURED, list_measured_cases

    known = [str(case) for case in list_measured_cases()]
    names = known if profile is None else [str(profile)]
    for name in names:
        if not Path(name).is_dir() and name not in known:
            raise ValueError(f"{unknown('profile', name, known)}, or a folder that measure wrote")
    folders = {name: MEASURED / name if name in known else Path(name) for name in names}
    checked = {name: check_steps(folder) for name, folder in folders.items()}
    if json:
        rows = {name: [_step_as_numbers(step) for step in steps] for name, steps in checked.items()}
        print_json({"profiles": rows})
    elif profile is None:
        _print_profiles(checked)
    else:
        _print_steps(checked[str(profile)], folders[str(profile)])


def _step_as_numbers(step: CheckedStep) -> dict[str, object]:
    return {
        **step.point._asdict(),
        "layers": step.layers,
        "measured_s": step.measured_s,
        "beside_copies": step.beside_copies,
        "priced_s": step.priced_s,
    }


def _print_profiles(checked: Mapping[str, Sequence[CheckedStep]]) -> None:
    from agentserve_gym.calibration.check import mean_off

    sources = list(dict.fromkeys(s for steps in checked.values() for s in steps[0].priced_s))
    for source in sources:
        table = Figures(f"{source}: how much longer than measured", ["profile", *STEP_KINDS])
        for name, steps in checked.items():
            if source in steps[0].priced_s:
                off = [f"{mean_off(steps, kind, source):+.1%}" for kind in STEP_KINDS]
                table.rows.append([name, *off])
        table.print(console())


def _print_steps(steps: Sequence[CheckedStep], folder: Path) -> None:
    sources = list(steps[0].priced_s)
    heading = ["chunk + history, decodes x context", "measured, ms", *sources, "beside copies"]
    table = Figures("Whole steps: how much longer than measured", heading)
    for step in steps:
        chunk, history, decodes, context = step.point
        off = [f"{step.off(source):+.1%}" for source in sources]
        beside = "" if step.beside_copies is None else f"{step.beside_copies - 1:+.1%}"
        row = [f"{step.measured_s * 1e3:.2f}", *off, beside]
        table.rows.append([f"{chunk} + {history}, {decodes} x {context}", *row])
    if steps[0].layers < steps[0].all_layers:
        table.remarks.append(
            f"{steps[0].layers} of {steps[0].all_layers} layers were measured; the others are "
            "added as the tables say"
        )
    table.print(console())
    _print_link(folder)


def _print_link(folder: Path) -> None:
    from agentserve_gym.calibration.check import block_copies
    from agentserve_gym.calibration.fit import profile_case

    catalogue = link(accelerator(profile_case(folder).accelerator).host_link)
    found = {"measured": link(str(folder / "link.toml")), catalogue.name: catalogue}
    table = Figures("Host link, GB/s", ["copies", "to the device", "from it", "both ways"])
    for name, one in found.items():
        rates = (one.to_device_gb_per_s, one.from_device_gb_per_s, one.bidirectional_gb_per_s)
        table.rows.append([name, *("" if rate is None else f"{rate:.1f}" for rate in rates)])
    for size in block_copies(folder):
        name = f"blocks of {size.block_kib} KiB"
        table.rows.append([name, f"{size.to_device:.1f}", f"{size.from_device:.1f}", ""])
    table.print(console())


def _require_toml(output: Path) -> None:
    """Refuse a name that no scenario could use, a folder that is not there, and a file that holds
    something else, before the work."""
    if output.suffix != ".toml":
        raise ValueError(f"output is {str(output)!r}; allowed: a file whose name ends in .toml")
    if not output.absolute().parent.is_dir():
        raise ValueError(f"output is {str(output)!r}, but there is no folder {output.parent}")
    require_replaceable(output, "accelerator = ", "a coefficient file")


def _write(file: CompactFile, output: Path, json: bool) -> None:
    write_compact_file(output, file)
    if json:
        print_json(
            {
                "file": str(output),
                "accelerator": file.accelerator,
                "model": file.model,
                "tensor_parallel": file.tensor_parallel,
                "kv_dtype": file.kv_dtype,
                "provenance": file.provenance,
                "source": file.source,
                "error": file.error,
            }
        )
        return
    typer.echo(
        f"{output}: {file.accelerator}, {file.model}, tp{file.tensor_parallel}, {file.kv_dtype} KV"
    )
    typer.echo(f"{file.provenance}; {file.error}")
