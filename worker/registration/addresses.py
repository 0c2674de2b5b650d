"""Addresses that users write, taken apart."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from jobs.errors import BadInput


def split_address(address: str, named: str) -> SplitResult:
    """The parts of an address. `named`: what a message calls it, such as --to.

    Raises:
        BadInput: Its host is none that can be read, as in http://[.
    """
    try:
        return urlsplit(address)
    except ValueError as wrong:
        raise BadInput(f'{named}: "{address}" is no address that can be read: {wrong}.') from None
