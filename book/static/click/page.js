// The page: two scans, a click in one of them, and what three encoders make of it.
"use strict";

const CLICKED = "#00e5ff", FOUND = "#7dff6b";
const SIDES = ["left", "right"], AIR = 0;

class ClickPage {
  constructor(root, data) {
    Object.assign(this, { root, data, sides: {}, maps: {}, encoder: "s2dc", clicked: "left" });
    const shape = data.grid.map((side) => side * data.patch);
    this.space = { ...data, shape, colours: data.colours };
    const [, front, top] = shape;
    const share = top / (top + front);
    this.layout = [{ down: 2, place: [0, 0, 1, share] }, { down: 1, place: [0, share, 1, 1 - share] }];
    this.$("bodies").style.setProperty("--shape", `${shape[0]} / ${top + front}`);
  }

  $(name) {
    return this.root.querySelector(`.click-${name}`);
  }

  async start() {
    const View = await this.viewClass();
    await this.unpackAll();
    for (const side of SIDES) {
      const figure = this.$(side);
      const canvas = figure.querySelector("canvas");
      const view = new View(canvas, this.space, this.layout);
      this.sides[side] = { figure, view, scan: side === "left" ? "one" : "two" };
      this.hear(side, canvas, view);
      await view.open(this.scan(side).grey);
    }
    this.listen();
    this.look();
    this.ask("left", this.bodyOf("left").places[this.labelOf("liver")]);
    this.root.dataset.ready = "yes";
  }

  // NiiVue where the browser can, else slices, and a sentence that says so.
  async viewClass() {
    if (canDrawVolumes()) {
      try {
        const script = document.createElement("script");
        script.textContent = new TextDecoder().decode(await unpack(window.S2DC_NIIVUE));
        document.head.append(script);
        if (window.Niivue) return VolumeView;
      } catch (error) {
        console.error(error);
      }
    }
    this.$("fallback").hidden = false;
    return SliceView;
  }

  async unpackAll() {
    for (const body of Object.values(this.data.bodies)) {
      [body.tissue, body.structure] = await Promise.all([unpack(body.tissue), unpack(body.structure)]);
    }
    for (const [name, scan] of Object.entries(this.data.scans)) {
      scan.grey = await unpack(scan.grey);
      this.maps[name] = {};
      for (const [encoder, { directions }] of Object.entries(this.data.encoders)) {
        this.maps[name][encoder] = new TokenMap(await unpack(scan.tokens[encoder]), directions, this.data.step);
      }
    }
  }

