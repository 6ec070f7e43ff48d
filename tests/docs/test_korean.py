"""The Korean getting started page follows the English one."""

from __future__ import annotations

import re

from tests.docs.test_readme import blocks, commands, text_of

PAGES = ("docs/getting-started.md", "docs/getting-started.ko.md")


def test_both_languages_show_the_same_commands_but_for_the_language_of_the_report() -> None:
    english, korean = map(commands, PAGES)
    assert len(english) > 10
    assert [" ".join(words).replace(" --lang ko", "") for words in korean] == [" ".join(words) for words in english]


def test_both_languages_show_the_same_code_figures_headings_and_pages() -> None:
    english, korean = PAGES
    assert blocks(english, "python") == blocks(korean, "python")
    shown = [[re.findall(r"\d+\.\d+", line) for line in "".join(blocks(page, "text")).splitlines()] for page in PAGES]
    assert shown[0] == shown[1]
    headings = [
        re.findall(r"^(#+) ", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S), re.M) for page in PAGES
    ]
    assert headings[0] == headings[1]
    linked = [set(re.findall(r"\]\(([\w-]+\.md)\)", text_of(page))) - {"getting-started.md"} for page in PAGES]
    assert linked[0] == linked[1]
