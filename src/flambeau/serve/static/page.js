// The page: which model, what is asked, what came back.

import { insight, make, number, percent, samplesShown, shown } from "./answers.js";
import { card, confusion } from "./card.js";

const at = (id) => document.getElementById(id);
const KEY = "flambeau-token";
const POLL = 800;

const state = { models: [], model: null, asked: 0, form: null };

/** What the server says to a request; an Error with its words where it refuses. */
async function call(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer. It may have been stopped.");
  }
  if (response.ok) return response;
  if (response.status === 401) showDoor(token !== null);
  let told = null;
  try { told = await response.json(); } catch { /* no JSON, so no words of the server's */ }
  throw new Error(words(told) || `The server refuses: ${response.status} ${response.statusText}.`);
}

const json = async (path, options) => (await call(path, options)).json();
const path = (operation) => `/page/models/${encodeURIComponent(state.model.name)}/${operation}`;
const api = (operation) => `/v2/models/${encodeURIComponent(state.model.name)}/${operation}`;

/** An error of the server's in words: of one bad input that one's. */
function words(told) {
  if (!told) return "";
  const details = told.details || {};
  const one = (details.rows && Object.values(details.rows)[0]) || details;
  if (!one.problem) return told.error || "";
  const more = [["Expected", one.expected], ["Received", one.received], ["What to do", one.remedy]];
  return [one.problem, ...more.filter(([, text]) => text).map(([name, text]) => `${name}: ${text}`)].join("\n");
}

function say(text, kind = "") {
  const status = at("status");
  status.className = kind;
  status.textContent = text;
}

// The door: asked for once, where the server wants a token.

function showDoor(wrong) {
  sessionStorage.removeItem(KEY);
  at("main").hidden = true;
  at("door").hidden = false;
  at("door-problem").textContent = wrong ? "That is not the token." : "";
  at("token").focus();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("token").value);
  at("token").value = "";
  at("door").hidden = true;
  begin();
});

// Asking.

/** Runs the newest request; what comes back of an older one is left aside. */
async function answering(request, show) {
  const mine = ++state.asked;
  const answer = at("answer");
  answer.setAttribute("aria-busy", "true");
  try {
    const found = await request();
    if (mine === state.asked) show(found);
  } catch (error) {
    if (mine !== state.asked) return;
    at("result").replaceChildren();
    at("looks").hidden = true;
    say(error.message, "bad");
  } finally {
    if (mine === state.asked) {
      answer.removeAttribute("aria-busy");
      answer.scrollIntoView({ block: "nearest" });
    }
  }
}

function body(input) {
  if (input instanceof Blob) return { method: "POST", body: input, headers: { "Content-Type": "application/octet-stream" } };
  const value = state.model.form in FORMS ? (state.model.form === "node" ? Number(input) : input) : JSON.parse(input);
  return { method: "POST", body: JSON.stringify({ inputs: [value] }), headers: { "Content-Type": "application/json" } };
}

async function ask(input, truth = null) {
  let asked;
  try {
    asked = body(input);
  } catch (error) {
    at("result").replaceChildren();
    say(`This is not JSON. ${error.message}`, "bad");
    return;
  }
  at("looks").hidden = true;
  const mine = state.asked + 1;
  await answering(() => json(api("predict"), asked), (found) => {
    const { headline, spoken, parts } = shown(found.predictions[0], state.model, String(input));
    say(headline, spoken ? "spoken" : "");
    if (truth !== null) parts.unshift(verdict(found.predictions[0], truth));
    at("result").replaceChildren(...parts);
  });
  if (state.model.shows.looks && mine === state.asked && !at("status").classList.contains("bad")) await look(asked, mine);
}

function verdict(answer, truth) {
  const judged = "classes" in answer && !("labels" in answer);
  const said = judged ? (answer.class === truth ? " – the answer is right." : " – the answer is wrong.") : "";
  return make("p", { class: "truth" }, `In the test set: `, make("strong", {}, truth), said);
}

async function look(asked, mine) {
  let found;
  try {
    found = (await json(path("look"), asked)).insights;
  } catch (error) {
    found = [];
    if (mine === state.asked) at("result").append(make("p", { class: "quiet" }, `How the model took it cannot be shown. ${error.message}`));
  }
  if (mine !== state.asked || !found.length) return;
  at("insights").replaceChildren(...found.map(insight));
  at("looks").hidden = false;
}

