/**
 * `tidewire`: rows that are in sync with everybody else's, also after having been offline.
 *
 * @module
 */
export type { Batch, Change, ChannelOptions, NewRow, PendingWrite, RejectedWrite, Written } from "./channel.ts";
export { Channel } from "./channel.ts";
export { encrypted, type Ciphers, type SealedRow } from "./cipher.ts";
export type { Conflict, Resolution } from "./core.ts";
export type { Status } from "./effects.ts";
export type { Unsubscribe } from "./emitter.ts";
export { TidewireError, type ErrorCode, type ErrorDetails } from "./error.ts";
export { memoryStorage } from "./memory.ts";
export type { SyncOptions } from "./options.ts";
export type { Token, TokenSource } from "./passport.ts";
export type { Platform } from "./platform.ts";
export type { Present } from "./present.ts";
export type { AnySchema, ChannelOf, RowOf, Schema } from "./server/schema.ts";
export { storageIn, type Database, type Databases, type Kept, type Storage, type Write } from "./storage.ts";
export { createSync, type Sync } from "./sync.ts";
export type { Connection, Listener, Net, Transport, Where } from "./transport.ts";
export { webSocket } from "./websocket.ts";
export type { Member, Signal } from "./wire.ts";
