// Draws a run on the page of timeline.html, from the JSON element that html.rs puts there. Everything in it comes from
// outside: it reaches the screen as text (textContent, fillText) and never as markup. Nothing here asks a network.
'use strict';
(() => {
const $ = id => document.getElementById(id), run = JSON.parse($('run').textContent);
const num = (x, or = 0) => typeof x === 'number' && isFinite(x) ? x : or;
const str = x => x == null ? '' : typeof x === 'string' ? x : JSON.stringify(x);
const put = (map, key, make) => map.get(key) ?? (map.set(key, make()), map.get(key));
const clamp = (x, least, most) => Math.max(least, Math.min(most, x));
const add = (to, tag, text, cls) => Object.assign(to.appendChild(document.createElement(tag)), { textContent: text ?? '', className: cls ?? '' });

// Colours, after Okabe and Ito. Every meaning has a shape, a hatch or a word besides its colour.
const THEMES = {
  light: { bg: '#f6f7f7', panel: '#ffffff', fg: '#1c2227', quiet: '#616b74', line: '#dfe3e6', good: '#00734f', wrong: '#c4122f',
    up: '#b5c4bf', starting: '#8b979b', down: '#41474d', leader: '#0072b2', follower: '#b9d5e8', unknown: '#8c949b',
    net: '#4a5fc9', disk: '#c98a00', clock: '#a64d85', power: '#3c4248', other: '#5f7f2f',
    allow: '#009e73', restrict: '#56b4e9', escalate: '#e69f00', block: '#d55e00', terminate: '#8a3f74', problem: '#70797f',
    open: '#1c2227', deliver: '#5a6b7a', answer: '#0b8f6d', lost: '#c4122f', 'answer-lost': '#c26a00' },
  dark: { bg: '#14181b', panel: '#1a1f23', fg: '#e4e8ea', quiet: '#98a3ab', line: '#30373d', good: '#35c9a0', wrong: '#f0556b',
    up: '#4d5c57', starting: '#7d898d', down: '#aab2b8', leader: '#3d9bd8', follower: '#2b4a60', unknown: '#7c868e',
    net: '#8b9cf5', disk: '#e0a93a', clock: '#dd8fbe', power: '#c3cad0', other: '#a3c266',
    allow: '#14b88a', restrict: '#6cc0f0', escalate: '#f0b32e', block: '#e8732a', terminate: '#c983b4', problem: '#929ca3',
    open: '#e4e8ea', deliver: '#93a4b3', answer: '#35c9a0', lost: '#f0556b', 'answer-lost': '#f0a04b' },
};
// How an area is filled where it is not plain: how strongly, and with which hatch.
const STYLES = { net: [.1, '/'], disk: [.22], clock: [.16, '.'], power: [.14, 'x'], other: [.14, '-'], starting: [.18, '/'], unknown: [.08, '/'] };
const FAULTS = [['disk', /disk|rot|misdirect/], ['clock', /clock|drift/], ['power', /power|crash|kill|wipe|stop/],
  ['net', /cut|flap|loss|lost|duplicate|reorder|gray|slow|delay|bandwidth|net|partition/], ['other', /^/]];
// The rare and grave ones last: they are drawn over others that share their pixels.
const VERDICTS = ['allow', 'restrict', 'escalate', 'problem', 'block', 'terminate', 'open'];
const MESSAGES = ['deliver', 'answer', 'answer-lost', 'lost'];
const ADMIN = { hold: 'H', policy: 'P', limit: 'L', release: 'R' };

// What the events say, as lives, leaders, operations and faults: spans from t0 to t1, null where they have no end.
const events = (Array.isArray(run.events) ? run.events : []).filter(e => e && typeof e === 'object');
for (const e of events) e.at = num(e.at);
events.sort((a, b) => a.at - b.at);
const fleet = events.find(e => e.kind === 'fleet') ?? {}, planned = num(fleet.length);
const end = Math.max(planned, events.at(-1)?.at ?? 0, 1), low = -end * .01, high = end * 1.01, unit = end < 600 ? ' s' : '';
const nodes = new Map(), clients = new Map(), open = new Map(), begun = new Map();
const faults = [], ops = [], admin = [], messages = [], violations = [], ticks = [];
const node = n => put(nodes, n, () => ({ n, region: str(fleet.regions?.[n]), life: [], led: [{ t0: 0, groups: [] }], groups: new Map(), ticks: [] }));
const close = (list, t) => { if (list.length) list.at(-1).t1 ??= t; };
const live = (n, state, t) => { close(n.life, t); n.life.push({ t0: t, t1: null, state }); };
const leads = (n, t) => {
  const groups = [...n.groups].filter(([, list]) => list.at(-1).t1 == null && list.at(-1).here).map(([g]) => g);
  if (String(groups) === String(n.led.at(-1).groups)) return;
  close(n.led, t);
  n.led.push({ t0: t, t1: null, groups });
};
const READ = {
  start: (e, n) => n && live(n, 'starting', e.at),
  started: (e, n) => n && live(n, 'up', e.at),
  crash: (e, n) => n && (live(n, 'down', e.at), [...n.groups.values()].forEach(list => close(list, e.at)), leads(n, e.at)),
  leader: (e, n) => {
    if (!n) return;
    const list = put(n.groups, e.group, () => []), was = list.at(-1), leader = e.leader ?? null, here = !!e.here;
    if (was && was.t1 == null && was.leader === leader && was.term === e.term && was.here === here) return;
    close(list, e.at);
    list.push({ t0: e.at, t1: null, leader, here, term: e.term, newTerm: was && was.term !== e.term });
    leads(n, e.at);
  },
  fault: e => {
    if (e.phase !== 'begin') { const f = begun.get(str(e.id)); if (f) f.t1 ??= e.at; return; }
    const style = FAULTS.find(([, is]) => is.test(str(e.fault)))[0];
    faults.push({ t0: e.at, t1: null, e, style, on: new Set(Array.isArray(e.nodes) ? e.nodes : []) });
    begun.set(str(e.id), faults.at(-1));
  },
  call: e => {
    const was = open.get(e.request), op = { t0: e.at, t1: null, e, verdict: 'open', answer: null };
    if (was) was.again = e.at;
    open.set(e.request, op); put(clients, str(e.client), () => []).push(op); ops.push(op);
  },
  decided: e => {
    const op = open.get(e.request), verdict = e.kind === 'decided' && VERDICTS.includes(e.verdict) ? e.verdict : 'problem';
    if (op) Object.assign(op, { t1: e.at, answer: e, verdict });
    open.delete(e.request);
  },
  problem: e => READ.decided(e),
  message: e => messages.push(e),
  violation: e => violations.push(e),
  sometimes: (e, n) => (n?.ticks ?? ticks).push(e),
};
for (const kind of Object.keys(ADMIN)) READ[kind] = e => admin.push(e);
for (const name of Object.keys(fleet.regions ?? {})) if (isFinite(name)) node(Number(name));
for (const e of events) if (Object.hasOwn(READ, str(e.kind))) READ[e.kind](e, typeof e.node === 'number' ? node(e.node) : null);
const byNumber = (a, b) => a - b || String(a).localeCompare(String(b));
const nodeList = [...nodes.values()].sort((a, b) => byNumber(a.n, b.n));
const mostLed = nodeList.reduce((most, n) => n.led.reduce((most, l) => Math.max(most, l.groups.length), most), 1);
const groupName = g => `g${g}` + ({ 0: ' meta', 1: ' control' }[g] ?? '');
// Puts spans that overlap into rows of their own, as long as there are rows; answers how many there are.
const pack = (spans, most, until) => {
  const ends = [];
  for (const s of spans) {
    s.row = ends.findIndex(t => t <= s.t0);
    if (s.row < 0) s.row = ends.length < most ? ends.length : ends.indexOf(Math.min(...ends));
    ends[s.row] = Math.max(ends[s.row] ?? 0, until(s));
  }
  return Math.max(1, ends.length);
};
const faultRows = pack(faults, 12, f => f.t1 ?? end);
const clientList = [...clients].sort((a, b) => byNumber(a[0], b[0]))
  .map(([name, list]) => ({ name, list, rows: pack(list, 8, o => o.t1 ?? o.again ?? o.t0 + end / 200) }));

// The view. The address can ask for one: #zoom=20-25&expand=2,3 (or all)&cursor=22.5&messages=0&dark (or light)
const hash = new Map(location.hash.slice(1).split('&').map(part => part.split('=')));
const expanded = new Set(), least = Math.max(.001, end / 1e6);
let v0 = low, v1 = high, cursor = null, W = 0, H = 0, T = THEMES.light, hits = [], flags = [], lanes = [];
const x = t => (t - v0) / (v1 - v0) * W, time = px => v0 + px / W * (v1 - v0);
const view = (a, b) => { const span = clamp(b - a, least, high - low); v0 = clamp(a, low, high - span); v1 = v0 + span; redraw(); };
const zoom = (factor, at = (v0 + v1) / 2) => {
  const span = clamp((v1 - v0) * factor, least, high - low), from = at - (at - v0) / (v1 - v0) * span;
  view(from, from + span);
};
const pan = part => view(v0 + part * (v1 - v0), v1 + part * (v1 - v0));
const seconds = (t, step = .001) => {
  const digits = clamp(Math.ceil(-Math.log10(step) - 1e-9), 0, 6), text = Math.max(0, t).toFixed(digits);
  if (unit) return text;
  const [whole, rest] = text.split('.');
  return [whole / 3600, whole / 60 % 60, whole % 60].map(n => String(Math.floor(n)).padStart(2, '0')).join(':') + (rest ? '.' + rest : '');
};

// Painting.
const rect = (c, colour, px, py, w, h, alpha = 1) => { c.globalAlpha = alpha; c.fillStyle = colour; c.fillRect(px, py, w, h); c.globalAlpha = 1; };
const lines = (c, colour, list, dash = []) => {
  c.strokeStyle = colour; c.setLineDash(dash); c.beginPath();
  for (const [px, py, ...more] of list) { c.moveTo(px, py); for (let i = 0; i < more.length; i += 2) c.lineTo(more[i], more[i + 1]); }
  c.stroke(); c.setLineDash([]);
};
let patterns = new Map();
const hatch = (c, key, kind) => put(patterns, key, () => {
  const tile = document.createElement('canvas'), p = tile.getContext('2d');
  tile.width = tile.height = 16; p.scale(2, 2); p.globalAlpha = .5;
  if (kind === '/' || kind === 'x') lines(p, T[key], [-8, 0, 8].map(o => [o - 1, 9, o + 9, -1]));
  if (kind === 'x') lines(p, T[key], [-8, 0, 8].map(o => [o - 1, -1, o + 9, 9]));
  if (kind === '-') lines(p, T[key], [[0, 4, 8, 4]]);
  if (kind === '.') for (const o of [1, 5]) rect(p, T[key], o, o, 2, 2, .5);
  const made = c.createPattern(tile, 'repeat');
  made.setTransform(new DOMMatrix().scale(.5));
  return made;
});
const fill = (c, key, px, py, w, h, weak = 1) => {
  const [alpha, kind] = STYLES[key] ?? [1];
  rect(c, T[key], px, py, w, h, alpha * weak);
  if (kind) rect(c, hatch(c, key, kind), px, py, w, h, weak);
};
const operation = (c, o, x0, x1, y, h) => {
  const left = x0 + .5, top = y + .5, low = y + h - .5;
  if (o.verdict === 'open') { // Hollow, and without an end where no other attempt follows.
    lines(c, T.open, [[x1, top, left, top, left, low, x1, low, ...(o.again != null ? [x1, top] : [])]], [3, 2]);
    if (o.again == null) lines(c, T.open, [[x1 - 3, top, x1 + 1, y + h / 2, x1 - 3, low]]);
  } else if (o.verdict === 'problem') {
    rect(c, T.panel, x0, y, x1 - x0, h);
    lines(c, T.problem, [[left, top, x1 - .5, top, x1 - .5, low, left, low, left, top], [x1 - 4, top, x1, low], [x1 - 4, low, x1, top]]);
  } else {
    rect(c, T[o.verdict], x0, y, x1 - x0, h);
    if (o.answer?.replayed && x1 - x0 > 5) rect(c, T.panel, x0 + 1, y + h / 2 - .5, x1 - x0 - 2, 1);
  }
};
const font = (c, size = 11) => { c.font = `${size}px system-ui, sans-serif`; };
const write = (c, text, x0, x1, y, colour, size, plate) => {
  x0 = Math.max(x0, 0) + 3; x1 = Math.min(x1, W) - 2;
  if (x1 - x0 < 6) return;
  font(c, size);
  let w;
  while ((w = c.measureText(text).width) > x1 - x0) text = text.length > 2 ? text.slice(0, -Math.ceil(text.length / 8) - 1) + '…' : '';
  if (text === '…') return;
  if (plate) rect(c, T.panel, x0 - 1, y - 6.5, w + 2, 12, .78);
  c.fillStyle = colour; c.fillText(text, x0, y);
};
const prepare = (canvas, w, h) => {
  const ratio = Math.min(devicePixelRatio || 1, 30000 / Math.max(1, h)), c = canvas.getContext('2d');
  Object.assign(canvas, { width: w * ratio, height: h * ratio });
  Object.assign(canvas.style, { width: w + 'px', height: h + 'px' });
  c.scale(ratio, ratio); c.textBaseline = 'middle'; rect(c, T.panel, 0, 0, w, h);
  return c;
};

// Lanes and their labels.
function layout() {
  lanes = []; H = 0;
  const lane = (h, draw, label, more) => { lanes.push({ y: H, h, draw, label, ...more }); H += h; };
  if (faults.length) lane(faultRows * 16 + 8, drawFaults, 'Faults');
  for (const n of nodeList) {
    const groups = expanded.has(n.n) ? [...n.groups.keys()].sort(byNumber) : [];
    lane(48 + groups.length * 15 + (groups.length ? 4 : 0), drawNode, `${groups.length ? '▾' : '▸'} Node ${n.n}`, { n, groups });
  }
  if (admin.length || ticks.length) lane(24, drawAdmin, 'Administrator');
  for (const of of clientList) lane(of.rows * 9 + 9, drawClient, `Client ${of.name}`, { of });
  if (!lanes.length) lane(60, () => {}, 'No events');
  const box = $('lanes'), focused = document.activeElement?.dataset?.node;
  box.replaceChildren(); box.style.height = H + 'px';
  for (const l of lanes) {
    const made = add(box, l.n ? 'button' : 'div', l.label);
    made.style.top = l.y + (l.n ? 7 : clamp((l.h - 15) / 2, 1, 6)) + 'px';
    if (!l.n) continue;
    Object.assign(made, { title: 'Show or hide its groups', onclick: () => expand(l.n.n) });
    made.dataset.node = l.n.n; made.setAttribute('aria-expanded', String(l.groups.length > 0)); add(made, 'small', l.n.region);
    if (focused === String(l.n.n)) made.focus();
    l.groups.forEach((g, i) => { add(box, 'div', groupName(g), 'sub').style.top = l.y + 48 + i * 15 + 'px'; });
  }
  redraw();
}
const expand = n => { if (!expanded.delete(n)) expanded.add(n); layout(); };
const expandAll = () => { const all = nodeList.every(n => expanded.has(n.n)); expanded.clear(); if (!all) for (const n of nodeList) expanded.add(n.n); layout(); };
let waiting = false;
const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } };
// Those of a list that are in view, with their place on the screen.
const seen = function* (list, wide = 1) {
  for (const s of list) if (s.t0 <= v1 && (s.t1 ?? end) >= v0) yield [s, x(s.t0), Math.max(wide, x(s.t1 ?? end) - x(s.t0)), s.t1 ?? end];
};
const inside = list => list.filter(e => e.at >= v0 && e.at <= v1);
const hit = (px, py, w, h, tip, it) => hits.push([px, py, px + w, py + h, tip, it]);
function grid() {
  const rough = (v1 - v0) / Math.max(2, W / 95), ten = 10 ** Math.floor(Math.log10(rough)), all = [];
  const step = !unit && rough > 2 ? [5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400].find(s => s >= rough) ?? 28800
    : [1, 2, 5, 10].find(s => s * ten >= rough) * ten;
  for (let i = Math.max(0, Math.ceil(v0 / step)); i * step <= v1; i++) all.push(i * step);
  return [all, step];
}
function draw() {
  W = Math.max(240, $('frame').clientWidth - $('lanes').offsetWidth);
  const c = prepare($('plot'), W, H), [times, step] = grid(), upright = t => [[Math.round(x(t)) + .5, 0, Math.round(x(t)) + .5, H]];
  hits = [];
  lines(c, T.line, [...times.flatMap(upright), ...lanes.map(l => [0, l.y + l.h - .5, W, l.y + l.h - .5])]);
  if (planned && planned < end - .05) lines(c, T.quiet, upright(planned), [2, 4]);
  for (const l of lanes) l.draw(c, l);
  drawMessages(c);
  for (const e of inside(violations)) { rect(c, T.wrong, x(e.at) - .75, 0, 1.5, H); hit(x(e.at) - 1, 0, 2, H, tips.violation, e); }
  if (cursor != null) lines(c, T.fg, upright(cursor), [4, 3]);
  drawHead(times, step);
  $('span').textContent = `${seconds(v0, step / 10)} – ${seconds(Math.min(end, v1), step / 10)}${unit}`;
  $('messages-text').textContent = `${messages.length} messages${v1 - v0 > 4 ? ' (zoom in to see)' : ''}`;
}
function drawFaults(c, l) {
  for (const [f, px, w] of seen(faults, 2)) {
    const y = l.y + 4 + f.row * 16;
    fill(c, f.style, px, y, w, 14); rect(c, T[f.style], px, y, 2, 14);
    if (w > 20) write(c, str(f.e.what) || str(f.e.fault), px + 1, px + w, y + 7.5, T.fg, 11, true);
    hit(px, y, w, 14, tips.fault, f);
  }
}
const drawTicks = (c, list, y) => { for (const e of inside(list)) { rect(c, T.quiet, x(e.at) - .5, y, 1, 5); hit(x(e.at) - 1, y - 1, 2, 7, tips.event, e); } };
function drawAdmin(c, l) {
  drawTicks(c, ticks, l.y + l.h - 6);
  for (const e of inside(admin)) {
    c.fillStyle = T.fg; c.beginPath(); c.roundRect(x(e.at) - 6.5, l.y + 4, 13, 14, 3); c.fill();
    font(c, 10); c.fillStyle = T.panel; c.textAlign = 'center'; c.fillText(ADMIN[e.kind], x(e.at), l.y + 11.5); c.textAlign = 'left';
    hit(x(e.at) - 7, l.y + 3, 14, 16, tips.event, e);
  }
}
function drawClient(c, l) {
  for (const verdict of VERDICTS) for (const o of l.of.list) {
    if (o.verdict !== verdict || o.t0 > v1) continue;
    const x0 = x(o.t0), y = l.y + 5 + o.row * 9, until = o.t1 ?? o.again, x1 = Math.max(x0 + 2, until != null ? x(until) : x0 + 16);
    if (x1 < 0) continue;
    operation(c, o, x0, x1, y, 7); hit(x0, y - 1, x1 - x0, 9, tips.op, o);
  }
}
function drawNode(c, l) {
  const { n, y } = l, base = y + 39;
  for (const [f, px, w] of seen(faults)) if (f.on.has(n.n)) fill(c, f.style, px, y, w, l.h - 1, .7);
  for (const [s, px, w, t1] of seen(n.life, 1.5)) {
    rect(c, T.panel, px, y + 6, w, 9); fill(c, s.state, px, y + 6, w, 9);
    if (s.state === 'down') write(c, 'down', px, px + w, y + 11, T.panel, 10);
    hit(px, y + 2, w, 15, tips.life, [n, s, t1]);
  }
  let free = 0;
  for (const [s, px, w, t1] of seen(n.led)) {
    const count = s.groups.length, h = count ? Math.max(2, count * 19 / mostLed) : 0, left = Math.max(0, px);
    rect(c, T.leader, px, base - h, w, h, .3); rect(c, count ? T.leader : T.line, px, base - Math.max(1, h), w, count ? 1.5 : 1);
    if (count && px + w - left > 16 && px >= free - 1) { write(c, String(count), px, px + w, Math.max(base - h + 7, y + 25), T.fg, 10); free = left + 12; }
    hit(px, y + 18, w, 21, tips.led, [n, s, t1]);
  }
  drawTicks(c, n.ticks, y + 41);
  l.groups.forEach((g, i) => {
    const top = y + 48 + i * 15;
    rect(c, T.line, 0, top + 6, W, 1);
    for (const [s, px, wide, t1] of seen(n.groups.get(g))) {
      const role = s.here ? 'leader' : s.leader == null ? 'unknown' : 'follower', w = wide > 4 ? wide - 1 : wide;
      if (role === 'unknown') rect(c, T.panel, px, top + 1, w, 12);
      fill(c, role, px, top + 1, w, 12);
      if (s.newTerm) rect(c, T.fg, px - .5, top, 1.5, 14);
      const text = { leader: 'leads', unknown: '?', follower: `→ ${s.leader}` }[role] + ` · t${str(s.term)}`;
      write(c, text, px, px + w, top + 7.5, s.here ? T.panel : T.fg, 10); hit(px, top, w, 14, tips.role, [n, g, s, t1]);
    }
  });
}
function drawMessages(c) {
  if (!$('messages').checked || v1 - v0 > 4) return;
  const middle = new Map(lanes.filter(l => l.n).map(l => [l.n.n, l.y + 10.5])), some = inside(messages).filter(e => middle.has(e.from) && middle.has(e.to));
  const alpha = clamp(W / (v1 - v0) / messages.length * .8, .14, .8);
  for (const kind of MESSAGES) for (const e of some) {
    if (e.message !== kind) continue;
    // A lost one ends on its way, in a cross; one that arrived ends in a dot.
    const lost = kind.endsWith('lost'), part = lost ? .7 : 1, x1 = x(e.at) - 5 * (1 - part), y0 = middle.get(e.from), y1 = y0 + (middle.get(e.to) - y0) * part;
    c.globalAlpha = alpha; lines(c, T[kind], [[x(e.at) - 5, y0, x1, y1]], lost ? [4, 3] : []);
    if (lost) lines(c, T[kind], [[x1 - 3, y1 - 3, x1 + 3, y1 + 3], [x1 - 3, y1 + 3, x1 + 3, y1 - 3]]);
    else rect(c, T[kind], x1 - 1.5, y1 - 1.5, 3, 3, alpha);
    hit(x1 - 2, y1 - 4, 4, 8, tips.message, e);
  }
  c.globalAlpha = 1;
}
// Above the lanes: the whole run with the part in view, the axis, and a flag for every violation.
const OVER = 34, AXIS = 54;
function drawHead(times, step) {
  const rows = Math.min(3, violations.length), c = prepare($('over'), W, AXIS + rows * 17), all = t => (t - low) / (high - low) * W;
  const buckets = new Array(Math.ceil(W / 3)).fill(0), from = clamp(all(v0), 1, W - 4), taken = new Array(rows).fill(-Infinity);
  for (const o of ops) buckets[Math.floor(all(o.t0) / 3)]++;
  const most = Math.max(1, ...buckets);
  buckets.forEach((count, i) => rect(c, T.unknown, i * 3, OVER - 9 - count / most * 20, 2, count / most * 20));
  for (const f of faults) rect(c, T[f.style], all(f.t0), OVER - 7, Math.max(1, all(f.t1 ?? end) - all(f.t0)), 5, .5);
  for (const e of violations) rect(c, T.wrong, all(e.at) - 1, 2, 2, OVER - 4);
  rect(c, T.bg, 0, 0, all(v0), OVER, .55); rect(c, T.bg, all(v1), 0, W - all(v1), OVER, .55);
  c.strokeStyle = T.leader; c.lineWidth = 1.5; c.strokeRect(from, 1, Math.max(3, Math.min(all(v1), W - 1) - from), OVER - 2); c.lineWidth = 1;
  font(c); lines(c, T.quiet, times.map(t => [x(t), AXIS - 4, x(t), AXIS]));
  for (const t of times) {
    const text = seconds(t, step) + unit, w = c.measureText(text).width;
    c.fillStyle = T.fg; c.fillText(text, clamp(x(t) - w / 2, 2, W - w - 2), OVER + 9);
  }
  flags = [];
  violations.forEach((e, i) => {
    const px = x(e.at), text = `${i + 1} ${str(e.check)}`.slice(0, 40), w = c.measureText(text).width + 9, left = px + w > W ? px - w : px;
    if (px < 0 || px > W) return;
    rect(c, T.wrong, px - .75, AXIS, 1.5, rows * 17);
    const row = taken.findIndex(until => until < left), y = AXIS + row * 17;
    if (row < 0) return;
    taken[row] = left + w + 2; rect(c, T.wrong, left, y, w, 15); c.fillStyle = T.panel; c.fillText(text, left + 4, y + 8);
    flags.push([left, y, left + w, y + 15, tips.violation, e]);
  });
}

