from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from player_song import RATE, SECONDS, VOICE, Opener

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def read_position(page: Page) -> float:
    return float(page.evaluate("player.engine.position"))


def read_volumes(page: Page) -> list[float]:
    return [round(volume, 3) for volume in page.evaluate("player.engine.volumes")]


def wait_until_playing(page: Page) -> None:
    page.wait_for_function(
        "() => player.engine.playing && player.engine.session.spans.length && player.context.currentTime"
    )


# sound


def render(page: Page, volumes: list[float], start: float, seconds: float, loop: tuple[float, float] | None) -> Any:
    """Play without a sound device, and return ``(channel, time)`` from the first sample of the song on."""
    script = """async ([volumes, start, seconds, loop]) => {
        const context = new OfflineAudioContext(2, (seconds + 1) * 48000, 48000);
        const engine = new Engine(player.song, (name) => player.source.load("0", name), () => context);
        volumes.forEach((volume, index) => engine.setVolume(index, volume));
        engine.seek(start);
        if (loop) engine.setLoop(...loop);
        engine.play().catch(() => null); // a context that renders cannot be resumed
        while (engine.session.filling) await new Promise((resolve) => setTimeout(resolve, 20));
        const first = Math.round(engine.session.spans[0].when * 48000);
        engine.pause = () => null;
        clearInterval(engine.timer);
        const sound = await context.startRendering();
        const bytes = [0, 1].flatMap((channel) => {
            const samples = sound.getChannelData(channel).slice(first, first + seconds * 48000);
            return Array.from(new Uint8Array(samples.buffer), (byte) => String.fromCharCode(byte)).join("");
        });
        return bytes.map(btoa);
    }"""
    encoded = page.evaluate(script, [volumes, start, seconds, loop])
    return np.stack([np.frombuffer(base64.b64decode(each), np.float32) for each in encoded])


def find_lag(sound: np.ndarray, expected: np.ndarray) -> int:
    """Return by how many samples a sound is late: where the cross-correlation is largest."""
    size = 2 * len(expected)
    product = np.fft.rfft(sound, size) * np.fft.rfft(expected, size).conj()
    correlation = np.fft.irfft(product, size)
    lag = int(correlation.argmax())
    return lag if lag < size // 2 else lag - size


def measure_snr_db(sound: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(sound - expected).sum()))


@pytest.mark.parametrize("stem", ["vocals", "accompaniment"])
def test_each_stem_starts_at_the_sample_asked_for_and_has_no_seam(
    open_page: Opener, page_file: Path, stems: dict[str, np.ndarray], stem: str
) -> None:
    page = open_page(page_file)
    volumes = [float(name == stem) for name in stems]
    sound = render(page, volumes, 9.0, 3, None)  # over the seam at 10 s
    expected = stems[stem][:, 9 * RATE : 12 * RATE]
    assert find_lag(sound[0], expected[0]) == 0
    assert measure_snr_db(sound[:, 480:], expected[:, 480:]) > 15
    seam = slice(RATE - 480, RATE + 960)
    assert measure_snr_db(sound[:, seam], expected[:, seam]) > 15


def test_both_stems_at_full_gain_are_the_mixture(
    open_page: Opener, page_file: Path, stems: dict[str, np.ndarray]
) -> None:
    sound = render(open_page(page_file), [1.0, 1.0], 0.0, 2, None)
    mixture = sum(stems.values())[:, : 2 * RATE]
    assert find_lag(sound[1], mixture[1]) == 0
    assert measure_snr_db(sound, mixture) > 15


