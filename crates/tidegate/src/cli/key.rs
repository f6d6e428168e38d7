//! `tidegate key …`

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use tidegate_admin::wire::{CreateKey, IssuedKey, Key, KeyPlan, Keys, RevokedKey, RotateKey};
use tidegate_config::Span;

use super::Output;
use super::client::{Ask, Client};
use super::document::Reading;
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// A new key for a consumer; the secret is shown once
    Create {
        /// A consumer that the document declares
        consumer: String,
        #[arg(long)]
        tenant: Option<String>,
        /// For people, to recognise it by
        #[arg(long)]
        name: Option<String>,
        /// How long it lives; default: until it is revoked
        #[arg(long, value_name = "SPAN", value_parser = Span::or_seconds)]
        ttl: Option<Duration>,
        /// A plan of the document, instead of its consumer's
        #[arg(long)]
        plan: Option<String>,
    },
    /// Put a key on another plan, or with none named back on its consumer's
    Plan { id: u64, plan: Option<String> },
    /// List keys, without their secrets
    Ls {
        /// Only of this consumer
        consumer: Option<String>,
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        reading: Reading,
    },
    /// End a key for ever, on every node
    Revoke { id: u64 },
    /// A new secret for a key; the old one works on for a while
    Rotate {
        id: u64,
        /// How long the old secret still works
        #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = Span::or_seconds)]
        grace: Duration,
    },
}

const PAGE: usize = 10_000;

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    match verb {
        Verb::Create { consumer, tenant, name, ttl, plan } => {
            let body = CreateKey { consumer, tenant, name, ttl_seconds: ttl.map(|ttl| ttl.as_secs()), plan };
            let key: IssuedKey = client.send(Ask::new(Method::POST, "/v1/keys").json(&body)).await?;
            either(output, &key, issued);
            Ok(Exit::Ok)
        }
        Verb::Ls { consumer, tenant, reading } => {
            let keys = all(client, consumer.as_deref(), tenant.as_deref(), reading).await?;
            either(output, &keys, list);
            Ok(Exit::Ok)
        }
        Verb::Revoke { id } => {
            let ask = Ask::new(Method::DELETE, &format!("/v1/keys/{id}"));
            let revoked: RevokedKey = client.send(ask).await?;
            either(output, &revoked, |revoked| {
                print::line(&format!("key {} is revoked", revoked.id));
                if !revoked.complete {
                    print::applied(&revoked.nodes);
                }
            });
            Ok(if revoked.complete { Exit::Ok } else { Exit::Incomplete })
        }
        Verb::Plan { id, plan } => {
            let ask = Ask::new(Method::POST, &format!("/v1/keys/{id}/plan")).json(&KeyPlan { plan });
            let key: Key = client.send(ask).await?;
            either(output, &key, |key| {
                let plan = key.plan.as_deref().map_or("its consumer's plan".to_owned(), |plan| format!("plan {plan}"));
                print::line(&format!("key {} is on {}", key.id, print::clean(&plan)));
            });
            Ok(Exit::Ok)
        }
        Verb::Rotate { id, grace } => {
            let body = RotateKey { grace_seconds: Some(grace.as_secs()) };
            let ask = Ask::new(Method::POST, &format!("/v1/keys/{id}/rotate")).json(&body);
            let key: IssuedKey = client.send(ask).await?;
            either(output, &key, issued);
            Ok(Exit::Ok)
        }
    }
}

async fn all(client: &Client, consumer: Option<&str>, tenant: Option<&str>, reading: Reading) -> Result<Keys, Error> {
    let mut keys: Vec<Key> = Vec::new();
    loop {
        let mut ask = reading.of(Ask::new(Method::GET, "/v1/keys")).query("limit", &PAGE.to_string());
        if let Some(last) = keys.last() {
            ask = ask.query("after", &last.id.to_string());
        }
        if let Some(consumer) = consumer {
            ask = ask.query("consumer", consumer);
        }
        if let Some(tenant) = tenant {
            ask = ask.query("tenant", tenant);
        }
        let page: Keys = client.send(ask).await?;
        let more = page.keys.len() == PAGE;
        keys.extend(page.keys);
        if !more {
            return Ok(Keys { keys });
        }
    }
}

/// The secret alone on standard output, so that `$(tidegate key create acme)` is the secret.
fn issued(key: &IssuedKey) {
    eprintln!("key {} of {}, shown this once:", key.key.id, print::clean(&key.key.consumer));
    print::line(&key.secret);
    if let Some(until) = &key.key.grace_until {
        eprintln!("the old secret works until {until}");
    }
}

fn list(keys: &Keys) {
    let row = |key: &Key| {
        vec![
            key.id.to_string(),
            key.tenant.clone(),
            key.consumer.clone(),
            key.name.clone(),
            print::or_dash(key.plan.as_ref()),
            format!("{}…", key.prefix),
            key.state.as_str().to_owned(),
            key.created_at.clone(),
            print::or_dash(key.expires_at.as_ref()),
        ]
    };
    let header = ["id", "tenant", "consumer", "name", "plan", "key", "state", "created", "expires"];
    print::table(&header, keys.keys.iter().map(row).collect());
}
