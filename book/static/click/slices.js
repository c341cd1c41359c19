// The same view without a graphics card: two slices on a plain canvas, coloured patch by patch.
"use strict";

class SliceView {
  // layout: of each slice the axis that runs down it, and its place as fractions of the view: left, top, width, height.
  constructor(canvas, space, layout) {
    Object.assign(this, { canvas, space, layout, map: null, threshold: 0, opacity: 1, colour: "#ffffff" });
    this.voxel = space.shape.map((side) => side >> 1);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  async open(grey) {
    this.grey = grey;
  }

  show(map, voxel, colour) {
    Object.assign(this, { map, voxel, colour });
    this.draw();
  }

  look(threshold, opacity) {
    Object.assign(this, { threshold, opacity });
    this.draw();
  }

  // The voxel at a place of the view, in pixels of the page, or null beside the slices.
  voxelAt(x, y) {
    const at = [x / this.canvas.clientWidth, y / this.canvas.clientHeight];
    for (const tile of this.layout) {
      const [across, down] = [0, 1].map((axis) => (at[axis] - tile.place[axis]) / tile.place[axis + 2]);
      if (across < 0 || across >= 1 || down < 0 || down >= 1) continue;
      const voxel = [...this.voxel];
      voxel[0] = Math.floor((1 - across) * this.space.shape[0]); // the patient's right is on the left
      voxel[tile.down] = Math.floor((1 - down) * this.space.shape[tile.down]);
      return voxel;
    }
    return null;
  }

  draw() {
    if (!this.grey) return;
    const { canvas, layout } = this;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const context = canvas.getContext("2d");
    context.fillStyle = "#000000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (const tile of layout) {
      const [x, y, width, height] = tile.place.map((part, i) => part * (i % 2 ? canvas.height : canvas.width));
      context.drawImage(this.slice(tile.down), x, y, width, height);
      const across = x + (1 - (this.voxel[0] + 0.5) / this.space.shape[0]) * width;
      const down = y + (1 - (this.voxel[tile.down] + 0.5) / this.space.shape[tile.down]) * height;
      context.strokeStyle = this.colour;
      context.lineWidth = devicePixelRatio;
      context.strokeRect(x, down, width, 0);
      context.strokeRect(across, y, 0, height);
      this.name(context, tile.down === 2 ? "S" : "A", x + width / 2, y + 8 * devicePixelRatio);
      this.name(context, "R", x + 8 * devicePixelRatio, y + height / 2);
    }
  }

  // A direction of the body: R right, S up to the head, A to the front.
  name(context, letter, x, y) {
    Object.assign(context, { font: `${11 * devicePixelRatio}px sans-serif`, fillStyle: "#aaaaaa" });
    Object.assign(context, { textAlign: "center", textBaseline: "middle" });
    context.fillText(letter, x, y);
  }

  // One slice as a picture: grey, and over it the map where it reaches the threshold.
  slice(down) {
    const { shape, grid, patch, colours } = this.space;
    const picture = new ImageData(shape[0], shape[down]);
    const voxel = [...this.voxel];
    for (let row = 0, to = 0; row < shape[down]; row++) {
      voxel[down] = shape[down] - 1 - row;
      for (let column = 0; column < shape[0]; column++, to += 4) {
        voxel[0] = shape[0] - 1 - column;
        const grey = this.grey[voxel[0] + shape[0] * (voxel[1] + shape[1] * voxel[2])];
        const [a, b, c] = [voxel[0] / patch | 0, voxel[1] / patch | 0, voxel[2] / patch | 0];
        const cosine = this.map ? this.map[a + grid[0] * (b + grid[1] * c)] : -1;
        const part = cosine >= this.threshold ? this.opacity : 0;
        const entry = 3 * Math.round(255 * Math.max(0, (cosine - this.threshold) / (1 - this.threshold)));
        for (let k = 0; k < 3; k++) picture.data[to + k] = (1 - part) * grey + part * (colours[entry + k] ?? 0);
        picture.data[to + 3] = 255;
      }
    }
    const canvas = new OffscreenCanvas(shape[0], shape[down]);
    canvas.getContext("2d").putImageData(picture, 0, 0);
    return canvas;
  }
}
