"""`make bench`: every benchmark, one table after the other."""

from benchmarks import deployments, stalled_watcher

if __name__ == "__main__":
    for benchmark in (stalled_watcher, deployments):
        print((benchmark.__doc__ or "").strip())
        print("\n".join(["", *benchmark.run()]))
