//! Who stands in front of the gateway: networks whose word counts.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Report;
use crate::decode::short;
use crate::document::Listeners;
use crate::path::Path;

/// Those whose headers are believed, and those whose connections say first whose they are.
pub(super) fn compile(listeners: Option<&Listeners>, report: &Report<'_>) -> (Vec<IpNet>, Vec<IpNet>) {
    let Some(Listeners { trusted_proxies, proxy_protocol }) = listeners else { return (Vec::new(), Vec::new()) };
    let family = Path::Root.field("listeners");
    let of = |texts, field| networks(texts, &family.field(field), report);
    (of(trusted_proxies, "trusted_proxies"), of(proxy_protocol, "proxy_protocol"))
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
