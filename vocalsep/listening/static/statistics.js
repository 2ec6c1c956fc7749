"use strict";

/* The statistics of blind tests, exact. */

const CONFIDENCE = 0.95;

/* Return the probability of at least `right` of `count` right answers, if each is right with a probability. */
function binomialTail(right, count, probability = 0.5) {
  if (right <= 0) return 1;
  let log = 0; // of the number of ways to be right k times
  let sum = 0;
  for (let k = 0; k <= count; k++) {
    if (k) log += Math.log((count - k + 1) / k);
    if (k >= right) sum += Math.exp(log + k * Math.log(probability) + (count - k) * Math.log1p(-probability));
  }
  return Math.min(1, sum);
}

/* Return the p value of the two-sided sign test: how often a toss of coins is at least as uneven. */
function signTest(first, second) {
  return Math.min(1, 2 * binomialTail(Math.max(first, second), first + second));
}

/* Return the exact interval of a share (Clopper and Pearson, 1934), [low, high]. */
function findInterval(hits, count) {
  const tail = (1 - CONFIDENCE) / 2;
  const solve = (isBelow) => {
    let [low, high] = [0, 1];
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      if (isBelow(middle)) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  };
  const low = hits ? solve((share) => binomialTail(hits, count, share) < tail) : 0;
  const high = hits < count ? solve((share) => 1 - binomialTail(hits + 1, count, share) > tail) : 1;
  return [low, high];
}

/* Return a random whole number below a limit, from the browser's secure source. */
function drawNumber(limit) {
  const [value] = crypto.getRandomValues(new Uint32Array(1));
  return value < Math.floor(2 ** 32 / limit) * limit ? value % limit : drawNumber(limit);
}

function shuffle(values) {
  const shuffled = [...values];
  for (let place = shuffled.length - 1; place > 0; place--) {
    const other = drawNumber(place + 1);
    [shuffled[place], shuffled[other]] = [shuffled[other], shuffled[place]];
  }
  return shuffled;
}

/* Return a quantile of sorted values, interpolated. */
function findQuantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  return sorted[low] + ((sorted[low + 1] ?? sorted[low]) - sorted[low]) * (place - low);
}
