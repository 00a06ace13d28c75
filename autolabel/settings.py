"""How it runs: environment and `.env`. Not hashed into the recipe. Only the command line reads this."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from platformdirs import user_state_path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _web_address(text: str) -> str:
    """`https://host[:port]` without a path: the SDK drops one from half of its requests."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.port == 0:
        raise ValueError("an address like https://api.encord.com is needed")
    return text.rstrip("/")


class Pathways(BaseModel):
    """Names of the Agent stage's pathways by outcome; left out, the stage's only pathway."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labelled: str | None = None
    empty: str | None = None
    failed: str | None = None


class Settings(BaseSettings):
    """One field an environment variable; `.env.example` lists them all, and a test compares the two."""

    model_config = SettingsConfigDict(
        env_prefix="AUTOLABEL_", env_file=".env", env_nested_delimiter="__", extra="ignore", frozen=True
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
    home: Path = Field(
        user_state_path("autolabel"), description="Where the ledger, reports and spooled media live; a local disk."
    )
    config: str = Field("default", description="Recipe: a name in configs/ or a path to a YAML file.")
    device: str = Field("auto", description="Torch device for the models: auto, cpu, cuda, cuda:1 ...")
    batch_frames: int = Field(8, ge=1, description="Most frames in one forward pass.")
    write_rows: int = Field(20, ge=1, le=100, description="Most label rows in one request.")
    download_threads: int = Field(4, ge=1, description="Downloads that run ahead of the models.")
    max_image_pixels: int = Field(100_000_000, ge=1, description="Pictures with more pixels are set aside undecoded.")
    max_media_bytes: int = Field(
        1_000_000_000, ge=1, description="Files with more bytes are set aside, not downloaded."
    )
    max_row_bytes: int = Field(
        30_000_000, ge=1, description="Rows whose labels would come to more bytes are set aside, not written."
    )
    holdout: float = Field(
        0.0, ge=0, le=1, description="Share of data units left to people as it is, to measure time saved against."
    )
    report_images: bool = Field(True, description="Whether reports show pictures; off keeps people's frames out.")
    agent_stage: str | None = Field(
        None, description="Title of the Agent stage that is ours; all its tasks are handed on to people."
    )
    pathways: Pathways = Field(
        Pathways(),
        description="Agent stage pathway by outcome, e.g. AUTOLABEL_PATHWAYS__LABELLED=review; also EMPTY, FAILED.",
    )
