"""What `--notify` names: channels of the settings, and addresses that only a run here can know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import SecretStr

from jobs.errors import BadInput
from jobs.settings.notifications import is_address, shown, unknown

if TYPE_CHECKING:
    from jobs.settings.model import Settings


def addresses(given: Sequence[str] | None, settings: Settings, *, here: bool) -> list[SecretStr]:
    """The addresses among what was given. `here`: it is worked in this process, which alone knows them.

    Raises:
        BadInput: A name that the settings do not have, or an address that cannot be used.
    """
    if problems := list(_problems(given or (), settings, here=here)):
        raise BadInput(problems)
    return [SecretStr(each) for each in given or () if is_address(each)]


def _problems(given: Sequence[str], settings: Settings, *, here: bool) -> Iterator[str]:
    for each in given:
        if not is_address(each):
            if each not in settings.channels:
                known = ", ".join(settings.channels) or "none"
                yield f'--notify: "{each}": expected a name of [channels] in the settings, which has {known}'
        elif unknown([SecretStr(each)]):
            yield f"--notify: {shown(each)}: expected an address that the library apprise knows"
        elif not here:
            yield (
                f"--notify: {shown(each)}: an address holds secrets, and is not kept on record for workers. Give it a "
                'name in the settings, which they have too, and name that here:  [channels] NAME = "…"'
            )
