"use strict";
// What is known of a run, and how things stood at an instant. Nothing here touches the page.

const MICROSECONDS = 1e6;
const THOUSANDTHS = 1e3;
const ROUTE = 0;
const NOBODY = -1;
const BUSY_WINDOW_S = 1;

/** A packed column: differences, zigzag, in variable-length bytes in base64. */
function unpack(text) {
  const bytes = atob(text);
  const values = [];
  let rest = 0;
  let scale = 1;
  let last = 0;
  for (let i = 0; i < bytes.length; i += 1) {
    const byte = bytes.charCodeAt(i);
    rest += (byte % 128) * scale;
    if (byte < 128) {
      last += rest % 2 ? -(rest + 1) / 2 : rest / 2;
      values.push(last);
      rest = 0;
      scale = 1;
    } else {
      scale *= 128;
    }
  }
  return values;
}

function unpackTimes(text) {
  return unpack(text).map((time) => time / MICROSECONDS);
}

/** The last place whose time is not after `time`, or -1; times do not decrease. */
function lastAt(times, time) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Rows of columns that belong together: one entry for each value of `owner`. */
function divide(columns, owner, owners) {
  const names = Object.keys(columns).filter((name) => name !== owner);
  const parts = new Map();
  for (const key of owners) parts.set(key, Object.fromEntries(names.map((name) => [name, []])));
  columns[owner].forEach((key, row) => {
    const part = parts.get(key);
    for (const name of names) part[name].push(columns[name][row]);
  });
  return parts;
}

const TIMES = new Set(["time", "start", "end", "queued"]);

function unpackTable(table) {
  const entries = Object.entries(table);
  return Object.fromEntries(
    entries.map(([name, text]) => [name, TIMES.has(name) ? unpackTimes(text) : unpack(text)]),
  );
}

function readContents(contents) {
  const runs = contents.runs.map((run) => readRun(run, contents));
  return { ...contents, runs, end: Math.max(...runs.map((run) => run.end)) };
}

function readRun(raw, contents) {
  const slices = unpackTable(raw.slices);
  const transfers = unpackTable(raw.transfers);
  const indices = raw.programs.map(([index]) => index);
  const instances = raw.instances.map((_, index) => index);
  const ofProgram = divide(slices, "program", indices);
  const ofLink = divide(transfers, "link", raw.links.map((_, index) => index));
  const ofInstance = divide(unpackTable(raw.batches), "instance", instances);
  const decisions = readDecisions(raw.decisions);
  const contexts = divide(
    { program: decisions.program, time: decisions.time, tokens: decisions.tokens },
    "program",
    indices,
  );
  return {
    policy: raw.policy,
    words: contents.words,
    stages: contents.stages,
    programCount: raw.programCount,
    end: raw.end / MICROSECONDS,
    instances: raw.instances.map((note, index) => ({ ...note, batches: ofInstance.get(index) })),
    pools: raw.pools.map((pool) => ({
      ...pool,
      time: unpackTimes(pool.time),
      used: unpack(pool.used),
      held: unpack(pool.held),
      pinned: unpack(pool.pinned),
    })),
    links: raw.links.map((name, index) => ({ name, ...ofLink.get(index) })),
    programs: new Map(
      raw.programs.map(([index, id, agentClass, model, parent]) => [
        index,
        { index, id, agentClass, model, parent, slices: ofProgram.get(index), contexts: contexts.get(index) },
      ]),
    ),
    preemptions: unpackTable(raw.preemptions),
    decisions,
    figures: unpackTable(raw.figures),
  };
}

function readDecisions(raw) {
  const decisions = unpackTable(raw);
  let first = 0;
  decisions.firstScore = decisions.scores.map((count) => {
    const place = first;
    first += count;
    return place;
  });
  return decisions;
}

/** What a program does at an instant, or null before it comes and after it is done. */
function programAt(run, program, time) {
  const { slices, contexts } = program;
  const row = lastAt(slices.start, time);
  if (row < 0 || slices.end[row] <= time) return null;
  let home = row;
  while (home >= 0 && slices.instance[home] === NOBODY) home -= 1;
  const known = lastAt(contexts.time, time);
  return {
    program,
    stage: run.stages[slices.stage[row]],
    turn: slices.turn[row],
    instance: slices.instance[row],
    home: home < 0 ? NOBODY : slices.instance[home],
    since: slices.start[row],
    tokens: known < 0 ? 0 : contexts.tokens[known],
  };
}

function poolAt(pool, time) {
  const row = lastAt(pool.time, time);
  const [used, held, pinned] = row < 0 ? [0, 0, 0] : [pool.used[row], pool.held[row], pool.pinned[row]];
  return {
    pool,
    inUse: held - pinned,
    pinned,
    cached: used - held,
    free: pool.capacity - used,
  };
}

function linkAt(run, link, time) {
  const row = lastAt(link.start, time);
  let waiting = 0;
  for (let next = row + 1; next < link.queued.length && link.queued[next] <= time; next += 1) waiting += 1;
  const known = { name: link.name, waiting, busy: busyShare(link, row, time) };
  if (row < 0 || link.end[row] <= time) return { ...known, transfer: null };
  const transfer = {
    kind: run.words[link.kind[row]],
    program: link.program[row],
    bytes: link.bytes[row],
    share: (time - link.start[row]) / (link.end[row] - link.start[row]),
  };
  return { ...known, transfer };
}

