"""`up` of 200 objects, its state in a folder and on S3 (moto's server, slowed down), with checkpoints and without."""

from __future__ import annotations

import argparse

from benchmarks._engine import WITHOUT_CHECKPOINTS, Size, measured, project
from tests.engine.aws import REGION, Aws

#: How often the state is written without checkpoints: before and after, with a backup, and a record of the run.
MOST_WRITES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=200, help="how many objects (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=30, help="milliseconds a request waits (default: %(default)s)")
    arguments = parser.parse_args()
    size = Size.of(arguments.objects)
    for where in ("a folder", "S3"):
        seconds = [up(size, where, how, arguments.latency / 1000) for how in ("with checkpoints", "without")]
        print(f"{where}: {seconds[0] / seconds[1]:.1f} times as long with checkpoints", flush=True)


def up(size: Size, where: str, how: str, latency: float) -> float:
    """The seconds of a first `up`."""
    with Aws(latency).served() as aws, project(size.program()) as made:
        if where == "S3":
            aws.client("s3").create_bucket(Bucket="pricing-state")
            key = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
            made.environ |= {**aws.environ, "PULUMI_BACKEND_URL": f"s3://pricing-state?region={REGION}"}
            (made.folder / f"Pulumi.{made.stack}.yaml").unlink()
            made.pulumi("stack", "init", made.stack, "--secrets-provider", f"awskms:///{key}?region={REGION}").ok()
            made.config("stripe-pricing:mode", "sandbox")
        aws.actions.clear()
        aws.written = 0
        env = WITHOUT_CHECKPOINTS if how == "without" else None
        took = measured(made, "up", "--yes", "--skip-preview", env=env)
        writes, read = aws.actions["s3:PutObject"], aws.actions["s3:GetObject"] + aws.actions["s3:ListBucket"]
        asked = f"; {writes} writes with {aws.written / 1e6:.1f} MB, {read} reads" if where == "S3" else ""
        print(f"up of {size.total} objects, state in {where}, {how}: {took.seconds:.1f} s{asked}", flush=True)
        assert len(made.state()) == size.total, "everything is in the state"
        assert writes <= MOST_WRITES or how != "without"
    return took.seconds


if __name__ == "__main__":
    main()
