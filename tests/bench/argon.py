"""Bare argon2id: how many passwords this core verifies in a second with the product's parameters and nothing else."""

import sys
import time

from idp.authn import password


def main(seconds: float) -> None:
    """Print the CPU seconds of one verification."""
    known = str(password._HASHER.hash("correct horse 电池 staple"))
    end, count, started = time.perf_counter() + seconds, 0, time.process_time()
    while time.perf_counter() < end:
        if not password._verify("correct horse 电池 staple", known):
            raise SystemExit("argon2id says no to its own hash")
        count += 1
    print((time.process_time() - started) / count)


if __name__ == "__main__":
    main(float(sys.argv[1]))
