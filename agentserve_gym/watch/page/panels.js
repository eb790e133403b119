// States as HTML.

const GIB = 1024 ** 3;
const MOST_CHIPS = 40;
const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function safe(text) {
  return String(text).replace(/[&<>"']/g, (letter) => ESCAPES[letter]);
}

function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const rounded = Math.floor(seconds * unit + 1e-6) / unit;
  const hours = Math.floor(rounded / 3600);
  const minutes = Math.floor((rounded % 3600) / 60);
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function tokens(count) {
  return count < 10000 ? count.toLocaleString("en") : `${(count / 1000).toFixed(1)}k`;
}

function size(bytes) {
  if (bytes >= 0.1 * GIB) return `${(bytes / GIB).toFixed(1)} GiB`;
  return `${(bytes / 1024 ** 2).toFixed(0)} MiB`;
}

function percent(share) {
  return share === null ? "–" : `${(share * 100).toFixed(1)}%`;
}

function chip(now, followed) {
  const { program } = now;
  const title = `${program.id}, turn ${now.turn}: ${now.stage}, ${tokens(now.tokens)} tokens`;
  const mark = program.index === followed ? " followed" : "";
  return `<button class="chip ${now.stage}${mark}" data-program="${program.index}" title="${safe(title)}">${program.index}</button>`;
}

function chips(list, followed) {
  const shown = list.length > MOST_CHIPS ? list.slice(0, MOST_CHIPS - 1) : list;
  const more = list.length - shown.length;
  return shown.map((now) => chip(now, followed)).join("") + (more ? `<span class="more">+${more}</span>` : "");
}

function row(name, list, followed) {
  return `<div class="row"><span class="name">${name}</span><span class="chips">${chips(list, followed)}</span></div>`;
}

// --- figures -------------------------------------------------------------------------------------

function figuresPanel(run, state, atEnd) {
  const { figures } = state;
  const hits = figures.hit === null ? null : figures.hit + figures.loaded;
  const endHits = atEnd.hit === null ? null : atEnd.hit + atEnd.loaded;
  const tiles = [
    ["programs done", `${figures.done}<small> of ${run.programCount}</small>`, `${state.live.length} live`, "sub-agents count as live"],
    ["mean JCT so far", figures.meanJct === null ? "–" : duration(figures.meanJct), atEnd.meanJct === null ? "" : `at the end ${duration(atEnd.meanJct)}`, "of the programs that are done"],
    ["prompt tokens hit", percent(hits), `at the end ${percent(endHits)}`, `in HBM ${percent(figures.hit)}, loaded ${percent(figures.loaded)}`],
    ["turns held", state.held.length, `${state.preemptions} preempted so far`, "at the router now"],
  ];
  return tiles
    .map(([name, value, under, title]) => `<div class="tile" title="${title}"><span>${name}</span><b>${value}</b><i>${under}</i></div>`)
    .join("");
}

function tabPanel(state) {
  const { done, meanJct } = state.figures;
  return `${done} done · JCT ${meanJct === null ? "–" : duration(meanJct)}`;
}

// --- decisions -----------------------------------------------------------------------------------

function named(program, followed) {
  const mark = program.index === followed ? " followed" : "";
  return `<button class="chip ${mark}" data-program="${program.index}">${program.index}</button> <span class="id">${safe(program.id)}</span>`;
}

function decisionPanel(run, state, number, followed) {
  if (number < 0) return `<p class="faint">No decision yet.</p>`;
  const found = decision(run, number);
  const question = found.isRoute
    ? `Where does turn ${found.turn} run? ${tokens(found.tokens)} prompt tokens`
    : `Where does the KV wait? ${tokens(found.tokens)} tokens at instance ${found.instance}`;
  const asked = found.asked ? `, ${safe(found.asked)}` : "";
  const age = state.time - found.time;
  const when = age < 0.0005 ? "now" : `${duration(age)} ago`;
  const details = found.details ? `<span class="${found.valid ? "" : "wrong"}">${safe(found.details)}</span>` : "";
  const rule = found.scores.size ? `${found.isRoute ? "prices" : "values"}: the ${found.leastWins ? "least" : "most"} wins` : "";
  const remarks = [rule, details].filter(Boolean).join(" · ");
  return `<div class="head"><b>${found.isRoute ? "route" : "place"}</b> ${named(found.program, followed)}
    <span class="when">${when} · ${(number + 1).toLocaleString("en")} of ${run.decisions.time.length.toLocaleString("en")}</span></div>
    <p>${question}${asked}.</p>${optionList(run, found)}${placeScores(found)}<p class="faint">${remarks}</p>${recent(run, number)}`;
}

/** The share of the way from the worst score to the best. */
function merit(found, score) {
  const values = [...found.scores.values()];
  const low = Math.min(...values);
  const high = Math.max(...values);
  if (high === low) return 1;
  const share = (score - low) / (high - low);
  return found.leastWins ? 1 - share : share;
}

function scoreBar(found, score) {
  const wide = (merit(found, score) * 100).toFixed(0);
  return `<span class="score"><span style="width:${wide}%"></span></span><em>${score.toLocaleString("en", { maximumSignificantDigits: 4 })}</em>`;
}

function optionList(run, found) {
  const home = found.isRoute ? homeBefore(run, found) : NOBODY;
  const options = found.options.map((option) => {
    const state = option.name === found.chosen ? "chosen" : option.possible ? "" : "closed";
    const score = found.scores.get(option.scoreName);
    const label = found.isRoute && Number(option.name) === home ? `${option.name} home` : option.name;
    const bar = score === undefined ? "" : scoreBar(found, score);
    return `<li class="${state}" title="${safe(option.why)}"><span>${safe(label)}</span>${bar}</li>`;
  });
  return `<ul class="options">${options.join("")}</ul>`;
}

/** Where the program ran before this turn. */
function homeBefore(run, found) {
  const { slices } = found.program;
  let before = lastAt(slices.start, found.time);
  while (before >= 0 && (slices.turn[before] >= found.turn || slices.instance[before] === NOBODY)) before -= 1;
  return before < 0 ? NOBODY : slices.instance[before];
}

function placeScores(found) {
  if (found.isRoute || found.scores.size === 0) return "";
  const order = [...found.scores].sort((one, other) => (other[1] - one[1]) * (found.leastWins ? -1 : 1));
  const items = order.map(([name, score], place) => `<li class="${place ? "" : "best"}"><span>${safe(name)}</span>${scoreBar(found, score)}</li>`);
  return `<ul class="options values">${items.join("")}</ul>`;
}

const RECENT = 5;

function recent(run, number) {
  const { decisions, words } = run;
  const items = [];
  for (let each = number - 1; each >= Math.max(number - RECENT, 0); each -= 1) {
    const answer = safe(words[decisions.chosen[each]]);
    const arrow = decisions.kind[each] === ROUTE ? "→" : "⤓";
    items.push(`<button data-decision="${each}" title="${clock(decisions.time[each], 3)}">${decisions.program[each]} ${arrow} ${answer}</button>`);
  }
  return `<p class="recent"><span class="faint">before</span> ${items.join("")}</p>`;
}

// --- instances and tiers -------------------------------------------------------------------------

function levels(now, captioned) {
  const { pool } = now;
  const part = (name, blocks) => (blocks > 0 ? `<span class="${name}" style="width:${((blocks / pool.capacity) * 100).toFixed(2)}%"></span>` : "");
  const share = (blocks) => `${((blocks / pool.capacity) * 100).toFixed(0)}%`;
  const title = `in use ${share(now.inUse)}, pinned ${share(now.pinned)}, cached ${share(now.cached)}, free ${share(now.free)} of ${size(pool.capacity * pool.blockBytes)}`;
  const words = `${share(now.inUse)} in use${now.pinned ? `, ${share(now.pinned)} pinned` : ""}`;
  return `<div class="hbm" title="${title}"><div class="levels">${part("in-use", now.inUse)}${part("pinned", now.pinned)}${part("cached", now.cached)}</div>${captioned ? `<span>${words}</span>` : ""}</div>`;
}

function linkLine(link, name, followed) {
  const { transfer, waiting } = link;
  let text = `<span class="faint">idle</span>`;
  let title = "";
  if (transfer !== null) {
    const mark = transfer.program === followed ? " followed" : "";
    const whose = transfer.program === NOBODY ? "" : `<button class="chip${mark}" data-program="${transfer.program}">${transfer.program}</button>`;
    text = `${safe(transfer.kind)} ${whose}`;
    title = `${(transfer.share * 100).toFixed(0)}% of ${size(transfer.bytes)}`;
  }
  const queue = waiting ? ` <span class="more">+${waiting}</span>` : "";
  return `<div class="link"><span class="name">${safe(name)}</span><span class="track" title="busy ${percent(link.busy)} of the last second"><span style="width:${(link.busy * 100).toFixed(0)}%"></span></span><span class="what" title="${title}">${text}${queue}</span></div>`;
}

function stepWords(step) {
  if (step === null) return `<span class="faint">idle</span>`;
  const parts = [];
  if (step.prefilling) parts.push(`${step.tokens < 1000 ? step.tokens : `${(step.tokens / 1000).toFixed(1)}k`} prefill`);
  if (step.decoding) parts.push(`${step.decoding} decode`);
  const time = step.stepS === null ? "" : ` · ${Math.max(step.stepS * 1000, 1).toFixed(0)} ms`;
  return `${parts.join(" + ") || "waits for its group"}${time}`;
}

function instancesPanel(state, followed) {
  return state.instances
    .map((instance) => {
      const { note, index } = instance;
      const gpus = note.tensor_parallel > 1 ? `${note.tensor_parallel} × ` : "";
      const prefix = `instance ${index} `;
      const hbm = state.pools.find((now) => now.pool.instance === index);
      const links = state.links.filter((link) => link.name.startsWith(prefix));
      const busy = instance.queue.length ? row("queue", instance.queue, followed) : "";
      return `<article class="card"><div class="head"><b>${index}</b> <span class="id" title="${safe(note.model)}, node ${note.node}">${gpus}${safe(note.accelerator)}</span>
        <span class="when">${stepWords(instance.step)}</span></div>${levels(hbm, true)}
        ${row("batch", instance.batch, followed)}${busy}${instance.load.length ? row("load", instance.load, followed) : ""}
        <div class="links">${links.map((link) => linkLine(link, link.name.slice(prefix.length), followed)).join("")}</div></article>`;
    })
    .join("");
}

function tiersPanel(state, followed) {
  const lower = state.pools.filter((now) => now.pool.instance === NOBODY);
  const links = state.links.filter((link) => !/^instance \d+ /.test(link.name));
  const pools = lower.map((now) => {
    const used = now.pool.capacity - now.free;
    const prefix = `${now.pool.name} `;
    const own = links.filter((link) => link.name.startsWith(prefix));
    return `<article class="card"><div class="head"><b class="id">${safe(now.pool.name)}</b>
      <span class="when">${size(used * now.pool.blockBytes)} of ${size(now.pool.capacity * now.pool.blockBytes)}</span></div>${levels(now, false)}
      <div class="links">${own.map((link) => linkLine(link, link.name.slice(prefix.length), followed)).join("")}</div></article>`;
  });
  const others = links.filter((link) => !lower.some((now) => link.name.startsWith(`${now.pool.name} `)));
  const rest = others.map((link) => linkLine(link, link.name, followed)).join("");
  return pools.join("") + (rest ? `<article class="card"><div class="links wide">${rest}</div></article>` : "");
}

function heldPanel(state, followed) {
  return state.held.length ? chips(state.held, followed) : `<span class="faint">nobody</span>`;
}

// --- programs ------------------------------------------------------------------------------------

function programsPanel(state, followed) {
  const rows = state.live.map((now) => {
    const { program } = now;
    const above = program.parent === NOBODY ? "" : `<span class="faint" title="sub-agent of ${program.parent}">↳</span> `;
    const home = now.home === NOBODY ? "–" : now.home;
    const mark = program.index === followed ? "followed" : "";
    return `<tr class="${mark}" data-program="${program.index}"><td>${chip(now, NOBODY)}</td><td class="id">${above}${safe(program.id)}</td>
      <td>${now.stage}</td><td>${duration(state.time - now.since)}</td><td>${now.turn}</td><td>${tokens(now.tokens)}</td><td>${home}</td></tr>`;
  });
  return `<table><thead><tr><th></th><th>program</th><th>phase</th><th>for</th><th>turn</th><th>context</th><th>home</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}
