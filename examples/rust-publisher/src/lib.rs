//! A Worker of your own that publishes: `POST /order` tells an order's owner, on every device.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]

use serde::Deserialize;
use tidewire::publisher::{Change, PublishError, Published, Publisher};
use tidewire::workers::{WorkerTransport, start};
use worker::{Context, Env, Error, Method, Request, Response, Result, console_error, event};

#[event(start)]
fn on_start() {
    start();
}

/// What is ordered: the body of `POST /order`.
#[derive(Deserialize)]
struct Order {
    id: String,
    owner: String,
    item: String,
}

#[event(fetch)]
async fn fetch(mut request: Request, env: Env, _context: Context) -> Result<Response> {
    if (request.method(), request.path().as_str()) != (Method::Post, "/order") {
        return Response::error("not found", 404);
    }
    let Ok(order) = request.json::<Order>().await else {
        return Response::error("an order has id, owner and item", 400);
    };
    // The Durable Object's binding, else the service binding, else SYNC_WORKER_URL.
    let publisher = Publisher::new(WorkerTransport::from_env(&env).map_err(Error::RustError)?);
    match publish(&publisher, &order).await {
        Ok(published) => Response::ok(published.cursor),
        Err(error) => {
            console_error!("order {}: {error}", order.id);
            let status = if error.is_retryable() { 503 } else { 500 };
            Response::error(error.to_string(), status)
        }
    }
}

async fn publish(
    publisher: &Publisher<WorkerTransport>,
    order: &Order,
) -> std::result::Result<Published, PublishError> {
    // `notes` is scoped by its field `ownerId`: only the owner sees this row.
    let row = serde_json::json!({ "ownerId": order.owner, "text": order.item });
    let change = Change::create("notes", &order.id, &row)?;
    // The key makes an order that is sent again one order.
    publisher.publish(&change, Some(&order.id)).await
}
