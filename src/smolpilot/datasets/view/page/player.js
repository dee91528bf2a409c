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
      // Seeks that came while one was under way: only the last of them counts.
      video.addEventListener("seeked", () => { if (!this.playing && video.wanted !== this.frame) this.place(video); });
      return video;
    });
    this.container.replaceChildren(...this.videos.map((video, i) => html("figure", {}, video, html("figcaption", {textContent: entries[i][0]}))));
  }

  // The middle of a frame's time: no rounding shows its neighbour.
  place(video) {
    if (video.readyState === 0 || video.seeking) return;
    video.wanted = this.frame;
    video.currentTime = (this.frame + 0.5) / this.fps;
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
        if (video !== master && !video.seeking && Math.abs(video.currentTime - master.currentTime) > 2 / this.fps) {
          video.currentTime = master.currentTime;
        }
      }
    }
    if (frame !== this.frame) { this.frame = Math.min(Math.max(frame, 0), this.rows - 1); this.onFrame(this.frame); }
    if (frame >= this.rows - 1) { this.pause(); return; }
    this.loop = requestAnimationFrame(later => this.tick(later));
  }
}
