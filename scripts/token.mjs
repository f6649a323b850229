#!/usr/bin/env node
// Prints a token for local development: HS256, signed with the JWT_SECRET of .dev.vars.
//   scripts/token.mjs alice [--ttl seconds] [--topics a,b] [--space name]
import { createHmac } from "node:crypto";
import fs from "node:fs";
import { parseArgs, parseEnv } from "node:util";

const usage = "usage: scripts/token.mjs identity [--ttl seconds] [--topics a,b] [--space name]";

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

function readArguments() {
  const text = { type: "string" };
  const options = { ttl: { ...text, default: "86400" }, topics: text, space: text };
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    fail(`${error.message}\n${usage}`);
  }
}

function readSecret() {
  const file = process.env.ENV_FILE || new URL("../.dev.vars", import.meta.url);
  try {
    const secret = parseEnv(fs.readFileSync(file, "utf8")).JWT_SECRET;
    return secret || fail("the file of settings has no JWT_SECRET");
  } catch (error) {
    fail(`cannot read the settings (${error.code}); run make dev, or copy .dev.vars.example to .dev.vars`);
  }
}

const { values, positionals } = readArguments();
const ttl = Number(values.ttl);
if (positionals.length !== 1 || !Number.isFinite(ttl)) fail(usage);

const now = Math.floor(Date.now() / 1000);
const claims = {
  sub: positionals[0],
  iat: now,
  exp: now + ttl,
  ...(values.topics && { topics: values.topics.split(",") }),
  ...(values.space && { space: values.space }),
};
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
const signature = createHmac("sha256", readSecret()).update(signed).digest("base64url");
console.log(`${signed}.${signature}`);
