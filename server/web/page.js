// The page: a conversation about a document, each token in the colour of the
// level that first proposed it, with what the server says of its speed.

const $ = (id) => document.getElementById(id);
const says = {
  target: "the model itself", retrieved: "the model over parts of the text",
  draft: "the small model", ngram: "a repetition of the text",
};
let props = null;        // of the server
let messages = [];       // of the conversation, or of the text to go on with
let doc = null;          // {name, text}, until it is sent
let running = null;      // AbortController
let key = sessionStorage.getItem("key") ?? "";

async function call(path, body, signal) {
  for (;;) {
    const headers = { "Content-Type": "application/json" };
    if (key) headers.Authorization = "Bearer " + key;
    const r = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
    if (r.status === 401) {
      const given = prompt("This server wants a key.");
      if (given) {
        key = given;
        sessionStorage.setItem("key", key);
        continue;
      }
    }
    if (!r.ok) {
      const text = await r.text();
      let message = text;
      try { message = JSON.parse(text).error.message; } catch { /* not ours: show it as it is */ }
      throw new Error(message || r.statusText);
    }
    return r;
  }
}

// events yields the objects of a stream.
async function* events(response) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of chunks(response.body)) {
    rest += decoder.decode(bytes, { stream: true });
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const line = rest.slice(0, end);
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

async function* chunks(body) {
  const reader = body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

function turn(kind, text) {
  const div = document.createElement("div");
  div.className = "turn " + kind;
  div.textContent = text;
  $("log").append(div);
  $("log").scrollTop = $("log").scrollHeight;
  return div;
}

// series draws the last values of a measurement.
function series(svg, label, format, top) {
  let values = [];
  return {
    clear() { values = []; svg.replaceChildren(); label.textContent = ""; },
    add(value) {
      values.push(value);
      values = values.slice(-120);
      label.textContent = format(value);
      const highest = top ?? Math.max(...values, 1) * 1.1;
      const x = (i) => values.length === 1 ? 300 : (i * 300) / (values.length - 1);
      const y = (v) => 88 - (v / highest) * 84;
      const points = (values.length === 1 ? [value, value] : values).map((v, i) => `${values.length === 1 ? i * 300 : x(i)},${y(v)}`);
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", "M" + points.join("L"));
      svg.replaceChildren(path);
    },
  };
}
const speed = series($("speedplot"), $("speed"), (v) => v.toFixed(v < 10 ? 1 : 0));
const share = series($("shareplot"), $("share"), (v) => Math.round(100 * v) + "%", 1);

function busy(on) {
  $("send").disabled = on;
  $("stop").hidden = !on;
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function showTimings(t) {
  const body = $("levels").tBodies[0];
  body.replaceChildren();
  for (const l of t.levels ?? []) {
    const row = body.insertRow();
    const part = l.proposed ? Math.round((100 * l.accepted) / l.proposed) + "%" : "";
    for (const cell of [l.name, l.proposed || "", part, l.proposed ? l.mean_acceptance_length.toFixed(2) : ""]) row.insertCell().textContent = cell;
  }
  $("levels").hidden = !t.levels?.length;
  $("totals").replaceChildren();
  for (const [name, value] of [
    ["known before", t.cache_n], ["read", t.prompt_n], ["reading", (t.prompt_ms / 1000).toFixed(2) + " s"],
    ["written", t.predicted_n], ["tokens per second", t.predicted_per_second.toFixed(1)],
  ]) {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = typeof value === "number" ? value.toLocaleString("en") : value;
    $("totals").append(dt, dd);
  }
}

async function send() {
  const text = $("text").value;
  if (running || !text.trim() && !doc) return;
  problem("");
  const content = doc ? doc.text + (text ? "\n\n" + text : "") : text;
  turn("user", (doc ? `[${doc.name}] ` : "") + text);
  const chat = Boolean(props.chat_template);
  const sent = chat ? [...messages, { role: "user", content }] : [...messages, content];
  const request = {
    stream: true, max_tokens: Number($("count").value), temperature: Number($("temp").value),
    return_progress: true, triforce: { origins: true },
    ...(chat ? { messages: sent } : { prompt: sent.join("") }),
  };
  const answer = turn("assistant", "");
  let said = "", tokens = 0, drafted = 0;
  const times = []; // of the newest tokens
  speed.clear();
  share.clear();
  running = new AbortController();
  busy(true);
  try {
    const response = await call(chat ? "v1/chat/completions" : "v1/completions", request, running.signal);
    for await (const chunk of events(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const p = chunk.prompt_progress;
      if (p) {
        const done = p.processed - p.cache, all = p.total - 1 - p.cache; // the last token begins the answer
        $("reading").hidden = done >= all;
        $("progress").value = all ? done / all : 1;
        $("read").textContent = `${done.toLocaleString("en")} of ${all.toLocaleString("en")} tokens`;
      }
      const stuck = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 40;
      for (const t of chunk.triforce?.tokens ?? []) {
        $("reading").hidden = true;
        const span = document.createElement("span");
        span.className = t.origin;
        span.title = says[t.origin] ?? t.origin;
        span.textContent = t.text;
        answer.append(span);
        said += t.text;
        tokens++;
        if (t.origin !== "target") drafted++;
        times.push(performance.now());
        if (times.length > 24) times.shift();
      }
      if (stuck) $("log").scrollTop = $("log").scrollHeight;
      const span = times.at(-1) - times[0];
      if (times.length > 4 && span > 100) {
        speed.add(((times.length - 1) * 1000) / span);
        share.add(drafted / tokens);
      }
      if (chunk.timings) {
        showTimings(chunk.timings);
        if (chunk.timings.predicted_per_second) speed.add(chunk.timings.predicted_per_second);
        if (tokens) share.add(drafted / tokens);
      }
    }
  } catch (e) {
    if (e.name !== "AbortError") problem(e.message);
  }
  if (said) {
    messages = chat ? [...sent, { role: "assistant", content: said }] : [...sent, said];
    doc = null;
    $("document").hidden = true;
    $("text").value = "";
  } else {
    answer.remove();
  }
  $("reading").hidden = true;
  running = null;
  busy(false);
  $("text").focus();
}

async function take(file) {
  if (!file) return;
  const text = await file.text();
  if (text.includes("\u0000")) {
    problem(`${file.name} is not a text`);
    return;
  }
  problem("");
  doc = { name: file.name, text };
  $("docname").textContent = `${file.name}, ${text.length.toLocaleString("en")} characters`;
  $("document").hidden = false;
}

$("ask").addEventListener("submit", (e) => { e.preventDefault(); send(); });
$("text").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); }
});
$("stop").addEventListener("click", () => running?.abort());
$("remove").addEventListener("click", () => { doc = null; $("document").hidden = true; $("file").value = ""; });
$("file").addEventListener("change", () => take($("file").files[0]));
$("fresh").addEventListener("click", () => {
  running?.abort();
  messages = [];
  $("log").replaceChildren();
  problem("");
  hint();
});
let over = 0;
addEventListener("dragenter", (e) => { e.preventDefault(); over++; $("drop").hidden = false; });
addEventListener("dragover", (e) => e.preventDefault());
addEventListener("dragleave", () => { if (--over <= 0) $("drop").hidden = true; });
addEventListener("drop", (e) => {
  e.preventDefault();
  over = 0;
  $("drop").hidden = true;
  take(e.dataTransfer.files[0]);
});

function hint() {
  turn("hint", props.chat_template
    ? "Drop a text anywhere on this page, and ask about it. It is read once."
    : "This model carries no chat template: it goes on with your text. Drop a text anywhere on this page to begin with.");
}

try {
  props = await (await call("props")).json();
  $("model").textContent = `${props.model_alias}, context ${props.default_generation_settings.n_ctx.toLocaleString("en")}`;
  $("text").placeholder = props.chat_template ? "Ask something" : "Once upon a time";
  for (const level of props.levels) {
    const li = document.createElement("li");
    li.className = level;
    li.textContent = says[level] ?? level;
    $("legend").append(li);
  }
  hint();
} catch (e) {
  problem(e.message);
}
