//! Bodies of publishers and operators: every call's reader holds its bounds, and sees what any JSON
//! parser sees.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tidewire::protocol::{Action, CallBody, ChangeRequest, PublishBody};
use tidewire::{Audience, Call, Topic, limits};

fuzz_target!(|text: &str| {
    // Where no call reads the body, the router must not be misled by it either.
    let space = PublishBody::space_of(text);
    let value = serde_json::from_str::<Value>(text);
    for call in Call::ALL {
        let body = match CallBody::read(call, text) {
            Ok(body) => body,
            Err(problem) => {
                assert!(!problem.message.is_empty());
                continue;
            }
        };
        let again = CallBody::read(call, text).unwrap();
        assert_eq!(format!("{body:?}"), format!("{again:?}"));
        if call == Call::Epoch && text.trim_ascii().is_empty() {
            assert_eq!(body.space(), None);
            continue;
        }
        // The router chooses the object by the one, the engine checks the other.
        assert_eq!(body.space(), space.as_ref().unwrap().as_deref());
        bounds(&body);
        if let Ok(sent) = &value {
            agrees(call, &body, sent);
        }
    }
});

fn audience(to: &Audience) {
    match to {
        Audience::All => {}
        Audience::Topics(topics) => {
            assert!((1..=limits::TOPICS).contains(&topics.len()));
            assert!(topics.iter().all(|topic| topic.as_str() != "all"));
        }
    }
}

fn bounds(body: &CallBody<'_>) {
    let granted = |topics: &[Topic]| {
        assert!(topics.len() <= limits::TOPICS);
        assert!(
            topics
                .iter()
                .all(|topic| !topic.as_str().starts_with("user:"))
        );
    };
    match body {
        CallBody::Publish(body) => {
            assert!((1..=limits::BATCH_CHANGES).contains(&body.changes.len()));
            for change in body.changes.iter().flatten() {
                assert!((1..=limits::KEY_BYTES).contains(&change.key.as_str().len()));
                assert_eq!(change.data.is_none(), change.action == Action::Delete);
                change.to.iter().for_each(audience);
            }
        }
        CallBody::Reset { to, .. } => to.iter().for_each(audience),
        CallBody::Disconnect { reason, .. } => {
            assert!(
                reason
                    .as_ref()
                    .is_none_or(|text| text.len() <= limits::REASON_BYTES)
            );
        }
        CallBody::Topics(body) => {
            granted(&body.add);
            granted(&body.remove);
        }
        CallBody::Change { .. } | CallBody::DisconnectAll { .. } | CallBody::Epoch { .. } => {}
    }
}

fn agrees(call: Call, body: &CallBody<'_>, sent: &Value) {
    match body {
        CallBody::Publish(body) if call == Call::Broadcast => {
            assert_eq!(body.changes.len(), 1);
            agrees_to_change(body.changes[0].as_ref().unwrap(), sent, &sent["channel"]);
        }
        CallBody::Publish(body) => {
            let (changes, events) = (sent["changes"].as_array(), sent["events"].as_array());
            let list = changes.or(events).unwrap();
            assert_eq!(list.len(), body.changes.len());
            for (change, sent_change) in body.changes.iter().zip(list) {
                let channel = match changes {
                    Some(_) => &sent["channel"],
                    None => &sent_change["channel"],
                };
                if let Ok(change) = change {
                    agrees_to_change(change, sent_change, channel);
                }
            }
        }
        CallBody::Reset { channel, .. } | CallBody::Change { channel, .. } => {
            assert_eq!(sent["channel"], channel.as_str());
        }
        CallBody::Disconnect { identity, .. } => assert_eq!(sent["identity"], identity.as_str()),
        CallBody::Topics(body) => assert_eq!(sent["identity"], body.identity.as_str()),
        CallBody::DisconnectAll { .. } => assert_eq!(sent["all"], true),
        CallBody::Epoch { .. } => {}
    }
}

fn agrees_to_change(change: &ChangeRequest<'_>, sent: &Value, channel: &Value) {
    assert_eq!(*channel, change.channel.as_str());
    assert_eq!(sent["action"], change.action.as_str());
    let id = sent["data"].get("id");
    match (sent.get("key").filter(|key| !key.is_null()), id) {
        (Some(key), id) => {
            assert_eq!(*key, change.key.as_str());
            assert!(change.action == Action::Delete || id.is_none_or(|id| id == key));
        }
        (None, Some(id)) => assert_eq!(*id, change.key.as_str()),
        (None, None) => panic!("a change without a key"),
    }
    if let Some(data) = change.data {
        assert!(sent["data"].is_object());
        assert_eq!(
            sent["data"],
            serde_json::from_str::<Value>(data.get()).unwrap()
        );
    }
    match &change.to {
        None => assert_eq!(sent.get("to"), None),
        Some(Audience::All) => assert_eq!(sent["to"], "all"),
        Some(Audience::Topics(topics)) => {
            let named = sent["to"].as_array().unwrap();
            assert!(
                named
                    .iter()
                    .all(|name| topics.iter().any(|topic| name == topic.as_str()))
            );
            assert!(
                topics
                    .iter()
                    .all(|topic| named.iter().any(|name| name == topic.as_str()))
            );
        }
    }
}
