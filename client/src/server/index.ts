/**
 * `tidewire/server`: publishing from a backend in TypeScript, and passing sync traffic on.
 *
 * @module
 */
export { TidewireError, type ErrorCode, type ErrorDetails } from "../error.ts";
export {
  drainOutbox,
  intoOutbox,
  type Drained,
  type OutboxDatabase,
  type OutboxOptions,
  type OutboxStatement,
  type OutboxTable,
} from "./outbox.ts";
export { syncProxy, type Route, type RouteEvent } from "./proxy.ts";
export {
  createBulkPublisher,
  createPublisher,
  type BulkOptions,
  type BulkPublish,
  type Publish,
  type PublisherOptions,
  type PublishOptions,
} from "./publisher.ts";
export {
  queueConsumer,
  type QueueBatch,
  type QueuedChange,
  type QueueMessage,
  type QueueOptions,
} from "./queue.ts";
export type { Retry } from "./retry.ts";
export type {
  Action,
  AnySchema,
  Audience,
  Change,
  ChannelChange,
  ChannelOf,
  DataOf,
  Published,
  RowOf,
  Schema,
} from "./schema.ts";
export type { Fetcher, Platform, Target } from "./settings.ts";
