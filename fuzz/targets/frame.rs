//! Client frames: the decoder holds its bounds, and sees what any JSON parser sees.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use tidewire::protocol::{self, ClientMessage, PresenceChange, Refused, SubscribeMessage};
use tidewire::{Channel, RequestId, limits};

fuzz_target!(|text: &str| {
    let frame = match protocol::decode(text) {
        Ok(frame) => frame,
        Err(problem) => {
            assert!(!problem.message.is_empty());
            refused_for_a_reason(text);
            return;
        }
    };
    let again = protocol::decode(text).unwrap();
    assert_eq!(format!("{frame:?}"), format!("{again:?}"));
    assert!((1..=limits::FRAME_MESSAGES).contains(&frame.messages.len()));
    // Raw rows may hold what a `Value` cannot: half of a surrogate pair, a number beyond f64.
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    assert!(depth(&value) <= limits::JSON_DEPTH);
    let sent = match &value {
        Value::Array(messages) if frame.is_array => messages.iter().collect(),
        message => vec![message],
    };
    assert_eq!(sent.len(), frame.messages.len());
    for (message, sent) in frame.messages.iter().zip(sent) {
        match message {
            Ok(message) => {
                let (id, channel) = message.request();
                ties(id, channel, sent);
                agrees(message, sent);
            }
            Err(refused) => refused_as_sent(refused, sent),
        }
    }
});

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A frame is refused whole if it holds no message, too many, or one with doubled fields; written
/// anew, it has none of these.
fn refused_for_a_reason(text: &str) {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let holds_messages = match &value {
        Value::Object(_) => true,
        Value::Array(items) => (1..=limits::FRAME_MESSAGES).contains(&items.len()),
        _ => false,
    };
    if holds_messages && depth(&value) <= limits::JSON_DEPTH {
        assert!(protocol::decode(&value.to_string()).is_ok());
    }
}

fn refused_as_sent(refused: &Refused, sent: &Value) {
    assert!(!refused.problem.message.is_empty());
    ties(refused.id.as_ref(), refused.channel.as_ref(), sent);
}

/// What ties the answer to its request is the request's.
fn ties(id: Option<&RequestId>, channel: Option<&Channel>, sent: &Value) {
    if let Some(id) = id {
        assert_eq!(sent["id"], id.as_str());
    }
    if let Some(channel) = channel {
        assert_eq!(sent["channel"], channel.as_str());
    }
}

/// A raw value; one that is not there counts as `null`.
fn raw(value: Option<&RawValue>) -> Value {
    value.map_or(Value::Null, |raw| serde_json::from_str(raw.get()).unwrap())
}

fn agrees(message: &ClientMessage<'_>, sent: &Value) {
    let kind = match message {
        ClientMessage::Ping => "ping",
        ClientMessage::Hello(hello) => {
            assert_eq!(sent["v"], hello.version);
            assert_eq!(sent["schema"].as_u64(), hello.schema);
            assert_eq!(sent["device"].as_str(), hello.device.as_deref());
            let subscribe = sent["subscribe"].as_array().cloned().unwrap_or_default();
            assert_eq!(subscribe.len(), hello.subscribe.len());
            for (message, sent) in hello.subscribe.iter().zip(&subscribe) {
                match message {
                    Ok(message) => agrees_to_subscribe(message, sent),
                    Err(refused) => refused_as_sent(refused, sent),
                }
            }
            "hello"
        }
        ClientMessage::Auth { token } => {
            assert_eq!(sent["token"], **token);
            "auth"
        }
        ClientMessage::Subscribe(message) => {
            agrees_to_subscribe(message, sent);
            "subscribe"
        }
        ClientMessage::Unsubscribe { channel } => {
            assert_eq!(sent["channel"], channel.as_str());
            "unsubscribe"
        }
        ClientMessage::Mutate(message) => {
            assert!((1..=limits::ID_BYTES).contains(&message.id.as_str().len()));
            assert_eq!(sent["id"], message.id.as_str());
            assert_eq!(sent["channel"], message.channel.as_str());
            assert_eq!(sent["action"], message.action.as_str());
            assert_eq!(sent["key"].as_str(), message.key.as_deref());
            assert_eq!(sent["data"], raw(message.data));
            "mutate"
        }
        ClientMessage::Presence(message) => {
            assert_eq!(sent["channel"], message.channel.as_str());
            match message.change {
                PresenceChange::Set(state) => assert_eq!(sent["state"], raw(Some(state))),
                PresenceChange::Leave => assert_eq!(sent.get("state"), Some(&Value::Null)),
                PresenceChange::Watch => {
                    assert_eq!(
                        (sent.get("state"), &sent["watch"]),
                        (None, &Value::Bool(true))
                    );
                }
            }
            "presence"
        }
        ClientMessage::Signal(message) => {
            assert!((1..=limits::ID_BYTES).contains(&message.event.len()));
            assert_eq!(sent["channel"], message.channel.as_str());
            assert_eq!(sent["event"], *message.event);
            assert_eq!(sent["data"], raw(message.data));
            "signal"
        }
    };
    assert_eq!(sent["type"], kind);
}

fn agrees_to_subscribe(message: &SubscribeMessage<'_>, sent: &Value) {
    assert!((1..=limits::CHANNEL_BYTES).contains(&message.channel.as_str().len()));
    assert!((1..=limits::PAGE_MAX).contains(&message.limit));
    assert_eq!(sent["channel"], message.channel.as_str());
    assert_eq!(
        sent["id"].as_str(),
        message.id.as_ref().map(RequestId::as_str)
    );
    assert_eq!(sent["cursor"].as_str(), message.cursor.as_deref());
    assert_eq!(sent["view"].as_str(), message.view.as_deref());
    assert_eq!(sent["token"].as_str(), message.token.as_deref());
    assert_eq!(sent["meta"].as_bool().unwrap_or_default(), message.meta);
    let limit = sent["limit"]
        .as_u64()
        .unwrap_or(limits::PAGE_DEFAULT as u64);
    assert_eq!(limit, message.limit as u64);
    assert_eq!(sent["since"], raw(message.since));
}
