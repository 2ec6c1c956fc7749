from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import evaluation_run
import numpy as np
import pytest
from evaluation_run import MARKUP, ONE, RATE, SDR, SILENT, SONG, TWO, UNHEARD
from player_song import Opener
from scipy import stats

from vocalsep.evaluation.page import write_page
from vocalsep.evaluation.songs import Song

if TYPE_CHECKING:
    from playwright.sync_api import Page

READY = "window.evaluation?.deck.view?.overviews.length === 6"
MOVING = r"""Trial \d+|value="\d+"|style="[^"]*"|<(span id="position"|p id="status" role="status")>[^<]*"""
MINUS = "\N{MINUS SIGN}"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def songs() -> dict[str, Song]:
    return evaluation_run.make_songs()


@pytest.fixture(scope="module")
def page_file(songs: dict[str, Song], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    write_page(folder / "page.html", evaluation_run.make_run(folder / "passages", songs))
    return folder / "page.html"


@pytest.fixture
def page(open_page: Opener, page_file: Path) -> Page:
    opened: Page = open_page(page_file, ready=READY)
    return opened


def read_names(page: Page) -> list[str]:
    return page.locator("#table tbody th").all_inner_texts()


def read_volumes(page: Page, player: str = "deck") -> list[float]:
    return [round(volume, 3) for volume in page.evaluate(f"evaluation.{player}.engine.volumes")]


def find_heard(page: Page, player: str = "deck") -> list[int]:
    return [index for index, volume in enumerate(read_volumes(page, player)) if volume > 0]


def open_song(page: Page, name: str) -> None:
    page.locator("#table tbody").get_by_role("button", name=name, exact=True).click()
    page.wait_for_function(
        "(name) => document.getElementById('song-name').textContent === name"
        " && evaluation.deck.view.overviews.length === 6",
        arg=name,
    )


def download(page: Page) -> Any:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the answers (JSON)").click()
    return json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))


# scores


def test_a_column_sorts_the_songs_and_a_second_click_turns_them_round(page: Page) -> None:
    assert read_names(page) == [SONG, MARKUP, SILENT, UNHEARD]
    head = page.get_by_role("columnheader", name=ONE)
    head.get_by_role("button").click()
    assert read_names(page) == [MARKUP, SONG, UNHEARD, SILENT]
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").press("Enter")
    assert read_names(page) == [UNHEARD, SONG, MARKUP, SILENT]  # songs without a score stay at the end
    assert head.get_attribute("aria-sort") == "ascending"
    page.get_by_role("columnheader", name="Song").get_by_role("button").click()
    assert read_names(page) == [MARKUP, SONG, UNHEARD, SILENT]
    assert page.locator("[aria-sort]").count() == 1
    page.keyboard.press("j")  # the next song that can be heard, as the table is sorted
    page.wait_for_function("() => evaluation.deck.index === 2")


def test_the_table_has_floor_ceiling_median_and_mean(page: Page) -> None:
    row = page.locator("#table tbody tr").first.locator("td").all_inner_texts()
    assert row[0] == "0:24"
    assert row[2:] == [f"{MINUS}5.00", "4.00", "6.00", "9.00", "10.00"]
    median, mean = (page.locator("#table tfoot tr").nth(index).locator("td").all_inner_texts() for index in (0, 1))
    assert (median[3], mean[3]) == ("4.00", "3.33")
    groups = page.locator("#table .groups th").all_inner_texts()
    assert groups == ["Floor", "Compared", "Ceiling"]
    assert "4 songs" in page.locator("caption").inner_text()


def test_another_score_and_target_change_table_and_plot(page: Page) -> None:
    label = page.get_by_role("img", name=re.compile("Distribution over 4 songs.*narrow: 4.00"))
    label.wait_for()
    assert page.locator("#distribution .strip").nth(0).locator("circle").count() == 2  # of 4: none, and beyond 60 dB
    assert "beyond 60 dB: 1 of mixture" in page.locator("figcaption").inner_text()
    page.get_by_label("Target").select_option("accompaniment")
    page.get_by_label("Score", exact=True).select_option(index=6)
    assert "SI-SDR" in page.locator("caption").inner_text()
    assert "accompaniment" in page.locator("caption").inner_text()


