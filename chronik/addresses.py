"""Where a listener binds, and what a client is told to dial: the two notations people write, as one value.

A listener is written as Kafka writes it, `NAME://host:port` (`PLAINTEXT://127.0.0.1:9092`; an empty host binds every
interface), as a Twisted endpoint string (`tcp:9092`, which binds every interface, or `tcp:9092:interface=127.0.0.1`), or
plainly `host:port`. Port 0 lets the system choose. Listeners carry names, because each may advertise another address.

Encrypted and authenticated listeners are not built yet: their names are refused, so nobody takes a plain port for one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PLAINTEXT = "PLAINTEXT"

_KAFKA_FORM = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)://(.*):(\d+)")
_PLAIN_FORM = re.compile(r"(.*):(\d+)")
_HOST = re.compile(r"[A-Za-z0-9._:%-]*")
_NOT_BUILT = frozenset({"SSL", "SASL_PLAINTEXT", "SASL_SSL"})
_FORMS = "write NAME://host:port, tcp:port or tcp:port:interface=host"


@dataclass(frozen=True, slots=True)
class ListenerAddress:
    """A named TCP address. `host` is empty for every interface; `port` is 0 where the system chooses one."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The Twisted server endpoint string that binds here."""
        interface = ":interface=" + self.host.replace(":", "\\:") if self.host else ""
        return f"tcp:{self.port}{interface}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def parse_listener(text: str, default_name: str = PLAINTEXT) -> ListenerAddress:
    """The address that `text` writes in one of the three notations. Raises ValueError saying what is allowed."""
    text = text.strip()
    if matched := _KAFKA_FORM.fullmatch(text):
        name, host, port = matched[1].upper(), matched[2], matched[3]
        if name in _NOT_BUILT:
            raise ValueError(f"{text!r}: {name} listeners are not built yet; this release speaks PLAINTEXT only")
        return ListenerAddress(name, _host(host, text), _port(port, text))
    if text.partition(":")[0] in ("ssl", "tls", "unix", "systemd", "fd", "tcp6"):
        raise ValueError(f"{text!r}: only tcp endpoints are built; {_FORMS}")
    if text.startswith("tcp:"):
        return _from_endpoint_string(text, default_name)
    if matched := _PLAIN_FORM.fullmatch(text):
        return ListenerAddress(default_name, _host(matched[1], text), _port(matched[2], text))
    raise ValueError(f"{text!r} is no listener; {_FORMS}")


def parse_listeners(text: str) -> tuple[ListenerAddress, ...]:
    """Comma-separated listeners, at least one. Unnamed ones after the first are named by their port. Raises ValueError."""
    found: list[ListenerAddress] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        listener = parse_listener(item)
        if "://" not in item and found:
            listener = ListenerAddress(f"{PLAINTEXT}_{listener.port}", listener.host, listener.port)
        found.append(listener)
    if not found:
        raise ValueError(f"at least one listener is needed; {_FORMS}")
    _refuse_duplicates(found)
    for index, listener in enumerate(found):
        if any(listener.port and (listener.port, listener.host) == (other.port, other.host) for other in found[:index]):
            raise ValueError(f"two listeners bind {listener.host or 'every interface'} port {listener.port}")
    return tuple(found)


def parse_advertised(text: str) -> tuple[ListenerAddress, ...]:
    """Comma-separated advertised addresses, `NAME://host:port` each, none when empty. Raises ValueError."""
    found = [parse_listener(item) for item in filter(None, (part.strip() for part in text.split(",")))]
    for address in found:
        if address.host in ("", "0.0.0.0", "::"):
            raise ValueError(f"{address}: clients cannot dial every interface; name the host that they reach")
        if not address.port:
            raise ValueError(f"{address}: clients cannot dial port 0")
    _refuse_duplicates(found)
    return tuple(found)


def _refuse_duplicates(addresses: Sequence[ListenerAddress]) -> None:
    names = [address.name for address in addresses]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the listener name {name} is used twice; names must differ")


def _from_endpoint_string(text: str, name: str) -> ListenerAddress:
    host = port = ""
    for field in re.split(r"(?<!\\):", text)[1:]:
        field = field.replace("\\:", ":")
        key, equals, value = field.partition("=")
        if not equals and not port:
            port = field
        elif key == "port":
            port = value
        elif key == "interface":
            host = value
        else:
            raise ValueError(f"{text!r}: {field!r} is not understood; {_FORMS}")
    return ListenerAddress(name, _host(host, text), _port(port, text))


def _host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r}: {host!r} is no host name or address")
    return host


def _port(port: str, text: str) -> int:
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"{text!r}: {port!r} is no port; a port is a number from 0 to 65535")
    return int(port)
