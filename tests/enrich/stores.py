"""Stores for tests: in memory, with or without an exclusive create, with failures, and with races between writers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

from airflow_provider_responses.enrich.storage import Storage
from airflow_provider_responses.exceptions import StorageError


class Clock:
    """The time of day, in seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Shelf(Storage):
    """
    A store in memory; its files are shared by all that are made with the same dict.

    :param exclusive: whether it refuses to create a file that is there.
    """

    can_append = is_local = False

    def __init__(self, files: dict[str, bytes], *, exclusive: bool = True) -> None:
        super().__init__("shelf://bucket/out")
        self.files = files
        self.exclusive = exclusive

    def before(self, operation: str, name: str) -> Callable[[], None]:
        """Return a function that is called after an operation, to fail although it has taken effect."""
        return lambda: None

    def read_file(self, name: str) -> bytes | None:
        after = self.before("read", name)
        data = self.files.get(name)
        after()
        return data

    def write_file(self, name: str, data: bytes) -> None:
        after = self.before("write", name)
        self.files[name] = data
        after()

    def create_file(self, name: str, data: bytes) -> bool:
        after = self.before("create", name)
        refused = self.exclusive and name in self.files
        if not refused:
            self.files[name] = data
        after()
        return not refused

    def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
        self.write_file(name, local.read_bytes())

    def get_file(self, name: str, scratch: Path) -> Path:
        target = scratch / name.replace("/", "-")
        target.write_bytes(self.read_file(name) or b"")
        return target

    def list_names(self, folder: str = "") -> list[str]:
        after = self.before("list", folder)
        start = f"{folder}/" if folder else ""
        found = sorted({name.removeprefix(start).split("/")[0] for name in self.files if name.startswith(start)})
        after()
        return found

    def delete_file(self, name: str) -> None:
        after = self.before("delete", name)
        self.files.pop(name, None)
        after()


class Failing(Shelf):
    """A store that fails where ``fails`` returns "before" or "after" the operation, as if the response were lost."""

    def __init__(self, files: dict[str, bytes], fails: Callable[[str, str], str], **given: Any) -> None:
        super().__init__(files, **given)
        self.fails = fails

    def before(self, operation: str, name: str) -> Callable[[], None]:
        when = self.fails(operation, name)
        error = StorageError(f"{self.url(name)}: 503, as told", path=self.url(name))
        if when == "before":
            raise error

        def after() -> None:
            if when == "after":
                raise error

        return after


class Race:
    """
    Runs writers side by side, each in a thread, of which one does one storage operation at a time.

    :param picks: which of those that wait is next; the first, when there are no more.
    """

    def __init__(self, picks: Iterator[int]) -> None:
        self._picks = picks
        self._events: Queue[tuple[int, str]] = Queue()
        self._turns: list[threading.Semaphore] = []

    def wait(self, number: int) -> None:
        """Wait until it is this writer's turn; not after the race."""
        if not self._turns:
            return
        self._events.put((number, "waits"))
        self._turns[number].acquire()

    def run(self, writers: list[Callable[[], Any]]) -> list[Any]:
        """Return the return value or the exception of each writer."""
        results: list[Any] = [None] * len(writers)
        self._turns = [threading.Semaphore(0) for _ in writers]

        def work(number: int) -> None:
            try:
                results[number] = writers[number]()
            except Exception as error:  # noqa: BLE001  it is what the test looks at
                results[number] = error
            self._events.put((number, "ends"))

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(writers))]
        for thread in threads:
            thread.start()
        running, waiting = set(range(len(writers))), set[int]()
        while running:
            while len(waiting) < len(running):
                number, what = self._events.get(timeout=30)
                if what == "waits":
                    waiting.add(number)
                else:
                    running.discard(number)
            if waiting:
                chosen = sorted(waiting)[next(self._picks, 0) % len(waiting)]
                waiting.discard(chosen)
                self._turns[chosen].release()
        self._turns = []
        return results


class Raced(Shelf):
    """
    One writer's view of a store in a race.

    :param faults: of each operation: 1 fails before it, 2 after it, 3 fails and comes through some operations later.
    """

    def __init__(
        self, files: dict[str, bytes], race: Race, number: int, faults: Iterator[int], late: list[Any]
    ) -> None:
        super().__init__(files)
        self._race, self._number, self._faults, self._late = race, number, faults, late

    def create_file(self, name: str, data: bytes) -> bool:
        self._race.wait(self._number)
        self._land()
        fault = next(self._faults, 0)
        if fault == 3:
            self._late.append([3, name, data])
        if fault in {1, 3}:
            raise StorageError(f"{name}: 503, as drawn")
        made = name not in self.files
        self.files.setdefault(name, data)
        if fault == 2:
            raise StorageError(f"{name}: its response was lost, as drawn")
        return made

    def before(self, operation: str, name: str) -> Callable[[], None]:
        self._race.wait(self._number)
        self._land()
        if next(self._faults, 0) == 1:
            raise StorageError(f"{name}: 503, as drawn")
        return lambda: None

    def _land(self) -> None:
        """Let creates take effect that were given up."""
        for entry in list(self._late):
            entry[0] -= 1
            if entry[0] <= 0:
                self._late.remove(entry)
                self.files.setdefault(entry[1], entry[2])
