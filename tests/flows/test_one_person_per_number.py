"""One active person for each number, also when several processes create that person at once."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.citizen import PASSWORD
from tests.support.context import citizen_number
from tests.support.servers import YimenServer


def test_person_created_by_eight_processes_at_once_exists_once(server: YimenServer) -> None:
    number = citizen_number(771)

    def add(_: int) -> str:
        arguments = ("person", "add", "--id-number", number, "--name", "张三例", "--password-stdin")
        try:
            return str(server.cli(*arguments, stdin=PASSWORD)["account"])
        except AssertionError:
            return str(server.cli(*arguments, stdin=PASSWORD, status=1)["error"])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(add, range(8)))
    refused = [answer for answer in found if "-" not in answer]
    assert len(found) - len(refused) == 1, found
    assert len(set(refused)) == 1
