//! Who stands in front of the gateway: networks whose word counts.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tidegate_model::Feature;
use tidegate_policy::Http3;

use super::Report;
use crate::decode::short;
use crate::document::{Http3Rule, Listeners};
use crate::inputs::Inputs;
use crate::path::Path;
use crate::units::Span;

#[derive(Default)]
pub(super) struct Compiled {
    /// Those whose headers are believed.
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Those whose connections say first whose they are.
    pub(super) announced_by: Vec<IpNet>,
    pub(super) ticket_rotation: Option<Duration>,
    pub(super) http3: Option<Http3>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn compile(listeners: Option<&Listeners>, inputs: &Inputs, report: &Report<'_>) -> Compiled {
    let Some(Listeners { trusted_proxies, proxy_protocol, ticket_rotation, http3 }) = listeners else {
        return Compiled::default();
    };
    let family = Path::Root.field("listeners");
    let of = |texts, field| networks(texts, &family.field(field), report);
    Compiled {
        trusted_proxies: of(trusted_proxies, "trusted_proxies"),
        announced_by: of(proxy_protocol, "proxy_protocol"),
        ticket_rotation: ticket_rotation.map(|Span(span)| {
            // RFC 8446 § 4.6.1: no ticket lives for longer than seven days.
            if !(Duration::from_secs(60)..=7 * DAY).contains(&span) {
                let why = "keys of session tickets are renewed after 1m to 7d";
                report.hinted(&family.field("ticket_rotation"), why, "leave it out for 6h");
            }
            span
        }),
        http3: http3.as_ref().map(|rule| beside(rule, &family.field("http3"), inputs, report)),
    }
}

fn beside(rule: &Http3Rule, path: &Path<'_>, inputs: &Inputs, report: &Report<'_>) -> Http3 {
    if inputs.lacks(Feature::Http3) {
        let hint = "leave it out, or serve a build with the cargo feature `h3`: `cargo build --features h3`";
        report.hinted(path, "this node's program was built without HTTP/3", hint);
    }
    let Http3Rule { port, max_age } = rule;
    if *port == Some(0) {
        report.hinted(&path.field("port"), "no client can reach port 0", "leave it out for the listener's own port");
    }
    let max_age = max_age.map_or(DAY, |Span(span)| span);
    if max_age > 365 * DAY {
        report.hinted(&path.field("max_age"), "clients may remember for up to 365d", "leave it out for 1d");
    }
    Http3 { port: *port, max_age }
}

fn networks(texts: &[String], list: &Path<'_>, report: &Report<'_>) -> Vec<IpNet> {
    let networks = texts.iter().enumerate().filter_map(|(i, text)| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
        if network.is_none() {
            let why = format!("`{}` is not an address or a network", short(text));
            report.hinted(&list.item(i), why, "write `10.0.0.0/8` or `192.0.2.7`");
        }
        if network.is_some_and(|network| network.prefix_len() == 0) {
            let why = "this trusts everybody: any client could claim any address";
            report.hinted(&list.item(i), why, "name the networks of your load balancers");
        }
        network
    });
    networks.map(|network| network.trunc()).collect()
}
