"use strict";

/* What the scripts of all pages use. */

const $ = (id) => document.getElementById(id);

/* Return a part of a bundle that the page holds itself, in a hidden element. */
async function loadEmbedded(id, name) {
  const find = () => $(`${id}/${name}`);
  // While the page loads, an element is complete when something follows it.
  while (!find()?.nextSibling && document.readyState === "loading") await new Promise((done) => setTimeout(done, 50));
  const text = find().textContent;
  return (Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))).buffer;
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* Return where a pointer is, as a share of an element's width. */
function locate(element, event) {
  const { left, width } = element.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - left) / width, 0), 1);
}

function formatLevel(gain) {
  return gain < 0.001 ? "silent" : `${(20 * Math.log10(gain)).toFixed(1)} dB`;
}
