// Bytes out of text, and cosines out of tokens: plain JavaScript, no library, no network.
"use strict";

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
const VALUES = new Uint8Array(128);
for (let i = 0; i < LETTERS.length; i++) VALUES[LETTERS.charCodeAt(i)] = i;

// Base85 of RFC 1924: five letters are a number of four bytes; the last group is cut short.
function fromBase85(text) {
  const whole = Math.ceil(text.length / 5), short = 5 * whole - text.length;
  const bytes = new DataView(new ArrayBuffer(4 * whole));
  for (let group = 0; group < whole; group++) {
    let number = 0;
    for (let at = 5 * group; at < 5 * group + 5; at++) {
      number = number * 85 + (at < text.length ? VALUES[text.charCodeAt(at)] : 84);
    }
    bytes.setUint32(4 * group, number);
  }
  return new Uint8Array(bytes.buffer, 0, 4 * whole - short);
}

async function unpack(text) {
  const stream = new Blob([fromBase85(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The tokens of one scan by one encoder: a plane a direction, whole numbers of 1 / step.
class TokenMap {
  constructor(bytes, directions, step) {
    this.count = bytes.length / directions;
    this.directions = directions;
    this.step = step;
    this.numbers = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let plane = 0; plane < directions; plane++) {
      for (let i = plane * this.count + 1; i < (plane + 1) * this.count; i++) {
        this.numbers[i] += this.numbers[i - 1]; // an Int8Array wraps, as the differences did
      }
    }
  }

  // Cosine of a token with every token of this map: the dot product of what is kept of both.
  cosines(source, index) {
    const found = new Float32Array(this.count);
    for (let plane = 0; plane < this.directions; plane++) {
      const asked = source.numbers[plane * source.count + index];
      const start = plane * this.count;
      if (asked !== 0) for (let i = 0; i < this.count; i++) found[i] += asked * this.numbers[start + i];
    }
    const unit = 1 / (this.step * this.step);
    for (let i = 0; i < this.count; i++) found[i] = Math.max(-1, Math.min(1, found[i] * unit));
    if (source === this) found[index] = 1; // of itself no part is lost
    return found;
  }
}

// Mean cosine of each structure's tokens, with their number: {label: [mean, tokens]}.
function meansByStructure(cosines, structure) {
  const sums = {};
  for (let i = 0; i < cosines.length; i++) {
    const entry = (sums[structure[i]] ??= [0, 0]);
    entry[0] += cosines[i];
    entry[1] += 1;
  }
  for (const entry of Object.values(sums)) entry[0] /= entry[1];
  return sums;
}

// The structure other than one whose mean is highest, of those with enough tokens: [label, mean].
function nearestRival(means, own, mixed, enough = 5) {
  const rivals = Object.entries(means).filter(
    ([label, [, tokens]]) => Number(label) !== own && Number(label) !== mixed && tokens >= enough,
  );
  const [label, [mean]] = rivals.reduce((best, one) => (one[1][0] > best[1][0] ? one : best));
  return [Number(label), mean];
}

// The most similar token of the body; air (0) is left out. Of equal ones the first.
function bestMatch(cosines, structure) {
  let best = -1;
  for (let i = 0; i < cosines.length; i++) {
    if (structure[i] !== 0 && (best < 0 || cosines[i] > cosines[best])) best = i;
  }
  return best;
}
