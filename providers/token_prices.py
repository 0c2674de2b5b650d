"""Images that are billed by tokens: what they may cost at most, what is likely, what the provider's usage says. Pure.

Prices are micro-dollars for a million tokens; a charge is rounded up to a whole micro-dollar, once for a whole task.
Sources: prices [seed 002]. Output tokens of gpt-image-2: the arithmetic of OpenAI's own calculator
(developers.openai.com/api/docs/guides/image-generation, "Cost and latency"), as read off it at
community.openai.com/t/gpt-image-2-output-pricing-calculator-online-and-in-your-code/1382699; it gives 196 and 7,024 for
1024x1024 at low and high, 5,488 for 1536x1024 and 12,329 for 3584x2048 at high, as the calculator does. Input images:
at most 1,536 patches each (community.openai.com/t/openai-must-document-the-input-image-pricing-of-gpt-image-2/1382940).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Pixels = tuple[int, int]

MILLION: Final = 1_000_000
#: How finely each quality divides an image's longer side.
AXIS: Final = {"low": 16, "medium": 48, "high": 96}
#: The quality that is assumed where none is named, or `auto`: no image costs more.
DEAREST: Final = "high"
#: The pixels that are assumed where nobody knows them: no legal size costs more.
LARGEST: Final[Pixels] = (2880, 2880)
#: Tokens of one reference at most, with room; of a prompt that is not known yet, for estimates.
REFERENCE: Final = 2_048
USUAL_PROMPT: Final = 200
#: Tokens of the request's own wrapping, at most.
WRAPPING: Final = 64
#: What is set aside beyond the arithmetic: the provider may count a little otherwise.
MARGIN: Final = (11, 10)
#: A usage that tells fewer output tokens an image than any has, or costs so many times what was set aside, is in
#: another unit, or of something else.
LEAST_OUTPUT: Final = 16
ABSURD: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a provider says a task has used."""

    text: int  # input tokens
    image: int  # input tokens
    output: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """Micro-dollars for a million tokens."""

    text_input: int
    image_input: int
    image_output: int

    def charge(self, usage: Usage) -> int:
        """Micro-dollars of a whole task, rounded up."""
        exact = usage.text * self.text_input + usage.image * self.image_input + usage.output * self.image_output
        return -(-exact // MILLION)

    def prompt(self, prompt: str) -> int:
        """Micro-dollars that a prompt costs at most: no token is shorter than a byte."""
        return self.charge(Usage(text=len(prompt.encode("utf-8", "replace")), image=0, output=0))

    def bound(self, pixels: Pixels | None, quality: str | None, references: int) -> int:
        """Micro-dollars that one image costs at most, without its prompt."""
        more, of = MARGIN
        output = -(-output_tokens(pixels or LARGEST, quality) * more // of)
        return self.charge(Usage(text=WRAPPING, image=references * REFERENCE, output=output))

    def estimate(self, pixels: Pixels | None, quality: str | None, references: int) -> int:
        """Micro-dollars that one image is likely to cost."""
        output = output_tokens(pixels or LARGEST, quality)
        return self.charge(Usage(text=USUAL_PROMPT, image=references * REFERENCE, output=output))

    def problem(self, usage: Usage | None, images: int, reserved: int) -> str | None:
        """Why a usage cannot be this task's; None: it is believed. `reserved`: micro-dollars set aside, if any."""
        if usage is None:
            return "the answer has no usage"
        if usage.output < LEAST_OUTPUT * images:
            return f"{usage.output:,} output tokens for {images} images"
        if self.charge(usage) > ABSURD * (reserved or images * self.bound(None, None, 0)):
            return f"{usage.text + usage.image:,} input and {usage.output:,} output tokens for {images} images"
        return None


def output_tokens(pixels: Pixels, quality: str | None) -> int:
    """Output tokens of one image; the dearest quality where none is named."""
    long, short = max(pixels), min(pixels)
    axis = AXIS.get(quality or DEAREST, AXIS[DEAREST])
    other = (2 * axis * short + long) // (2 * long)
    return -(-axis * other * (2_000_000 + long * short) // 4_000_000)


def is_the_most(pixels: Pixels | None, quality: str | None) -> bool:
    """Whether an estimate takes the dearest of what is not known: the pixels, or the quality."""
    return not pixels or quality not in AXIS


def assumed(pixels: Pixels | None, quality: str | None) -> str:
    """What an estimate rests on, in words."""
    size = pixels or LARGEST
    tokens = f"{output_tokens(size, quality):,} output tokens"
    named = quality if quality in AXIS else f"{DEAREST}, the dearest, as no quality is named"
    told = f"{tokens} an image ({size[0]}x{size[1]}, {named})"
    return told if not is_the_most(pixels, quality) else f"{told}: the most that it can have, and usually it has fewer"