// Forms, one for each form of input; a task of somebody's own may have one that is not known here.

function template(id) {
  return at(id).content.cloneNode(true);
}

const FORMS = { picture: filed, sound: filed, text: typed, query: typed, node: typed };

function showForm(model) {
  const place = at("forms");
  const known = model.form in FORMS;
  place.replaceChildren(template(`form-${known ? model.form : "json"}`));
  state.form = (known ? FORMS[model.form] : typed)(place.querySelector("form"), model);
  if (!model.shows.samples) return;
  const text = state.form.prompt !== undefined;
  const made = template(text ? "form-sample-text" : "form-sample-picture");
  const fields = made.querySelector("fieldset");
  if (text) {
    place.append(made);
    const button = place.querySelector("form button");
    button.textContent = "Most probable continuation";
    button.classList.remove("main");
  } else {
    fields.classList.add("first");
    place.prepend(made);
    place.querySelector("form").prepend(make("h3", {}, "Or ask about a picture"));
  }
  sampling(fields);
}

function filed(form, model) {
  const [preview, name] = [form.querySelector(".preview"), form.querySelector(".name")];
  let address = null;
  function take(file, truth = null) {
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    preview.hidden = false;
    preview.src = address;
    preview.alt = "The picture that is asked about";
    name.textContent = file.name && truth === null ? file.name : "";
    for (const hint of form.querySelectorAll(".hint")) hint.classList.add("quiet");
    return ask(file, truth);
  }
  preview.addEventListener("error", () => { preview.hidden = true; });
  preview.addEventListener("load", () => preview.classList.toggle("small", preview.naturalWidth < 140));
  for (const input of form.querySelectorAll(".file")) {
    input.addEventListener("change", () => {
      if (input.files.length) choose(take, input.files[0]);
      input.value = "";
    });
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  return { take, file: true, kind: model.form };
}

function typed(form, model) {
  const field = form.querySelector("#text");
  const one = (model.form === "text" ? model.asks.replace(/s$/, "") : model.asks).replace("numbers of nodes", "number of a node") || "input";
  form.querySelector(".asks").textContent = `${one[0].toUpperCase()}${one.slice(1)}`;
  const submit = () => choose((text) => ask(text), field.value);
  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
  });
  return {
    take: (text, truth = null) => { field.value = text; return ask(text, truth); },
    prompt: () => field.value,
    file: false,
  };
}

/** What the person gives by hand: no example is chosen any longer. */
function choose(take, input) {
  press(null);
  return take(input);
}

function sampling(fields) {
  const button = fields.querySelector(".sample");
  const read = () => Object.fromEntries([...fields.querySelectorAll("input")].map((field) => [field.name, Number(field.value)]));
  button.addEventListener("click", () => {
    if (![...fields.querySelectorAll("input")].every((field) => field.reportValidity())) return;
    const prompt = state.form.prompt ? state.form.prompt() : "";
    const wish = { ...read(), ...(state.form.prompt ? { prompt } : {}) };
    at("looks").hidden = true;
    press(null);
    button.disabled = true;
    answering(
      () => json(api("sample"), { method: "POST", body: JSON.stringify(wish), headers: { "Content-Type": "application/json" } }),
      (found) => {
        say(`Made with seed ${wish.seed}`);
        at("result").replaceChildren(...samplesShown(found.samples, prompt));
        fields.querySelector("[name=seed]").value = wish.seed + 1;
      },
    ).finally(() => { button.disabled = false; });
  });
}

// Pasting and dropping, anywhere on the page.

function given(transfer) {
  const file = transfer && [...transfer.files][0];
  if (!file || !state.form || !state.form.file) return null;
  return file;
}

document.addEventListener("paste", (event) => {
  const file = given(event.clipboardData);
  if (file) { event.preventDefault(); choose(state.form.take, file); }
});
document.addEventListener("dragover", (event) => {
  if (!state.form || !state.form.file) return;
  event.preventDefault();
  document.body.classList.add("dragged");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragged");
});
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dragged");
  const file = given(event.dataTransfer);
  if (state.form && state.form.file) event.preventDefault();
  if (file) choose(state.form.take, file);
});

// Examples and the card.

/** What is being read on the server, once it is ready or known to be absent. */
async function settled(operation, model) {
  for (;;) {
    const found = await json(path(operation));
    if (found.state !== "loading" || state.model !== model) return found;
    await new Promise((done) => setTimeout(done, POLL));
  }
}

