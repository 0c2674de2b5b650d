"""`/v1/models`: what may stand as `model` in a line, for programs that look first."""

from __future__ import annotations

from fastapi import APIRouter

from web.api.problems import ApiRoute
from web.door import Door, TheDoor, WhoSees
from web.openai.errors import OpenAIError
from web.openai.files import NOT_THERE, Document
from worker.services import catalog_of

routes = APIRouter(prefix="/v1/models", tags=["openai"], route_class=ApiRoute)


@routes.get("")
def list_models(door: TheDoor, _token: WhoSees) -> Document:
    """The models that the accounts can make, without pages, as OpenAI has them."""
    return {"object": "list", "data": [_document(name) for name in _names(door)]}


@routes.get("/{model}")
def get_model(door: TheDoor, _token: WhoSees, model: str) -> Document:
    """One of them."""
    if model not in _names(door):
        raise OpenAIError(NOT_THERE, f"The model '{model}' does not exist here.", code="model_not_found", param="model")
    return _document(model)


def _names(door: Door) -> list[str]:
    """Those of the providers that have accounts here; where the workers alone have them, all."""
    ours = {account.provider for account in door.settings.accounts.values()}
    offers = catalog_of(door.settings).offers()
    return sorted({offer.model for offer in offers if not ours or offer.provider in ours})


def _document(name: str) -> Document:
    # OpenAI's form has a moment and an owner, which mean nothing here.
    return {"id": name, "object": "model", "created": 0, "owned_by": "lightfast"}
