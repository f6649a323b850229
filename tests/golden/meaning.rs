//! What the server understands of what it is sent, as JSON.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidewire::protocol::{
    self, CallBody, ChangeRequest, ClientMessage, Hello, PresenceChange, Refused, SubscribeMessage,
};
use tidewire::{Audience, Call};

/// What the server understands of a client's frame.
pub(crate) fn of_frame(text: &str) -> Value {
    match protocol::decode(text) {
        Err(problem) => json!({ "refused": problem.code.as_str() }),
        Ok(frame) => {
            let mut messages: Vec<Value> = frame.messages.iter().map(of_message).collect();
            match frame.is_array {
                true => Value::Array(messages),
                false => messages.remove(0),
            }
        }
    }
}

fn raw(json: Option<&RawValue>) -> Value {
    json.map_or(Value::Null, |raw| serde_json::from_str(raw.get()).unwrap())
}

fn of_refused(refused: &Refused) -> Value {
    json!({
        "refused": refused.problem.code.as_str(),
        "id": refused.id.as_ref().map(|id| id.as_str()),
        "channel": refused.channel.as_ref().map(|channel| channel.as_str())
    })
}

fn of_subscribe(message: &SubscribeMessage<'_>) -> Value {
    json!({
        "kind": "subscribe", "id": message.id.as_ref().map(|id| id.as_str()),
        "channel": message.channel.as_str(), "cursor": message.cursor, "view": message.view,
        "limit": message.limit, "meta": message.meta, "since": raw(message.since)
    })
}

fn of_hello(hello: &Hello<'_>) -> Value {
    let subscribe: Vec<Value> = hello
        .subscribe
        .iter()
        .map(|one| one.as_ref().map_or_else(of_refused, of_subscribe))
        .collect();
    json!({
        "kind": "hello", "version": hello.version, "schema": hello.schema,
        "device": hello.device, "subscribe": subscribe
    })
}

fn of_message(message: &Result<ClientMessage<'_>, Refused>) -> Value {
    let message = match message {
        Ok(message) => message,
        Err(refused) => return of_refused(refused),
    };
    match message {
        ClientMessage::Ping => json!({ "kind": "ping" }),
        ClientMessage::Hello(hello) => of_hello(hello),
        ClientMessage::Auth { token } => json!({ "kind": "auth", "token": token }),
        ClientMessage::Subscribe(message) => of_subscribe(message),
        ClientMessage::Unsubscribe { channel } => {
            json!({ "kind": "unsubscribe", "channel": channel.as_str() })
        }
        ClientMessage::Mutate(message) => json!({
            "kind": "mutate", "id": message.id.as_str(), "channel": message.channel.as_str(),
            "action": message.action.as_str(), "key": message.key, "data": raw(message.data)
        }),
        ClientMessage::Presence(message) => {
            let (change, state) = match message.change {
                PresenceChange::Set(state) => ("set", raw(Some(state))),
                PresenceChange::Leave => ("leave", Value::Null),
                PresenceChange::Watch => ("watch", Value::Null),
            };
            json!({
                "kind": "presence", "channel": message.channel.as_str(), "change": change,
                "state": state
            })
        }
        ClientMessage::Signal(message) => json!({
            "kind": "signal", "channel": message.channel.as_str(), "event": message.event,
            "data": raw(message.data)
        }),
    }
}

/// What the server understands of a publisher's body.
pub(crate) fn of_body(call: Call, body: &str) -> Value {
    let read = match CallBody::read(call, body) {
        Ok(CallBody::Publish(body)) => Ok(body),
        Ok(other) => return json!({ "path": call.path(), "body": format!("{other:?}") }),
        Err(problem) => Err(problem),
    };
    let of_change = |change: &ChangeRequest<'_>| {
        let to = change.to.as_ref().map(|to| match to {
            Audience::All => json!("all"),
            Audience::Topics(topics) => topics.iter().map(|topic| topic.as_str()).collect(),
        });
        json!({
            "channel": change.channel.as_str(), "action": change.action.as_str(),
            "key": change.key.as_str(), "data": raw(change.data), "to": to
        })
    };
    match read {
        Err(problem) => json!({ "refused": problem.code.as_str() }),
        Ok(body) => {
            let changes: Vec<Value> = body
                .changes
                .iter()
                .map(|change| match change {
                    Ok(change) => of_change(change),
                    Err(problem) => json!({ "refused": problem.code.as_str() }),
                })
                .collect();
            json!({ "path": call.path(), "space": body.space, "changes": changes })
        }
    }
}
