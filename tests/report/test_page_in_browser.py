"""The page in a real browser: what people click, drag and press."""

import shutil

import pytest

from objguided_d2.report.comparison import Options, compare
from tests.report.conftest import DATASET

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
ui = pytest.importorskip("selenium.webdriver.support.ui")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="Chromium and its driver are not installed")


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-sync",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture(params=[(1400, 900), (390, 800)], ids=["wide", "narrow"])
def page(request, driver, cells, tmp_path):
    path = compare(DATASET, cells[2], tmp_path / "out", Options(resamples=20, with_speed=False))
    driver.set_window_size(*request.param)
    driver.get(path.as_uri())
    driver.execute_script("document.getElementById('viewer').scrollIntoView()")
    wait_for(driver, "document.querySelectorAll('#cards article canvas').length > 1")
    yield driver
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def wait_for(driver, condition, seconds=10):
    ui.WebDriverWait(driver, seconds).until(lambda d: d.execute_script(f"return {condition}"))


def titles(driver):
    return driver.execute_script("return [...document.querySelectorAll('#cards article h3')].map((e) => e.textContent)")


def captions(driver):
    script = (
        "return [...document.querySelector('#cards article').querySelectorAll('figcaption')].map((e) => e.textContent)"
    )
    return driver.execute_script(script)


def set_value(driver, element_id, value, event):
    driver.execute_script(
        f"const e = document.getElementById('{element_id}'); e.value = '{value}'; e.dispatchEvent(new Event('{event}'))"
    )


def test_sorting(page):
    set_value(page, "sort", "name:", "change")
    assert titles(page) == [f"image{k}.png" for k in range(7)]
    set_value(page, "sort", "objects:", "change")
    assert titles(page)[-1] == "image6.png"  # the empty one
    set_value(page, "sort", "worst:2", "change")
    assert titles(page)[-1] == "image6.png"  # nothing there, nothing found
    assert sorted(titles(page)) == [f"image{k}.png" for k in range(7)]


def test_threshold_hides_predictions(page):
    set_value(page, "sort", "name:", "change")
    wait_for(page, "document.querySelector('#cards article canvas') !== null")
    assert "correct" in captions(page)[1] and "missed" not in captions(page)[1]
    set_value(page, "threshold", 1, "input")
    assert "missed" in captions(page)[1] and "correct" not in captions(page)[1]
    assert page.execute_script("return document.getElementById('threshold-value').textContent") == "1.00"


def test_toggles(page):
    page.execute_script("document.querySelector('input[data-run=\"1\"]').click()")
    assert not any(caption.startswith("shifted") for caption in captions(page))
    assert any(caption.startswith("perfect") for caption in captions(page))
    pixels = (
        "(() => { const c = document.querySelectorAll('#cards article canvas')[1]; "
        "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join() })()"
    )
    blank = "/^[0,]*$/"
    wait_for(page, f"!{blank}.test({pixels})")
    page.execute_script(f"window.before = {pixels}")
    page.execute_script("document.querySelectorAll('input[data-kind]').forEach((e) => e.click())")
    wait_for(page, f"!{blank}.test({pixels}) && {pixels} !== window.before")


def test_zoom_and_arrow_keys(page):
    set_value(page, "sort", "name:", "change")
    page.execute_script("document.querySelector('#cards article').click()")
    title = "return document.querySelector('#zoom h3').textContent"
    assert page.execute_script("return document.getElementById('zoom').open")
    assert page.execute_script(title) == "image0.png (1 of 7)"
    body = page.find_element("tag name", "body")
    body.send_keys(webdriver.Keys.ARROW_RIGHT)
    assert page.execute_script(title) == "image1.png (2 of 7)"
    body.send_keys(webdriver.Keys.ARROW_LEFT)
    body.send_keys(webdriver.Keys.ARROW_LEFT)
    assert page.execute_script(title) == "image0.png (1 of 7)"
    for button, shown in (("next", "image1.png (2 of 7)"), ("previous", "image0.png (1 of 7)")):
        page.find_element("id", button).click()
        assert page.execute_script(title) == shown
    page.execute_script("document.getElementById('close').click()")
    assert not page.execute_script("return document.getElementById('zoom').open")


def test_nothing_is_wider_than_the_screen(page):
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_arrow_keys_walk_after_a_checkbox_but_move_the_slider(page):
    current = (
        "return [...document.querySelectorAll('#cards article')].findIndex((e) => e.classList.contains('current'))"
    )
    box = page.find_element("css selector", "input[data-run]")
    box.click()
    box.send_keys(webdriver.Keys.ARROW_DOWN)
    assert page.execute_script(current) == 1
    slider = page.find_element("id", "threshold")
    slider.send_keys(webdriver.Keys.ARROW_RIGHT)
    assert page.execute_script(current) == 1 and float(slider.get_attribute("value")) == 0.31
