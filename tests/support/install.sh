#!/bin/sh
# usage: install.sh LOCK. Makes .venv and puts into it what the lock names; does nothing when that is already there.
set -eu
lock=$1
installed=.venv/locks # checksums of the lock files that .venv holds

fail() {
    echo "$1" >&2
    exit 1
}

if grep -qs " $lock\$" $installed && sha256sum --check --status $installed && .venv/bin/python -c ''; then
    exit 0
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "Yimen needs Python 3.11 or newer: apt-get install python3 python3-venv"
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        fail "Python's venv module is missing: apt-get install python3-venv"
    python3 -m venv --clear .venv
fi
pip=".venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip --require-hashes -r "$lock"
$pip --no-index --no-deps --no-build-isolation --editable . # the command `yimen`
sha256sum "$lock" requirements.lock | sort -u >$installed # the test lock holds all of requirements.lock
