//! SRV records (RFC 2782): the targets of the best priority, each address of a target an endpoint with its weight.

use std::time::Duration;

use super::{Found, MOST, tidy};
use crate::BoxError;
use crate::endpoint::Address;
use crate::names::{Names, Service};

pub(super) async fn look(names: &Names, name: &str, https: bool) -> Result<Found, BoxError> {
    let (services, mut good_for) = names.services(name).await?;
    let best = services.iter().map(|service| service.priority).min().ok_or("no SRV record")?;
    let mut endpoints = Vec::new();
    let mut last: Option<BoxError> = None;
    for Service { port, weight, target, .. } in services.iter().filter(|service| service.priority == best) {
        match names.lookup(target).await {
            Ok(answer) => {
                good_for = good_for.min(answer.good_for);
                // A weight of 0 is a small one (RFC 2782), and small ones are not none.
                let weight = u32::from(*weight).max(1);
                let at = |ip| Address { https, host: target.clone(), port: *port, ip: Some(ip) };
                endpoints.extend(answer.addresses.into_iter().map(|ip| (at(ip), weight)));
            }
            Err(why) => last = Some(why),
        }
    }
    endpoints.truncate(MOST);
    if endpoints.is_empty() {
        return Err(last.unwrap_or_else(|| "no target has an address".into()));
    }
    Ok(Found { endpoints: tidy(endpoints), good_for: good_for.max(Duration::from_secs(1)) })
}