def test_a_loop_repeats_to_the_sample(open_page: Opener, page_file: Path, stems: dict[str, np.ndarray]) -> None:
    sound = render(open_page(page_file), [1.0, 0.0], 9.75, 2, (9.75, 10.25))
    once = stems["vocals"][:, round(9.75 * RATE) : round(10.25 * RATE)]
    for repeat in range(4):
        heard = sound[:, repeat * RATE // 2 : (repeat + 1) * RATE // 2]
        assert find_lag(heard[0], once[0]) == 0
        assert measure_snr_db(heard[:, 480:], once[:, 480:]) > 15


def test_space_plays_and_pauses_in_one_running_context(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.keyboard.press("Space")
    wait_until_playing(page)
    assert page.evaluate("player.context.state") == "running"
    assert page.get_by_role("button", name="Pause").is_visible()
    page.wait_for_function("() => player.engine.position > 0.3")
    page.keyboard.press("Space")
    page.wait_for_function("() => player.context.state === 'suspended'")
    at = read_position(page)
    page.wait_for_timeout(300)
    assert read_position(page) == at > 0.3


def test_the_playhead_keeps_time_with_the_context(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.keyboard.press("Space")
    wait_until_playing(page)
    both = "[player.engine.locate(player.context.currentTime) / 48000, player.context.currentTime]"
    page.wait_for_function("() => player.engine.position > 0.1")
    first = page.evaluate(both)
    page.wait_for_timeout(700)
    second = page.evaluate(both)
    assert second[0] - first[0] == pytest.approx(second[1] - first[1], abs=1e-4)
    assert second[0] > first[0] + 0.3


def test_the_song_ends_at_its_end_and_starts_again(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.evaluate(f"player.seek({SECONDS - 0.4})")
    page.keyboard.press("Space")
    page.wait_for_function(f"() => !player.engine.playing && player.engine.position === {SECONDS}")
    page.keyboard.press("Space")
    wait_until_playing(page)
    assert read_position(page) < 5


def test_a_song_that_cannot_be_decoded_is_an_error_in_words(open_page: Opener, page_file: Path, tmp_path: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    broken = re.sub(r'(id="0/vocals/0.opus">)[^<]+', r"\g<1>AAAA", text)
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    page = open_page(tmp_path / "broken.html")
    page.keyboard.press("Space")
    page.wait_for_function("() => !player.engine.playing")
    assert "cannot play the song" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="other").click()
    page.wait_for_function("() => player.opening === '1' && player.view.overviews.length === 2")
    page.keyboard.press("Space")
    wait_until_playing(page)


# mixing


def test_keys_and_buttons_choose_what_is_heard(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    assert read_volumes(page) == [1, 1]
    page.keyboard.press("2")
    assert read_volumes(page) == [1, 0]
    page.keyboard.press("3")
    assert read_volumes(page) == [0, 1]
    page.keyboard.press("1")
    assert read_volumes(page) == [1, 1]
    page.get_by_role("button", name="Vocals", exact=True).click()
    assert read_volumes(page) == [1, 0]
    assert page.get_by_role("button", name="Vocals", exact=True).get_attribute("aria-pressed") == "true"


def test_the_fader_goes_from_vocals_to_accompaniment(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    fader = page.get_by_role("slider", name="Fader")
    fader.fill("-0.5")
    assert read_volumes(page) == [1, 0.707]
    assert fader.get_attribute("aria-valuetext") == "accompaniment -3.0 dB"
    fader.fill("1")
    assert read_volumes(page) == [0, 1]


def test_solo_mute_and_volume_of_each_stem(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.get_by_role("button", name="Solo accompaniment").click()
    assert read_volumes(page) == [0, 1]
    page.get_by_role("button", name="Solo accompaniment").click()
    page.get_by_role("button", name="Mute accompaniment").click()
    assert read_volumes(page) == [1, 0]
    page.get_by_role("slider", name="Volume of vocals").fill("0.5")
    assert read_volumes(page) == [0.25, 0]
    assert "silent" in (page.locator(".lane").nth(1).get_attribute("class") or "")


# moving


def test_a_click_on_a_lane_seeks(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    track = page.locator(".lane .track").first
    box = track.bounding_box()
    assert box is not None
    track.click(position={"x": box["width"] * 0.75, "y": 30})
    assert read_position(page) == pytest.approx(0.75 * SECONDS, abs=0.1)
    assert page.locator("#position").inner_text() == "0:18.0"


def test_seeking_while_playing_goes_on_from_there(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.keyboard.press("Space")
    wait_until_playing(page)
    overview = page.get_by_role("slider", name="Position")
    box = overview.bounding_box()
    assert box is not None
    overview.click(position={"x": box["width"] / 2, "y": 20})
    page.wait_for_function(f"() => player.engine.position > {SECONDS / 2 + 0.2}")
    assert page.evaluate("player.engine.playing")
    assert read_position(page) < SECONDS / 2 + 6


def test_arrows_home_and_end_seek(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    for key, expected in [("ArrowRight", 5), ("Shift+ArrowRight", 6), ("ArrowLeft", 1), ("End", SECONDS), ("Home", 0)]:
        page.keyboard.press(key)
        assert read_position(page) == pytest.approx(expected)


def test_n_and_p_and_the_bars_go_to_the_voice(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    for key, expected in [("n", VOICE[0]), ("n", VOICE[1]), ("n", VOICE[2]), ("p", VOICE[1])]:
        page.keyboard.press(key)
        assert read_position(page) == pytest.approx(expected[0])
    page.get_by_role("button", name="Voice from 0:16 to 0:20").click()
    assert read_position(page) == pytest.approx(15.5)
    page.get_by_role("button", name="Next voice").click()
    assert page.get_by_role("status").inner_text() == "Nobody sings after this."


def test_l_sets_the_start_and_the_end_of_a_loop_and_clears_it(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.evaluate("player.seek(9.7)")
    page.keyboard.press("l")
    page.evaluate("player.seek(10.3)")
    page.keyboard.press("l")
    assert page.evaluate("[player.engine.loop.from, player.engine.loop.to]") == [465_600, 494_400]
    page.keyboard.press("Space")
    wait_until_playing(page)
    for _ in range(6):
        page.wait_for_timeout(200)
        assert 9.7 <= read_position(page) <= 10.3
    assert page.evaluate("player.context.currentTime") > 1
    page.keyboard.press("l")
    page.wait_for_function("() => player.engine.position > 10.6")


def test_a_drag_across_a_lane_loops_and_the_handles_change_the_loop(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    box = page.locator(".lane .track").first.bounding_box()
    assert box is not None
    x, y, width = box["x"], box["y"] + 20, box["width"]
    page.mouse.move(x + width / 2, y)
    page.mouse.down()
    page.mouse.move(x + width / 4, y, steps=3)
    page.mouse.up()
    assert page.evaluate("[player.loop.from, player.loop.to]") == pytest.approx([6, 12], abs=0.1)
    end = page.get_by_role("slider", name="End of the loop")
    end.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("player.loop.to") == pytest.approx(12.1, abs=0.1)
    handle = page.get_by_role("slider", name="Start of the loop").bounding_box()
    assert handle is not None
    page.mouse.move(handle["x"] + 6, handle["y"] + 6)
    page.mouse.down()
    page.mouse.move(x + width / 3, handle["y"] + 6, steps=3)
    page.mouse.up()
    assert page.evaluate("player.loop.from") == pytest.approx(8, abs=0.2)


def test_zoom_shows_less_and_fit_shows_all(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.evaluate("player.seek(12)")
    shown = "[player.view.from, player.view.to]"
    page.get_by_role("button", name="Zoom in").click()
    assert page.evaluate(shown) == pytest.approx([6, 18])
    page.keyboard.press("ArrowUp")
    assert page.evaluate(shown) == pytest.approx([9, 15])
    page.evaluate("player.view.zoom(0.1, 12)")
    page.wait_for_function("() => [...player.view.pictures.values()].filter((picture) => picture.levels).length >= 2")
    page.get_by_role("button", name="Show the whole song").click()
    assert page.evaluate(shown) == pytest.approx([0, SECONDS])
    page.locator(".lane .track").first.hover(position={"x": 0, "y": 20})
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.wait_for_function("() => player.view.to < 15")
    assert page.evaluate("player.view.from") == pytest.approx(0, abs=0.1)


# pictures

MEASURE = """([selector, share]) => {
    // The part of a column of a canvas that is painted.
    const canvas = document.querySelector(selector);
    const { data } = canvas.getContext("2d").getImageData(Math.floor(canvas.width * share), 0, 1, canvas.height);
    return data.filter((value, place) => place % 4 === 3 && value > 0).length / canvas.height;
}"""


def test_the_waveforms_span_the_song(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.wait_for_timeout(300)  # frames are drawn
    for share in (0.02, 0.4, 0.7, 0.98):
        assert page.evaluate(MEASURE, [".overview canvas", share]) > 0.8
    page.evaluate("player.view.show(9.5, 10.5)")  # over a seam, in the pictures of two pieces
    page.wait_for_function("() => player.view.fetch(0, 0) && player.view.fetch(0, 1) && !player.view.frame")
    heights = [page.evaluate(MEASURE, [".lane canvas", share]) for share in (0.1, 0.3, 0.49, 0.51, 0.7, 0.9)]
    assert min(heights) > 0.9  # the waveform and the spectrogram below it


def test_the_spectrogram_shows_a_rising_tone_in_the_right_rows(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    rows = page.evaluate(
        """() => {
            const { levels, columns } = player.view.overviews[0];
            const loudest = (column) => {
                const values = Array.from({ length: 96 }, (_, row) => levels[row * columns + column]);
                return values.indexOf(Math.max(...values));
            };
            return [0.1, 0.5, 0.9].map((share) => loudest(Math.floor(share * columns)));
        }"""
    )
    hertz = 300 + 2 * 25.0 * SECONDS * np.array([0.1, 0.5, 0.9])
    expected = np.log(hertz / 40) / np.log(16_000 / 40) * 96
    assert rows == pytest.approx(expected, abs=1.5)


# the rest of the page


def test_a_list_changes_the_song_and_shows_names_as_text(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.keyboard.press("Space")
    wait_until_playing(page)
    page.get_by_role("navigation", name="Songs").get_by_role("button", name="other").click()
    page.wait_for_function("() => player.opening === '1' && !player.engine.playing")
    assert page.get_by_role("heading", level=1).inner_text() == "<b>other</b> & more.flac"
    page.keyboard.press("Space")
    wait_until_playing(page)
    assert page.evaluate("player.context.state") == "running"


def test_a_song_that_closes_before_its_next_frame_is_drawn_no_more(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.wait_for_function("() => player.view?.frame === 0")
    page.evaluate("""async () => {
        const { view } = player;
        view.redraw();
        player.close();
        view.draw = () => { window.drawn = true; };
        for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    }""")
    assert page.evaluate("window.drawn") is None


def test_the_command_can_be_copied(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "vocalsep extract 'my song.mp3' --page"
    assert page.get_by_text("uhnet-hd, vocalsep 0.1.0").is_visible()


def test_dark_and_light_follow_the_system_and_the_button(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file, color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.get_by_role("button", name="Dark or light").click()
    light = page.evaluate(colour)
    assert (dark, light) == ("rgb(18, 18, 20)", "rgb(246, 244, 240)")


def test_a_question_mark_lists_the_keys(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keyboard").is_visible()
    page.keyboard.press("Space")  # on the button that closes it
    page.get_by_role("dialog").wait_for(state="hidden")
    assert not page.evaluate("player.engine.playing")


def test_everything_that_can_be_used_has_a_name(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file)
    page.keyboard.press("l")
    page.evaluate("player.setLoop(1, 3)")
    snapshot = page.locator("body").aria_snapshot()
    controls = re.findall(r"- (button|slider)(.*)", snapshot)
    assert len(controls) > 20
    assert all(re.match(r' ".+"', rest) for _, rest in controls), snapshot


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(open_page: Opener, page_file: Path, scheme: str) -> None:
    page = open_page(page_file, color_scheme=scheme)
    colours = page.evaluate("['--ink', '--muted', '--card', '--paper'].map(readColour)")

    def measure_luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    ink, muted, card, paper = map(measure_luminance, colours)
    for text in (ink, muted):
        for background in (card, paper):
            low, high = sorted([text, background])
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_phone_shows_everything_in_its_width_and_a_tap_seeks(open_page: Opener, page_file: Path) -> None:
    page = open_page(page_file, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    track = page.locator(".lane .track").first
    box = track.bounding_box()
    assert box is not None
    track.tap(position={"x": box["width"] / 2, "y": 20})
    assert read_position(page) == pytest.approx(SECONDS / 2, abs=0.2)
    small = page.evaluate(
        """[...document.querySelectorAll(".transport button, .toggle")].filter((button) => {
            const { width, height } = button.getBoundingClientRect();
            return Math.min(width, height) < 24; // WCAG 2.2, target size
        }).length"""
    )
    assert small == 0


def test_a_song_of_60_minutes_plays_anywhere_and_decodes_only_what_it_plays(
    open_page: Opener, long_page_file: Path
) -> None:
    page = open_page(long_page_file)
    page.wait_for_function("() => document.readyState === 'complete'")
    assert page.locator("#length").inner_text() == "1:00:00"
    page.evaluate("player.seek(3500)")
    page.keyboard.press("Space")
    page.wait_for_function("() => player.engine.position > 3500.3")
    for seconds in (10, 500, 1500, 2500, 3000, 3300):
        page.evaluate(f"player.seek({seconds})")
        page.wait_for_function(f"() => player.engine.position > {seconds + 0.2}")
    assert page.evaluate("player.engine.pieces.size") <= 16
    page.evaluate("player.view.show(1800, 1810)")
    page.wait_for_function("() => player.view.fetch(0, 180)")
    page.keyboard.press("n")
    assert read_position(page) % 10 == pytest.approx(0, abs=0.5)


def test_a_page_cannot_reach_any_host(browser: Any, page_file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    requests: list[str] = []
    page.goto(page_file.as_uri())
    page.on("request", lambda request: requests.append(request.url))
    script = "(url) => fetch(url, { mode: 'no-cors' }).then(() => 'reached', () => 'blocked')"
    for url in ("http://127.0.0.1:9/", "https://vocalsep.invalid/"):
        assert page.evaluate(script, url) == "blocked"
    context.close()
    assert requests == []


def test_the_page_works_from_a_folder_with_any_name(open_page: Opener, page_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a b #1 %41 é"
    folder.mkdir()
    page = open_page(Path(shutil.copy(page_file, folder / "p?.html")))
    page.keyboard.press("Space")
    wait_until_playing(page)
