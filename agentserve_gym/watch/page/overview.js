// The whole run in a strip for each policy: how many programs do what.

const STACK = ["decode", "prefill", "load", "queue", "held", "gap"];
const STRIP_HEIGHT = 30;
const STRIP_GAP = 4;

function drawOverview(canvas, contents) {
  const width = canvas.clientWidth;
  const height = contents.runs.length * (STRIP_HEIGHT + STRIP_GAP) - STRIP_GAP;
  const scale = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colours = getComputedStyle(document.documentElement);
  const parts = Math.max(Math.floor(width), 1);
  const counts = contents.runs.map((run) => stagesOverTime(run, contents.end, parts));
  const total = (count, part) => STACK.reduce((sum, stage) => sum + count[contents.stages.indexOf(stage)][part], 0);
  let most = 1;
  for (const count of counts) {
    for (let part = 0; part < parts; part += 1) most = Math.max(most, total(count, part));
  }
  counts.forEach((count, row) => {
    const bottom = row * (STRIP_HEIGHT + STRIP_GAP) + STRIP_HEIGHT;
    pen.fillStyle = colours.getPropertyValue("--well");
    pen.fillRect(0, bottom - STRIP_HEIGHT, width, STRIP_HEIGHT);
    const base = new Float64Array(parts).fill(bottom);
    for (const stage of STACK) {
      pen.fillStyle = colours.getPropertyValue(`--${stage}`);
      const values = count[contents.stages.indexOf(stage)];
      for (let part = 0; part < parts; part += 1) {
        const tall = (values[part] / most) * (STRIP_HEIGHT - 1);
        base[part] -= tall;
        if (tall > 0) pen.fillRect(part, base[part], 1, tall);
      }
    }
    pen.fillStyle = colours.getPropertyValue("--dim");
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.fillText(contents.runs[row].policy, width - 6, bottom - STRIP_HEIGHT + 12, width - 12);
  });
}
