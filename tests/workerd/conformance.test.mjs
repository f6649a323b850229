// The conformance suite against both Workers, over every transport and in every profile.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { casesOf, missing, play, required, server } from "../../conformance/suite.mjs";
import { Target } from "../../conformance/target.mjs";
import { secrets, start } from "./harness.mjs";

for (const [profile, vars] of Object.entries(server)) {
  describe(`as conformance/server.json says, ${profile}`, () => {
    let workers;
    let target;
    before(async () => {
      workers = await start({ vars });
      target = new Target({ url: workers.origin, secret: secrets.JWT_SECRET, publishKey: secrets.PUBLISH_KEY });
    });
    after(() => workers?.stop());

    for (const transport of Object.keys(required[profile])) {
      const results = [];
      describe(`over ${transport}`, () => {
        for (const one of casesOf(profile, transport)) {
          test(one.id, async () => {
            const fault = await play(target, one, transport);
            results.push({ transport, id: one.id, fault });
            assert.equal(fault, undefined, fault);
          });
        }

        test("no required case is left out", () => {
          assert.deepEqual(missing(results, { profile, transports: [transport] }), []);
        });
      });
    }
  });
}
