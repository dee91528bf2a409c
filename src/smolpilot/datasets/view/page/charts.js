// Drawing: one chart per joint, and the time line with the findings. All have the same time axis and one cursor.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 56, RIGHT = 10, TOP = 6, BOTTOM = 22;
const SHAPES = {error: "M-6,5 L6,5 L0,-6 Z", warning: "M0,-6.5 L6.5,0 L0,6.5 L-6.5,0 Z", info: "M-5,0 A5,5 0 1 1 5,0 A5,5 0 1 1 -5,0 Z"};

function element(parent, name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

function html(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// Round values that span [low, high] in about `count` steps.
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(value => value >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return {found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9))};
}

// Where frames lie: the horizontal axis that the charts and the time line share.
class TimeAxis {
  constructor(width, rows, fps) { Object.assign(this, {width, rows, fps, span: Math.max(width - LEFT - RIGHT, 1)}); }
  x(frame) { return LEFT + (this.rows > 1 ? frame / (this.rows - 1) : 0.5) * this.span; }
  frame(x) { return Math.min(Math.max(Math.round((x - LEFT) / this.span * (this.rows - 1)), 0), this.rows - 1); }
  draw(svg, y, count) {
    const end = Math.max(this.rows - 1, 1) / this.fps, {found, digits} = ticks(0, end, count);
    element(svg, "line", {class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y});
    for (const second of found) {
      const x = this.x(second * this.fps);
      element(svg, "line", {class: "axis", x1: x, x2: x, y1: y, y2: y + 4});
      element(svg, "text", {x, y: y + 15, "text-anchor": "middle"}, second.toFixed(digits));
    }
    element(svg, "text", {x: LEFT - 12, y: y + 15, "text-anchor": "end"}, "time (s)");
  }
}

// Dragging on `node` calls `seek` with frames.
function seekable(node, axisOf, seek) {
  const move = event => seek(axisOf().frame(event.clientX - node.getBoundingClientRect().left));
  node.addEventListener("pointerdown", event => {
    if (event.button !== 0 || event.target.closest(".mark")) return;
    event.preventDefault();
    node.setPointerCapture(event.pointerId);
    move(event);
  });
  node.addEventListener("pointermove", event => { if (node.hasPointerCapture(event.pointerId)) move(event); });
}

// A finding at its frame: a symbol that seeks there.
function addMark(svg, finding, x, y, seek) {
  const kind = finding.severity;
  const mark = element(svg, "path", {class: `mark ${kind}`, d: SHAPES[kind], transform: `translate(${x},${y})`, tabindex: 0, role: "button"});
  element(mark, "title", {}, `${kind}, frame ${finding.frame}: ${finding.message}`);
  mark.addEventListener("click", () => seek(finding.frame));
  mark.addEventListener("keydown", event => { if (event.key === "Enter") seek(finding.frame); });
}

class Chart {
  constructor(joint, seek) {
    Object.assign(this, {joint, seek});
    this.value = html("span", {className: "value"});
    const unit = html("span", {textContent: joint.unit ? `(${joint.unit})` : "(unit not stated)"});
    this.plot = html("div");
    this.node = html("div", {className: "chart"}, html("h3", {}, html("b", {textContent: joint.name, title: joint.name}), unit, this.value), this.plot);
    this.node.dataset.joint = joint.name;
    seekable(this.plot, () => this.axis, seek);
  }

  draw(episode, fps, height) {
    this.lines = ["state", "action"].filter(kind => this.joint[kind] !== null && episode[kind].length)
      .map(kind => [kind, episode[kind][this.joint[kind]]]);
    this.axis = new TimeAxis(this.plot.clientWidth || 330, episode.rows, fps);
    this.plot.replaceChildren();
    const svg = element(this.plot, "svg", {width: this.axis.width, height, role: "img", "aria-label": `${this.joint.name} over time`});
    const numbers = this.lines.flatMap(([, values]) => values).filter(value => value !== null);
    let low = numbers.reduce((a, b) => Math.min(a, b), Infinity), high = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!numbers.length) [low, high] = [0, 1];
    const margin = high > low ? 0.06 * (high - low) : Math.max(Math.abs(high) * 0.1, 0.1);
    [low, high] = [low - margin, high + margin];
    const bottom = height - BOTTOM, y = value => bottom - (value - low) / (high - low) * (bottom - TOP);
    const {found, digits} = ticks(low, high, height / 26);
    this.digits = Math.min(digits + 2, 6);
    for (const value of found) {
      element(svg, "line", {class: "grid", x1: LEFT, x2: this.axis.width - RIGHT, y1: y(value), y2: y(value)});
      element(svg, "text", {x: LEFT - 6, y: y(value) + 4, "text-anchor": "end"}, value.toFixed(digits));
    }
    this.axis.draw(svg, bottom, 5);
    for (const [kind, values] of this.lines) element(svg, "path", {class: `curve ${kind}`, d: this.path(values, y)});
    const mine = episode.findings.filter(finding => finding.frame !== null && finding.joint === this.joint.name);
    for (const finding of mine) addMark(svg, finding, this.axis.x(finding.frame), TOP + 8, this.seek);
    this.cursor = element(svg, "line", {class: "cursor", y1: TOP, y2: bottom});
  }

  // A gap where a value is missing.
  path(values, y) {
    let pen = "M";
    return values.map((value, frame) => {
      if (value === null) { pen = "M"; return ""; }
      const step = `${pen}${this.axis.x(frame).toFixed(1)},${y(value).toFixed(1)}`;
      pen = "L";
      return step;
    }).join("");
  }

  show(frame) {
    const x = this.axis.x(frame);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.value.replaceChildren(...this.lines.map(([kind, values]) => html("span", {
      className: kind, textContent: `${kind} ${values[frame] == null ? "missing" : values[frame].toFixed(this.digits)}`,
    })));
  }
}

class Timeline {
  constructor(node, seek) {
    this.node = node;
    this.seek = seek;
    seekable(node, () => this.axis, seek);
  }

  draw(episode, fps) {
    this.axis = new TimeAxis(this.node.clientWidth, episode.rows, fps);
    this.node.replaceChildren();
    const middle = 11, bottom = 22;
    const svg = element(this.node, "svg", {width: this.axis.width, height: 42});
    element(svg, "text", {x: LEFT - 12, y: middle + 4, "text-anchor": "end"}, "findings");
    this.axis.draw(svg, bottom, 10);
    const marks = episode.findings.filter(finding => finding.frame !== null);
    for (const finding of marks.filter(finding => finding.last !== null)) {
      const start = this.axis.x(finding.frame), stop = this.axis.x(Math.min(finding.last, episode.rows - 1));
      element(svg, "rect", {class: `stretch ${finding.severity}`, x: start, y: middle - 4, width: Math.max(stop - start, 1), height: 8});
    }
    for (const finding of marks) {
      addMark(svg, finding, this.axis.x(finding.frame), middle, this.seek);
    }
    this.cursor = element(svg, "line", {class: "cursor", y1: 0, y2: bottom + 4});
    this.node.setAttribute("aria-valuemin", 0);
    this.node.setAttribute("aria-valuemax", episode.rows - 1);
  }

  show(frame) {
    const x = this.axis.x(frame);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.node.setAttribute("aria-valuenow", frame);
  }
}