/** The share of the last second in which a link was busy; most transfers take milliseconds. */
function busyShare(link, row, time) {
  let busy = 0;
  for (let each = row; each >= 0 && link.end[each] > time - BUSY_WINDOW_S; each -= 1) {
    busy += Math.min(link.end[each], time) - Math.max(link.start[each], time - BUSY_WINDOW_S);
  }
  return busy / BUSY_WINDOW_S;
}

function batchAt(batches, time) {
  const row = lastAt(batches.start, time);
  if (row < 0 || batches.end[row] <= time) return null;
  const { decoding, prefilling, tokens, steps } = batches;
  return {
    decoding: decoding[row],
    prefilling: prefilling[row],
    tokens: tokens[row],
    steps: steps[row],
    stepS: steps[row] ? (batches.end[row] - batches.start[row]) / steps[row] : null,
  };
}

function figuresAt(figures, time) {
  const row = lastAt(figures.time, time);
  if (row < 0) return { done: 0, meanJct: null, hit: null, loaded: null };
  const done = figures.done[row];
  const prompt = figures.prompt[row];
  return {
    done,
    meanJct: done ? figures.jctSum[row] / MICROSECONDS / done : null,
    hit: prompt ? figures.hit[row] / prompt : null,
    loaded: prompt ? figures.loaded[row] / prompt : null,
  };
}

/** A decision, and every option with whether it was possible, its score and whether it won. */
function decision(run, number) {
  const { decisions, words } = run;
  const chosen = words[decisions.chosen[number]];
  const first = decisions.firstScore[number];
  const scores = new Map();
  for (let place = first; place < first + decisions.scores[number]; place += 1) {
    scores.set(words[decisions.option[place]], decisions.score[place] / THOUSANDTHS);
  }
  const program = run.programs.get(decisions.program[number]);
  const isRoute = decisions.kind[number] === ROUTE;
  const instance = decisions.instance[number];
  const mayHold = decisions.mayHold[number] === 1;
  return {
    number,
    time: decisions.time[number],
    isRoute,
    program,
    turn: decisions.turn[number],
    instance,
    tokens: decisions.tokens[number],
    asked: words[decisions.asked[number]],
    details: words[decisions.details[number]],
    valid: decisions.valid[number] === 1,
    chosen,
    leastWins: decisions.leastWins[number] === 1,
    scores,
    options: isRoute ? routes(run, program, mayHold) : places(run.instances[instance], chosen),
  };
}

function routes(run, program, mayHold) {
  const options = run.instances.map((note, index) => ({
    name: String(index),
    scoreName: `instance ${index}`,
    possible: note.model === program.model,
    why: note.model === program.model ? "" : `serves ${note.model}`,
  }));
  const why = mayHold ? "" : "nothing else would make progress";
  return [...options, { name: "hold", scoreName: "hold", possible: mayHold, why }];
}

/** Prefetches are left out but where one was chosen: what they could bring is not recorded. */
function places(instance, chosen) {
  const tiers = instance.tiers.map((tier) => `offload ${tier}`);
  const names = ["keep", "pin", ...tiers, ...(chosen === "prefetch" ? ["prefetch"] : []), "drop"];
  if (!names.includes(chosen)) names.push(chosen);
  return names.map((name) => ({ name, scoreName: "", possible: true, why: "" }));
}

const BATCH = new Set(["prefill", "decode"]);
const BY_AGE = (one, other) => one.since - other.since || one.program.index - other.program.index;

/** Everything that the page shows of a run at an instant. */
function stateAt(run, time) {
  const instances = run.instances.map((note, index) => ({
    index,
    note,
    batch: [],
    queue: [],
    load: [],
    step: batchAt(note.batches, time),
  }));
  const held = [];
  const live = [];
  for (const program of run.programs.values()) {
    const now = programAt(run, program, time);
    if (now === null || now.stage === "left") continue;
    live.push(now);
    if (now.stage === "held") held.push(now);
    else if (BATCH.has(now.stage)) instances[now.instance].batch.push(now);
    else if (now.stage !== "gap") instances[now.instance][now.stage].push(now);
  }
  for (const instance of instances) {
    instance.queue.sort(BY_AGE);
    instance.load.sort(BY_AGE);
  }
  return {
    time,
    instances,
    held: held.sort(BY_AGE),
    live,
    pools: run.pools.map((pool) => poolAt(pool, time)),
    links: run.links.map((link) => linkAt(run, link, time)),
    figures: figuresAt(run.figures, time),
    preemptions: lastAt(run.preemptions.time, time) + 1,
    decision: lastAt(run.decisions.time, time),
  };
}

/** How many programs are in each stage at the middle of equal parts of the time until `end`. */
function stagesOverTime(run, end, parts) {
  const counts = run.stages.map(() => new Int32Array(parts + 1));
  const width = end / parts;
  const place = (time) => Math.min(Math.max(Math.ceil(time / width - 0.5), 0), parts);
  for (const { slices } of run.programs.values()) {
    slices.start.forEach((start, row) => {
      counts[slices.stage[row]][place(start)] += 1;
      counts[slices.stage[row]][place(slices.end[row])] -= 1;
    });
  }
  for (const stage of counts) {
    for (let part = 1; part <= parts; part += 1) stage[part] += stage[part - 1];
  }
  return counts;
}
