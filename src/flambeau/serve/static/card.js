// What there is to say about a model: scores, confusion, data, recipe.

import { make, number } from "./answers.js";

const SPLITS = ["test", "val", "baseline"];

function facts(entries) {
  const told = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { class: "facts" }, ...told.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function scores(found) {
  const splits = SPLITS.filter((split) => Object.keys(found).some((name) => name.startsWith(`${split}/`)));
  const names = [...new Set(Object.keys(found).map((name) => name.replace(/^[^/]*\//, "")))];
  if (!names.length) return make("p", { class: "quiet" }, "The file holds no scores.");
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Scores" }, make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "score"),
      ...splits.map((split) => make("th", { scope: "col", class: "number" }, split === "val" ? "validation" : split)))),
    make("tbody", {}, ...names.map((name) => make("tr", {}, make("th", { scope: "row" }, name.replaceAll("_", " ")),
      ...splits.map((split) => make("td", { class: "number" }, number(found[`${split}/${name}`]))))))));
}

function plain(value) {
  if (value === null || typeof value !== "object") return typeof value === "number" ? number(value) : String(value);
  if (Array.isArray(value)) return value.map(plain).join(", ");
  return Object.entries(value).map(([name, inner]) => `${name} ${plain(inner)}`).join(", ");
}

const known = (values) => facts(Object.entries(values).map(([name, value]) => [name.replaceAll("_", " "), plain(value)]));

function folded(title, content, open = false) {
  return make("details", { open }, make("summary", {}, title), content);
}

/** A table of true classes (rows) by answers (columns). */
export function confusion({ classes, matrix, rows, of }) {
  const body = matrix.map((row, y) => {
    const total = row.reduce((sum, value) => sum + value, 0) || 1;
    return make("tr", {}, make("th", { scope: "row" }, classes[y]), ...row.map((count) => {
      const cell = make("td", {}, count ? String(count) : "·");
      if (count) cell.style.backgroundColor = `rgba(var(--heat), ${0.06 + 0.4 * count / total})`;
      return cell;
    }));
  });
  const head = make("tr", {}, make("td"), ...classes.map((name) => make("th", { scope: "col" }, make("span", {}, name))));
  return make("div", {},
    make("p", { class: "quiet" }, `A row for each true class, a column for each answer; ${number(rows)} of ${number(of)} test examples, counted here.`),
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Confusion" }, make("table", { class: "confusion" }, make("thead", {}, head), make("tbody", {}, ...body))));
}

/** The card, with a place for the confusion matrix that calls for it when it is opened. */
export function card(model, askConfusion) {
  const about = model.card;
  const parts = [
    facts([
      ["task", model.task],
      ["network", about.architecture],
      ["parameters", about.parameters ? number(about.parameters) : null],
      ["classes", model.classes.length ? `${model.classes.length}: ${model.classes.slice(0, 30).join(", ")}${model.classes.length > 30 ? ", …" : ""}` : null],
      ["version", model.version],
      ["answers by", about.platform],
    ]),
    folded("Scores", scores(about.scores), true),
  ];
  if (model.shows.confusion) {
    const place = make("div", {}, make("p", { class: "quiet" }, "Reading the test set …"));
    const section = folded("Confusion", place);
    section.addEventListener("toggle", () => section.open && askConfusion(place), { once: true });
    parts.push(section);
  }
  if (Object.keys(about.data).length) parts.push(folded("Data", known(about.data)));
  if (about.recipe) parts.push(folded("Recipe", make("pre", { tabindex: "0" }, about.recipe)));
  if (Object.keys(about.provenance).length) parts.push(folded("Provenance", known(about.provenance)));
  return parts;
}
