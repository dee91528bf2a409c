// Videos of all cameras at one frame: the first one is the clock while playing, the others follow it.
"use strict";

class Player {
  constructor(container, onFrame, onState) {
    Object.assign(this, {container, onFrame, onState, videos: [], frame: 0, rows: 1, fps: 1, speed: 1, playing: false});
  }

  load(episode, fps) {
    this.pause();
    for (const video of this.videos) { video.removeAttribute("src"); video.load(); }
    Object.assign(this, {rows: Math.max(episode.rows, 1), fps, frame: 0});
    const entries = Object.entries(episode.videos);
    this.videos = entries.map(([name, clip]) => {
      const video = html("video", {src: clip.src, muted: true, playsInline: true, preload: "auto"});
      video.dataset.camera = name;
      video.addEventListener("loadedmetadata", () => this.place(video));
      video.addEventListener("seeked", () => this.seeked(video));
      return video;
    });
    this.container.replaceChildren(...this.videos.map((video, i) => html("figure", {}, video, html("figcaption", {textContent: entries[i][0]}))));
  }

  // Inside a frame's time, far from its neighbors. `share` of it: a browser skips a seek to where it stands.
  place(video, share = 0.5) {
    if (video.readyState === 0 || video.seeking) return;
    clearTimeout(video.confirming);
    Object.assign(video, {wanted: this.frame, share, currentTime: (this.frame + share) / this.fps});
  }

  // Of seeks that came while one was under way only the last counts. At rest the frame is asked for once more: a
  // browser under load may end a seek and keep the picture from before it on the screen.
  seeked(video) {
    if (this.playing) return;
    if (video.wanted !== this.frame) this.place(video);
    else if (video.share === 0.5) video.confirming = setTimeout(() => { if (!this.playing) this.place(video, 0.4); }, 150);
  }

  seek(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.rows - 1);
    for (const video of this.videos) this.place(video);
    if (this.playing) this.restart();
    this.onFrame(this.frame);
  }

  play() {
    if (this.playing) return;
    if (this.frame >= this.rows - 1) this.seek(0);
    this.playing = true;
    this.onState(true);
    for (const video of this.videos) { video.playbackRate = this.speed; video.play().catch(() => {}); }
    this.restart();
    this.loop = requestAnimationFrame(now => this.tick(now));
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    cancelAnimationFrame(this.loop);
    for (const video of this.videos) { video.pause(); this.place(video); }
    this.onState(false);
  }

  setSpeed(speed) {
    this.speed = speed;
    for (const video of this.videos) video.playbackRate = speed;
    this.restart();
  }

  restart() { this.began = {time: performance.now(), frame: this.frame}; }

  tick(now) {
    const master = this.videos.find(video => video.readyState > 1 && !video.ended && !video.error);
    const frame = !master ? this.began.frame + Math.floor((now - this.began.time) / 1000 * this.fps * this.speed)
      : master.seeking ? this.frame : Math.floor(master.currentTime * this.fps + 1e-6);
    if (master) {
      this.restart();
      for (const video of this.videos) {
        // One that ended stays there: taken back it would stand still and be the clock of the others.
        if (video !== master && !video.ended && !video.seeking && Math.abs(video.currentTime - master.currentTime) > 2 / this.fps) {
          video.currentTime = master.currentTime;
        }
      }
    }
    if (frame !== this.frame) { this.frame = Math.min(Math.max(frame, 0), this.rows - 1); this.onFrame(this.frame); }
    if (frame >= this.rows - 1) { this.pause(); return; }
    this.loop = requestAnimationFrame(later => this.tick(later));
  }
}
