//! The page in headless Chromium, where there is one: no error, sorting, filtering and keeping figures work, nothing sticks out.

use std::process::Command;

use super::report;

/// Runs before the page's script: keeps what goes wrong.
const WATCH: &str = "<script>const wrong = []; addEventListener('error', (e) => wrong.push(e.message)); \
    addEventListener('unhandledrejection', (e) => wrong.push(String(e.reason))); console.error = (m) => wrong.push(String(m));</script>";

/// Runs after it: uses the controls and leaves what came of it in the document.
const PROBE: &str = r##"<script>
(async () => {
  const table = document.querySelector("#queries table");
  const button = table.tHead.rows[0].cells[3].querySelector("button");
  const differences = () => Array.from(table.tBodies[0].rows, (row) => Number(row.cells[3].dataset.value));
  const found = {};
  button.click();
  found.rising = differences().every((value, i, all) => i === 0 || all[i - 1] <= value);
  button.click();
  found.falling = differences().every((value, i, all) => i === 0 || all[i - 1] >= value);
  found.sorted = table.tHead.rows[0].cells[3].getAttribute("aria-sort");
  const input = document.querySelector("#queries input[type=search]");
  input.value = "number 17?";
  input.dispatchEvent(new Event("input"));
  found.shown = Array.from(table.tBodies[0].rows).filter((row) => !row.hidden).length;
  found.buttons = document.querySelectorAll(".keep button").length;
  const svg = document.querySelector("#orders svg");
  found.colour = standalone(svg).text.includes("var(") ? "unresolved" : "resolved";
  const plot = document.querySelector("#trade-off svg");
  found.light = standalone(plot).text.includes("rgb(37, 99, 201)") && !document.documentElement.classList.contains("light");
  found.dark = getComputedStyle(document.body).backgroundColor === "rgb(20, 22, 26)";
  const region = document.querySelector("#queries .scroll");
  region.focus();
  found.reached = document.activeElement === region && region.getAttribute("aria-label").length > 0;
  found.png = (await bitmap(svg)).size > 500;
  found.fits = document.documentElement.scrollWidth <= innerWidth;
  found.wrong = wrong;
  document.body.dataset.probe = JSON.stringify(found);
})();
</script>"##;

fn browser() -> Option<&'static str> {
    let there = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there)
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else {
        eprintln!("skipped: no Chromium on this machine");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = report().render().unwrap();
    let page = page.replacen("<head>", &format!("<head>{WATCH}"), 1).replacen("</body>", &format!("{PROBE}</body>"), 1);
    let file = folder.path().join("report.html");
    std::fs::write(&file, page).unwrap();
    for (size, dark) in [("1280,900", false), ("500,900", true), ("360,800", false)] {
        let output = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--virtual-time-budget=5000", "--dump-dom"])
            .arg(format!("--window-size={size}"))
            .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(format!("file://{}", file.display()))
            .output()
            .unwrap();
        if !output.status.success() && output.stdout.is_empty() {
            eprintln!("skipped: {browser} does not start here: {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let document = String::from_utf8_lossy(&output.stdout);
        let found = document.split_once("data-probe=\"").and_then(|(_, rest)| rest.split_once('"'));
        let found =
            found.unwrap_or_else(|| panic!("no answer from {browser}: {document:.300}")).0.replace("&quot;", "\"");
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let wanted = serde_json::json!({
            "rising": true, "falling": true, "sorted": "descending", "shown": 1, "buttons": 3 * (2 + 2 * 4 + 2), "colour": "resolved",
            "png": true, "fits": true, "wrong": [], "light": true, "dark": dark, "reached": true,
        });
        assert_eq!(found, wanted, "{size}");
    }
}