// Words for what is under the pointer.
const span = (t0, t1) => `${seconds(t0)} – ${t1 == null ? 'end' : `${seconds(t1)} (${(t1 - t0).toFixed(3)} s)`}`;
const FIRST = ['request', 'check', 'phase', 'fault', 'what', 'message', 'from', 'to', 'group', 'leader', 'verdict', 'code'], LAST = FIRST.length;
const place = k => FIRST.includes(k) ? FIRST.indexOf(k) : LAST;
const rest = e => Object.entries(e).filter(([k]) => !['at', 'node', 'kind'].includes(k)).sort(([a], [b]) => place(a) - place(b)).map(([k, v]) => [k, str(v)]);
const tips = {
  fault: f => [`Fault ${str(f.e.id)}: ${str(f.e.what) || str(f.e.fault)}`, [['kind', str(f.e.fault)], ['time', span(f.t0, f.t1)], ['nodes', [...f.on].join(', ') || 'any']]],
  life: ([n, s, t1]) => [`Node ${n.n} ${s.state}`, [['time', span(s.t0, t1)], ['region', n.region]]],
  led: ([n, s, t1]) => [`Node ${n.n} leads ${s.groups.length} groups`,
    [['groups', s.groups.map(groupName).join(', ') || 'none'], ['time', span(s.t0, t1)]]],
  role: ([n, g, s, t1]) => [`Node ${n.n}, ${groupName(g)}: ${s.here ? 'leader' : s.leader == null ? 'knows no leader' : `follower of ${s.leader}`}`,
    [['term', str(s.term)], ['time', span(s.t0, t1)]]],
  op: ({ e, answer, verdict, t0, t1, again }) => [
    `${str(e.request)}: ` + (!answer ? again != null ? 'no answer, tried again' : 'never answered' : verdict === 'problem' ? `problem ${str(answer.code ?? answer.verdict)}` : verdict),
    [['called', `node ${str(e.node)}, attempt ${str(e.attempt)}`], ['time', span(t0, t1 ?? again)], ['id', str(answer?.id)], ['replayed', answer?.replayed ? 'yes' : '']]],
  message: e => [`${str(e.message)}: ${str(e.from)} → ${str(e.to)}`, [['at', seconds(e.at, 1e-6)], ['lane', str(e.lane)], ['bytes', str(e.bytes)]]],
  violation: e => [`Violation: ${str(e.check)}`, [['at', seconds(e.at, 1e-6)], ['node', str(e.node)], ['what', str(e.what)]]],
  event: e => [`${str(e.kind)} at ${seconds(e.at)}`, [['node', str(e.node)], ...rest(e)]],
};
const show = (found, event) => {
  const box = $('tip');
  box.hidden = !found;
  if (!found) return;
  const [title, rows] = found[4](found[5]);
  box.replaceChildren(); add(box, 'b', title.slice(0, 400));
  const table = add(box, 'div');
  for (const [k, v] of rows) if (v !== '') { add(table, 'i', k); add(table, 'span', v.slice(0, 800)); }
  const { width, height } = box.getBoundingClientRect(), below = event.clientY + 16;
  box.style.left = clamp(event.clientX + 14, 4, Math.max(4, innerWidth - width - 8)) + 'px';
  box.style.top = (below + height < innerHeight ? below : Math.max(4, event.clientY - height - 12)) + 'px';
};
const under = (list, e, by) => list.findLast(h => e.offsetX >= h[0] - by && e.offsetX <= h[2] + by && e.offsetY >= h[1] && e.offsetY <= h[3]);

