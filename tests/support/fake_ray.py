"""A stand-in for Ray whose actors live in this process and answer at once, or are lost when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any


class RayError(Exception):
    """What Ray raises when an actor is lost."""


class RayTaskError(RayError):
    """What Ray raises when a method raises."""


class FakeRay:
    """Like the module ``ray``, as far as `cli.batch.driver` uses it.

    Args:
        room: Number of processors.
        should_lose: Called with the number of an actor, the name of a method and its arguments, before each call of a
            method. If it returns True, the actor is lost.
        make_answer: Called likewise. What it returns is the answer, unless it is None.
    """

    exceptions = type("exceptions", (), {"RayError": RayError, "RayTaskError": RayTaskError})

    def __init__(
        self,
        room: int,
        should_lose: Callable[..., bool] = lambda *_: False,
        make_answer: Callable[..., Any] = lambda *_: None,
    ) -> None:
        self.room, self.should_lose, self.make_answer = room, should_lose, make_answer
        self.actors: list[FakeActor] = []
        self.calls: list[tuple[Any, ...]] = []

    @contextmanager
    def connect(self, _cluster: Any) -> Iterator[FakeRay]:
        yield self

    def remote(self, **_options: Any) -> Callable[[type], FakeRay]:
        def wrap(kind: type) -> Any:
            return FakeClass(self, kind)

        return wrap

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.room)}

    def kill(self, actor: FakeActor) -> None:
        actor.lost = True

    def wait(self, _answers: list[Any], **_options: Any) -> None:
        """All answers are there."""


class FakeClass:
    def __init__(self, ray: FakeRay, kind: type) -> None:
        self.ray, self.kind = ray, kind

    def options(self, **_options: Any) -> FakeClass:
        return self

    def remote(self, *arguments: Any) -> FakeActor:
        actor = FakeActor(self.ray, self.kind(*arguments), len(self.ray.actors))
        self.ray.actors.append(actor)
        return actor


class FakeActor:
    def __init__(self, ray: FakeRay, inner: Any, number: int) -> None:
        self.ray, self.inner, self.number, self.lost = ray, inner, number, False

    def __getattr__(self, name: str) -> FakeMethod:
        return FakeMethod(self, name)


class FakeMethod:
    def __init__(self, actor: FakeActor, name: str) -> None:
        self.actor, self.name = actor, name

    def remote(self, *arguments: Any) -> FakeReference:
        actor, answer = self.actor, Future[Any]()
        call = (actor.number, self.name, arguments)
        actor.ray.calls.append(call)
        if actor.lost or actor.ray.should_lose(*call):
            actor.lost = True
            answer.set_exception(RayError("the actor died"))
            return FakeReference(answer)
        found = actor.ray.make_answer(*call)
        answer.set_result(getattr(actor.inner, self.name)(*arguments) if found is None else found)
        return FakeReference(answer)


class FakeReference:
    def __init__(self, answer: Future[Any]) -> None:
        self.answer = answer

    def future(self) -> Future[Any]:
        return self.answer