  // A mouse asks where it is pressed and dragged; a finger where it taps, so that it can scroll the page as well.
  hear(side, canvas, view) {
    const voxelAt = (event) => {
      const box = canvas.getBoundingClientRect();
      return view.voxelAt(event.clientX - box.left, event.clientY - box.top);
    };
    const point = (event) => {
      const voxel = voxelAt(event);
      if (voxel) this.ask(side, voxel);
    };
    canvas.addEventListener("pointerdown", (event) => event.pointerType === "mouse" && event.button === 0 && point(event));
    canvas.addEventListener("click", (event) => event.pointerType !== "mouse" && point(event));
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && event.buttons === 1) point(event);
      this.tellName(side, voxelAt(event));
    });
    canvas.addEventListener("pointerleave", () => this.tellName(side, null));
    canvas.addEventListener("keydown", (event) => this.step(side, event), { capture: true });
  }

  listen() {
    this.root.addEventListener("change", ({ target }) => {
      if (target.name === "encoder") this.encoder = target.value;
      if (target.name === "scan") this.changeScan(target.value);
      if (target.name === "place" && target.value) {
        this.ask("left", this.bodyOf("left").places[target.value]);
        return;
      }
      this.update();
    });
    this.root.addEventListener("input", ({ target }) => {
      if (target.type === "range") this.look();
    });
    const choices = Object.keys(this.bodyOf("left").places).map((label) => new Option(this.data.names[label], label));
    this.root.querySelector("[name=place]").append(...choices);
  }

  scan(side) {
    return this.data.scans[this.sides[side].scan];
  }

  bodyOf(side) {
    return this.data.bodies[this.scan(side).body];
  }

  labelOf(name) {
    return Number(Object.keys(this.data.names).find((label) => this.data.names[label] === name));
  }

  changeScan(name) {
    this.sides.right.scan = name;
    this.sides.right.view.open(this.scan("right").grey);
  }

  look() {
    const [threshold, opacity] = ["threshold", "opacity"].map((name) => Number(this.root.querySelector(`[name=${name}]`).value));
    for (const side of SIDES) this.sides[side].view.look(threshold, opacity);
    this.$("low").textContent = threshold.toFixed(2);
  }

  // A voxel is asked about; many at once, as while dragging, are answered once a frame.
  ask(side, voxel) {
    Object.assign(this, { clicked: side, voxel });
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.update();
    });
  }

  // Arrow keys move by one patch as it looks on the screen: the patient's right is on the left.
  step(side, event) {
    event.stopImmediatePropagation(); // NiiVue has keys of its own
    const moves = {
      ArrowLeft: [0, 1], ArrowRight: [0, -1], ArrowUp: [2, 1], ArrowDown: [2, -1], PageUp: [1, 1], PageDown: [1, -1],
    };
    const encoders = Object.keys(this.data.encoders);
    if (moves[event.key]) {
      const [axis, sign] = moves[event.key];
      const voxel = [...(side === this.clicked ? this.voxel : this.found)];
      voxel[axis] = Math.max(0, Math.min(this.space.shape[axis] - 1, voxel[axis] + sign * this.data.patch));
      this.ask(side, voxel);
    } else if (encoders[event.key - 1]) {
      this.root.querySelector(`[name=encoder][value=${encoders[event.key - 1]}]`).click();
    } else return;
    event.preventDefault();
  }

  tokenAt(voxel) {
    const [a, b, c] = voxel.map((v) => Math.floor(v / this.data.patch));
    return a + this.data.grid[0] * (b + this.data.grid[1] * c);
  }

  // The voxel in the middle of a token.
  middleOf(token) {
    const [x, y] = this.data.grid;
    const cell = [token % x, Math.floor(token / x) % y, Math.floor(token / (x * y))];
    return cell.map((c) => c * this.data.patch + (this.data.patch >> 1) - 1);
  }

  tissueAt(side, voxel) {
    const [x, y] = this.space.shape;
    return this.bodyOf(side).tissue[voxel[0] + x * (voxel[1] + y * voxel[2])];
  }

  tellName(side, voxel) {
    const name = voxel ? this.data.names[this.tissueAt(side, voxel)] : "";
    this.sides[side].figure.querySelector("output").textContent = name;
  }

  // What one encoder makes of the clicked voxel, in both scans.
  answer(encoder) {
    const other = SIDES.find((side) => side !== this.clicked);
    const [source, target] = [this.clicked, other].map((side) => this.maps[this.sides[side].scan][encoder]);
    const token = this.tokenAt(this.voxel), own = this.tissueAt(this.clicked, this.voxel);
    const here = source.cosines(source, token), there = target.cosines(source, token);
    const means = meansByStructure(here, this.bodyOf(this.clicked).structure);
    const best = bestMatch(there, this.bodyOf(other).structure);
    const found = this.middleOf(best);
    const structure = this.tissueAt(other, found);
    const rival = nearestRival(means, own, this.data.mixed);
    return { other, own, here, there, means, rival, found, cosine: there[best], structure };
  }

  update() {
    const answers = {};
    for (const encoder of Object.keys(this.data.encoders)) answers[encoder] = this.answer(encoder);
    const shown = answers[this.encoder];
    this.found = shown.found;
    const [here, there] = [this.clicked, shown.other].map((side) => this.sides[side].view);
    here.show(shown.here, this.voxel, CLICKED);
    there.show(shown.there, shown.found, FOUND);
    this.tell(answers);
  }

  tell(answers) {
    const { names, encoders } = this.data, shown = answers[this.encoder];
    for (const side of SIDES) {
      const { figure } = this.sides[side];
      figure.querySelector("b").textContent = this.scan(side).title;
      figure.querySelector("i").textContent = side === this.clicked ? "clicked" : "best match";
      figure.dataset.role = side === this.clicked ? "clicked" : "found";
    }
    const clicked = this.scan(this.clicked).title, other = this.scan(shown.other).title;
    const found = `<b>${names[shown.structure]}</b> in ${other}, cosine ${shown.cosine.toFixed(2)}.`;
    this.$("say").innerHTML =
      `Clicked: <b>${names[shown.own]}</b> in ${clicked}. ` +
      (shown.own === AIR ? "Matches are sought in the body alone." : `Best match (${encoders[this.encoder].title}): ${found}`);
    this.$("rows").innerHTML = Object.entries(answers).map(([encoder, one]) => this.row(encoder, one)).join("");
  }

  row(encoder, { own, means, rival, structure, cosine }) {
    const { names, encoders } = this.data;
    const inside = means[own] ? means[own][0].toFixed(2) : "no patch of its own";
    const match = `${structure === own ? "✓" : "✗"} ${names[structure]} ${cosine.toFixed(2)}`;
    return (
      `<tr${encoder === this.encoder ? ' class="click-chosen"' : ""}><th scope="row">${encoders[encoder].title}</th>` +
      `<td>${inside}</td><td>${names[rival[0]]} ${rival[1].toFixed(2)}</td><td>${own === AIR ? "–" : match}</td></tr>`
    );
  }
}

function startClickPage() {
  const root = document.getElementById("click");
  const page = new ClickPage(root, window.S2DC_DATA);
  window.S2DC_PAGE = page; // for tests, and for those who look with the browser's console
  page.start().catch((error) => {
    console.error(error);
    page.$("say").textContent = "This page could not start here: it takes a browser of 2023 or later.";
  });
}

startClickPage();
