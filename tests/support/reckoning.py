"""After a run: the ledger against the server's state, as any relying party and browser can see it from outside."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.support.ledger import UNANSWERED, Code, Family, Ledger, Login, Numbers
from tests.support.load import Load

AT_ONCE = 8
CODE_SURELY_VALID = 40.0  # of 60 seconds


async def reckon(load: Load, *, most: int = 30) -> Numbers:
    """Look for every acknowledged write and use every one-time thing again; `most` of each kind, the newest first."""
    ledger = load.ledger
    used = {id(family.code) for family in ledger.families}
    unused = [code for code in ledger.codes if id(code) not in used and code.state in ("fresh", "sent")]
    await _all(load, unused[-most:], _check_code)  # first: codes live for a minute only
    await _all(load, ledger.logins[-most:], _check_login)
    await _all(load, ledger.families[-most:], _check_family)
    await load.close()
    return ledger.numbers()


async def _all(load: Load, things: Sequence[Any], check: Callable[[Load, Any], Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(thing: Any) -> None:
        async with gate:
            await check(load, thing)

    await asyncio.gather(*(one(thing) for thing in things))


async def _check_code(load: Load, code: Code) -> None:
    """A code that nobody used yet works once; one whose answer was lost works or is spent."""
    state = code.state
    family = await load.redeem(-1, code)  # a fresh one that is refused is counted as missing there
    if state == "sent" and family is None and time.monotonic() - code.at < CODE_SURELY_VALID:
        load.ledger.unacknowledged += 1


async def _check_login(load: Load, login: Login) -> None:
    code, error = await load.authorize(-1, login)
    if login.state == "live" and code is None:
        load.ledger.missing.append(f"a login that was acknowledged is not there: {error}")
    if login.state == "ended" and code is not None:
        load.ledger.missing.append("a logout that was acknowledged did not last")
    if login.state == "ending" and code is None:
        load.ledger.unacknowledged += 1
    if code is not None:
        code.state = "probe"


async def _check_family(load: Load, family: Family) -> None:
    """The newest token lives unless it was revoked; every older one, and the code, are dead for good."""
    ledger, state, doubtful = load.ledger, family.state, family.doubtful
    chain = list(family.refresh)
    status = await load.userinfo(-1, family)
    if state == "revoked" and status != 401:
        ledger.missing.append(f"a revocation that was acknowledged did not last: userinfo {status}")
    family.state = "probe"
    newest = await load.refresh(-1, family)
    if state == "revoked" and newest:
        ledger.missing.append("a revocation that was acknowledged did not last: refresh")
    if state == "live" and not newest and not doubtful:
        ledger.missing.append("a refresh token that was acknowledged is gone")
    if (state == "revoking" or (state == "live" and doubtful)) and not newest:
        ledger.unacknowledged += 1
    ledger.living[id(family)] = int(newest)
    for old in dict.fromkeys([*chain[-2:-1], *chain[:1]]):
        if old == chain[-1]:
            continue
        older = Family(family.code, [], [old], state="probe")
        ledger.living[id(family)] += int(await load.refresh(-1, older))
    family.code.state = "spent"
    again = await load.redeem(-1, family.code)
    if again is not None:
        ledger.missing.append("a code that was spent worked again")


def run_checked(load: Load, during: Callable[[Load], Awaitable[None]], *, most: int = 30) -> Numbers:
    """Run the load, `during` beside it, and reckon afterwards. `during` decides how long it takes."""

    async def whole() -> Numbers:
        async with load.running():
            await during(load)
        return await reckon(load, most=most)

    return asyncio.run(whole())


def assert_sound(ledger: Ledger, numbers: Numbers) -> None:
    """The promises of P-1 to P-3 and P-18 that hold under every fault. A starved machine may answer 503 at any time,
    and a person who met one begins again."""
    assert set(ledger.statuses()) <= {UNANSWERED, 200, 303, 400, 503}, ledger.statuses()
    assert numbers.requests > 0
    assert numbers.missing == (), f"{numbers}: {numbers.missing[:5]}"
    assert numbers.most_successes <= 1, numbers
    assert numbers.most_living <= 1, numbers
    assert not ledger.wrong(), ledger.wrong()[:5]
