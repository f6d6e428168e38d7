//! Is a cookie somebody's login? RFC 9111 § 7.3 lets responses with cookies be stored; a session that is handed to the next
//! client is somebody else's account. Says yes when in doubt: what is not stored is fetched.

use http::HeaderMap;
use http::header::SET_COOKIE;

/// Parts of names, in lower case, that frameworks give to what identifies a person.
const NAMES: [&str; 14] = [
    "sess", "sid", "auth", "token", "login", "user", "jwt", "csrf", "xsrf", "identity", "account", "remember",
    "secret", "key",
];

pub(crate) fn has_login(response: &HeaderMap) -> bool {
    response.get_all(SET_COOKIE).iter().any(|line| line.to_str().map_or(true, is_login))
}

fn is_login(line: &str) -> bool {
    let mut parts = line.split(';');
    let name = parts.next().and_then(|pair| pair.split('=').next()).unwrap_or_default().trim().to_ascii_lowercase();
    // Not for scripts: then for the server alone, to know its client by.
    let http_only = parts.any(|attribute| attribute.trim().eq_ignore_ascii_case("httponly"));
    http_only || name.starts_with("__") || NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_known_by_mark_prefix_or_name() {
        for line in
            ["a=b; Path=/; httponly", "__Host-a=b", "PHPSESSID=1", "connect.sid=1", "XSRF-TOKEN=1", "; HttpOnly"]
        {
            assert!(is_login(line), "{line}");
        }
        for line in ["a=b", "theme=dark; Secure; Path=/", "lang=en; Max-Age=3"] {
            assert!(!is_login(line), "{line}");
        }
    }
}
