// The steps of a case: each verb does one thing, and throws where the answer is not as it should be.
import { verbOf } from "./grammar.mjs";
import { fill, misfit } from "./pattern.mjs";
import { parties } from "./parties.mjs";

/** One case under way, over one transport, in a space of its own. */
export class Conversation {
  names = {};
  parties = new Map();
  claims = new Map();
  #ids = 0;

  constructor(target, transport, space) {
    Object.assign(this, { target, transport, space });
    this.names.space = space;
  }

  nextId = () => `conformance-${(this.#ids += 1)}`;

  tokens = (claims) => this.target.token({ space: this.space, ...claims });

  fill(value) {
    return fill(value, this.names, this.tokens);
  }

  /** Holds what came to what a step expects; `what` says where it came from. */
  fits(value, pattern, what) {
    if (pattern === undefined) throw new Error(`nothing says what is expected of ${what}`);
    const why = misfit(value, this.fill(pattern), this.names);
    if (why !== undefined) throw new Error(`${what}: ${why}\n  in ${JSON.stringify(value)?.slice(0, 800)}`);
  }

  /** The same where a step may leave it open. */
  mayFit(value, pattern, what) {
    if (pattern !== undefined) this.fits(value, pattern, what);
  }

  party(name) {
    const party = this.parties.get(name);
    if (party === undefined) throw new Error(`${name} has not come`);
    return party;
  }

  /** Somebody by name, who is that user unless a step says else. */
  come(name, as) {
    if (as !== undefined || !this.claims.has(name)) this.claims.set(name, as === undefined ? { sub: name } : as);
    this.parties.get(name)?.drop();
    const claims = this.claims.get(name);
    const party = new parties[this.transport](this, name, claims === null ? null : this.fill(claims));
    party.copies = this.parties.get(name)?.copies ?? party.copies;
    this.parties.set(name, party);
    return party;
  }

  /** A notice of a channel was published: who reads it as a stream is told. */
  isToNotice(channel) {
    for (const party of this.parties.values()) party.isToNotice?.(channel);
  }

  /** What a case should not leave behind: answers that nobody asked for. */
  finish() {
    const left = (party) => party.leftovers().map((message) => [party.name, message]);
    const rest = [...this.parties.values()].flatMap(left);
    if (rest.length > 0) throw new Error(`was not expected: ${JSON.stringify(rest).slice(0, 800)}`);
  }

  end() {
    for (const party of this.parties.values()) party.drop();
  }

  async step(step) {
    for (const [name, value] of Object.entries(step.keep ?? {})) this.names[name] = this.fill(value);
    await verbs[verbOf(step)](this, step);
  }
}

/** The place of a reader, where a step says `resume`. */
function place(party, { channel, resume }) {
  if (resume !== true) return {};
  const { cursor, view } = party.copy(channel);
  return { cursor, view };
}

const keyOf = (talk, key) => (key === undefined || key === true ? talk.target.publishKey : key);

const statusOf = (what, { body }) => `the status of ${what}, which said ${JSON.stringify(body).slice(0, 300)}`;

