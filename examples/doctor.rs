//! The half of `make doctor` that judges: reads what `scripts/doctor.mjs` has gathered, as JSON on
//! standard input, and writes what it finds, as JSON, on standard output.

// Of JSON, what is not there reads as null.
#![allow(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;
use serde_json::{Value, json};
use tidewire::{Config, Finding, Severity, examine};

/// What was gathered.
#[derive(Deserialize)]
struct Gathered {
    /// `wrangler.sync.jsonc`.
    sync: Value,
    /// `wrangler.jsonc`.
    app: Value,
    /// `.dev.vars`, where there is one.
    local: Option<BTreeMap<String, String>>,
    /// What must fit together: a name, the version that is wanted, and the one that is there.
    versions: Vec<(String, String, String)>,
}

/// The compatibility date that is tested.
const DATE: &str = "2026-06-07";

const SECRETS: [&str; 7] = [
    "JWT_SECRET",
    "JWT_SECRET_PREVIOUS",
    "PUBLISH_KEY",
    "PUBLISH_KEY_PREVIOUS",
    "PUBLISH_KEYS",
    "HOOK_SECRET",
    "HOOK_SECRET_PREVIOUS",
];

/// A variable of a wrangler file as a Worker sees it: JSON as its text.
fn var(config: &Value, name: &str) -> Option<String> {
    match config.get("vars")?.get(name)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The same, or a service binding, of which there is no more to see than that it is there.
fn setting(config: &Value, name: &str) -> Option<String> {
    let bound = |services: &Vec<Value>| services.iter().any(|s| s["binding"] == name);
    let bound = config["services"].as_array().is_some_and(bound);
    var(config, name).or_else(|| bound.then(|| "{}".to_owned()))
}

fn of_settings(sync: &Value, found: &mut Vec<Finding>) {
    for mut finding in examine(&|name| setting(sync, name), false) {
        if SECRETS.contains(&finding.setting.as_str()) && finding.what.starts_with("is not set") {
            finding.severity = Severity::Hint;
            finding.what = "is not in the file, as it should be: secrets are set by `wrangler \
                secret put`, where this does not see them"
                .to_owned();
            finding.way_out = "ask the running Worker: make doctor URL=https://… \
                (with TIDEWIRE_KEY, the publish key)"
                .to_owned();
        }
        found.push(finding);
    }
    for name in SECRETS.iter().filter(|name| var(sync, name).is_some()) {
        found.push(Finding::new(
            Severity::Risky,
            *name,
            "stands in wrangler.sync.jsonc, for all to read who can read the repository",
            format!("take it out, and `wrangler secret put {name} -c wrangler.sync.jsonc`"),
        ));
    }
}

fn of_sync(sync: &Value, found: &mut Vec<Finding>) {
    let mut add = |severity, setting: &str, what: &str, way_out: &str| {
        let setting = format!("wrangler.sync.jsonc {setting}");
        found.push(Finding::new(severity, setting, what, way_out));
    };
    if sync["workers_dev"] != false {
        let what = "is not false: the sync Worker has an address of its own on workers.dev";
        add(Severity::Wrong, "workers_dev", what, "set it to false");
    }
    if sync["preview_urls"] != false {
        let what = "is not false: previews of the sync Worker have addresses of their own";
        add(Severity::Risky, "preview_urls", what, "set it to false");
    }
    for name in ["route", "routes"] {
        let routes = &sync[name];
        if !routes.is_null() && routes.as_array().is_none_or(|routes| !routes.is_empty()) {
            let what = "gives the sync Worker a public route, past the app Worker";
            add(
                Severity::Wrong,
                name,
                what,
                "give it to the app Worker instead",
            );
        }
    }
    let objects = sync["durable_objects"]["bindings"].as_array();
    let is_ours = |b: &Value| b["name"] == "SYNC_ENGINE" && b["class_name"] == "SyncEngine";
    if !objects.is_some_and(|bindings| bindings.iter().any(is_ours)) {
        let what = "has no SYNC_ENGINE of the class SyncEngine";
        let way_out = "add {\"name\": \"SYNC_ENGINE\", \"class_name\": \"SyncEngine\"}";
        add(Severity::Wrong, "durable_objects", what, way_out);
    }
    let migrations = sync["migrations"].as_array().map_or(&[][..], Vec::as_slice);
    let is_ours = |m: &Value| {
        let classes = m["new_sqlite_classes"].as_array();
        classes.is_some_and(|classes| classes.iter().any(|class| class == "SyncEngine"))
    };
    match migrations.iter().find(|migration| is_ours(migration)) {
        None => {
            let what = "never makes SyncEngine with SQLite";
            let way_out = "begin with {\"tag\": \"v1\", \"new_sqlite_classes\": [\"SyncEngine\"]}";
            add(Severity::Wrong, "migrations", what, way_out);
        }
        Some(migration) if migration["tag"] != "v1" => {
            let what = "makes SyncEngine under another tag than v1";
            let way_out = "tags that were deployed must stay; leave it if you chose this one";
            add(Severity::Hint, "migrations", what, way_out);
        }
        Some(_) => {}
    }
}

fn of_app(app: &Value, sync: &Value, found: &mut Vec<Finding>) {
    let mut add = |severity, setting: &str, what: String, way_out: &str| {
        let setting = format!("wrangler.jsonc {setting}");
        found.push(Finding::new(severity, setting, what, way_out));
    };
    let services = app["services"].as_array().map_or(&[][..], Vec::as_slice);
    let bound = services.iter().find(|s| s["binding"] == "SYNC_WORKER");
    let url = var(app, "SYNC_WORKER_URL").filter(|url| !url.is_empty());
    match (bound, url) {
        (Some(service), _) if service["service"] != sync["name"] => {
            let (has, wanted) = (&service["service"], &sync["name"]);
            let what =
                format!("binds SYNC_WORKER to {has}, but the sync Worker is called {wanted}");
            add(Severity::Wrong, "services", what, "make the two names one");
        }
        (Some(_), _) => {}
        (None, None) => {
            let what = "has no SYNC_WORKER, and there is no SYNC_WORKER_URL: nothing passes";
            add(
                Severity::Wrong,
                "services",
                what.to_owned(),
                "bind it, or set SYNC_WORKER_URL",
            );
        }
        (None, Some(url)) if !url.starts_with("https://") => {
            let what = "is no https URL: tokens and keys go in the clear".to_owned();
            add(Severity::Risky, "SYNC_WORKER_URL", what, "use https");
        }
        (None, Some(_)) => {
            let what = "needs a public address of the sync Worker".to_owned();
            let way_out = "prefer the binding SYNC_WORKER where both are in one account";
            add(Severity::Hint, "SYNC_WORKER_URL", what, way_out);
        }
    }
    for name in SECRETS.iter().filter(|name| var(app, name).is_some()) {
        let what = "stands in the app Worker's file, which needs no secret".to_owned();
        add(Severity::Risky, name, what, "take it out, and rotate it");
    }
}

fn of_dates(file: &str, config: &Value, found: &mut Vec<Finding>) {
    let setting = format!("{file} compatibility_date");
    match config["compatibility_date"].as_str() {
        None => found.push(Finding::new(
            Severity::Wrong,
            setting,
            "is missing: the platform would choose its oldest behaviour",
            format!("set it to {DATE} or later"),
        )),
        Some(date) if date < DATE => found.push(Finding::new(
            Severity::Risky,
            setting,
            format!("is {date}, before {DATE}, which is tested"),
            format!("set it to {DATE} or later"),
        )),
        Some(_) => {}
    }
}

fn of_local(gathered: &Gathered, found: &mut Vec<Finding>) {
    let Some(local) = &gathered.local else { return };
    let get = |name: &str| match (local.get(name), name) {
        (Some(text), _) => Some(text.clone()),
        (None, "DEV") => Some("true".to_owned()),
        (None, _) => var(&gathered.sync, name),
    };
    if let Err(error) = Config::read(get) {
        let way_out = "mend it there, or delete the line; `make dev` would not answer";
        let setting = format!(".dev.vars {}", error.setting);
        found.push(Finding::new(Severity::Wrong, setting, error.what, way_out));
    }
}

fn judged(gathered: &Gathered) -> Vec<Finding> {
    let mut found = Vec::new();
    of_settings(&gathered.sync, &mut found);
    of_sync(&gathered.sync, &mut found);
    of_app(&gathered.app, &gathered.sync, &mut found);
    of_dates("wrangler.sync.jsonc", &gathered.sync, &mut found);
    of_dates("wrangler.jsonc", &gathered.app, &mut found);
    of_local(gathered, &mut found);
    for (name, wanted, there) in gathered.versions.iter().filter(|(_, a, b)| a != b) {
        found.push(Finding::new(
            Severity::Wrong,
            name.clone(),
            format!("is {there}, but {wanted} is what fits"),
            "make setup",
        ));
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let gathered: Gathered = serde_json::from_str(&text)?;
    let findings: Vec<Value> = judged(&gathered)
        .iter()
        .map(|f| {
            json!({
                "severity": f.severity.as_str(), "setting": f.setting, "what": f.what,
                "wayOut": f.way_out
            })
        })
        .collect();
    println!("{}", Value::from(findings));
    Ok(())
}
