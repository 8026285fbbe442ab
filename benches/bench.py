"""Compares mod_manifold with other servers; scripts/bench runs this, and its --help says how."""

import argparse
import os
import pathlib
import platform
import signal
import subprocess
import sys

from harness import load, servers, settings
from harness.progress import Progress
from harness.settings import ROOT, setting
from suite import plots, rounds
from suite.peers import all_peers
from suite.report import Report, aligned
from suite.workloads import all_workloads

QUICK_PEERS = ("null", "static", "manifold", "manifold-daemon")


def main():
    workloads, peers = all_workloads(), all_peers()
    options = read_arguments(workloads, peers)
    if options.list:
        show_lists(workloads, peers)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    load.require_wrk()
    workloads = {name: workloads[name] for name in options.only or workloads}
    peers = {name: peers[name] for name in options.peers or (QUICK_PEERS if options.quick else peers)}
    left_out = {peer.name: reason for peer in peers.values() if (reason := peer.lacks())}
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    here = [peer for peer in peers.values() if peer.name not in left_out]
    plan = rounds.Plan(
        rounds=options.rounds or (1 if options.quick else 5),
        seconds=options.seconds or (1 if options.quick else 4),
        quick=options.quick,
    )
    report = Report(environment(), plan, workloads, peers, left_out)
    try:
        run(report, here, plan)
    except load.Failed as error:
        report.fault = str(error)
    except KeyboardInterrupt:
        report.fault = "interrupted"
    except SystemExit as error:
        report.fault = str(error)
    finally:
        servers.stop_all()
        folder = write(report)
    if plan.judges:
        print(aligned([("figure", "wanted", "measured", ""), *report.goals()]) + "\n")
    print(f"report: {folder}/report.md")
    if report.fault:
        sys.exit(f"bench: not complete: {report.fault}")


def read_arguments(workloads, peers):
    def names(known, what):
        def read(text):
            chosen = text.split(",")
            for name in chosen:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"there is no {what} {name!r}; --list shows what there is")
            return [name for name in known if name in chosen]

        return read

    def number(text):
        if not text.isdecimal() or not 1 <= int(text) <= 99:
            raise argparse.ArgumentTypeError(f"takes a number from 1 to 99, not {text!r}")
        return int(text)

    parser = argparse.ArgumentParser("bench", add_help=False, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rounds", type=number)
    parser.add_argument("--seconds", type=number)
    parser.add_argument("--only", type=names(workloads, "workload"))
    parser.add_argument("--peers", type=names(peers, "peer"))
    return parser.parse_args()


def show_lists(workloads, peers):
    print("workloads, for --only:")
    print(aligned([(f"  {workload.name}", workload.title) for workload in workloads.values()], right=False))
    print("\npeers, for --peers:")
    print(aligned([(f"  {peer.name}", peer.title) for peer in peers.values()], right=False))


def run(report, here, plan):
    chosen = {
        name: [peer for peer in here if peer.name in workload.peers]
        for name, workload in report.workloads.items()
    }
    progress = Progress(sum(plan.measurements(report.workloads[name], several) for name, several in chosen.items()))
    for name, several in chosen.items():
        if several:
            report.outcomes[name] = rounds.run(report.workloads[name], several, plan, progress)
            progress.clear()
            print(report.text(name), flush=True)
            write(report)  # it takes long enough for something to go wrong


def write(report):
    folder = pathlib.Path(os.environ.get("MANIFOLD_BENCH_FOLDER") or ROOT / "target/bench")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(report.markdown())
    (folder / "report.json").write_text(report.json())
    for plot in (plots.throughput, plots.latency, plots.scaling):
        (folder / f"{plot.__name__}.svg").write_text(plot(report))
    return folder


def environment():
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    models = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    packages = [line for line in (ROOT / "benches/peers.txt").read_text().split() if "==" in line]
    return {
        "mod_manifold": commit.stdout.strip() or "not in a checkout",
        "httpd": settings.httpd_version(),
        "Python": setting("PYTHON_VERSION"),
        "beside": ", ".join(packages),
        "machine": f"{os.cpu_count()} cores, {models[0] if models else platform.machine()}, Linux {platform.release()}",
    }


main()
