// Two things that only the browser knows: whether it can draw with WebGL, and what is drawn right now.

function hasWebGL() {
  try {
    return document.createElement("canvas").getContext("webgl2") !== null;
  } catch {
    return false;
  }
}

// NiiVue's own "save scene" draws and then hands the canvas to toBlob for a download. A canvas holds its picture only
// until the next frame, so this is the moment to take it; it goes to the kernel in place of the download folder.
function catchPicture(canvas, deliver) {
  const original = canvas.toBlob;
  canvas.toBlob = () => {
    canvas.toBlob = original;
    original.call(canvas, async (blob) => deliver(await blob.arrayBuffer()));
  };
}

function render({ model, el }) {
  model.set("webgl", hasWebGL());
  model.save_changes();
  const onMessage = (message) => {
    if (message.type !== "catch") return;
    const canvases = el.closest(".s2dc-explorer")?.querySelectorAll("canvas") ?? [];
    canvases.forEach((canvas, index) => {
      catchPicture(canvas, (bytes) =>
        model.send({ type: "picture", index, count: canvases.length }, undefined, [bytes]),
      );
    });
  };
  model.on("msg:custom", onMessage);
  return () => model.off("msg:custom", onMessage);
}

export default { render };
