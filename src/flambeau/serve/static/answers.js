// Answers as things to look at. What an answer is, its own fields say.

const SHOWN = 10, FIELDS = 6000;

/** An element with attributes and children; text is always text. */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const percent = (value) => `${(100 * value).toFixed(1)} %`;

export function number(value) {
  if (typeof value !== "number") return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : String(+value.toPrecision(4));
}

/** Bars, largest first; of many only the first, until all are asked for. */
function bars(entries, { mark = null, said = () => false, text = percent } = {}) {
  const list = make("ol", { class: "bars" });
  for (const [place, { name, value }] of entries.entries()) {
    const fill = make("span");
    fill.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
    const track = make("span", { class: "track", "aria-hidden": "true" }, fill);
    if (mark !== null) {
      const line = make("i");
      line.style.left = `calc(${100 * mark}% - 1px)`;
      track.append(line);
    }
    const label = make("span", { class: said(name) ? "label said" : "label" }, name);
    list.append(make("li", { hidden: place >= SHOWN }, label, track, make("span", { class: "value" }, text(value))));
  }
  if (entries.length <= SHOWN) return [list];
  const more = make("button", { type: "button" }, `Show all ${entries.length}`);
  more.addEventListener("click", () => {
    for (const item of list.children) item.hidden = false;
    more.remove();
  });
  return [list, more];
}

const named = (classes) => classes.map((entry) => ({ name: entry.class, value: entry.probability }));

function sides(...pairs) {
  return make("dl", { class: "sides" }, ...pairs.map(([name, text]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, text))));
}

function table(headings, rows) {
  return make("table", {},
    make("thead", {}, make("tr", {}, ...headings.map((text, place) => make("th", { scope: "col", class: place ? "number" : null }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text, place) =>
      make(place ? "td" : "th", place ? { class: "number" } : { scope: "row" }, text))))));
}

/** The headline of an answer, whether it is only to be read out, and what stands below it. */
export function shown(answer, model, input) {
  const parts = [];
  let headline = "", spoken = false;
  if ("labels" in answer) {
    headline = answer.labels.join(", ") || "None of the labels";
    parts.push(...bars(named(answer.classes), { mark: model.least, said: (name) => answer.labels.includes(name) }),
      make("p", { class: "quiet" }, `Each label stands by itself, and is said from ${percent(model.least)} on (the line).`));
  } else if ("classes" in answer) {
    headline = `${answer.class}, ${percent(answer.probability)}`;
    parts.push(...bars(named(answer.classes), { said: (name) => name === answer.class }));
  } else if ("values" in answer) {
    const values = Object.entries(answer.values);
    headline = values.length === 1 ? `${values[0][0]}: ${number(values[0][1])}` : `${values.length} numbers`;
    parts.push(table(["", "value"], values.map(([name, value]) => [name, number(value)])));
  } else if ("translation" in answer) {
    headline = answer.translation || "(nothing)";
    spoken = true;
    parts.push(sides(["Sentence", input], ["Translation", headline]),
      make("p", { class: "quiet" }, `Score ${number(answer.score)}: its log-probability over the length penalty.`));
    if (!answer.complete) parts.push(make("p", { class: "note" }, "Cut off: it did not end by itself."));
  } else if ("continuation" in answer) {
    headline = "The most probable continuation";
    parts.push(make("p", { class: "made" }, make("b", {}, input), answer.continuation));
    if (answer.perplexity) parts.push(make("p", { class: "quiet" }, `Perplexity of your text: ${number(answer.perplexity)} (${number(answer.tokens)} tokens).`));
  } else if ("neighbours" in answer) {
    headline = answer.neighbours.length ? `Nearest: ${answer.neighbours[0].word}` : "No neighbours";
    parts.push(...bars(answer.neighbours.map((entry) => ({ name: entry.word, value: entry.cosine })), { text: (value) => value.toFixed(3) }),
      make("p", { class: "quiet" }, "The cosine of the angle between the vectors; 1 is the same direction."));
  } else if ("verdict" in answer) {
    headline = answer.verdict === "real" ? "The discriminator takes it for real" : "The discriminator takes it for made";
    parts.push(...bars([{ name: "real", value: answer.probability }, { name: "made", value: 1 - answer.probability }]));
  } else {
    parts.push(make("pre", {}, JSON.stringify(answer, null, 2)));
  }
  if (answer.doubt) parts.unshift(make("p", { class: "note" }, `Doubtful: ${answer.doubt}`));
  return { headline, spoken, parts };
}

/** New examples. */
export function samplesShown(samples, prompt) {
  return samples.map((sample) => {
    if (sample.png) return make("img", { class: "grid", alt: "A grid of new pictures", src: `data:image/png;base64,${sample.png}` });
    const begun = prompt && sample.text.startsWith(prompt);
    return make("p", { class: "made" }, ...(begun ? [make("b", {}, prompt), sample.text.slice(prompt.length)] : [sample.text]));
  });
}

/** Something to see of how an input was taken. */
export function insight(found) {
  const caption = make("figcaption", {}, found.about);
  if (found.picture) {
    const image = make("img", { src: found.picture, alt: found.about });
    image.addEventListener("load", () => image.classList.toggle("large", image.naturalWidth > 200));
    return make("figure", {}, image, caption);
  }
  if (found.rows.length * found.columns.length > FIELDS)
    return make("p", { class: "quiet" }, `${found.columns.length} by ${found.rows.length} pieces are too many to draw where attention went.`);
  return make("figure", { class: "wide" }, make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Attention" }, attention(found)), caption);
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function attention({ rows, columns, weights }) {
  const cell = 26, letter = 7.6;
  const longest = (texts) => Math.max(...texts.map((text) => [...text].length));
  const left = longest(rows) * letter + 12, top = longest(columns) * letter * 0.75 + 26;
  const width = left + columns.length * cell + longest(columns) * letter * 0.7 + 8, height = top + rows.length * cell + 4;
  const made = svg("svg", { class: "attention", width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Attention of ${rows.length} pieces to ${columns.length} pieces` });
  for (const [x, text] of columns.entries()) {
    const at = `${left + (x + 0.5) * cell},${top - 6}`;
    made.append(svg("text", { transform: `translate(${at}) rotate(-45)` }, text));
  }
  for (const [y, text] of rows.entries()) {
    made.append(svg("text", { x: left - 6, y: top + (y + 0.68) * cell, "text-anchor": "end" }, text));
    for (const [x, piece] of columns.entries()) {
      const title = svg("title", {}, `${text} to ${piece}: ${percent(weights[y][x])}`);
      made.append(svg("rect", { x: left + x * cell, y: top + y * cell, width: cell, height: cell, "fill-opacity": weights[y][x] }, title));
    }
  }
  return made;
}