const verbs = {
  /** Comes, or comes back: a connection that has said hello, or what stands for it. */
  async open(talk, { open: name, as, hello, expect }) {
    const party = talk.come(name, as);
    const welcome = await party.open({ hello: talk.fill(hello) });
    talk.mayFit(welcome, expect, `the welcome of ${name}`);
  },

  /** Asks for an upgrade and expects what comes of it. */
  async upgrade(talk, { upgrade: name, as, path, headers, protocols, protocol, status = 101, expect }) {
    const party = talk.come(name, as);
    const answer = await party.upgrade({ path: talk.fill(path), headers: talk.fill(headers), protocols });
    talk.fits(answer.status, status, `the status of ${name}'s upgrade`);
    talk.mayFit(answer.protocol, protocol, `the subprotocol of ${name}`);
    talk.mayFit(answer.body, expect, `the refusal of ${name}'s upgrade`);
  },

  async subscribe(talk, { subscribe: name, expect, resume, ...asked }) {
    const party = talk.party(name);
    const given = { ...talk.fill(asked), ...place(party, { ...asked, resume }) };
    const answer = await party.subscribe(given);
    talk.fits(answer.type, { $in: ["snapshot", "reject"] }, "what answers a subscription");
    if (answer.type === "snapshot") talk.fits(answer.channel, given.channel, "the channel of a page");
    talk.fits(answer, expect ?? { type: "snapshot" }, `${name}'s ${asked.channel}`);
  },

  async unsubscribe(talk, { unsubscribe: name, channel }) {
    await talk.party(name).unsubscribe(talk.fill(channel));
  },

  /** Once all has come, the copy of a channel is this. */
  async shows(talk, { shows: name, channel, rows }) {
    const party = talk.party(name);
    await party.settle(channel);
    talk.fits([...party.copy(channel).rows.values()], { $rows: talk.fill(rows) }, `${name}'s copy of ${channel}`);
  },

  /** Once all has come, the news of a channel since the last time are these messages, in order. */
  async hears(talk, { hears: name, channel, expect }) {
    const party = talk.party(name);
    await party.settle(channel);
    talk.fits(party.heard(channel), expect, `what ${name} heard of ${channel}`);
  },

  /** The next message of a channel that comes by itself is this. */
  async tells(talk, { tells: name, channel, expect }) {
    talk.fits(await talk.party(name).told(channel), expect, `what ${name} is told of ${channel}`);
  },

  /** Nothing of a channel has come by itself, as far as one knows: for who was closed, and cannot ask. */
  untold(talk, { untold: name, channel }) {
    talk.fits(talk.party(name).heard(channel), [], `what ${name} was told of ${channel}`);
  },

  /** The id of a stream's last event is this. */
  at(talk, { at: name, channel, expect }) {
    talk.fits(talk.party(name).idOf(channel), expect, `the id of ${name}'s last event`);
  },

  /** As `hears`, batches taken apart: the changes in order, however they were joined. */
  async changes(talk, { changes: name, channel, expect }) {
    const party = talk.party(name);
    await party.settle(channel);
    const all = party.heard(channel).flatMap((message) => message.changes ?? [message]);
    talk.fits(all, expect, `the changes of ${channel} that ${name} heard`);
  },

  /** Writes once, or several times in one request, and expects the answers. */
  async mutate(talk, { mutate: name, expect, all, ...given }) {
    const mutations = (all ?? [given]).map((one) => ({ id: talk.nextId(), ...talk.fill(one) }));
    const answers = await talk.party(name).mutate(mutations);
    const ids = mutations.map(({ id }) => ({ id }));
    talk.fits(answers, ids, "the answers, one for each mutation in their order");
    talk.fits(all === undefined ? answers[0] : answers, expect ?? { type: "ack" }, `the answer to ${name}'s mutation`);
  },

  async drop(talk, { drop: name }) {
    await talk.party(name).drop();
  },

  /** A publisher's or operator's call; unless a step says else, it succeeds. */
  async publish(talk, { publish: given, path = "/broadcast", headers, key, space, status = 200, expect }) {
    const body = typeof given === "string" ? given : JSON.stringify(talk.fill(given));
    const query = space === false ? "" : `?space=${talk.space}`;
    const authorization = key === null ? {} : { authorization: `Bearer ${keyOf(talk, key)}` };
    const all = { ...authorization, ...talk.fill(headers) };
    const answer = await talk.target.http("POST", path + query, { headers: all, body });
    if (path === "/broadcast-change" && answer.status === 200) talk.isToNotice(JSON.parse(body).channel);
    talk.fits(answer.status, status, statusOf(path, answer));
    talk.mayFit(answer.body, expect, `the answer of ${path}`);
  },

  /** Any other request: `as` who, or with the publisher's `key`. */
  async http(talk, { http, as, key, space, query, headers, body, status = 200, expect, header }) {
    const [method, path] = talk.fill(http).split(" ");
    const asked = new URLSearchParams({ ...(space !== false && { space: talk.space }), ...talk.fill(query) });
    const token = as === undefined || as === null ? undefined : talk.tokens(talk.fill(as));
    const credential = key === undefined ? token : keyOf(talk, key);
    const authorization = credential === undefined ? {} : { authorization: `Bearer ${credential}` };
    const text = body === undefined || typeof body === "string" ? body : JSON.stringify(talk.fill(body));
    const given = { headers: { ...authorization, ...talk.fill(headers) }, body: text };
    const answer = await talk.target.http(method, `${path}?${asked}`, given);
    talk.fits(answer.status, status, statusOf(http, answer));
    talk.mayFit(answer.headers, header, `the headers of ${http}`);
    talk.mayFit(answer.body, expect, `the answer of ${http}`);
  },

  /** Sends a frame, perhaps several times: a message, a list of them, a text as it is, or bytes. */
  send(talk, { send: name, frame, text, bytes, padTo = 0, times = 1 }) {
    const party = talk.party(name);
    const said = text === undefined ? JSON.stringify(talk.fill(frame)) : talk.fill(text);
    // White space around JSON means nothing, and counts.
    const padded = bytes === undefined && said + " ".repeat(Math.max(0, padTo - Buffer.byteLength(said)));
    for (let i = 0; i < times; i += 1) party.send(bytes === undefined ? padded : Uint8Array.from(bytes));
  },

  /** The next message that was not yet taken is this; `after` however many of another kind. */
  async expect(talk, { expect: name, message, after }) {
    const party = talk.party(name);
    const fits = (one, pattern) => misfit(one, pattern, { ...talk.names }) === undefined;
    const isPassed = (one) => after !== undefined && !fits(one, talk.fill(message)) && fits(one, after);
    for (;;) {
      const next = await party.next(JSON.stringify(message));
      if (isPassed(next)) continue;
      return talk.fits(next, message, `what ${name} is told next`);
    }
  },

  /** After all that was sent has come, there is nothing that was not yet taken. */
  async quiet(talk, { quiet: name }) {
    const party = talk.party(name);
    await party.settle();
    talk.fits(party.inbox, [], `what ${name} is told beyond`);
  },

  /** The server has closed the connection with this code. */
  async closed(talk, { closed: name, code, after }) {
    const party = talk.party(name);
    talk.fits(await party.closed(), code, `the code that closed ${name}`);
    // What came before the end and says so.
    if (after !== undefined) party.inbox = party.inbox.filter((one) => misfit(one, after, talk.names) !== undefined);
  },

  /** Texts of the same length etc. that a case has kept compare like this. */
  holds(talk, { holds, expect }) {
    talk.fits(talk.fill(holds), expect, "what was kept");
  },

  /** Lets so many seconds pass: only for what ends by the clock. */
  async pass(talk, { pass }) {
    await talk.target.pass(pass);
  },
};
