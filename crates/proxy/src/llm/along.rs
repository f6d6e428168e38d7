//! Which headers of a caller go on to a provider. Beside our key none that names an account, a project or somebody to bill:
//! they would be ours to answer for, and a key of idempotency would hand one caller's answer to another. Beside a key of the
//! caller's own they mean what they say. A provider may be told of more (`caller_headers`).

use http::{HeaderMap, HeaderName};
use tidegate_policy::Provider;

/// They say how to answer, or who made the client.
const SAID: [&str; 5] = ["anthropic-version", "anthropic-beta", "openai-beta", "traceparent", "tracestate"];
const CLIENT: &str = "x-stainless-";

/// Whose account, whose project, whose bill.
const ACCOUNTS: [&str; 8] =
    ["openai-", "x-openai-", "anthropic-", "x-amz-", "helicone-", "x-portkey-", "cf-aig-", "chatgpt-account-"];
const ACCOUNT: [&str; 5] = [
    "idempotency-key",
    "x-idempotency-key",
    "x-goog-user-project",
    "x-goog-iam-authorization-token",
    "x-goog-iam-authority-selector",
];

fn names_account(name: &str) -> bool {
    !SAID.contains(&name) && (ACCOUNT.contains(&name) || ACCOUNTS.iter().any(|prefix| name.starts_with(prefix)))
}

fn is_chosen(name: &HeaderName, provider: &Provider) -> bool {
    provider.caller_headers.contains(name)
}

/// Of a call that goes out as we make it. `same`: the provider speaks the caller's dialect; `own`: the key is the caller's.
pub(super) fn goes(name: &HeaderName, provider: &Provider, same: bool, own: bool) -> bool {
    let said = || SAID.contains(&name.as_str()) || name.as_str().starts_with(CLIENT);
    is_chosen(name, provider) || (same && (said() || (own && names_account(name.as_str()))))
}

/// Of one that passes as it is, with our key.
pub(super) fn strip(headers: &mut HeaderMap, provider: &Provider) {
    let ours = |name: &&HeaderName| names_account(name.as_str()) && !is_chosen(name, provider);
    let named: Vec<HeaderName> = headers.keys().filter(ours).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_an_account_is_told_from_what_says_how_to_answer() {
        for name in ["openai-organization", "openai-project", "anthropic-organization", "x-amz-security-token"] {
            assert!(names_account(name), "{name}");
        }
        for name in ["helicone-auth", "idempotency-key", "x-goog-user-project", "chatgpt-account-id"] {
            assert!(names_account(name), "{name}");
        }
        for name in ["openai-beta", "anthropic-beta", "anthropic-version", "x-goog-upload-command", "content-type"] {
            assert!(!names_account(name), "{name}");
        }
        assert!(!names_account("x-amzn-bedrock-guardrailidentifier") && !names_account("x-stainless-lang"));
    }
}
