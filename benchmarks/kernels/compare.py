"""Runs benchmark_kernels and prints, for every operation, ATen's time, tte's time and their ratio.

    python benchmarks/kernels/compare.py build/benchmarks/kernels/benchmark_kernels [--threads 2] [--filter REGEX]

Times are the minimum over repetitions that alternate between the two sides. With one thread CPU time is compared,
which other processes on the machine disturb less than wall time.
"""

import argparse
import json
import os
import subprocess


def run(program: str, threads: int, pattern: str, min_time: float) -> dict[str, float]:
    command = [program, "--benchmark_format=json", f"--benchmark_filter={pattern}", f"--benchmark_min_time={min_time}"]
    environment = os.environ | {
        "TTE_THREADS": str(threads),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "active"),
    }
    report = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    column = "cpu_time" if threads == 1 else "real_time"
    return {row["name"].split("/process_time")[0]: row[column] for row in report["benchmarks"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--filter", default=".*")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--min-time", type=float, default=0.05)
    arguments = parser.parse_args()
    best: dict[str, float] = {}
    for _ in range(arguments.repetitions):
        for name, time in run(arguments.program, arguments.threads, arguments.filter, arguments.min_time).items():
            best[name] = min(time, best.get(name, time))
    print(f"{'operation':<58}{'ATen us':>12}{'tte us':>12}{'ratio':>8}")
    for name, aten in best.items():
        if name.endswith("/aten"):
            operation = name.removesuffix("/aten")
            tte = best[f"{operation}/tte"]
            print(f"{operation:<58}{aten:>12.1f}{tte:>12.1f}{aten / tte:>8.2f}")


if __name__ == "__main__":
    main()
