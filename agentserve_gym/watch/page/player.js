// The page: one clock for all runs, and what moves it.

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200];
const FIRST_SPEED = 10;
const LEAP_S = 10;
const FRAME_MS = 50;
const STILL_PIXELS = 8;
const ADDRESS_MS = 300;
const SLIDER_STEPS = 10000;
const PANELS = ["tab", "figures", "decision", "held", "instances", "tiers", "programs"];
const LEGEND = [["decode"], ["prefill"], ["load"], ["queue"], ["held"], ["gap"], ["in-use", "HBM in use"], ["pinned"], ["cached"]];

class Player {
  constructor(contents) {
    this.contents = contents;
    this.time = 0;
    this.speed = FIRST_SPEED;
    this.playing = false;
    this.followed = NOBODY;
    this.picked = null;
    this.atEnd = contents.runs.map((run) => figuresAt(run.figures, contents.end));
    this.find = (id) => document.getElementById(id);
    this.drawn = new Map();
    this.build();
    this.listen();
    this.readAddress();
    this.drawStrip();
    this.show();
  }

  build() {
    const { contents } = this;
    this.find("title").textContent = `${contents.scenario}, seed ${contents.seed}`;
    this.find("about").textContent = contents.description;
    this.find("about").title = contents.description;
    this.find("speed").innerHTML = SPEEDS.map((speed) => `<option value="${speed}">${speed}×</option>`).join("");
    this.find("legend").innerHTML = LEGEND.map(([name, text]) => `<span><i class="${name}"></i>${text || name}</span>`).join("");
    this.find("tabs").innerHTML = contents.runs
      .map((run, index) => `<button role="tab" data-tab="${index}"><b>${safe(run.policy)}</b><small data-panel="tab-${index}"></small></button>`)
      .join("");
    this.find("runs").innerHTML = contents.runs
      .map((run, index) => `<section class="run" aria-label="${safe(run.policy)}"><h2>${safe(run.policy)}</h2>
        <div class="figures" data-panel="figures-${index}"></div>
        <div class="sides"><div><h3>Decision</h3><div class="card decision" data-panel="decision-${index}"></div>
        <div class="waiting"><h3>Held at the router</h3><div class="held-turns" data-panel="held-${index}"></div></div>
        <h3>Instances</h3><div class="grid" data-panel="instances-${index}"></div>
        <h3 data-tiers="${index}">Lower tiers and links</h3><div class="grid" data-panel="tiers-${index}"></div></div>
        <div><h3>Live programs</h3><div class="card programs" data-panel="programs-${index}"></div></div></div></section>`)
      .join("");
    this.find("footer").textContent = `agentserve_gym ${contents.version}; times are simulated. Blocks that decode steps take show at the end of those steps at the latest.`;
    document.body.classList.toggle("pair", contents.runs.length > 1);
    document.body.classList.toggle("scored", contents.runs.some((run) => run.decisions.score.length > 0));
    contents.runs.forEach((run, index) => {
      const bare = run.links.length === 0 && run.pools.every((pool) => pool.instance !== NOBODY);
      document.querySelector(`[data-tiers="${index}"]`).hidden = bare;
    });
    this.choose(0);
    this.setSpeed(FIRST_SPEED);
  }