# listening


def test_a_source_is_chosen_while_it_plays_without_starting_again(page: Page) -> None:
    page.keyboard.press("Space")
    page.wait_for_function("() => evaluation.deck.engine.playing && evaluation.deck.engine.session.spans.length")
    page.evaluate("window.session = evaluation.deck.engine.session")
    for key, expected in [("1", 0), ("2", 1), ("3", 2), ("e", 3), ("4", 4), ("e", 5), ("e", 4)]:
        page.keyboard.press(key)
        assert find_heard(page) == [expected]
    assert page.evaluate("evaluation.deck.engine.session === session")
    page.get_by_role("button", name=f"Error of {ONE}").click()
    assert find_heard(page) == [3]
    assert page.get_by_role("button", name=f"Error of {ONE}").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    assert not page.evaluate("evaluation.deck.engine.playing")


def test_switching_sources_keeps_the_sample_and_leaves_no_gap(page: Page, songs: dict[str, Song]) -> None:
    """Play without a sound device: the reference, and after one second the second estimate, half as loud."""
    script = """async () => {
        const context = new OfflineAudioContext(2, 3 * 48000, 48000);
        const { song } = evaluation.deck;
        const engine = new Engine(song, (name) => loadEmbedded(0, name), () => context);
        engine.setLoop(0, 10);
        hearSource(engine, 1, 0);
        engine.seek(4);
        engine.play().catch(() => null);
        while (engine.session.filling) await new Promise((resolve) => setTimeout(resolve, 20));
        const first = Math.round(engine.session.spans[0].when * 48000);
        engine.pause = () => null;
        clearInterval(engine.timer);
        context.suspend(1).then(() => { hearSource(engine, 4, 0); context.resume(); });
        const sound = (await context.startRendering()).getChannelData(0).slice(first, first + 2 * 48000);
        return btoa(Array.from(new Uint8Array(sound.buffer), (byte) => String.fromCharCode(byte)).join(""));
    }"""
    sound = np.frombuffer(base64.b64decode(page.evaluate(script)), np.float32)
    expected = songs[SONG].vocals[0, 4 * RATE : 6 * RATE]
    for part, gain in ((slice(2_000, 40_000), 1.0), (slice(56_000, 94_000), 0.5)):
        spectrum = np.fft.rfft(sound[part], 2**17) * np.fft.rfft(expected[part], 2**17).conj()
        correlation = np.fft.irfft(spectrum)
        assert correlation.argmax() == 0
        assert np.square(sound[part] - gain * expected[part]).sum() < 0.05 * np.square(gain * expected[part]).sum()
    levels = np.sqrt(np.square(sound[2_000:94_000].reshape(-1, 460)).mean(axis=1))
    assert levels.min() > 0.5 * 0.2 / math.sqrt(2) * 0.7


def test_passages_loop_and_show_where_they_are(page: Page) -> None:
    tabs = page.get_by_role("group", name="Passages").get_by_role("button")
    assert [text.split("\n")[0] for text in tabs.all_inner_texts()] == ["Worst", "Median", "Best"]
    assert page.evaluate("evaluation.deck.engine.loop") == {"from": 0, "to": 480_000}
    tabs.nth(2).click()
    assert page.evaluate("evaluation.deck.engine.loop") == {"from": 960_000, "to": 1_440_000}
    assert page.locator("#position").inner_text() == "0:14.0"
    page.keyboard.press("ArrowRight")
    assert page.locator("#position").inner_text() == "0:15.0"
    page.keyboard.press("p")
    assert tabs.nth(0).get_attribute("aria-pressed") == "true"
    page.locator("#plot .band").nth(2).click(position={"x": 30, "y": 100})
    assert page.evaluate("evaluation.deck.passage") == 2
    page.get_by_role("img", name=re.compile(r"SDR of each second. Medians: narrow .* dB; .*wide.* dB")).wait_for()


