//! Frames inside the object: handled as they come, or in one go, and the tokens in them judged.

use futures_channel::oneshot::channel;
use futures_util::future::join;
use wasm_bindgen::JsValue;
use worker::worker_sys::web_sys;

use super::authenticator::Authenticator;
use super::glue;
use super::host::Host;
use super::router::{config, now};
use crate::auth::Claims;
use crate::config::Credentials;
use crate::engine::Input;
use crate::inbox::{Arrival, Taken};
use crate::names::{ConnId, Millis};
use crate::observe::Observer;
use crate::protocol::{Close, Problem};
use crate::store::Sql;

impl<A: Authenticator, O: Observer> Host<A, O> {
    /// A frame came: handles it at once, or with those that come at the same time, see [`Inbox`]. Ends
    /// when the tokens in it have been judged, and what it asks sources is answered; for the frame that
    /// came first also what those ask that came with it, whoever had them handled: only an event that has
    /// not ended is sure to keep the object in memory.
    pub async fn message(&self, socket: &web_sys::WebSocket, message: &JsValue) {
        let Some(number) = self.sockets.number(socket) else {
            return glue::close_socket(socket, Close::Restart.code(), Close::Restart.reason());
        };
        let arrival = Arrival {
            conn: ConnId(number),
            text: message.as_string(),
            at: now(),
        };
        let taken = self.inbox.borrow_mut().take(arrival);
        match taken {
            Taken::Waits => return self.sockets.keeps(true),
            Taken::Full(arrivals) => self.frames(arrivals, None),
            Taken::Alone(arrival) => {
                let before = self.database.written();
                let sent = self.frame(arrival);
                let has_written = self.database.written() != before;
                self.inbox.borrow_mut().handled(has_written, sent);
                while self.inbox.borrow().looks() {
                    self.sockets.looked().await;
                    let arrivals = self.inbox.borrow_mut().look();
                    if arrivals.is_empty() {
                        break;
                    }
                    self.frames(arrivals, None);
                }
            }
        }
        loop {
            let begun = self.begun.borrow_mut().pop();
            let Some(ended) = begun else { break };
            // It has ended, or it was dropped.
            let _ = ended.await;
        }
    }

    /// Handles frames, each in a turn of its own. Nothing is awaited in between: they share a commit. Those
    /// that do not join wait for the next look.
    fn frames(&self, arrivals: Vec<Arrival>, ends: Option<ConnId>) {
        let mut rest = Vec::new();
        let mut sent = 0;
        for arrival in arrivals {
            match arrival.joins(sent, ends) {
                true => sent += self.frame(arrival),
                false => rest.push(arrival),
            }
        }
        // Until here, so that a panic in their midst finds that there were more.
        self.sockets.keeps(!rest.is_empty());
        self.inbox.borrow_mut().put_back(rest);
    }

    /// Handles the frames that wait, as many as may be: what comes after them finds what they did. Of the
    /// connection that ends, all: after its end nobody listens to them.
    pub(super) fn handle_waiting(&self, ends: Option<ConnId>) {
        let arrivals = self.inbox.borrow_mut().all();
        if !arrivals.is_empty() {
            self.frames(arrivals, ends);
        }
    }

    /// Handles a frame: how many bytes were sent for it.
    fn frame(&self, Arrival { conn, text, at }: Arrival) -> usize {
        let input = match &text {
            Some(text) => Input::Frame { conn, text },
            None => Input::Binary { conn },
        };
        let rest = self.run(input, at);
        if !rest.asks.is_empty() || !rest.questions.is_empty() {
            let (host, (ends, ended)) = (self.clone(), channel());
            wasm_bindgen_futures::spawn_local(async move {
                let driving = host.drive(rest.questions, at);
                join(host.judge_all(rest.asks, at), driving).await;
                let _ = ends.send(());
            });
            self.begun.borrow_mut().push(ended);
        }
        rest.sent
    }

    /// Has tokens judged one after the other, and those that come up meanwhile; and drives what comes of it.
    async fn judge_all(&self, mut asks: Vec<(ConnId, String)>, began: Millis) {
        let mut released = Vec::new();
        while let Some((conn, token)) = asks.pop() {
            let answer = self.judge(&token).await;
            let rest = self.run(Input::Authenticated { conn, answer }, began);
            asks.extend(rest.asks);
            released.extend(rest.questions);
        }
        self.drive(released, began).await;
    }

    /// Asks the authenticator for the token of an `auth` message.
    async fn judge(&self, token: &str) -> core::result::Result<Option<Claims>, Problem> {
        let config = config::<A>(&self.env).map_err(|error| Problem::from(&error))?;
        let space = self.with(|running| running.space().clone())?;
        let credentials = Credentials::of_token(token);
        let answer = self
            .authenticator
            .authenticate(&credentials, &space, &self.env, &config);
        answer.await
    }
}
