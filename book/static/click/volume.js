// A scan in NiiVue with a map over it; the same methods as SliceView.
"use strict";

// The 352 bytes before the voxels of a NIfTI file, for a volume along the axes of the body (RAS+).
function niftiOf(values, shape, spacing, origin) {
  const type = values instanceof Float32Array ? [16, 32] : [2, 8];
  const file = new Uint8Array(352 + values.byteLength);
  const header = new DataView(file.buffer);
  header.setInt32(0, 348, true);
  [3, ...shape, 1, 1, 1, 1].forEach((side, i) => header.setInt16(40 + 2 * i, side, true));
  header.setInt16(70, type[0], true);
  header.setInt16(72, type[1], true);
  [1, spacing, spacing, spacing, 1, 1, 1, 1].forEach((side, i) => header.setFloat32(76 + 4 * i, side, true));
  header.setFloat32(108, 352, true);
  header.setFloat32(112, 1, true);
  header.setUint8(123, 2); // mm
  header.setInt16(254, 1, true); // the sform says where it lies
  for (let axis = 0; axis < 3; axis++) {
    header.setFloat32(280 + 20 * axis, spacing, true);
    header.setFloat32(292 + 16 * axis, origin, true);
  }
  file.set([110, 43, 49, 0], 344); // "n+1"
  file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 352);
  return file.buffer;
}

// Drawn by a processor alone, NiiVue takes a second for what slices show at once; the address may ask for it all the same.
function canDrawVolumes() {
  const asked = new URLSearchParams(location.search).get("viewer") === "niivue";
  try {
    return document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: !asked }) !== null;
  } catch {
    return false;
  }
}

class VolumeView {
  constructor(canvas, space, layout) {
    Object.assign(this, { canvas, space, layout });
    // What is clicked is the page's concern. NiiVue would also keep a finger from scrolling the page.
    for (const type of "mousedown mousemove mouseup touchstart touchmove touchend wheel dblclick keyup".split(" ")) {
      canvas.addEventListener(type, (event) => event.stopImmediatePropagation(), { capture: true });
    }
    this.viewer = new window.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairGap: 4,
      crosshairWidth: 1,
      dragAndDropEnabled: false,
      isRadiologicalConvention: true,
      logLevel: "error",
      multiplanarShowRender: 0,
    });
  }

  // Show a scan; the first time that loads two volumes, later only voxels are exchanged.
  async open(grey) {
    const { viewer, space } = this;
    if (viewer.volumes.length) {
      viewer.volumes[0].img.set(grey);
      viewer.refreshLayers(viewer.volumes[0], 0);
      return;
    }
    await viewer.attachToCanvas(this.canvas, false);
    const blank = new Float32Array(space.grid[0] * space.grid[1] * space.grid[2]);
    const first = space.spacing * ((space.patch - 1) / 2);
    await viewer.loadFromArrayBuffer(niftiOf(grey, space.shape, space.spacing, 0), "scan.nii");
    await viewer.loadFromArrayBuffer(niftiOf(blank, space.grid, space.spacing * space.patch, first), "map.nii");
    Object.assign(viewer.volumes[0], { cal_min: 0, cal_max: 255 });
    Object.assign(viewer.volumes[1], { colormapType: 1 });
    const entries = [...Array(256).keys()];
    const [R, G, B] = [0, 1, 2].map((part) => entries.map((entry) => space.colours[3 * entry + part]));
    viewer.addColormap("cosines", { R, G, B, A: entries.map(() => 255), I: entries }); // as the bar and the slices
    viewer.setColormap(viewer.volumes[1].id, "cosines");
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    const types = { 2: viewer.sliceTypeCoronal, 1: viewer.sliceTypeAxial };
    viewer.setCustomLayout(this.layout.map((tile) => ({ sliceType: types[tile.down], position: tile.place })));
  }

  show(map, voxel, colour) {
    const { viewer } = this;
    const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
    viewer.volumes[1].img.set(map);
    viewer.opts.crosshairColor = [...rgb, 1];
    viewer.scene.crosshairPos = viewer.vox2frac(voxel);
    this.redraw();
  }

  look(threshold, opacity) {
    Object.assign(this.viewer.volumes[1], { cal_min: threshold, cal_max: 1, opacity });
    this.redraw();
  }

  redraw() {
    this.viewer.refreshLayers(this.viewer.volumes[1], 1); // the map alone: the scan below it stays
    this.viewer.drawScene();
  }

  // The voxel at a place of the view, in pixels of the page, or null beside the slices.
  voxelAt(x, y) {
    const { viewer, space } = this;
    const part = viewer.canvasPos2frac([x * viewer.uiData.dpr, y * viewer.uiData.dpr]);
    if (part[0] < 0) return null;
    return Array.from(part, (v, axis) => Math.max(0, Math.min(space.shape[axis] - 1, Math.floor(v * space.shape[axis]))));
  }
}