// The table of events around the cursor.
const ROWS = 60;
function near(t, request) {
  cursor = t; $('near').hidden = t == null; redraw();
  if (t == null) return;
  const at = events.findIndex(e => e.at >= t), from = Math.max(0, Math.min((at < 0 ? events.length : at) - ROWS / 2, events.length - ROWS));
  $('near-title').textContent = `Events near ${seconds(t)}${unit}`;
  $('rows').replaceChildren();
  let middle = null;
  for (const e of events.slice(from, from + ROWS)) {
    const row = add($('rows'), 'tr', '', e.kind === 'violation' ? 'violation' : request != null && e.request === request ? 'same' : '');
    const away = (e.at < t ? '−' : '+') + Math.abs(e.at - t).toFixed(3), words = rest(e).map(([k, v]) => `${k} ${v}`).join(' · ').slice(0, 1000);
    for (const text of [away, seconds(e.at, 1e-6), str(e.node), str(e.kind), words]) add(row, 'td', text);
    if (e.at >= t) middle ??= row;
  }
  if (middle) $('near').scrollTop = middle.offsetTop - $('near').clientHeight / 2;
}
const step = by => {
  const from = cursor ?? (v0 + v1) / 2, e = by > 0 ? events.find(e => e.at > from + 1e-9) : events.findLast(e => e.at < from - 1e-9);
  if (e) near(e.at, e.request);
  if (e && (e.at < v0 || e.at > v1)) view(e.at - (v1 - v0) / 2, e.at + (v1 - v0) / 2);
};
const visit = e => { if (e) { view(e.at - 1.5, e.at + 1.5); near(e.at); $('frame').scrollIntoView(); } };