function press(button) {
  for (const each of at("examples-list").querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button));
}

async function showExamples(model) {
  const [list, note] = [at("examples-list"), at("examples-note")];
  list.replaceChildren();
  at("examples").hidden = !model.exported && !model.shows.examples;
  note.textContent = "Opening the data …";
  if (at("examples").hidden) return;
  if (model.exported) {
    note.textContent = "An exported file knows nothing of its data, nor how it looks at inputs: serve the run itself to see both.";
    return;
  }
  let found;
  try {
    found = await settled("examples", model);
  } catch (error) {
    found = { state: "absent", reason: error.message };
  }
  if (state.model !== model) return;
  if (found.state === "absent") {
    note.textContent = found.reason;
    return;
  }
  const pictured = found.examples.some((example) => example.picture);
  list.className = pictured ? "" : model.form === "text" ? "texts" : "short";
  note.textContent = pictured ? "Choose one to ask about it. Below each stands what it really is." : "Choose one to ask about it.";
  list.replaceChildren(...found.examples.map((example, number) => make("li", {}, exampleButton(example, number, model))));
}

function exampleButton(example, number, model) {
  const inside = example.picture
    ? [make("img", { src: example.picture, alt: "" }), make("span", {}, example.truth)]
    : model.form === "text"
      ? [make("span", {}, shortened(example.text, 160)), make("span", { class: "small" }, shortened(example.truth, 160))]
      : [make("span", {}, `${example.text === undefined ? `Recording ${number + 1}` : example.text}: ${example.truth}`)];
  const button = make("button", { type: "button", class: example.picture ? "pictured" : null, "aria-pressed": "false" }, ...inside);
  button.addEventListener("click", async () => {
    press(button);
    try {
      const input = example.text === undefined ? await (await call(path(`examples/${number}`))).blob() : example.text;
      await state.form.take(input, example.truth);
    } catch (error) {
      say(error.message, "bad");
    }
  });
  return button;
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

async function showConfusion(place, model) {
  try {
    const found = await settled("confusion", model);
    place.replaceChildren(found.state === "ready" ? confusion(found) : make("p", { class: "quiet" }, found.reason));
  } catch (error) {
    place.replaceChildren(make("p", { class: "bad" }, error.message));
  }
}

const NAMES = { bleu: "Test BLEU", frechet: "Fréchet distance" };

function lede(model) {
  const scores = model.card.scores;
  const main = model.select || "accuracy", score = scores[`test/${main}`];
  if (typeof score !== "number") return model.about;
  return `${model.about} ${NAMES[main] || `Test ${main.replaceAll("_", " ")}`} ${main === "accuracy" ? percent(score) : number(score)}.`.trim();
}

function show(model) {
  state.model = model;
  state.asked += 1;
  at("answer").removeAttribute("aria-busy");
  document.title = `${model.name} · Flambeau`;
  at("title").textContent = model.name;
  at("lede").textContent = lede(model);
  at("looks").hidden = true;
  at("result").replaceChildren();
  say("Nothing has been asked yet.", "idle");
  showForm(model);
  showExamples(model);
  at("facts").replaceChildren(...card(model, (place) => showConfusion(place, model)));
}

function chosen() {
  const wanted = decodeURIComponent(location.hash.slice(1));
  return state.models.find((model) => model.name === wanted) || state.models[0];
}

async function begin() {
  let found;
  try {
    found = await json("/page/models");
  } catch (error) {
    if (at("door").hidden) {
      at("main").hidden = false;
      say(error.message, "bad");
    }
    return;
  }
  state.models = found.models;
  // A link shows no token.
  at("api").hidden = sessionStorage.getItem(KEY) !== null;
  at("main").hidden = false;
  at("chooser").hidden = found.models.length < 2;
  at("model").replaceChildren(...found.models.map((model) => make("option", { value: model.name }, model.name)));
  const model = chosen();
  at("model").value = model.name;
  show(model);
}

// The address says which model it is, so skipping must not change it.
at("skip").addEventListener("click", (event) => { event.preventDefault(); at("ask").focus(); });
at("model").addEventListener("change", () => { location.hash = encodeURIComponent(at("model").value); });
window.addEventListener("hashchange", () => {
  if (!state.models.length) return;
  const model = chosen();
  at("model").value = model.name;
  if (model !== state.model) show(model);
});

begin();
