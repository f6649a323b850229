/**
 * `tidewire/testing`: a server in memory with the rules of the real one, for the tests of apps.
 *
 * @module
 */
export type { Rule } from "./log.ts";
export { createTestServer, testToken, type Judge, type TestServer, type TestServerOptions } from "./server.ts";
export type { Faults } from "./wire.ts";
