// The page in a real browser: drop a text, ask, see tokens in colours.
//
//	node page.mjs URL CHROMIUM FOLDER-FOR-SCREENSHOTS
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const puppeteer = createRequire(import.meta.url)("puppeteer-core");
const [url, executablePath, folder] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  for (const scheme of ["light", "dark"]) {
    const page = await browser.newPage();
    const problems = [];
    page.on("pageerror", (e) => problems.push(e.message));
    page.on("console", (m) => m.type() === "error" && problems.push(m.text()));
    page.on("request", (r) => r.url().startsWith(url) || r.url().startsWith("data:") || problems.push("asks for " + r.url()));
    await page.setViewport({ width: 1200, height: 800 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.goto(url, { waitUntil: "networkidle0" });
    await page.waitForSelector(".hint");
    const text = "Once upon a time there was a cat who lived by the sea. She went out every day to look at the boats. ".repeat(60);
    await page.evaluate((text) => {
      const data = new DataTransfer();
      data.items.add(new File([text], "cat.txt", { type: "text/plain" }));
      for (const type of ["dragenter", "drop"]) {
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
      }
    }, text);
    await page.waitForSelector("#document:not([hidden])");
    await page.$eval("#temp", (e) => (e.value = "0"));
    await page.$eval("#count", (e) => (e.value = "120"));
    await page.type("#text", "One morning the cat");
    await page.evaluate(() => {
      window.steps = [];
      const look = () => document.querySelector("#reading").hidden || window.steps.push(document.querySelector("#progress").value);
      new MutationObserver(look).observe(document.querySelector("#reading"), { subtree: true, childList: true, attributes: true });
    });
    await page.click("#send");
    await page.waitForFunction(() => document.querySelectorAll(".assistant span").length > 20, { timeout: 120000 });
    await page.screenshot({ path: join(folder, `${scheme}-running.png`) });
    await page.waitForSelector("#levels:not([hidden])", { timeout: 120000 });
    const seen = await page.evaluate(() => ({
      origins: [...new Set([...document.querySelectorAll(".assistant span")].map((s) => s.className))],
      colors: new Set([...document.querySelectorAll(".assistant span")].map((s) => getComputedStyle(s).color)).size,
      plots: document.querySelectorAll("svg path").length,
      steps: window.steps,
      problem: document.querySelector("#problem").textContent,
    }));
    assert.ok(seen.origins.length > 1 && seen.colors === seen.origins.length, JSON.stringify(seen));
    if (scheme === "light") assert.ok(seen.steps.some((v) => v > 0 && v < 1), "progress " + seen.steps); // read once
    assert.equal(seen.plots, 2);
    assert.equal(seen.problem, "");
    assert.deepEqual(problems, []);
    await page.screenshot({ path: join(folder, `${scheme}.png`) });
    await page.close();
  }
} finally {
  await browser.close();
}
console.log("ok");