// Pointer, wheel and keys.
const plot = $('plot'), over = $('over'), held = new Map();
let moved = 0, sliding = false;
plot.addEventListener('wheel', e => {
  e.preventDefault();
  const by = e.deltaMode ? 30 : 1;
  if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) pan((e.deltaX || e.deltaY) * by / W);
  else zoom(Math.exp(clamp(e.deltaY * by, -300, 300) * .0018), time(e.offsetX));
}, { passive: false });
plot.onpointerdown = e => { plot.setPointerCapture(e.pointerId); held.set(e.pointerId, e); if (held.size === 1) moved = 0; };
plot.onpointermove = e => {
  const was = held.get(e.pointerId), other = [...held.values()].find(o => o.pointerId !== e.pointerId);
  if (!was) return show(under(hits, e, 2), e);
  held.set(e.pointerId, e); moved += Math.abs(e.clientX - was.clientX) + Math.abs(e.clientY - was.clientY);
  if (moved <= 4) return;
  show(null);
  const gap = p => Math.max(8, Math.abs(p.clientX - other.clientX));
  if (other) zoom(gap(was) / gap(e), time((e.clientX + other.clientX) / 2 - plot.getBoundingClientRect().left));
  else pan((was.clientX - e.clientX) / W);
};
plot.onpointerup = e => {
  if (!held.delete(e.pointerId) || moved > 4) return;
  const found = under(hits, e, e.pointerType === 'mouse' ? 2 : 8);
  near(found?.[4] === tips.violation ? found[5].at : time(e.offsetX), found?.[5].e?.request); show(found, e);
};
plot.onpointercancel = e => held.delete(e.pointerId);
plot.onpointerleave = over.onpointerleave = e => { if (e.pointerType === 'mouse') show(null); };
const slide = e => { const t = low + e.offsetX / W * (high - low), half = (v1 - v0) / 2; view(t - half, t + half); };
over.onpointerdown = e => {
  if (e.offsetY > OVER) return visit(under(flags, e, 0)?.[5]);
  sliding = true; over.setPointerCapture(e.pointerId); slide(e);
};
over.onpointermove = e => sliding ? slide(e) : show(under(flags, e, 0), e);
over.onpointerup = over.onpointercancel = () => { sliding = false; };
const act = { in: () => zoom(.6), out: () => zoom(1 / .6), left: () => pan(-.25), right: () => pan(.25), fit: () => view(low, high), all: expandAll, close: () => near(null) };
for (const id of Object.keys(act)) $(id).onclick = () => act[id]();
$('messages').onchange = redraw;
const keys = { ArrowLeft: e => e.shiftKey ? step(-1) : pan(-.15), ArrowRight: e => e.shiftKey ? step(1) : pan(.15), '+': act.in, '=': act.in, '-': act.out,
  Home: () => view(low, low + v1 - v0), End: () => view(high - v1 + v0, high), 0: act.fit, e: expandAll, m: () => $('messages').click(),
  n: () => visit(violations.find(e => e.at > (cursor ?? -Infinity))), p: () => visit(violations.findLast(e => e.at < (cursor ?? Infinity))),
  Escape: () => { show(null); near(null); } };
addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target === $('replay') || !Object.hasOwn(keys, e.key)) return;
  e.preventDefault(); keys[e.key](e);
});

// The legend is painted by what paints the lanes.
const LEGEND = { Node: { up: 'up', starting: 'starting', down: 'down', '': '│ something rare happened' },
  Groups: { leader: 'leads', follower: 'follows', unknown: 'knows no leader', term: 'new term' },
  Faults: { net: 'network', disk: 'disk', clock: 'clock', power: 'power, crash', other: 'other' },
  Operations: { ...Object.fromEntries(VERDICTS.map(v => [v, v])), open: 'no answer', replayed: 'replayed' },
  Administrator: { '': 'H hold · P policy · L limit · R release' },
  Messages: { deliver: 'delivered', answer: 'answered', lost: 'lost', 'answer-lost': 'answer lost' } };
const swatch = (c, key) => {
  const as = { replayed: { verdict: 'allow', answer: { replayed: true } } }[key] ?? { verdict: key };
  if (VERDICTS.includes(as.verdict)) operation(c, as, 1, 19, 2, 8);
  else if (MESSAGES.includes(key)) lines(c, T[key], [[1, 6, 21, 6]], key.endsWith('lost') ? [4, 3] : []);
  else fill(c, key === 'term' ? 'follower' : key, 0, 1, 22, 10);
  if (key === 'term') rect(c, T.fg, 10, 0, 1.5, 12);
};
const media = matchMedia('(prefers-color-scheme: dark)');
function theme() {
  const name = ['dark', 'light'].find(name => hash.has(name)) ?? (media.matches ? 'dark' : 'light'), root = document.documentElement.style;
  T = THEMES[name]; patterns = new Map(); root.colorScheme = name;
  for (const [key, colour] of Object.entries(T)) root.setProperty('--' + key, colour);
  $('legend').replaceChildren();
  for (const [title, list] of Object.entries(LEGEND)) {
    const section = add($('legend'), 'section');
    add(section, 'b', title);
    for (const [key, text] of Object.entries(list)) {
      const item = add(section, 'span');
      if (key) swatch(prepare(add(item, 'canvas'), 22, 12), key);
      add(item, 'span', text);
    }
  }
  redraw();
}

