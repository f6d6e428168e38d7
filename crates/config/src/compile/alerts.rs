//! Who is told of alerts. What stands in the document is no secret: keys, and parts of URLs that nobody should see, are
//! references.

use tidegate_policy::Webhook;

use super::secret::Secrets;
use super::{Report, references};
use crate::document::{AlertRules, WebhookRule};
use crate::path::Path;

const MOST: usize = 16;
const LONGEST: usize = 2_048;
const LONGEST_NAME: usize = 128;
const SHAPE: &str = "write `https://host/path`, or `http://`";

pub(super) fn compile(rules: &AlertRules, secrets: &Secrets<'_>, report: &Report<'_>) -> Vec<Webhook> {
    let AlertRules { webhooks } = rules;
    let path = Path::Root.field("alerts");
    let path = path.field("webhooks");
    for (at, WebhookRule { name, .. }) in webhooks.iter().enumerate() {
        let twice = webhooks[..at].iter().any(|other| other.name == *name);
        let long = name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control);
        if twice || long {
            let why = if twice { "another webhook has this name" } else { "1 to 128 characters" };
            report.error(&path.item(at).field("name"), why);
        }
    }
    if webhooks.len() > MOST {
        report.error(&path, format!("at most {MOST}"));
    }
    let each = webhooks.iter().enumerate();
    each.filter_map(|(at, rule)| webhook(rule, secrets, &path.item(at), report)).collect()
}

fn webhook(rule: &WebhookRule, secrets: &Secrets<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<Webhook> {
    let WebhookRule { name, url, secret } = rule;
    let at = path.field("url");
    let filled = secrets.fill_with(url, &at, report, str::to_owned);
    let is_reference =
        |text: &str| text.starts_with("${secrets.") && text.ends_with('}') && references(text).len() == 1;
    let key = secret.as_ref().map(|text| {
        let at = path.field("secret");
        if !is_reference(text) {
            report.hinted(&at, "a key does not belong into the document", "write `${secrets.NAME}`");
        }
        secrets.fill_with(text, &at, report, str::to_owned)
    });
    // What stands there may be secret: it is not repeated.
    let looked_at = if filled.known { filled.text.as_str() } else { url.as_str() };
    match shape(looked_at, filled.known) {
        Err(why) => {
            report.hinted(&at, why, SHAPE);
            None
        }
        Ok(None) => None,
        Ok(Some(url)) => Some(Webhook { name: name.clone(), url, secret: key.map(|key| key.text.into()) }),
    }
}

/// `Ok(None)`: it cannot be told before its secrets are known.
fn shape(url: &str, known: bool) -> Result<Option<http::Uri>, &'static str> {
    if url.len() > LONGEST {
        return Err("it is too long");
    }
    if !known && url.starts_with("${secrets.") {
        return Ok(None);
    }
    let Some((scheme, rest)) = url.split_once("://") else { return Err("it is no URL") };
    if !matches!(scheme, "http" | "https") {
        return Err("it is neither http nor https");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') && !authority.contains('$') {
        return Err("a user and password in a URL are not sent");
    }
    if rest.contains('#') {
        return Err("a fragment is not sent");
    }
    if !known {
        return Ok(None);
    }
    match url.parse::<http::Uri>() {
        Ok(url) if url.host().is_some_and(|host| !host.is_empty()) => Ok(Some(url)),
        _ => Err("it is no URL"),
    }
}