  listen() {
    this.find("play").onclick = () => this.toggle();
    this.find("back").onclick = () => this.step(-1);
    this.find("next").onclick = () => this.step(1);
    this.find("theme").onclick = () => this.turnTheme();
    this.find("help").onclick = () => this.turnHelp();
    this.find("speed").onchange = (event) => this.setSpeed(Number(event.target.value));
    this.find("slider").oninput = (event) => this.seek((event.target.value / SLIDER_STEPS) * this.contents.end);
    const strip = this.find("overview");
    const drag = (event) => {
      const box = strip.getBoundingClientRect();
      this.seek(((event.clientX - box.left) / box.width) * this.contents.end);
    };
    strip.onpointerdown = (event) => {
      strip.setPointerCapture(event.pointerId);
      drag(event);
    };
    strip.onpointermove = (event) => event.buttons && drag(event);
    this.listenForClicks();
    document.addEventListener("keydown", (event) => this.pressed(event));
    document.addEventListener("keyup", (event) => event.key === " " && event.preventDefault());
    window.addEventListener("resize", () => this.drawStrip());
    window.addEventListener("hashchange", () => {
      this.readAddress();
      this.drawStrip();
      this.show();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.drawStrip());
  }

  /** What is pressed is often drawn anew before it is let go, and then hears of no click. */
  listenForClicks() {
    const target = (event) => event.target.closest("[data-program], [data-decision], [data-tab]");
    let down = null;
    document.body.addEventListener("pointerdown", (event) => {
      down = event.button === 0 ? { found: target(event), x: event.clientX, y: event.clientY } : null;
      if (down !== null && down.found !== null) down.run = this.runOf(down.found);
    });
    document.body.addEventListener("pointercancel", () => {
      down = null;
    });
    document.body.addEventListener("pointerup", (event) => {
      if (down === null || down.found === null) return;
      const moved = Math.hypot(event.clientX - down.x, event.clientY - down.y);
      if (moved < STILL_PIXELS) this.clicked(down.found.dataset, down.run);
    });
    document.body.addEventListener("click", (event) => {
      const found = target(event);
      if (event.detail === 0 && found !== null) this.clicked(found.dataset, this.runOf(found));
    });
  }

  /** Which run an element belongs to; 0 for none. */
  runOf(element) {
    const panel = element.closest("[data-panel]");
    return panel === null ? 0 : Number(panel.dataset.panel.split("-")[1]);
  }

  clicked({ program, decision: number, tab }, run) {
    if (tab !== undefined) {
      this.choose(Number(tab));
    } else if (number !== undefined) {
      this.seek(this.contents.runs[run].decisions.time[Number(number)]);
      this.picked = { run, number: Number(number) };
      this.show();
    } else {
      this.follow(Number(program));
    }
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const leap = event.shiftKey;
    const keys = {
      " ": () => this.toggle(),
      ArrowLeft: () => (leap ? this.seek(this.time - LEAP_S) : this.step(-1)),
      ArrowRight: () => (leap ? this.seek(this.time + LEAP_S) : this.step(1)),
      ArrowUp: () => this.changeSpeed(1),
      ArrowDown: () => this.changeSpeed(-1),
      Home: () => this.seek(0),
      End: () => this.seek(this.contents.end),
      Escape: () => this.follow(NOBODY),
      t: () => this.turnTheme(),
      "?": () => this.turnHelp(),
    };
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  }

  // --- time --------------------------------------------------------------------------------------

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.contents.end);
    this.picked = null;
    this.show();
    // Browsers refuse to be told of a new address at every step of a slider.
    window.clearTimeout(this.writing);
    this.writing = window.setTimeout(() => this.writeAddress(), ADDRESS_MS);
  }

  /** To the nearest instant at which any policy is asked. */
  step(direction) {
    this.pause();
    const times = this.contents.runs.map(({ decisions }) => {
      const row = lastAt(decisions.time, this.time);
      if (direction > 0) return decisions.time[row + 1] ?? this.contents.end;
      const here = row >= 0 && decisions.time[row] === this.time;
      return decisions.time[here ? lastBefore(decisions.time, this.time) : row] ?? 0;
    });
    this.seek(direction > 0 ? Math.min(...times) : Math.max(...times));
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.time >= this.contents.end) this.time = 0;
    this.playing = true;
    this.picked = null;
    let before = null;
    let shown = 0;
    const frame = (now) => {
      if (!this.playing) return;
      const passed = before === null ? 0 : Math.min(now - before, 250);
      before = now;
      this.time = Math.min(this.time + (passed / 1000) * this.speed, this.contents.end);
      if (now - shown >= FRAME_MS) {
        shown = now;
        this.show();
      }
      if (this.time >= this.contents.end) this.pause();
      else window.requestAnimationFrame(frame);
    };
    this.find("play").textContent = "❚❚";
    window.requestAnimationFrame(frame);
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.find("play").textContent = "▶";
    this.show();
    this.writeAddress();
  }

  setSpeed(speed) {
    this.speed = speed;
    this.find("speed").value = String(speed);
  }

  changeSpeed(direction) {
    const place = SPEEDS.indexOf(this.speed) + direction;
    this.setSpeed(SPEEDS[Math.min(Math.max(place, 0), SPEEDS.length - 1)]);
  }

  // --- what is shown -----------------------------------------------------------------------------

  show() {
    const { contents, time } = this;
    this.find("clock").textContent = `${clock(time)} / ${clock(contents.end, 0)}`;
    this.find("slider").value = String(Math.round((time / contents.end) * SLIDER_STEPS));
    this.find("playhead").style.left = `${(time / contents.end) * 100}%`;
    contents.runs.forEach((run, index) => {
      const state = stateAt(run, time);
      const picked = this.picked !== null && this.picked.run === index ? this.picked.number : state.decision;
      const texts = {
        tab: tabPanel(state),
        figures: figuresPanel(run, state, this.atEnd[index]),
        decision: decisionPanel(run, state, picked, this.followed),
        held: heldPanel(state, this.followed),
        instances: instancesPanel(state, this.followed),
        tiers: tiersPanel(state, this.followed),
        programs: programsPanel(state, this.followed),
      };
      for (const panel of PANELS) this.put(`${panel}-${index}`, texts[panel]);
    });
  }

  put(panel, text) {
    if (this.drawn.get(panel) === text) return;
    this.drawn.set(panel, text);
    document.querySelector(`[data-panel="${panel}"]`).innerHTML = text;
  }

  drawStrip() {
    drawOverview(document.querySelector("#overview canvas"), this.contents);
  }

  follow(program) {
    this.followed = program === this.followed ? NOBODY : program;
    this.show();
    this.writeAddress();
  }

  choose(tab) {
    document.querySelectorAll("#tabs button").forEach((button, index) => {
      button.setAttribute("aria-selected", String(index === tab));
    });
    document.querySelectorAll(".run").forEach((run, index) => run.classList.toggle("front", index === tab));
  }

  turnTheme() {
    const dark = getComputedStyle(document.documentElement).getPropertyValue("--is-dark").trim() === "1";
    this.setTheme(dark ? "light" : "dark");
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    this.drawStrip();
  }

  turnHelp() {
    const keys = this.find("keys");
    keys.hidden = !keys.hidden;
    this.find("help").setAttribute("aria-expanded", String(!keys.hidden));
  }

  // --- the address keeps the time and who is followed ---------------------------------------------

  readAddress() {
    const given = new URLSearchParams(window.location.hash.slice(1));
    if (given.has("theme")) document.documentElement.dataset.theme = given.get("theme");
    if (given.has("program")) this.followed = Number(given.get("program"));
    if (given.has("t")) {
      this.time = Math.min(Math.max(Number(given.get("t")) || 0, 0), this.contents.end);
    }
  }

  writeAddress() {
    const given = new URLSearchParams(window.location.hash.slice(1));
    given.set("t", this.time.toFixed(6));
    if (this.followed === NOBODY) given.delete("program");
    else given.set("program", String(this.followed));
    window.history.replaceState(null, "", `#${given}`);
  }
}

function lastBefore(times, time) {
  let row = lastAt(times, time);
  while (row >= 0 && times[row] === time) row -= 1;
  return row;
}

const player = new Player(readContents(JSON.parse(document.getElementById("contents").textContent)));
const isStill = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
if (!isStill && !new URLSearchParams(window.location.hash.slice(1)).has("t")) player.play();
