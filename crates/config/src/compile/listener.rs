//! Who stands in front of the gateway: networks whose word counts.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Report;
use crate::decode::short;
use crate::document::Listeners;
use crate::path::Path;
use crate::units::Span;

#[derive(Default)]
pub(super) struct Compiled {
    /// Those whose headers are believed.
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Those whose connections say first whose they are.
    pub(super) announced_by: Vec<IpNet>,
    pub(super) ticket_rotation: Option<Duration>,
}

pub(super) fn compile(listeners: Option<&Listeners>, report: &Report<'_>) -> Compiled {
    let Some(Listeners { trusted_proxies, proxy_protocol, ticket_rotation }) = listeners else {
        return Compiled::default();
    };
    let family = Path::Root.field("listeners");
    let of = |texts, field| networks(texts, &family.field(field), report);
    Compiled {
        trusted_proxies: of(trusted_proxies, "trusted_proxies"),
        announced_by: of(proxy_protocol, "proxy_protocol"),
        ticket_rotation: ticket_rotation.map(|Span(span)| {
            // RFC 8446 § 4.6.1: no ticket lives for longer than seven days.
            if !(Duration::from_secs(60)..=Duration::from_secs(7 * 24 * 3600)).contains(&span) {
                let why = "keys of session tickets are renewed after 1m to 7d";
                report.hinted(&family.field("ticket_rotation"), why, "leave it out for 6h");
            }
            span
        }),
    }
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
