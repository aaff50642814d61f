"""nas show"""

from __future__ import annotations

import argparse
import json

from nas.cli.arguments import add_store, add_trial


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nas show`."""
    add_trial(parser)
    add_store(parser)


def run(args: argparse.Namespace) -> None:
    """Print one trial: picks, values, measurements, architecture."""
    from nas.cli.output import print_json, print_table, say
    from nas.loading import open_store
    from nas.study import Study
    from nas.units import measured
    from space import Architecture

    number = Study(args.study, args.store).best()["trial"] if args.trial is None else args.trial
    with open_store(args.store) as store:
        trial = store.trial(args.study, number)
    architecture = Architecture.from_document(json.loads(trial.document), trial.picks)
    if args.json:
        print_json(
            {
                "study": args.study,
                "trial": trial.number,
                "state": trial.state,
                "reason": trial.reason,
                "on_front": trial.on_front,
                "values": trial.values,
                "measurements": [
                    {"name": m.label, "value": m.value, "unit": m.unit, "low": m.low, "high": m.high}
                    for m in trial.measurements
                ],
                "picks": trial.picks,
                "architecture": trial.architecture_id,
                "document": architecture.document,
            }
        )
        return
    front = ", on the front" if trial.on_front else ""
    say(f"study {args.study}, trial {trial.number}: {trial.state}{front}{': ' + trial.reason if trial.reason else ''}")
    say(f"architecture {trial.architecture_id}\n")
    print_table(["objective", "value"], [(n, measured(n, v)) for n, v in trial.values.items()])
    say()
    print_table(["measurement", "value"], [(m.label, measured(m.label, m.value)) for m in trial.measurements])
    say()
    print_table(["choice", "pick"], trial.picks.items())
    say()
    say(architecture.to_yaml())
