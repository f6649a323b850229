// Every bound of the hooks, each with its unit and reason.

/** What the sync Worker asks fits easily; the bound is that of every other body. */
export const QUESTION_BYTES = 8 * 1024 * 1024;

/** The sync Worker reads no more of an answer. */
export const ANSWER_BYTES = 8 * 1024 * 1024;

/** How far off a signature's time may be, either way: what Standard Webhooks advises. */
export const TOLERANCE_SECONDS = 300;

/** How many signatures of a question are looked at: a sync Worker that changes its secret makes two. */
export const SIGNATURES = 4;

/** How long a signature is: that of HMAC-SHA-256. What is of another length is none. */
export const SIGNATURE_BYTES = 32;

/** An audience has at most so many topics. */
export const AUDIENCE_TOPICS = 64;

/** The last millisecond that a date can be. */
export const LAST_MS = 8_640_000_000_000_000;
