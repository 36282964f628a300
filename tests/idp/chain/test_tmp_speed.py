import time
from idp.chain import sealer, verify
from tests.support.tamper import add_records


def test_speed(context):
    kind = context.database.url[:8]
    add_records(context, 100_000, batch=5000)
    t = time.time()
    c0 = time.process_time()
    done = 0
    while s := sealer.seal(context):
        done += s
    print(
        "SEAL",
        kind,
        round(done / (time.time() - t)),
        "rows/s, client cpu us/row",
        round((time.process_time() - c0) / done * 1e6, 1),
    )
    t = time.time()
    c0 = time.process_time()
    r = verify.verify(context)
    print(
        "VERIFY",
        kind,
        round(r.records / (time.time() - t)),
        "rows/s, cpu us",
        round((time.process_time() - c0) / r.records * 1e6, 1),
        r.intact,
    )
    t = time.time()
    sealer.seal(context)
    print("idle ms", (time.time() - t) * 1e3)
