// Server-sent events, read from the body of an answer.

export interface ServerEvent {
  readonly data: string;
  /** The last id so far. */
  readonly id: string;
}

/** The events of a stream; `heard` is called for whatever comes, pings too. */
export async function* eventsOf(body: ReadableStream<Uint8Array>, heard: () => void): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let id = "";
  let data: string[] = [];
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      heard();
      const lines = (rest + decoder.decode(next.value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const text = line.replace(/\r$/, "");
        const [, field, value = ""] = /^([^:]*):? ?(.*)$/.exec(text) ?? [];
        if (field === "data") data.push(value);
        else if (field === "id") id = value;
        else if (text === "" && data.length > 0) {
          yield { data: data.join("\n"), id };
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
