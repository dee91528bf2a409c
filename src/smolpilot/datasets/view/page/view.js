// The page: list of episodes, the chosen one, and what the keys do. Data come as scripts that call `smolpilot`.
"use strict";

const byId = id => document.getElementById(id);
const SEVERITIES = ["error", "warning", "info"];

const smolpilot = {
  facts: null, current: null, charts: [], player: null, timeline: null,

  dataset(facts) {
    this.facts = facts;
    document.title = `${facts.name}: smolpilot dataset view`;
    byId("name").textContent = facts.name;
    const frames = facts.episodes.reduce((sum, episode) => sum + episode.length, 0);
    const part = facts.episodes.length < facts.total_episodes ? ` of ${facts.total_episodes}` : "";
    byId("facts").textContent = `LeRobot ${facts.version}, ${facts.robot || "robot not stated"}. ` +
      `${facts.episodes.length}${part} episodes, ${frames.toLocaleString("en")} frames at ${facts.fps} per second.` +
      (facts.checked ? "" : " Not checked: no findings are shown.");
    this.showGeneral();
    const seek = frame => this.player.seek(frame);
    this.player = new Player(byId("videos"), frame => this.showFrame(frame), playing => { byId("play").textContent = playing ? "Pause" : "Play"; });
    this.timeline = new Timeline(byId("timeline"), seek);
    this.charts = facts.joints.map(joint => new Chart(joint, seek));
    byId("charts").replaceChildren(...this.charts.map(chart => chart.node));
    this.showLegend();
    this.listEpisodes();
    this.connect();
    this.followAddress();
  },

  // Called by data/episode_*.js.
  episode(episode) {
    if (episode.index !== this.wanted) return;
    this.current = episode;
    const row = this.facts.episodes.find(entry => entry.index === episode.index);
    byId("title").textContent = `Episode ${episode.index}`;
    byId("instruction").textContent = row.tasks.map(task => `“${task}”`).join(", ");
    const encoded = Object.entries(episode.videos).filter(([, clip]) => clip.encoded)
      .map(([name, clip]) => `Camera ${name} is shown as h264 (${clip.encoded}).`);
    byId("notes").textContent = encoded.join(" ");
    const problems = episode.problems.map(text => ({severity: "error", message: text, frame: null, code: "", fix: ""}));
    byId("findings").replaceChildren(...[...problems, ...episode.findings].map(finding => this.findingItem(finding)));
    for (const button of byId("episodes").querySelectorAll("button")) {
      button.setAttribute("aria-current", Number(button.dataset.episode) === episode.index);
    }
    byId("episodes").querySelector('[aria-current="true"]')?.scrollIntoView({block: "nearest"});
    this.player.load(episode, this.facts.fps);
    this.draw();
    this.player.seek(this.startFrame || 0);
  },

  choose(index, frame = 0) {
    this.wanted = index;
    this.startFrame = frame;
    if (this.current?.index === index) { this.player.seek(frame); return; }
    this.script?.remove();
    this.script = html("script", {src: `data/episode_${String(index).padStart(6, "0")}.js`});
    this.script.onerror = () => { byId("notes").textContent = `The data of episode ${index} are missing beside this page.`; };
    document.body.append(this.script);
  },

  step(by) {
    const shown = this.facts.episodes.map(episode => episode.index), at = shown.indexOf(this.wanted) + by;
    if (at >= 0 && at < shown.length) this.choose(shown[at]);
  },

  draw() {
    if (!this.current) return;
    this.timeline.draw(this.current, this.facts.fps);
    // Few joints leave room for taller charts.
    const height = this.charts.filter(chart => !chart.node.hidden).length > 9 ? 100 : 150;
    for (const chart of this.charts) chart.draw(this.current, this.facts.fps, height);
    this.showFrame(this.player.frame);
  },

  showFrame(frame) {
    for (const part of [this.timeline, ...this.charts]) part.show(frame);
    const rows = this.current.rows;
    byId("readout").textContent = `frame ${frame} of 0 to ${rows - 1}, ${(frame / this.facts.fps).toFixed(2)} s`;
    if (!this.player.playing) history.replaceState(null, "", `#episode=${this.current.index}&frame=${frame}`);
  },

  findingItem(finding) {
    const place = finding.frame === null ? "" : finding.last === null ? `frame ${finding.frame}` : `frames ${finding.frame} to ${finding.last}`;
    const symbol = document.createElementNS(SVG, "svg");
    for (const [key, value] of Object.entries({width: 14, height: 14, viewBox: "-7 -7 14 14", style: "display:inline;vertical-align:-2px"})) symbol.setAttribute(key, value);
    element(symbol, "path", {class: `mark ${finding.severity}`, d: SHAPES[finding.severity]});
    const item = html("li", {}, symbol, " ", html("b", {className: finding.severity, textContent: finding.severity}), " ");
    if (place) item.append(html("button", {textContent: place, onclick: () => this.player.seek(finding.frame)}), ": ");
    item.append(finding.message);
    if (finding.fix) item.append(" ", html("code", {textContent: finding.fix}));
    if (finding.code) item.title = finding.code;
    return item;
  },

  showGeneral() {
    const found = this.facts.findings;
    byId("general").hidden = !found.length;
    byId("general").querySelector("summary").textContent = `${found.length} about the whole dataset`;
    byId("general").querySelector("ul").replaceChildren(...found.map(finding => this.findingItem({...finding, frame: null})));
  },

  showLegend() {
    for (const [kind, text] of [["state", "state (measured)"], ["action", "action (commanded)"]]) {
      const line = document.createElementNS(SVG, "svg");
      for (const [key, value] of Object.entries({width: 30, height: 8})) line.setAttribute(key, value);
      element(line, "path", {class: `curve ${kind}`, d: "M0,4 L30,4"});
      byId("legend").append(html("span", {}, line, text));
    }
  },

  listEpisodes() {
    byId("episodes").replaceChildren(...this.facts.episodes.map(episode => {
      const counts = SEVERITIES.map((severity, i) => [severity, episode.counts[i]]).filter(([, count]) => count);
      const badge = html("span", {className: "count"});
      for (const [severity, count] of counts) {
        badge.append(html("span", {className: severity, textContent: ` ${{error: "▲", warning: "◆", info: "●"}[severity]}${count}`, title: `${count} × ${severity}`}));
      }
      const task = episode.tasks.join(", ");
      const button = html("button", {onclick: () => this.choose(episode.index)}, badge, `Episode ${episode.index}`,
        html("small", {textContent: `${episode.length} frames: ${task}`, title: task}));
      button.dataset.episode = episode.index;
      return html("li", {}, button);
    }));
  },

  connect() {
    byId("play").onclick = () => this.player.playing ? this.player.pause() : this.player.play();
    byId("back").onclick = () => { this.player.pause(); this.player.seek(this.player.frame - 1); };
    byId("forward").onclick = () => { this.player.pause(); this.player.seek(this.player.frame + 1); };
    byId("speed").onchange = event => this.player.setSpeed(Number(event.target.value));
    byId("search").oninput = event => {
      const text = event.target.value.toLowerCase();
      for (const item of byId("episodes").children) item.hidden = !item.textContent.toLowerCase().includes(text);
    };
    byId("joints").oninput = event => {
      const text = event.target.value.toLowerCase();
      for (const chart of this.charts) chart.node.hidden = !chart.joint.name.toLowerCase().includes(text);
      this.draw();
    };
    const keys = {" ": "play", ArrowLeft: "back", ArrowRight: "forward"};
    document.addEventListener("keydown", event => {
      if (event.target.matches("input, select") || (event.key === " " && event.target.matches("button"))) return;
      if (keys[event.key]) byId(keys[event.key]).click();
      else if (event.key === "ArrowUp") this.step(-1);
      else if (event.key === "ArrowDown") this.step(1);
      else if (event.key === "Home") this.player.seek(0);
      else if (event.key === "End") this.player.seek(this.current.rows - 1);
      else return;
      event.preventDefault();
    });
    let timer;
    window.addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => this.draw(), 100); });
    window.addEventListener("hashchange", () => this.followAddress());
  },

  // `#episode=3&frame=120` opens the page there.
  followAddress() {
    const wish = new URLSearchParams(location.hash.slice(1)), index = Number(wish.get("episode"));
    const known = wish.has("episode") && this.facts.episodes.some(episode => episode.index === index);
    this.choose(known ? index : this.facts.episodes[0].index, Math.floor(Number(wish.get("frame"))) || 0);
  },
};
