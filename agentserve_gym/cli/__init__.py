"""The command line ``agentserve``: one module per command, each thin."""

import typer

from agentserve_gym.cli.bench import bench
from agentserve_gym.cli.calibrate import calibrate
from agentserve_gym.cli.compare import compare_saved
from agentserve_gym.cli.convert import convert
from agentserve_gym.cli.curves import training_curves
from agentserve_gym.cli.data import data
from agentserve_gym.cli.demo import demo
from agentserve_gym.cli.errors import OneLineErrors
from agentserve_gym.cli.evaluate import evaluate
from agentserve_gym.cli.hardware import hardware
from agentserve_gym.cli.policies import policies
from agentserve_gym.cli.replay import replay
from agentserve_gym.cli.run import run
from agentserve_gym.cli.scenarios import scenarios
from agentserve_gym.cli.submit import submit
from agentserve_gym.cli.trace import trace
from agentserve_gym.cli.train import train
from agentserve_gym.cli.tune import tune
from agentserve_gym.cli.validate import validate
from agentserve_gym.cli.verify import verify
from agentserve_gym.cli.version import main
from agentserve_gym.cli.watch import watch
from agentserve_gym.cli.workers import WithRay

app = typer.Typer(
    name="agentserve",
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.callback()(main)
app.add_typer(calibrate)
app.add_typer(data)
app.add_typer(tune)
app.command("compare")(compare_saved)
app.command("curves")(training_curves)
app.command(cls=WithRay)(bench)
app.command(cls=WithRay)(train)
for command in (
    convert,
    demo,
    evaluate,
    hardware,
    policies,
    replay,
    run,
    scenarios,
    submit,
    trace,
    validate,
    verify,
    watch,
):
    app.command()(command)
