/**
 * `tidewire/server`: publishing from a backend in TypeScript, passing sync traffic on, and answering
 * for channels whose rows are the app's own.
 *
 * @module
 */
export type { AnyHandler, SyncSession, UserOf } from "./context.ts";
export {
  defineSync,
  Repeated,
  repeated,
  type Fetched,
  type Handshake,
  type Operation,
  type Page,
  type SchemaOf,
  type Scope,
  type SyncAuth,
  type SyncContext,
  type SyncHandler,
  type SyncHandlerConfig,
  type SyncPlatform,
  type Validator,
} from "./define.ts";
export { TidewireError, type ErrorCode, type ErrorDetails } from "../error.ts";
export { syncHooks, type HooksOptions, type HooksRoute } from "./hooks.ts";
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
