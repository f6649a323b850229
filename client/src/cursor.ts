// What a client may read of a cursor: its epoch and its seq. All else passes through.

function parts(cursor: string): [epoch: string, seq: number] {
  const [epoch = "", seq = ""] = cursor.split(".", 2);
  return [epoch, Number(seq)];
}

/** Whether both are of one epoch, and the first of an earlier seq. */
export function isBefore(cursor: string, other: string): boolean {
  const [epoch, seq] = parts(cursor);
  const [otherEpoch, otherSeq] = parts(other);
  return epoch === otherEpoch && seq < otherSeq;
}

/**
 * Whether a copy at `cursor` needs nothing more of a write that was acknowledged at `written`:
 * it is there, or belongs to a log that is no more.
 */
export function covers(cursor: string | undefined, written: string): boolean {
  return cursor !== undefined && !isBefore(cursor, written);
}
