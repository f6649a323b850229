//! A space as a whole: exported, imported, restored, examined. Both ends of it: what the router does
//! with the calls, and what the object answers.

use worker::Result;

use super::authenticator::Authenticator;
use super::host::{Host, seed};
use super::http::{self, Request, Response};
use super::internal::{Object, line_of, publisher_of};
use super::router::{Answer, Call, now, space_named};
use super::{glue, respond};
use crate::config::{Publisher, examine};
use crate::engine::{self, Input};
use crate::limits;
use crate::names::Space;
use crate::observe::{Observer, Outcome};
use crate::protocol::{self, Code, Problem, RestoreBody};

/// A question about a space as a whole.
#[derive(Clone, Copy)]
pub(super) enum Keeping {
    Export,
    Import,
    Restore,
    Doctor,
}

/// How long to wait before each try to renew the epoch of a restored space.
const RENEWAL_PAUSES_MS: [u32; 6] = [0, 0, 250, 1_000, 3_000, 6_000];

impl<A: Authenticator> Call<A> {
    /// Exports, imports, restores or examines a space: for `PUBLISH_KEY` itself alone.
    /// It takes many turns, so its one line in the log is written here.
    pub(super) async fn kept(&self, what: Keeping) -> Answer {
        let publisher = self.publisher()?;
        let space = space_named(self.query("space").as_deref())?;
        let answer = self.keep(&publisher, &space, what).await?;
        self.tell(match answer.status() {
            200 => Outcome::Done,
            400 => Outcome::Refused(Code::Invalid),
            409 => Outcome::Refused(Code::Conflict),
            413 => Outcome::Refused(Code::FrameTooLarge),
            _ => Outcome::Refused(Code::Unavailable),
        });
        Ok(answer)
    }

    async fn keep(&self, publisher: &Publisher, space: &Space, what: Keeping) -> Answer {
        self.config.check_keeps(publisher)?;
        let object = Object::of(&self.env, space.clone())?;
        match what {
            Keeping::Export => Ok(object.export(publisher).await?),
            Keeping::Import => {
                let line = self.query("line").unwrap_or_else(|| "1".to_owned());
                let line = line
                    .parse()
                    .ok()
                    .filter(|line| *line <= limits::SAFE_INTEGER);
                let line = line.ok_or_else(|| Problem::invalid("line", "counts from 1"))?;
                let answer = object.import(publisher, &self.request, line);
                Ok(answer.await?)
            }
            Keeping::Restore => self.restore(publisher, space).await,
            Keeping::Doctor => self.doctor(publisher, &object).await,
        }
    }

    /// Restores a space and gives it a new epoch: nothing in it remembers that it was restored.
    async fn restore(&self, publisher: &Publisher, space: &Space) -> Answer {
        let body = self.body().await?;
        RestoreBody::read(&body, now())?;
        let object = Object::of(&self.env, space.clone())?;
        // One that cannot work does not say; it may need the restore most.
        let before = object.instance().await.ok();
        let answer = object.restore(publisher, &body).await?;
        if answer.status() != 200 {
            return Ok(answer);
        }
        let bookmarks = http::text(&answer).await?;
        for pause in RENEWAL_PAUSES_MS {
            glue::sleep(pause).await;
            // A new epoch counts only in the life that has begun with what was restored.
            let instance = object.instance().await.ok();
            if instance.is_none() || instance == before {
                // That it breaks off is the answer.
                _ = object.restart(publisher).await;
                continue;
            }
            let call = object.call(engine::Call::Epoch, publisher, "{}", None);
            if let Ok(renewed) = call.await
                && renewed.status() == 200
            {
                let epoch = http::text(&renewed).await?;
                return Ok(respond::json(200, protocol::joined(&bookmarks, &epoch))?);
            }
        }
        worker::console_error!("restored, but no new epoch: {bookmarks}");
        let what = "the space is being restored, but has no new epoch yet: call /epoch when /stats has another instance";
        Err(Problem::new(Code::Unavailable, what).into())
    }

