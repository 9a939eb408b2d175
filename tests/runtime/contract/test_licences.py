"""Commercial use is decided by SPDX identifiers, and by the strictest part."""

from __future__ import annotations

import pytest

from numclip.runtime.contract.licences import RESEARCH_ONLY, Licence, Licences, Verdict, combined, commercial_use

MIT = Licence("MIT")


@pytest.mark.parametrize(
    ("text", "allowed", "reason"),
    [
        ("Apache-2.0", True, "permissive"),
        ("apache-2.0", True, "permissive"),
        ("MIT OR GPL-3.0-only", True, "permissive"),
        ("(MIT AND BSD-3-Clause) OR CC-BY-NC-4.0", True, "permissive"),
        ("MIT AND GPL-3.0-only", False, "not known to be permissive: data: MIT AND GPL-3.0-only"),
        ("GPL-3.0 (headers: MIT)", False, "not known to be permissive: data: GPL-3.0 (headers: MIT)"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False, "not known"),
        ("CC-BY-NC-SA-4.0", False, "data: CC-BY-NC-SA-4.0"),
        (f"MIT AND {RESEARCH_ONLY}", False, f"data: MIT AND {RESEARCH_ONLY}"),
        ("UTKFace: non-commercial research use only", False, "data: UTKFace"),
        ("permission granted by a kind MIT professor", False, "not known"),
        ("CC BY 4.0", False, "not known"),
        ("", False, "data: not stated"),
        ("MIT AND", False, "not known"),
    ],
)
def test_the_verdict_compares_identifiers(text: str, allowed: bool, reason: str) -> None:
    """Only an SPDX expression with permissive alternatives throughout allows commercial use; a sentence with such a name does not."""
    got = commercial_use(Licences(MIT, MIT, None, Licence.from_text(text)))
    assert got.allowed is allowed and reason in got.why and got.parts == (() if allowed else ("data",))


def test_the_strictest_part_decides() -> None:
    """One part for research only gives a no that names it, whatever the other parts are; a missing licence gives a no too."""
    research = Licence(RESEARCH_ONLY, "UTKFace: non-commercial research use only")
    assert commercial_use(Licences(MIT, MIT, Licence.from_text("house rules"), research)) == Verdict(
        False,
        ("data",),
        f"data: UTKFace: non-commercial research use only ({RESEARCH_ONLY})",
    )
    assert commercial_use(Licences(code=MIT, weights=MIT)).why == "not known to be permissive: data: not stated"
    assert commercial_use(Licences()).why == "the file states no licences"
    assert commercial_use(Licences(MIT, MIT, None, MIT)).allowed


def test_what_is_made_from_several_has_the_terms_of_all() -> None:
    """The licence of combined parts lists each once, keeps brackets around alternatives, and includes missing ones."""
    got = combined([MIT, Licence("MIT OR Zlib"), MIT, Licence(None, "asks to be cited")])
    assert got == Licence("MIT AND (MIT OR Zlib) AND LicenseRef-unstated", "asks to be cited")
    assert not commercial_use(Licences(MIT, got, None, MIT)).allowed
