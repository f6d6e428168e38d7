//! `tidegate token …`: admin tokens.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use http::Method;
use tidegate_admin::wire::{AdminToken, AdminTokens, CreateToken, IssuedToken, RevokedToken, Role};
use tidegate_config::Span;

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// A new admin token; it is shown once
    Create {
        /// Who it is for: shown in the history of what was published with it
        name: String,
        #[arg(long)]
        role: As,
        /// How long it lives; default: until it is revoked
        #[arg(long, value_name = "SPAN", value_parser = Span::or_seconds)]
        ttl: Option<Duration>,
    },
    /// List admin tokens, without their secrets
    Ls,
    /// End an admin token, on every node
    Revoke { id: u64 },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum As {
    /// Looks
    Reader,
    /// Publishes documents, issues and revokes keys
    Operator,
    /// Members, join tokens and admin tokens
    Admin,
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    match verb {
        Verb::Create { name, role, ttl } => {
            let role = match role {
                As::Reader => Role::Reader,
                As::Operator => Role::Operator,
                As::Admin => Role::Admin,
            };
            let body = CreateToken { name, role, ttl_seconds: ttl.map(|ttl| ttl.as_secs()) };
            let token: IssuedToken = client.send(Ask::new(Method::POST, "/v1/tokens").json(&body)).await?;
            either(output, &token, |token| {
                eprintln!("admin token {} ({}), shown this once:", token.info.id, token.info.role.as_str());
                print::line(&token.token);
            });
            Ok(Exit::Ok)
        }
        Verb::Ls => {
            let tokens: AdminTokens = client.get("/v1/tokens").await?;
            either(output, &tokens, list);
            Ok(Exit::Ok)
        }
        Verb::Revoke { id } => {
            let revoked: RevokedToken = client.send(Ask::new(Method::DELETE, &format!("/v1/tokens/{id}"))).await?;
            either(output, &revoked, |revoked| print::line(&format!("admin token {} is revoked", revoked.id)));
            Ok(if revoked.complete { Exit::Ok } else { Exit::Incomplete })
        }
    }
}

fn list(tokens: &AdminTokens) {
    let row = |token: &AdminToken| {
        vec![
            token.id.to_string(),
            token.name.clone(),
            token.role.as_str().to_owned(),
            token.created_at.clone(),
            print::or_dash(token.expires_at.as_ref()),
        ]
    };
    print::table(&["id", "name", "role", "created", "expires"], tokens.tokens.iter().map(row).collect());
}