    /// What is wrong or risky in the settings, and in the rows of the space.
    async fn doctor(&self, publisher: &Publisher, object: &Object) -> Answer {
        let after = self.query("after").unwrap_or_default();
        let rows = object.doctor(publisher, &after).await?;
        if rows.status() != 200 {
            return Ok(rows);
        }
        let rows = http::text(&rows).await?;
        let settings = examine(
            &|name| glue::setting(&self.env, name).ok().flatten(),
            A::OWN,
        );
        let report = protocol::object(|o| {
            o.name("settings")
                .array(|a| settings.iter().for_each(|finding| finding.write(a)));
            o.raw("rows", &rows);
        });
        Ok(respond::json(200, report)?)
    }
}

impl<A: Authenticator, O: Observer> Host<A, O> {
    /// What goes with a call that moves a whole space: whose key it was, and the text.
    async fn operator(
        &self,
        request: &Request,
        most: usize,
    ) -> Result<Option<(Publisher, String)>> {
        let body = glue::body_text(request, most as u32).await?;
        // What is no text is no line and no place either.
        let body = body.as_string().unwrap_or_else(|| "\0".to_owned());
        Ok(publisher_of(request).map(|publisher| (publisher, body)))
    }

    pub(super) async fn export(&self, request: &Request) -> Result<Response> {
        match self.operator(request, limits::EXPORT_PLACE_BYTES).await? {
            Some((publisher, after)) => self.reply(Input::Export {
                publisher: &publisher,
                after: &after,
            }),
            None => respond::not_found(),
        }
    }

    pub(super) async fn import(&self, request: &Request) -> Result<Response> {
        let most = 3 * limits::IMPORT_CHUNK_BYTES;
        let asked = self.operator(request, most).await?.zip(line_of(request));
        match (asked, seed()) {
            (Some(((publisher, text), line)), Ok(seed)) => self.reply(Input::Import {
                publisher: &publisher,
                line,
                text: &text,
                seed,
            }),
            (None, _) => respond::not_found(),
            (Some(_), Err(problem)) => respond::problem(&problem),
        }
    }

    pub(super) async fn doctor(&self, request: &Request) -> Result<Response> {
        match self.operator(request, limits::CHANNEL_BYTES).await? {
            Some((publisher, after)) => self.reply(Input::Doctor {
                publisher: &publisher,
                after: &after,
            }),
            None => respond::not_found(),
        }
    }

    /// Has the platform restore what was. It is there when the object is made anew.
    pub(super) async fn restore(&self, request: &Request) -> Result<Response> {
        let asked = self.operator(request, limits::BODY_BYTES).await?;
        let Some((Publisher::Unscoped, body)) = asked else {
            return respond::not_found();
        };
        let to = match RestoreBody::read(&body, now()) {
            Ok(to) => to,
            Err(problem) => return respond::problem(&problem),
        };
        match self.database.restore(&to).await {
            Ok((to, undo)) => respond::json(
                200,
                protocol::object(|o| {
                    o.text("restoredTo", &to);
                    o.text("undo", &undo);
                }),
            ),
            Err(error) => {
                let cause = glue::thrown(&error);
                worker::console_error!("restore: {cause}");
                let local = cause.contains("point-in-time recovery");
                let (status, what) = match local {
                    true => (501, "this runtime keeps no history; nothing was changed"),
                    false => (
                        503,
                        "the platform cannot restore to that; nothing was changed",
                    ),
                };
                respond::problem_with(status, Code::Unavailable, what)
            }
        }
    }

    pub(super) async fn restart(&self, request: &Request) -> Result<Response> {
        match publisher_of(request) {
            Some(Publisher::Unscoped) => {
                self.sockets.restart().await?;
                Ok(Response::new()?)
            }
            Some(Publisher::Named(_)) | None => respond::not_found(),
        }
    }
}
