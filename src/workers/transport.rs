//! How a publisher in a Worker reaches the sync engine: the Durable Object's binding, else the
//! service binding, else a URL.

use wasm_bindgen::JsValue;
use worker::{Env, Headers, Method, Request, RequestInit};

use super::gateway::{Target, target};
use super::glue;
use super::http::{self, Response};
use super::internal::{IDEMPOTENCY_HEADER, Object, within};
use crate::config::Publisher;
use crate::names::Space;
use crate::publisher::{Answer, Post, Transport};

/// A way to the sync engine, found in a Worker's bindings and settings.
pub struct WorkerTransport {
    env: Env,
    way: Way,
}

enum Way {
    /// Straight to the object: this is the sync Worker itself, or a Worker whose binding names the
    /// sync Worker's script.
    Object,
    /// Over HTTP, with the publish key.
    Http { target: Target, key: String },
}

impl WorkerTransport {
    /// Finds the way: the binding `SYNC_ENGINE`, else `SYNC_WORKER`, else `SYNC_WORKER_URL`; the
    /// latter two need `PUBLISH_KEY`.
    ///
    /// # Errors
    /// A text that names the setting which is missing or wrong.
    pub fn from_env(env: &Env) -> Result<Self, String> {
        let way = if Object::is_bound(env) {
            Way::Object
        } else {
            let target = target(env).map_err(|problem| problem.message.into_owned())?;
            let key = glue::setting(env, "PUBLISH_KEY").ok().flatten();
            let key = key
                .filter(|key| !key.is_empty())
                .ok_or("PUBLISH_KEY is not set")?;
            Way::Http { target, key }
        };
        Ok(Self {
            env: env.clone(),
            way,
        })
    }

    async fn send(&self, post: Post<'_>) -> worker::Result<Response> {
        let (target, key) = match &self.way {
            Way::Http { target, key } => (target, key),
            Way::Object => {
                let space = post.space.cloned().unwrap_or_else(Space::default_space);
                let object = Object::of(&self.env, space)?;
                let (all, once) = (Publisher::Unscoped, post.idempotency_key);
                return object.call(post.call, &all, post.body, once).await;
            }
        };
        let headers = Headers::new();
        headers.set("authorization", &format!("Bearer {key}"))?;
        headers.set("content-type", "application/json")?;
        if let Some(once) = post.idempotency_key {
            headers.set(IDEMPOTENCY_HEADER, once)?;
        }
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_headers(headers)
            .with_body(Some(JsValue::from(post.body)));
        let url = target.url(post.call.path(), "")?;
        if let Some(space) = post.space {
            url.add("space", space.as_str());
        }
        let request = Request::new_with_init(&url.text(), &init)?;
        within(&target.fetcher(), request.inner()).await
    }
}

impl Transport for WorkerTransport {
    async fn post(&self, post: Post<'_>) -> Result<Answer, String> {
        let answer = async {
            let response = self.send(post).await?;
            Ok::<_, worker::Error>(Answer {
                status: response.status(),
                body: http::text(&response).await?,
            })
        };
        answer.await.map_err(|error| error.to_string())
    }
}
