"""How it runs: environment and `.env`. Not hashed into the recipe. Only the command line reads this."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import psutil
from dotenv import dotenv_values
from platformdirs import user_state_path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from autolabel.core.prompts import nearest
from autolabel.errors import PermanentUsageError
from autolabel.evaluation.costs import Costs

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
PREFIX, ENV_FILE = "AUTOLABEL_", ".env"
SECRETS = ("ENCORD_SSH_KEY", "ENCORD_WEBHOOK_SECRET", "AUTOLABEL_BUCKET_SECRET", "AUTOLABEL_LEDGER")


def _web_address(text: str) -> str:
    """`https://host[:port]` without a path: the SDK drops one from half of its requests."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.port == 0:
        raise ValueError("an address like https://api.encord.com is needed")
    return text.rstrip("/")


def _named(path: str | Path) -> str | Path:
    if not str(path).strip():
        raise ValueError("it names no folder")
    return path


def _absolute(path: Path | None) -> Path | None:
    """The same place whichever folder a command is called from."""
    return path.expanduser().absolute() if path else None


def _hashes(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """Hashes out of hashes and URLs, with commas or blanks between them."""
    parts = re.split(r"[\s,]+", given) if isinstance(given, str) else given
    for part in filter(None, parts):
        if UUID.search(part) is None:
            raise ValueError(f"{part!r} holds no project hash")
    return tuple(dict.fromkeys(UUID.search(part).group().lower() for part in parts if part))  # type: ignore[union-attr]


class Pathways(BaseModel):
    """Names of the Agent stage's pathways by outcome; left out, the stage's only pathway."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labelled: str | None = None
    empty: str | None = None
    failed: str | None = None


class Settings(BaseSettings):
    """One field an environment variable; `.env.example` lists them all, and a test compares the two."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_nested_delimiter="__", extra="ignore", frozen=True
    )

    ssh_key_file: Path | None = Field(
        None,
        validation_alias="ENCORD_SSH_KEY_FILE",
        description="File with the private key (Ed25519, OpenSSH format).",
    )
    ssh_key: SecretStr | None = Field(
        None, validation_alias="ENCORD_SSH_KEY", description="The private key itself; used when no file is named."
    )
    domain: Annotated[str, AfterValidator(_web_address)] = Field(
        "https://api.encord.com",
        validation_alias="ENCORD_DOMAIN",
        description="The platform's API; https://api.us.encord.com for the US.",
    )
    home: Annotated[Path, BeforeValidator(_named), AfterValidator(_absolute)] = Field(
        user_state_path("autolabel"), description="Where the ledger, reports and spooled media live; a local disk."
    )
    ledger: SecretStr | None = Field(
        None,
        description="A Postgres database for the ledger, where several hosts share projects: postgresql://...",
    )
    projects: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hashes)] = Field(
        (), description="Hashes or URLs of the projects that `push --all` and webhooks may serve."
    )
    config: str = Field("default", description="Recipe: a name in configs/ or a path to a YAML file.")
    device: str = Field("auto", description="Torch device for the models: auto, cpu, cuda, cuda:1 ...")
    batch_frames: int = Field(8, ge=1, description="Most frames in one forward pass.")
    write_rows: int = Field(50, ge=1, le=100, description="Most label rows in one request.")
    download_threads: int = Field(16, ge=1, description="Downloads that run ahead of the models.")
    max_image_pixels: int = Field(100_000_000, ge=1, description="Pictures with more pixels are set aside undecoded.")
    max_media_bytes: int = Field(
        1_000_000_000, ge=1, description="Files with more bytes are set aside, not downloaded."
    )
    max_worker_bytes: int = Field(
        default_factory=lambda: psutil.virtual_memory().total * 4 // 5,
        ge=1,
        description="The inference process is ended and started again where it holds more memory.",
    )
    max_row_bytes: int = Field(
        30_000_000, ge=1, description="Rows whose labels would come to more bytes are set aside, not written."
    )
    holdout: float = Field(
        0.0, ge=0, le=1, description="Share of data units left to people as it is, to measure time saved against."
    )
    max_minutes: float | None = Field(
        None, gt=0, description="A run takes up nothing new after so long; the next one goes on."
    )
    max_objects_a_day: int | None = Field(
        None, ge=1, description="Most objects written to a project in any 24 hours; what is over waits."
    )
    max_waiting: int | None = Field(
        None, ge=1, description="No more rows are pre-labelled while so many wait, pre-labelled, for annotators."
    )
    idle_s: float = Field(600.0, ge=0, description="How long `serve` keeps models loaded after a run.")
    webhook_secret: SecretStr | None = Field(
        None,
        validation_alias="ENCORD_WEBHOOK_SECRET",
        description="What Encord signs webhooks with; several, with blanks between, while one is replaced.",
    )
    webhook_secret_file: Annotated[Path | None, AfterValidator(_absolute)] = Field(
        None,
        validation_alias="ENCORD_WEBHOOK_SECRET_FILE",
        description="File with these secrets, one a line; read again when it changes.",
    )
    bucket_secret: SecretStr | None = Field(
        None, description="What your own function signs bucket events with (Standard Webhooks, whsec_...)."
    )
    bucket_secret_file: Annotated[Path | None, AfterValidator(_absolute)] = Field(
        None, description="File with these secrets, one a line; read again when it changes."
    )
    report_images: bool = Field(True, description="Whether reports show pictures; off keeps people's frames out.")
    agent_stage: str | None = Field(
        None, description="Title of the Agent stage that is ours; all its tasks are handed on to people."
    )
    pathways: Pathways = Field(
        Pathways(),
        description="Agent stage pathway by outcome, e.g. AUTOLABEL_PATHWAYS__LABELLED=review; also EMPTY, FAILED.",
    )
    costs: Costs = Field(
        Costs(),
        description="Seconds of annotators' work by which a trial judges, e.g. AUTOLABEL_COSTS__DRAW_BOX_S=9.",
    )


