//! The configurations of the others: templates in `conf/`, with the routes that are asked for.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Site;
use super::contender::{Doors, Extent, Kind};
use crate::process::Folder;

/// Of [`Extent::ManyRoutes`].
pub(super) const ROUTES: usize = 10_000;

/// At once: the idle ones and some, and those towards the backend.
const CONNECTIONS: usize = 11_000;

/// What the paths of the `nth` route begin with, from 1.
pub(super) fn prefix(nth: usize) -> String {
    format!("/r/{nth}/")
}

/// The file that a contender is started with.
pub(super) fn write(kind: Kind, extent: Extent, doors: Doors, folder: &Folder, site: &Site<'_>) -> Result<PathBuf> {
    let (name, template) = match kind {
        Kind::Nginx => ("nginx-speed.conf", include_str!("../../conf/nginx-speed.conf")),
        Kind::Haproxy => ("haproxy-speed.cfg", include_str!("../../conf/haproxy-speed.cfg")),
        Kind::Caddy => ("caddy-speed.caddyfile", include_str!("../../conf/caddy-speed.caddyfile")),
        _ => ("envoy-speed.yaml", include_str!("../../conf/envoy-speed.yaml")),
    };
    let map = folder.path.join("routes.map");
    let routes = match extent {
        Extent::OneRoute => one(kind),
        Extent::ManyRoutes if kind == Kind::Haproxy => {
            let lines: String = (1..=ROUTES).map(|nth| format!("{} backend\n", prefix(nth))).collect();
            fs::write(&map, lines)?;
            format!("    use_backend %[path,map_beg({})]", map.display())
        }
        Extent::ManyRoutes => (1..=ROUTES).fold(String::new(), |mut text, nth| {
            let _ = text.write_str(&route(kind, &prefix(nth)));
            text
        }),
    };
    let upstream = site.backend.address;
    let words = [
        ("@ROUTES@", routes),
        ("@CLEAR@", doors.clear.to_string()),
        ("@H2C@", doors.h2c.to_string()),
        ("@TLS@", doors.tls.to_string()),
        ("@CLEAR_PORT@", doors.clear.port().to_string()),
        ("@TLS_PORT@", doors.tls.port().to_string()),
        ("@UPSTREAM@", upstream.to_string()),
        ("@UPSTREAM_PORT@", upstream.port().to_string()),
        ("@CERTIFICATE@", site.trust.certificate.display().to_string()),
        ("@KEY@", site.trust.key.display().to_string()),
        ("@BOTH@", site.trust.both.display().to_string()),
        ("@CONNECTIONS@", CONNECTIONS.to_string()),
        ("@FOLDER@", folder.path.display().to_string()),
    ];
    let text = words.iter().fold(template.to_owned(), |text, (word, by)| text.replace(word, by));
    let file = folder.path.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn one(kind: Kind) -> String {
    match kind {
        Kind::Haproxy => "    default_backend backend".to_owned(),
        Kind::Caddy => String::new(),
        _ => route(kind, "/"),
    }
}

fn route(kind: Kind, prefix: &str) -> String {
    match kind {
        Kind::Nginx => format!("        location {prefix} {{ proxy_pass http://backend; }}\n"),
        Kind::Caddy => format!("\thandle {prefix}* {{\n\t\tvars route {prefix}\n\t}}\n"),
        _ => format!("{{match: {{prefix: \"{prefix}\"}}, route: {{cluster: backend, timeout: 0s}}}}, "),
    }
}
