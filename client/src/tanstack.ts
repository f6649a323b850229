/**
 * `tidewire/tanstack`: a channel as a TanStack DB collection, with its live queries and optimistic
 * transactions in React, Svelte, Vue and Solid.
 *
 * @module
 */
import type { CollectionConfig, MutationFnParams, PendingMutation, SyncConfig } from "@tanstack/db";
import type { Channel, NewRow } from "./channel.ts";
import type { ChannelOf, RowOf, Schema } from "./server/schema.ts";
import type { Sync } from "./sync.ts";

type Keyed<Row> = Row extends { readonly id: string } ? Row : never;

interface Common {
  /** By default the channel's name. */
  readonly id?: string;
  /**
   * When a transaction counts as persisted: `local`, once it is kept on this device, so that it does not
   * wait for a network; a refusal takes its rows back later. Or `confirmed`, once the server has it: a
   * refusal fails the transaction, and while it waits the collection shows nothing new.
   */
  readonly until?: "local" | "confirmed";
}

interface Named<S extends Schema<S>, C> extends Common {
  readonly sync: Sync<S>;
  /** The channel's name. */
  readonly channel: C;
}

interface Given<Row extends object> extends Common {
  readonly sync: Pick<Sync, "status">;
  /** The channel's name, or the channel itself where it has options. */
  readonly channel: string | Channel<Row>;
}

/** What `createCollection` takes. */
export type TidewireCollection<Row extends object> = CollectionConfig<Row, string> & {
  readonly utils: { readonly channel: Channel<Row> };
};

/** Options for `createCollection`. Writes to the collection are writes to the channel. */
export function tidewireCollectionOptions<S extends Schema<S>, C extends ChannelOf<S>>(
  options: Named<S, C>,
): TidewireCollection<Keyed<RowOf<S, C>>>;
export function tidewireCollectionOptions<Row extends { readonly id: string }>(options: Given<Row>): TidewireCollection<Row>;
export function tidewireCollectionOptions<Row extends { readonly id: string }>(options: Given<Row>): TidewireCollection<Row> {
  const { until = "local" } = options;
  const byName = (name: string) => (options.sync as unknown as Sync).channel(name) as unknown as Channel<Row>;
  const channel = typeof options.channel === "string" ? byName(options.channel) : options.channel;

  const sync: SyncConfig<Row, string>["sync"] = ({ begin, write, commit, markReady, markError }) => {
    const show = (changes: Iterable<{ key: string; row: Row | undefined; previous?: Row | undefined }>) => {
      begin();
      for (const { key, row, previous } of changes) {
        if (row === undefined) write({ type: "delete", key });
        else write({ type: previous === undefined ? "insert" : "update", value: row });
      }
      void commit();
    };
    show(channel.rows.map((row) => ({ key: row.id, row })));
    const end = channel.subscribe(({ changes }) => show(changes));
    // What was in sync once is usable at once, also without a network.
    channel.restored.then(() => channel.isKept && markReady(), () => {});
    channel.ready.then(() => markReady(), markError);
    return end;
  };

  const persist =
    (make: (mutation: PendingMutation<Row>) => { readonly local: Promise<void>; readonly confirmed: Promise<unknown> }) =>
    async ({ transaction }: MutationFnParams<Row>): Promise<void> => {
      const written = (transaction.mutations as PendingMutation<Row>[]).map(make);
      await Promise.all(written.map((one) => one[until]));
    };

  return {
    id: options.id ?? channel.name,
    getKey: (row) => row.id,
    sync: { sync, rowUpdateMode: "full" },
    onInsert: persist(({ modified }) => channel.create(modified as unknown as NewRow<Row>)),
    onUpdate: persist(({ key, changes }) => channel.update(String(key), changes as Partial<Omit<Row, "id">>)),
    onDelete: persist(({ key }) => channel.delete(String(key))),
    utils: { channel },
  };
}
