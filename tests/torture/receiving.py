"""T14, T15, T17 and kills of the receiver: what is forged is refused, what is acknowledged is kept, whatever happens.

All of it goes to 127.0.0.1, or stays in this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from structlog.testing import capture_logs

from autolabel.service.secrets import GRACE_S, KeyRing, Secrets
from autolabel.service.signatures import STANDARD
from torture import receiver_doubles, receivers
from torture.receivers import Service
from webhooks import Receiver, bucket_event, post, receiver, signed, task_ready

HEADERS = ("X-Encord-Timestamp", "X-Encord-Signature")
FUZZ_S, CONNECTIONS = 20, 32
Headers = dict[str, str]


# ------------------------------------------------------------------------------------------ T14, in this process


@dataclass
class Forger:
    """Makes calls of all kinds; what it gives out as valid is to be accepted once."""

    dice: random.Random
    secrets: Path
    generation: int = 0
    now_s: float = 0.0
    sent: list[tuple[bytes, Headers]] = field(default_factory=list)

    @property
    def secret(self) -> str:
        return f"secret {self.generation}"

    def rotate(self) -> None:
        """The next secret alone; the one before is no good when the moment of grace is over."""
        self.generation += 1
        self.secrets.write_text(f"{self.secret}\n")

    def valid(self) -> tuple[bytes, Headers, str]:
        body = task_ready()
        self.sent.append((body, signed(body, self.secret, time.time() + self.dice.randint(-290, 290))))
        return *self.sent[-1], "accepted"

    def replayed(self) -> tuple[bytes, Headers, str]:
        return (*self.dice.choice(self.sent), "replayed") if self.sent else self.valid()

    def stale(self) -> tuple[bytes, Headers, str]:
        body, age_s = task_ready(), self.dice.choice([-1, 1]) * self.dice.randint(303, 10**9)
        return body, signed(body, self.secret, time.time() + age_s), "refused"

    def foreign(self) -> tuple[bytes, Headers, str]:
        body = task_ready()
        other = self.dice.choice(
            ["", "another", self.secret[:-1], f"secret {self.generation + 1}", self.secret + " "]
        )
        return body, signed(body, other), "refused"

    def flipped(self) -> tuple[bytes, Headers, str]:
        """One bit of body, time or signature; some leave what the server's parser takes for no header."""
        body, headers, _ = self.valid()
        self.sent.pop()
        part = self.dice.choice([*HEADERS, "body"])
        whole = bytearray(body if part == "body" else headers[part].encode())
        whole[self.dice.randrange(len(whole))] ^= 1 << self.dice.randrange(8)
        if part == "body":
            return bytes(whole), headers, "refused"
        return body, headers | {part: whole.decode("latin-1")}, "refused"

    def lost(self) -> tuple[bytes, Headers, str]:
        body, headers, _ = self.valid()
        self.sent.pop()
        del headers[self.dice.choice(HEADERS)]
        return body, headers, "refused"