// The rest of the page. A violation is listed once: by its event where it has one, else by its sentence.
document.title = $('title').textContent = str(run.title) || 'Timeline';
$('commit').textContent = str(run.commit); $('replay').textContent = str(run.replay);
$('copy').onclick = async () => {
  try { await navigator.clipboard.writeText(str(run.replay)); } catch { getSelection().selectAllChildren($('replay')); document.execCommand('copy'); }
  $('copy').textContent = 'Copied';
  setTimeout(() => { $('copy').textContent = 'Copy'; }, 1500);
};
const sentences = (run.violations ?? []).map(str).filter(text => !violations.some(e => str(e.what) && text.includes(str(e.what))));
const wrongs = Math.max(num(run.bad), violations.length + sentences.length);
$('verdict').textContent = wrongs ? `✕ Bad: ${wrongs} violation${wrongs > 1 ? 's' : ''}` : '✓ Good: no violation';
$('verdict').classList.toggle('bad', wrongs > 0);
const list = (tag, when, what) => { const made = add(add($('wrong'), 'li'), tag); add(made, 'b', when); add(made, 'span', what); return made; };
violations.forEach((e, i) => {
  const what = `${str(e.check)}: ${str(e.what)}${typeof e.node === 'number' ? ` (node ${e.node})` : ''}`;
  list('button', `${i + 1} at ${seconds(e.at)}${unit}`, what).onclick = () => visit(e);
});
for (const text of sentences) list('div', 'no time', text);
for (const [label, value] of run.summary ?? []) { const pair = add($('summary'), 'div'); add(pair, 'dt', str(label)); add(pair, 'dd', str(value)); }
$('summary').hidden = !(run.summary ?? []).length;
for (const note of run.notes ?? []) add($('notes'), 'div', str(note));
const asked = (hash.get('expand') ?? '').split(','), [from, to] = (hash.get('zoom') ?? '').split('-').map(parseFloat);
for (const n of nodeList) if (asked.includes('all') || asked.includes(String(n.n))) expanded.add(n.n);
$('messages').checked = hash.get('messages') !== '0';
$('messages').parentElement.hidden = !messages.length;
layout(); theme();
media.onchange = theme;
new ResizeObserver(redraw).observe($('frame'));
if (to > from) view(from, to);
else if (innerWidth < 720 && end > 20) view(low, low + (high - low) / 4);
if (hash.has('cursor')) near(num(parseFloat(hash.get('cursor'))));
})();
