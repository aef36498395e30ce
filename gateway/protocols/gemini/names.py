"""Names of models as Google's addresses write them, in all the forms that its clients use. Pure."""

import re
from typing import Final

_MODEL: Final = re.compile(
    r"(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?(?:models/)(?P<name>.*)", re.DOTALL
)


def model_name(resource: str) -> str:
    """The model's name as clients of other protocols write it: without Google's prefixes.

    A tuned model keeps its prefix, since it has no other name. Clients that take `models/x` for the name put
    the prefix twice.
    """
    found = _MODEL.fullmatch(resource)
    if found is None:
        return resource
    return found["name"].removeprefix("models/")


def is_model(resource: str) -> bool:
    return resource.startswith("tunedModels/") or _MODEL.fullmatch(resource) is not None
