"""Is this etcd fit for a replicated log? Versions with known faults, unfit settings, and what to do about them."""

import asyncio
import http.client
import logging
import re
import ssl
import urllib.request
from typing import Any

import grpc.aio
import msgspec
from etcd3 import etcdrpc

from .client import Client, Endpoint, describe

log = logging.getLogger("switch.mirror")

# The first release of each line without known faults that lose watch events or answer linearizable reads from the past.
SOUND = {(3, 4): 42, (3, 5): 28, (3, 6): 9}
SNAPSHOT_COUNT_MAX = 10_000
SNAPSHOT_COUNT_DEFAULT = {"3.4.": 100_000, "3.5.": 100_000}  # later ones: 10,000
QUOTA_BYTES_MIN = 512 * 1024 * 1024
HTTP_TIMEOUT_S = 1.0
HTTP_BYTES_MAX = 8 * 1024 * 1024  # of an answer; etcd's metrics are some 200 KB


def version_warning(version: str) -> str | None:
    """What is wrong with an etcd of this version, or None."""
    match = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?!\d)", version)
    if match is None:
        return f"etcd says version {version[:40]!r}, which is not known here"
    line, patch = (int(match[1]), int(match[2])), int(match[3])
    if line < min(SOUND):
        return f"etcd {version} is too old: upgrade to 3.4.{SOUND[3, 4]} or later"
    sound = SOUND.get(line, 0)
    if patch >= sound:
        return None
    return f"etcd {version} can lose watch events or read stale: upgrade to {line[0]}.{line[1]}.{sound} or later"


def snapshot_count_warning(version: str, cmdline: list[str]) -> str | None:
    """`--snapshot-count` as the process was started with it; it decides how much of the log etcd keeps in memory."""
    text = " ".join(cmdline)
    match = re.search(r"--?snapshot-count[= ](\d{1,18})", text)
    default = next((count for line, count in SNAPSHOT_COUNT_DEFAULT.items() if version.startswith(line)), 0)
    count = int(match[1]) if match else default
    if count <= SNAPSHOT_COUNT_MAX:
        return None
    origin = "" if match else " (the default: not on its command line; a config file or ETCD_SNAPSHOT_COUNT may differ)"
    return f"etcd keeps {count} entries in memory{origin}: start it with --snapshot-count 5000"


def quota_warning(metrics: str) -> str | None:
    """`--quota-backend-bytes` from etcd's metrics."""
    match = re.search(r"^etcd_server_quota_backend_bytes (\d{1,18}(?:\.\d{1,18})?(?:e\+\d\d)?)$", metrics, re.MULTILINE)
    if match is None:
        return "etcd does not say its quota: check --quota-backend-bytes"
    quota = int(float(match[1]))
    if quota >= QUOTA_BYTES_MIN:
        return None
    return f"etcd's quota is {quota} bytes: start it with --quota-backend-bytes {QUOTA_BYTES_MIN} or more"


async def examine(client: Client) -> tuple[str, list[str]]:
    """The version of the first endpoint that answers, and warnings about all. Takes a few seconds at most."""
    found = await asyncio.gather(*(_examine_endpoint(client, endpoint) for endpoint in client.endpoints))
    versions = [version for version, _ in found if version]
    warnings = [warning for _, some in found for warning in some]
    for warning in warnings:
        log.warning("etcd.unfit %s", warning)
    return (versions[0] if versions else ""), warnings


async def _examine_endpoint(client: Client, endpoint: Endpoint) -> tuple[str, list[str]]:
    try:
        status = await endpoint.maintenance.Status(
            etcdrpc.StatusRequest(), timeout=HTTP_TIMEOUT_S, metadata=client.metadata
        )
    except grpc.aio.AioRpcError as error:
        return "", [f"{endpoint.url}: {describe(error)}"]
    warnings = [version_warning(status.version)]
    try:
        told = await asyncio.to_thread(_settings, endpoint.url, _tls(client))
        warnings += settings_warnings(status.version, *told)
    except (OSError, http.client.HTTPException, ValueError) as error:  # it may die in the midst of its answer
        warnings.append(
            f"cannot read its settings over HTTP ({type(error).__name__}): check --snapshot-count and the quota"
        )
    return status.version, [f"{endpoint.url}: {warning}" for warning in warnings if warning]


class _Variables(msgspec.Struct):
    """What is read of `/debug/vars` (expvar)."""

    cmdline: list[str]


def settings_warnings(version: str, variables: bytes, metrics: bytes) -> list[str]:
    """What is wrong with the settings, by `/debug/vars` and `/metrics`. Raises ValueError for what etcd would not say."""
    try:
        cmdline = msgspec.json.decode(variables, type=_Variables).cmdline
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # msgspec lets the latter two through
        raise ValueError("not the variables of etcd") from None
    found = [snapshot_count_warning(version, cmdline), quota_warning(metrics.decode(errors="replace"))]
    return [warning for warning in found if warning]


def _settings(url: str, context: ssl.SSLContext | None) -> tuple[bytes, bytes]:
    """`/debug/vars`, how the member was started, and its metrics. Blocks: for a thread.

    Raises OSError, HTTPException (the answer broke off).
    """
    with urllib.request.urlopen(f"{url}/debug/vars", timeout=HTTP_TIMEOUT_S, context=context) as response:
        variables = response.read(HTTP_BYTES_MAX)
    with urllib.request.urlopen(f"{url}/metrics", timeout=HTTP_TIMEOUT_S, context=context) as response:
        return variables, response.read(HTTP_BYTES_MAX)


def _tls(client: Client) -> ssl.SSLContext | None:
    settings: Any = client.settings
    if not settings.ca_file:
        return None
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
