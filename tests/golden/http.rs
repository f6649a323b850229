//! Bodies of readers and writers over HTTP. What streams carry are the messages of sockets.

use serde_json::json;

use super::record::Golden;
use super::world::World;
use super::world::readers::reads;

#[test]
fn http() {
    let mut g = Golden::of("http");
    let mut w = World::new();
    let body = json!({ "mutations": [
        { "id": "m1", "channel": "todos", "action": "create", "data": { "id": "k1", "text": "milk" } },
        { "id": "m2", "channel": "todos", "action": "update", "key": "k2", "data": { "done": true } },
        { "id": "m3", "channel": "todos", "action": "polish" }
    ] });
    let asked = body.to_string();
    g.add(
        "mutations: asked",
        "client",
        "POST /api/sync/mutate",
        &asked,
        None,
    );
    for (name, note) in [
        ("mutations", "one result each, in order"),
        ("mutations, repeated", "executed once"),
    ] {
        g.server(name, note, &w.write_reply(Some("alice"), &asked, None).body);
    }
    let (_, first) = w.page_text(&reads("bob", "todos").with("meta", true));
    g.server(
        "page",
        "GET /api/sync/changes?channel=todos&meta=true",
        &first,
    );
    let (_, refused) = w.page_text(&reads("bob", "room:1"));
    g.server("page, refused", "with 403", &refused);
    g.check();
}
