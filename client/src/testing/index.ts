/**
 * `tidewire/testing`: a server in memory with the rules of the real one, for the tests of apps.
 *
 * @module
 */
export type { Rule } from "./log.ts";
export { testChannelToken, testToken, type TestChannelClaims, type TestClaims } from "./grants.ts";
export type { Publish, PublishEvent } from "./publishing.ts";
export { createTestServer, type Judge, type Published, type TestServer, type TestServerOptions } from "./server.ts";
export type { Faults } from "./wire.ts";
