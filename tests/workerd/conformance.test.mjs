// The conformance suite through both Workers and on the sync Worker alone, over every transport and in every profile.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { cases, casesOf, isLong, missing, play, required, server } from "../../conformance/suite.mjs";
import { Target } from "../../conformance/target.mjs";
import { secrets, start } from "./harness.mjs";

const where = (url) => ({ url, secret: secrets.JWT_SECRET, publishKey: secrets.PUBLISH_KEY });

/** A server whose sockets are tampered with: `said` is what arrives of a frame, `heard` what comes back, if any. */
class Tampered extends Target {
  patience = 3_000;

  constructor(options, { said = (text) => text, heard = (text) => text }) {
    super(options);
    Object.assign(this, { said, heard });
  }

  async upgrade(path, { listener, ...given }) {
    const frame = (text) => {
      const heard = this.heard(text);
      if (heard !== undefined) listener.frame(heard);
    };
    const answer = await super.upgrade(path, { ...given, listener: { ...listener, frame } });
    return { ...answer, send: (text) => answer.send(this.said(text)) };
  }
}

/** Servers that are wrong for legacy clients, and the message that is then not as it should be. */
const faults = {
  "ignores since": [{ said: (text) => text.replace(/"since":\d+/, '"since":null') }, "snapshot"],
  "has no margin": [{ heard: (text) => text.replace('{"id":"k1"},', "") }, "snapshot"],
  "tells no deletions": [{ heard: (text) => (text.includes('"batch"') ? undefined : text) }, "batch"],
};

/** The profile's cases against a deployment, and legacy.since against servers that are wrong. */
function suite(profile, workers) {
  const settings = Object.entries(server[profile]);
  const results = [];
  const begun = new Map();
  const long = Object.keys(required[profile]).flatMap((transport) =>
    casesOf(profile, transport).filter(isLong).map((one) => ({ transport, one })),
  );
  const wrong = profile === "plain" ? Object.entries(faults) : [];
  let deployment;
  let target;

  before(async () => {
    // Null is not set.
    const vars = Object.fromEntries(settings.map(([name, value]) => [name, value ?? undefined]));
    deployment = await start({ vars, workers });
    target = new Target(where(deployment.origin));
    for (const each of long) begun.set(each, play(target, each.one, each.transport));
    const since = cases.find(({ id }) => id === "legacy.since");
    for (const [name, [tamper]] of wrong) {
      begun.set(name, play(new Tampered(where(deployment.origin), tamper), since, "ws"));
    }
  });
  after(() => deployment?.stop());

  function judge(transport, id, fault) {
    results.push({ transport, id, fault });
    assert.equal(fault, undefined, fault);
  }

  for (const transport of Object.keys(required[profile])) {
    describe(`over ${transport}`, () => {
      for (const one of casesOf(profile, transport).filter((other) => !isLong(other))) {
        test(one.id, async () => judge(transport, one.id, await play(target, one, transport)));
      }
    });
  }

  for (const each of long) {
    const { transport, one } = each;
    test(`over ${transport}, meanwhile: ${one.id}`, async () => judge(transport, one.id, await begun.get(each)));
  }

  test("no required case is left out", () => assert.deepEqual(missing(results, { profile }), []));

  for (const [name, [, message]] of wrong) {
    test(`legacy.since finds a server that ${name}`, async () => {
      const fault = await begun.get(name);
      assert.match(fault ?? "it passed", new RegExp(`^step \\d+, {"expect":"alice","message":{"type":"${message}"`));
    });
  }
}

const deployments = { "through the app Worker": ["app", "sync"], "on the sync Worker itself": ["sync"] };

// Most of it is waiting: both at once take hardly longer than one. Within each, one follows the other.
describe("the suite", { concurrency: true }, () => {
  for (const [name, workers] of Object.entries(deployments)) {
    describe(name, { concurrency: false }, () => {
      for (const profile of Object.keys(server)) {
        describe(`as conformance/server.json says, ${profile}`, () => suite(profile, workers));
      }
    });
  }
});