def test_levels_are_matched_and_the_gain_is_shown(page: Page) -> None:
    matched = page.evaluate("evaluation.deck.song.sources.map(({ gains }) => gains[0])")
    page.keyboard.press("4")
    assert read_volumes(page)[4] == pytest.approx(10 ** (matched[4] / 20), abs=0.001)
    lane = page.locator(".lane").nth(3)
    shown = lane.locator(".numbers").inner_text()
    assert f"Gain {'+' if matched[4] > 0 else ''}{matched[4]:.1f} dB".replace("-", MINUS) in shown
    assert re.search(r"SDR \d\.\d\d dB", shown)
    page.get_by_role("button", name="Level-matched").click()
    assert read_volumes(page)[4] == 1
    assert "Gain 0.0 dB" in lane.locator(".numbers").inner_text()
    assert page.locator("#levels").inner_text() == "Levels are not matched."


def test_songs_without_a_voice_or_without_passages_say_so(page: Page) -> None:
    open_song(page, SILENT)
    assert "there is no SDR" in page.locator("#levels").inner_text()
    assert "SDR \N{EN DASH} dB" in page.locator(".lane").nth(2).locator(".numbers").inner_text()
    assert page.locator("#table tbody").get_by_role("button", name=UNHEARD).count() == 0
    assert page.locator("#table tbody tr[aria-current=true] th").inner_text() == SILENT


def test_names_are_text(page: Page) -> None:
    open_song(page, MARKUP)
    assert page.get_by_role("heading", name=MARKUP).count() == 1
    assert page.locator("img, h1 b, h2 b, th b, th i").count() == 0
    assert page.get_by_role("button", name="Whole song").get_attribute("aria-pressed") == "true"


# blind tests


def open_abx(page: Page) -> None:
    page.get_by_role("button", name="Set up an ABX test").click()
    page.get_by_label("Source A").select_option(ONE)
    page.get_by_label("Source B").select_option(TWO)
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Trial 1 of 16").wait_for()


def test_abx_with_right_answers_by_ear(page: Page) -> None:
    """The answers come from what is heard, as a listener's would. The document never tells."""
    open_abx(page)
    documents = set()
    for trial in range(1, 17):
        assert page.locator("#trial-number").inner_text() == f"Trial {trial} of 16"
        page.keyboard.press("a")
        first = find_heard(page)
        page.keyboard.press("x")
        text = page.evaluate("document.documentElement.outerHTML.replace(/<div hidden id.*?<.div>/g, '')")
        documents.add(re.sub(MOVING, "", text))
        page.keyboard.press("ArrowLeft" if find_heard(page) == first else "ArrowRight")
    assert len(documents) == 1
    assert page.locator("#result-figure").inner_text() == "16 of 16 right"
    report = download(page)
    assert (report["right"], report["count"]) == (16, 16)
    assert report["p"] == pytest.approx(2**-16)
    assert (report["a"], report["b"], report["song"]) == (ONE, TWO, SONG)
    assert report["passage"]["kind"] == "worst"
    assert {trial["x"] for trial in report["trials"]} == {"A", "B"}
    assert all(trial["right"] and trial["switches"] >= 2 for trial in report["trials"])
    assert not page.evaluate("evaluation.deck.engine.playing")


def test_abx_with_the_same_answer_each_time(page: Page) -> None:
    open_abx(page)
    for _ in range(16):
        page.get_by_role("button", name="X is A").click()
    report = download(page)
    right = sum(trial["x"] == "A" for trial in report["trials"])
    assert report["right"] == right
    assert page.locator("#result-figure").inner_text() == f"{right} of 16 right"
    assert report["p"] == pytest.approx(sum(math.comb(16, k) for k in range(right, 17)) / 2**16)
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.keyboard.press("2")
    assert find_heard(page) == [1]  # the page works on


