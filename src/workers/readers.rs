//! Readers over HTTP that stay: their open answers, and what they want of the engine.

use wasm_bindgen::prelude::*;
use worker::Result;

use super::authenticator::Authenticator;
use super::host::{Host, random_name};
use super::http::{Request, Response};
use super::router::now;
use super::{faults, glue, respond};
use crate::engine::{Effects, End, Input, Stays, StreamEvent};
use crate::limits;
use crate::names::{ConnId, Millis, SessionId};
use crate::observe::Observer;
use crate::protocol::{ReadRequest, event_lines};
use crate::session::Grant;

#[wasm_bindgen(module = "/src/workers/readers.js")]
extern "C" {
    #[derive(Clone)]
    pub(super) type Readers;

    #[wasm_bindgen(constructor)]
    pub(super) fn new(storage: &JsValue, most: u32) -> Readers;

    #[wasm_bindgen(method)]
    fn begin(
        this: &Readers,
        number: u32,
        streams: bool,
        until: Option<f64>,
        most: u32,
        seconds: u32,
    ) -> Response;

    #[wasm_bindgen(method, catch)]
    async fn next(this: &Readers, number: u32) -> core::result::Result<JsValue, JsValue>;

    #[wasm_bindgen(method)]
    fn send(this: &Readers, numbers: &[u32], ids: Option<&str>, lines: &str);

    #[wasm_bindgen(method)]
    fn lack(this: &Readers, number: u32, ms: f64);

    #[wasm_bindgen(method)]
    fn end(this: &Readers, number: u32, text: Option<&str>);
}

/// What a reader wants, as `readers.js` says it.
const GONE: u32 = 1;
const PAGE: u32 = 2;
const OVER: u32 = 3;

impl Readers {
    /// Begins the answer to a reader that stays.
    pub(super) fn answer(&self, stays: &Stays) -> Response {
        let until = stays.until.map(|Millis(at)| at as f64);
        let (most, seconds) = (limits::STREAM_BYTES as u32, limits::PING_SECONDS as u32);
        self.begin(stays.conn.0, stays.streams, until, most, seconds)
    }

    /// Does what a turn has for readers.
    pub(super) fn perform(&self, effects: &Effects) {
        for StreamEvent { to, text } in &effects.stream_events {
            faults::point();
            let numbers: Vec<u32> = to.iter().map(|(conn, _)| conn.0).collect();
            let ids: Option<Vec<&str>> = to.iter().map(|(_, id)| id.as_deref()).collect();
            let ids = ids.map(|ids| ids.join("\n"));
            self.send(&numbers, ids.as_deref(), &event_lines(text));
        }
        for (conn, ms) in &effects.lacking {
            self.lack(conn.0, *ms as f64);
        }
        for End {
            conn,
            text,
            streams,
        } in &effects.ends
        {
            faults::point();
            match text.as_deref().filter(|_| *streams) {
                Some(text) => self.end(conn.0, Some(&format!("{}\n", event_lines(text)))),
                None => self.end(conn.0, text.as_deref()),
            }
        }
    }
}

impl<A: Authenticator, O: Observer> Host<A, O> {
    /// Answers a reader: at once, or with an answer that stays open.
    pub(super) async fn read(&self, request: &Request, grant: Grant) -> Result<Response> {
        let body = glue::body_text(request, limits::BODY_BYTES as u32).await?;
        let body = body.as_string().unwrap_or_default();
        let (Some(request), Ok(session)) = (
            ReadRequest::from_json(&body),
            SessionId::parse(&random_name()),
        ) else {
            return respond::not_found();
        };
        self.handle_waiting(None);
        let begun = self.with(|running| {
            let conn = running.draw();
            let input = Input::Read {
                conn,
                session,
                grant,
                request,
            };
            let began = now();
            let effects = self.turn(running, input);
            let response = effects.stays.map(|stays| self.readers.answer(&stays));
            let rest = self.perform(running, effects, began);
            self.follow(rest.questions, began);
            (conn, response, rest.reply)
        });
        match begun {
            Ok((conn, Some(response), _)) => {
                self.attend(conn);
                Ok(response)
            }
            Ok((_, None, Some(reply))) => respond::reply(reply),
            // Its source is asked.
            Ok((conn, None, None)) => self.waited(conn).await,
            Err(problem) => respond::problem(&problem),
        }
    }

    /// Takes what a reader wants to the engine, for as long as its answer is open.
    pub(super) fn attend(&self, conn: ConnId) {
        let host = self.clone();
        wasm_bindgen_futures::spawn_local(async move {
            while let Ok(wants) = host.readers.next(conn.0).await {
                let (input, is_last) = match wants.as_f64().map(|wants| wants as u32) {
                    Some(PAGE) => (Input::NextPage { conn }, false),
                    Some(OVER) => (Input::TimeOver { conn }, false),
                    Some(GONE) => (Input::Closed { conn }, true),
                    _ => return,
                };
                let rest = host.run(input, now());
                host.follow(rest.questions, now());
                if is_last {
                    return;
                }
            }
        });
    }

    /// Answers mutations.
    pub(super) async fn write(&self, request: &Request, grant: Grant) -> Result<Response> {
        let most = limits::BODY_BYTES + 2 * limits::TOKEN_BYTES;
        let body = glue::body_text(request, most as u32).await?;
        let body = body.as_string().unwrap_or_default();
        let Ok(session) = SessionId::parse(&random_name()) else {
            return respond::unavailable("no session", "a random name is no name");
        };
        let (token, body) = body.split_once('\n').unwrap_or_default();
        self.handle_waiting(None);
        let written = self.with(|running| {
            let (conn, began) = (running.draw(), now());
            let input = Input::Write {
                conn,
                session,
                grant,
                body,
                channel_token: Some(token).filter(|token| !token.is_empty()),
            };
            let effects = self.turn(running, input);
            let rest = self.perform(running, effects, began);
            self.follow(rest.questions, began);
            (conn, rest.reply)
        });
        match written {
            Ok((_, Some(reply))) => respond::reply(reply),
            // A source is asked.
            Ok((conn, None)) => self.waited(conn).await,
            Err(problem) => respond::problem(&problem),
        }
    }
}
