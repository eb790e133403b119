"""A 5 by 8 bitmap font, so that pictures need nothing but numpy.

Each character is five columns of eight dots, left to right, the lowest bit on top; the bottom row
is for descenders.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, ADVANCE = 5, 8, 6

_COLUMNS = bytes.fromhex(
    # space ! " # $ % & ' ( ) * + , - . /
    "0000000000 00005F0000 0007000700 147F147F14 242A7F2A12 2313086462 3649562050 0000070000"
    "001C224100 0041221C00 2A1C7F1C2A 08083E0808 00A0600000 0808080808 0060600000 2010080402"
    # 0 to 9, : ; < = > ?
    "3E5149453E 00427F4000 6251494946 2241494936 1814127F10 2745454539 3C4A494930 0171090503"
    "3649494936 064949291E 0036360000 00B6760000 0008142241 1414141414 0041221408 0201590906"
    # @, A to O
    "3E415D594E 7C1211127C 7F49494936 3E41414122 7F4141413E 7F49494941 7F09090901 3E41415172"
    "7F0808087F 00417F4100 2040413F01 7F08142241 7F40404040 7F021C027F 7F0408107F 3E4141413E"
    # P to Z, [ \ ] ^ _
    "7F09090906 3E4151215E 7F09192946 2649494932 01017F0101 3F4040403F 1F2040201F 3F4038403F"
    "6314081463 0304780403 6151494543 007F414100 0204081020 0041417F00 0402010204 4040404040"
    # `, a to o
    "0001020400 2054545478 7F48444438 3844444420 384444487F 3854545418 087E090102 18A4A4A47C"
    "7F08040478 00447D4000 4080847D00 7F10284400 00417F4000 7C04180478 7C08040478 3844444438"
    # p to z, { | } ~
    "FC24242418 18242424FC 7C08040408 4854545420 043F444020 3C4040207C 1C2040201C 3C4030403C"
    "4428102844 1CA0A0A07C 4464544C44 0008364100 00007F0000 0041360800 0201020402".replace(" ", "")
)


def text_width(text: str, scale: int) -> int:
    """Width of a line of text in pixels."""
    return max(len(text) * ADVANCE - 1, 0) * scale


@lru_cache(maxsize=512)
def text_mask(text: str, scale: int) -> NDArray[np.bool_]:
    """Pixels of a line of text, shape ``(8 * scale, text_width)``; other characters show as ?."""
    mask = np.zeros((HEIGHT, len(text) * ADVANCE), np.bool_)
    for position, letter in enumerate(text):
        code = ord(letter) if " " <= letter <= "~" else ord("?")
        columns = _COLUMNS[(code - 32) * WIDTH : (code - 31) * WIDTH]
        for x, bits in enumerate(columns):
            for y in range(HEIGHT):
                mask[y, position * ADVANCE + x] = bits >> y & 1
    return mask[:, :-1].repeat(scale, axis=0).repeat(scale, axis=1)