def test_a_test_needs_two_sources_and_can_be_stopped(page: Page) -> None:
    page.get_by_role("button", name="Set up an ABX test").click()
    page.get_by_label("Source B").select_option(ONE)
    page.get_by_role("button", name="Start").click()
    assert page.get_by_role("alert").inner_text() == "Choose two different sources."
    page.get_by_label("Source B").select_option("Reference")
    page.get_by_role("button", name="Start").click()
    page.wait_for_function("() => evaluation.deck.engine.playing")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.wait_for_function("() => !evaluation.deck.engine.playing")  # a dialog says that it is closed a moment later


def test_a_preference_test_counts_what_is_preferred(page: Page) -> None:
    """A listener who always prefers the second model, and once hears no difference."""
    page.get_by_role("button", name="Set up a preference test").click()
    page.get_by_label("Trials").fill("12")
    page.get_by_role("button", name="Start").click()
    for trial in range(12):
        page.get_by_text(f"Trial {trial + 1} of 12").wait_for()
        page.wait_for_function("() => evaluation.preference.engine?.playing && evaluation.preference.switches >= 0")
        page.keyboard.press("1")
        stem = page.evaluate(
            "(({ engine }) => engine.stems[engine.volumes.findIndex((each) => each > 0)])(evaluation.preference)"
        )
        assert stem in ("estimate-1", "estimate-2")
        answer = "No difference" if trial == 0 else f"{1 if stem == 'estimate-2' else 2} sounds better"
        page.get_by_role("button", name=answer).click()
    report = download(page)
    assert (report["a"], report["b"]) == (ONE, TWO)
    assert (report["preferred_a"], report["preferred_b"], report["no_difference"]) == (0, 11, 1)
    assert report["share_a"] == 0
    assert report["interval"] == pytest.approx(list(stats.binomtest(0, 11).proportion_ci()), abs=1e-9)
    assert report["p"] == pytest.approx(2 / 2**11)
    assert {trial["song"] for trial in report["trials"]} == {SONG, MARKUP, SILENT}
    assert len({tuple(trial["order"]) for trial in report["trials"]}) == 2
    assert [trial["preferred"] for trial in report["trials"]] == [None] + [TWO] * 11
    assert page.locator("#result-figure").inner_text() == "0 : 11"


def test_the_statistics_are_exact(page: Page) -> None:
    for right, count in [(0, 16), (8, 16), (12, 16), (16, 16), (61, 100), (500, 1_000)]:
        expected = stats.binomtest(right, count, alternative="greater").pvalue
        assert page.evaluate(f"binomialTail({right}, {count})") == pytest.approx(expected, rel=1e-9)
        interval = list(stats.binomtest(right, count).proportion_ci(method="exact"))
        assert page.evaluate(f"findInterval({right}, {count})") == pytest.approx(interval, abs=1e-8)
        both = stats.binomtest(right, count).pvalue
        assert page.evaluate(f"signTest({right}, {count - right})") == pytest.approx(both, rel=1e-9)
    counts = page.evaluate("Array.from({ length: 3000 }, () => drawNumber(3)).reduce((c, n) => (c[n]++, c), [0, 0, 0])")
    assert stats.chisquare(counts).pvalue > 1e-6
    assert page.evaluate("[1, 3, 5].map((share) => findQuantile([0, 1, 2, 3, 4, 10], share / 5))") == [1, 3, 10]


# everyone


def test_every_control_has_a_name_and_colours_follow_the_system(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file, ready=READY, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 20)"
    controls = re.findall(r"- (button|slider|combobox)(.*)", page.locator("body").aria_snapshot())
    assert len(controls) > 25
    assert all(re.match(r' ".+"', rest) for _, rest in controls), controls
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keyboard").is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 244, 240)"


def test_a_phone_shows_everything_in_its_width(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file, ready=READY, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#table tbody").get_by_role("button", name=MARKUP).tap()
    page.wait_for_function("() => evaluation.deck.index === 1 && evaluation.deck.view.overviews.length === 6")
    page.get_by_role("button", name="Play", exact=True).tap()
    page.wait_for_function("() => evaluation.deck.engine.playing && evaluation.deck.engine.position > 0.1")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert set(SDR) == set(read_names(page))