def read_settings(env_file: str | None = ENV_FILE) -> Settings:
    """The environment's settings, and under them those of `env_file` (None: the environment's alone).

    Raises PermanentUsageError for one that is off, and for a name with our prefix that means nothing: a setting that
    is misspelt would otherwise not hold, and nobody would know.
    """
    try:
        for name in _strays(env_file):
            raise PermanentUsageError(f"there is no setting {name}; {nearest(name, _names())}; see .env.example")
        return Settings(_env_file=env_file)
    except ValidationError as error:
        first = error.errors()[0]
        name = "__".join(str(part) for part in first["loc"]).upper()
        name = name if name.startswith("ENCORD_") else f"{PREFIX}{name}"
        raise PermanentUsageError(
            f"the setting {name} is off: {first['msg'].removeprefix('Value error, ')}; see .env.example"
        ) from None
    except (SettingsError, ValueError, OSError) as error:
        raise PermanentUsageError(f"the settings cannot be read: {error}; see .env.example") from None


def forget_secrets() -> None:
    """Take them out of the environment, once they are read: no child of this process needs them there.

    In whatever case they were written, as they are read. PGPASSWORD stays: libpq reads it here and in the children.
    """
    for name in [name for name in os.environ if name.upper() in SECRETS]:
        del os.environ[name]


def _strays(env_file: str | None) -> Iterator[str]:
    in_file = dotenv_values(env_file) if env_file else {}
    for name in [*in_file, *os.environ]:
        if name.upper().startswith(PREFIX) and name.upper() not in _names():
            yield name


def _names() -> list[str]:
    plain = [f"{PREFIX}{name}".upper() for name, field in Settings.model_fields.items() if not field.validation_alias]
    groups: dict[str, type[BaseModel]] = {"PATHWAYS": Pathways, "COSTS": Costs}
    nested = (f"{PREFIX}{group}__{name}".upper() for group, model in groups.items() for name in model.model_fields)
    return [*plain, *nested]


def project_hash(text: str) -> str:
    """A project's hash out of a hash or the URL in the browser. Raises PermanentUsageError."""
    found = UUID.search(text)
    if found is None:
        raise PermanentUsageError(
            f"{text!r} holds no project hash; copy it from the project's settings or give its URL. Nothing was done"
        )
    return found.group().lower()