def forged(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """T14: `amount` calls, one in five valid; refused ones leave nothing, replays one row in the inbox."""
    dice, found, seen = random.Random(seed), list[str](), Counter[str]()
    with TemporaryDirectory(prefix="forged ") as folder:
        forger = Forger(dice, Path(folder) / "secrets")
        forger.rotate()
        ring = KeyRing(None, forger.secrets, receiver_doubles.SCHEMES[double], lambda: forger.now_s)
        kinds = [forger.valid, forger.replayed, forger.stale, forger.foreign, forger.flipped, forger.lost]
        accepted = 0
        with capture_logs(), receiver(Path(folder), Secrets(ring, KeyRing(None, None, STANDARD))) as here:
            for number in range(amount):
                if number % 500 == 499:
                    _rotate(forger, ring)
                kind = dice.choice(kinds)
                body, headers, expected = kind()
                answer = asyncio.run(post(here.app, body, headers))
                seen[answer] += 1
                accepted += expected == "accepted"
                if answer != expected:
                    found.append(f"a {kind.__name__} call is {answer}, not {expected}")
            found += _kept(here, accepted)
    _tell(f"T14: {amount} calls: {dict(seen)}")
    return found


def _rotate(forger: Forger, ring: KeyRing) -> None:
    forger.rotate()
    ring.current()
    forger.now_s += GRACE_S
    forger.sent.clear()


def _kept(here: Receiver, accepted: int) -> list[str]:
    requested = sum(wake.requested for wake in here.wakes.owed())
    if here.kept() == requested == accepted:
        return []
    return [f"{here.kept()} calls are kept and {requested} runs were asked for by {accepted} valid calls"]


# ------------------------------------------------------------------------------------------ T15, in a child process


def fuzzed(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """T15: verifiers and envelopes on `amount` inputs that atheris comes upon, or as many as fit into FUZZ_S."""
    tests = Path(__file__).parents[1]
    with TemporaryDirectory(prefix="fuzzed ") as folder:
        for number, body in enumerate([task_ready(), bucket_event()]):
            (Path(folder) / f"seed-{number}").write_bytes(body)
        limits = f"-runs={amount} -max_total_time={FUZZ_S} -seed={seed % 2**31}".split()
        limits.append(f"-artifact_prefix={folder}/")
        command = [sys.executable, "-W", "ignore", str(tests / "fuzz" / "webhook_calls.py"), *limits, folder]
        paths = os.pathsep.join([str(tests.parent), str(tests)])
        environment = {**os.environ, "PYTHONPATH": paths, "DOUBLE": str(double)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    told = done.stderr + done.stdout
    runs = re.search(r"Done (\d+) runs", told)
    _tell(f"T15: {runs.group(1) if runs else 0} inputs")
    if done.returncode == 0 and runs:
        return []
    return [f"an untyped error: {(re.findall(r'^[A-Za-z.]*Error.*$', told, re.MULTILINE) or [told[-2000:]])[0]}"]


# ------------------------------------------------------------------------------- T17, kills, rotation: over the wire


def load(seed: int, amount: int) -> list[str]:
    """T17: wrk posts for `amount` seconds over 32 connections, one call in ten forged: all are answered rightly."""
    with TemporaryDirectory(prefix="load ") as folder, receivers.serving(folder) as service:
        calls = Path(folder) / "calls"
        calls.write_text("".join(_lines(random.Random(seed), 2500 * amount)))
        wrk = f"wrk -t1 -c{CONNECTIONS} -d{amount}s --timeout 30s -s".split()
        wrk += [
            str(Path(__file__).parent / "load.lua"),
            f"http://127.0.0.1:{service.port}",
            "--",
            str(calls),
            str(amount),
        ]
        done = subprocess.run(wrk, capture_output=True, text=True, check=True)
        kept, span_s = _inbox(service)
    lines = (line.partition("=") for line in done.stdout.splitlines() if "=" in line)
    told = {name: float(value) for name, _, value in lines}
    answered = told["got_200"] + told["got_401"]
    _tell(
        f"T17: {answered:.0f} calls, {answered / span_s:.0f} a second; p50 {told['p50_ms']:.0f} ms, "
        f"p99 {told['p99_ms']:.0f} ms; {kept} kept, {told['got_401']:.0f} refused"
    )
    unanswered = told["sent_200"] + told["sent_401"] - answered  # where the machine was too slow for the silence
    is_right = told["got_200"] == told["accepted"] <= kept <= told["sent_200"] and told["got_401"] <= told["sent_401"]
    is_well = is_right and unanswered <= CONNECTIONS and not told["got_other"] and not told["errors"]
    return [] if is_well else [f"{kept} are kept of {told}"]


def _lines(dice: random.Random, amount: int) -> Iterator[str]:
    for _ in range(amount):
        body = task_ready()
        is_forged = dice.random() < 0.1
        headers = signed(body, "another" if is_forged else "secret")
        yield f"{401 if is_forged else 200}\t{headers[HEADERS[0]]}\t{headers[HEADERS[1]]}\t{body.decode()}\n"


def _inbox(service: Service) -> tuple[int, float]:
    """How many calls are kept, and the seconds from the first to the last."""
    with closing(sqlite3.connect(service.ledger)) as db:
        kept, span_s = db.execute("SELECT count(*), max(at) - min(at) FROM inbox").fetchone()
    return int(kept), float(span_s)


@dataclass
class Senders:
    """Threads that post valid calls, some of them again, until they are stopped."""

    service: Service
    seed: int
    secret: Callable[[], str]
    acknowledged: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    replayed: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def posting(self, threads: int = 4) -> Iterator[None]:
        running = [threading.Thread(target=self._post, args=(random.Random(self.seed + i),)) for i in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in running:
                thread.join()

    def _post(self, dice: random.Random) -> None:
        while not self.over.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)) as wire:
                try:
                    self._talk(wire, dice)
                except (OSError, http.client.HTTPException):
                    self.unanswered += 1
                    time.sleep(0.02)

    def _talk(self, wire: http.client.HTTPConnection, dice: random.Random) -> None:
        last: tuple[bytes, Headers] | None = None
        while not self.over.is_set():
            body = task_ready()
            call = last if last and dice.random() < 0.2 else (body, signed(body, self.secret()))
            wire.request("POST", "/webhooks/encord", *call)
            answer = wire.getresponse()
            told = json.loads(answer.read())["status"]
            if answer.status == 200:
                content = call[1][HEADERS[0]].encode() + b"." + call[0]
                self.acknowledged.append(hashlib.sha256(content).hexdigest())
                self.replayed += told == "replayed"
            else:
                self.refused[answer.status] += 1
            last = call


def killed(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """`amount` times kill -9 of the receiver under load: what it acknowledged is kept, replays add nothing."""
    dice = random.Random(seed)
    with TemporaryDirectory(prefix="killed ") as folder:
        service = Service(folder, receivers.free_port(), double)
        service.secrets.write_text("secret\n")
        senders = Senders(service, seed, lambda: "secret")
        with senders.posting():
            for _ in range(amount):
                process = receivers.start(service)
                time.sleep(dice.uniform(0.05, 0.6))
                process.kill()
                process.join()
        return _after(service, senders)


def _after(service: Service, senders: Senders) -> list[str]:
    with closing(sqlite3.connect(service.ledger)) as db:
        kept = {mac for (mac,) in db.execute("SELECT mac FROM inbox")}
        (requested,) = db.execute("SELECT sum(requested) FROM wake").fetchone()
        (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
    acknowledged = set(senders.acknowledged)
    _tell(
        f"kill -9: {len(senders.acknowledged)} acknowledged, {senders.replayed} of them replays, "
        f"{len(acknowledged)} distinct; {senders.unanswered} unanswered, {len(kept)} kept, integrity {verdict}"
    )
    found = [f"{len(acknowledged - kept)} acknowledged calls are lost"] if acknowledged - kept else []
    found += [f"{requested} runs asked for by {len(kept)} calls"] if requested != len(kept) else []
    found += [f"refused: {dict(senders.refused)}"] if senders.refused else []
    return found + ([] if verdict == "ok" else [f"the ledger is damaged: {verdict}"])


def rotated(seed: int, amount: int) -> list[str]:
    """The secret changes `amount` times under load, its file in place and by another: no valid call is refused."""
    dice, current = random.Random(seed), ["secret 0"]
    with TemporaryDirectory(prefix="rotated ") as folder, receivers.serving(folder) as service:
        _write(dice, service.secrets, current)
        senders = Senders(service, seed, lambda: current[0])
        time.sleep(GRACE_S)
        with senders.posting():
            for number in range(1, amount + 1):
                following = f"secret {number}"
                _write(dice, service.secrets, [current[0], following])
                current[0] = following
                time.sleep(dice.uniform(0.0, 0.2))
                _write(dice, service.secrets, [following])
        time.sleep(GRACE_S)
        late = _late(service)
        kept, _ = _inbox(service)
    _tell(
        f"rotation: {amount} times, {len(senders.acknowledged)} calls acknowledged, refused {dict(senders.refused)}"
    )
    found = [f"valid calls refused: {dict(senders.refused)}"] if senders.refused or senders.unanswered else []
    found += [f"a call with the first secret is answered with {late}"] if late != 401 else []
    return found + ([] if kept == len(set(senders.acknowledged)) else [f"{kept} are kept"])


def _write(dice: random.Random, path: Path, secrets: list[str]) -> None:
    text = "# rotated\n" + "\n".join(secrets) + "\n"
    if dice.random() < 0.5:
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(path)
        return
    half = dice.randrange(len(text))
    with path.open("w") as file:
        for part in (text[:half], text[half:]):
            file.write(part)
            file.flush()
            time.sleep(dice.uniform(0.0, 0.01))


def _late(service: Service) -> int:
    body = task_ready()
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)) as wire:
        wire.request("POST", "/webhooks/encord", body, signed(body, "secret 0"))
        return wire.getresponse().status


def _tell(figures: str) -> None:
    sys.stdout.write(f"{figures}\n")
