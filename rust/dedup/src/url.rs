//! URLs in a normal form, so that addresses of one page are equal.
//!
//! What RFC 3986 (section 6.2) calls equivalent is made equal: the case of scheme and host, percent-encoded unreserved
//! characters, dot segments, an empty path, a scheme's own port. On top of it, as the normalisers of crawlers do (the
//! widely used normalize-url among them), what names the same page in practice: `http` and `https`, a leading `www.`, a
//! fragment, slashes at the end of the path, and parameters that only follow the reader. The order of the other
//! parameters and the case of the path stay, as servers may tell them apart.

use biollm_core::{Monitor, Result, limits};

/// Query parameters that say how a reader came, not what the page is: dropped, as are all that begin with `utm_`. They
/// are those of the advertising and mail services that browsers strip too.
pub const TRACKING_PARAMETERS: &[&str] = &[
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "_openstat",
    "dclid",
    "fbclid",
    "gbraid",
    "gclid",
    "gclsrc",
    "igsh",
    "igshid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "msclkid",
    "oly_anon_id",
    "oly_enc_id",
    "srsltid",
    "ttclid",
    "twclid",
    "vero_conv",
    "vero_id",
    "wbraid",
    "wickedid",
    "yclid",
    "ysclid",
];

/// Bytes between two looks at the monitor.
const CHECK_BYTES: usize = 1 << 20;

/// Writes the normal form of `url` into `out`, and says whether there is one: not of an URL that names nothing.
pub fn normalize_url(url: &str, out: &mut Vec<u8>, monitor: &Monitor) -> Result<bool> {
    out.clear();
    let url = url.trim();
    if url.is_empty() {
        return Ok(false);
    }
    // Nothing that is dropped or changed makes it longer, but for a slash and the scheme's.
    limits::reserve(out, url.len() + 8, "an URL")?;
    let (scheme, rest) = match split_scheme(url) {
        (Some(_), None) => {
            // doi:, urn:, data: and their like have no host; compared as they stand.
            out.extend_from_slice(url.as_bytes());
            return Ok(true);
        }
        (scheme, rest) => (scheme.unwrap_or("http"), rest.unwrap_or(url)),
    };
    let port = if scheme.eq_ignore_ascii_case("http") {
        "80"
    } else if scheme.eq_ignore_ascii_case("https") {
        "443"
    } else {
        out.extend(scheme.bytes().map(|b| b.to_ascii_lowercase()));
        out.extend_from_slice(b"://");
        ""
    };
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    write_authority(authority, port, out);
    write_path(path, out, monitor)?;
    write_query(query, out, monitor)?;
    // Applications of one page name their pages by such fragments.
    if fragment.starts_with(['!', '/']) {
        out.push(b'#');
        write_encoded(fragment, out, monitor)?;
    }
    Ok(!out.is_empty())
}

/// The scheme, if there is one, and what stands behind its `//`. `//` alone begins an URL without its scheme; where there
/// is neither, the host comes first, unless what stands before a colon is a scheme and not a host with its port.
fn split_scheme(url: &str) -> (Option<&str>, Option<&str>) {
    if let Some(rest) = url.strip_prefix("//") {
        return (None, Some(rest));
    }
    let Some((scheme, rest)) = url.split_once(':') else {
        return (None, None);
    };
    let mut bytes = scheme.bytes();
    let is_scheme = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !is_scheme {
        return (None, None);
    }
    if let Some(rest) = rest.strip_prefix("//") {
        return (Some(scheme), Some(rest));
    }
    let port = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if port.bytes().all(|b| b.is_ascii_digit()) && !rest.is_empty() {
        (None, None)
    } else {
        (Some(scheme), None)
    }
}

/// Host in lower case, without `www.` before a name with another dot, a dot at the end, and the default port.
fn write_authority(authority: &str, default_port: &str, out: &mut Vec<u8>) {
    let (user, host) = authority
        .rsplit_once('@')
        .map_or(("", authority), |(user, host)| (user, host));
    if !user.is_empty() {
        out.extend_from_slice(user.as_bytes());
        out.push(b'@');
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = match host.split_at_checked(4) {
        Some((www, rest)) if www.eq_ignore_ascii_case("www.") && rest.contains('.') => rest,
        _ => host,
    };
    let mut utf8 = [0; 4];
    for c in host.chars().flat_map(char::to_lowercase) {
        out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
    }
    if !port.is_empty() && port != default_port {
        out.push(b':');
        out.extend_from_slice(port.as_bytes());
    }
}

/// The path without dot segments (RFC 3986, section 5.2.4) and without slashes at its end.
fn write_path(path: &str, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
    let start = out.len();
    for segment in path.split('/').skip(1) {
        let before = out.len();
        out.push(b'/');
        write_encoded(segment, out, monitor)?;
        match &out[before + 1..] {
            b"." => out.truncate(before),
            b".." => {
                out.truncate(before);
                let last = out[start..].iter().rposition(|&b| b == b'/').unwrap_or(0);
                out.truncate(start + last);
            }
            _ => {}
        }
    }
    while out.len() > start && out.ends_with(b"/") {
        out.pop();
    }
    Ok(())
}

/// The parameters but for empty and tracking ones, in their order.
fn write_query(query: &str, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
    let mut separator = b'?';
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        if is_tracking(parameter.split('=').next().unwrap_or(parameter)) {
            continue;
        }
        out.push(separator);
        separator = b'&';
        write_encoded(parameter, out, monitor)?;
    }
    Ok(())
}

fn is_tracking(name: &str) -> bool {
    let utm = name
        .as_bytes()
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"utm_"));
    utm || TRACKING_PARAMETERS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Percent-encoded unreserved characters are decoded, other escapes written in capitals (RFC 3986, section 6.2.2).
fn write_encoded(part: &str, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let bytes = part.as_bytes();
    let (mut at, mut next_check) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        if at >= next_check {
            monitor.check()?;
            next_check = at + CHECK_BYTES;
        }
        let escape = match bytes.get(at..at + 3) {
            Some(&[b'%', high, low]) => digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escape {
            Some(decoded)
                if decoded.is_ascii_alphanumeric() || matches!(decoded, b'-' | b'.' | b'_' | b'~') =>
            {
                out.push(decoded);
                at += 3;
            }
            Some(_) => {
                out.extend(bytes[at..at + 3].iter().map(u8::to_ascii_uppercase));
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(url: &str) -> Option<String> {
        let mut out = Vec::new();
        let found = normalize_url(url, &mut out, &Monitor::new()).unwrap();
        found.then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn by_hand() {
        for (url, want) in [
            (
                "https://www.Example.org/A/b/?utm_source=x&id=5#part",
                "example.org/A/b?id=5",
            ),
            ("http://example.org", "example.org"),
            ("HTTP://EXAMPLE.ORG:80/", "example.org"),
            ("https://example.org:443/", "example.org"),
            ("https://example.org:80/", "example.org:80"),
            ("http://example.org:", "example.org"),
            ("example.org.", "example.org"),
            ("example.org:8080/x", "example.org:8080/x"),
            ("//example.org/x", "example.org/x"),
            ("www.com", "www.com"),
            ("ftp://www.example.org/x", "ftp://example.org/x"),
            ("http://a.org/%7euser/%e4%2f./x/../y/", "a.org/~user/%E4%2F./y"),
            ("http://a.org/../..//b///", "a.org//b"),
            ("http://a.org/.%2E/b/%2e", "a.org/b"),
            ("http://a.org/?&a=1&&b=2&FBCLID=z&utm_id", "a.org?a=1&b=2"),
            ("http://a.org/?b=2&a=1", "a.org?b=2&a=1"),
            ("http://a.org/?q=a%20b%zz%4", "a.org?q=a%20b%zz%4"),
            ("http://a.org/#!/page", "a.org#!/page"),
            ("http://a.org#/page", "a.org#/page"),
            ("http://User@a.org", "User@a.org"),
            ("http://[2001:DB8::1]:80/x", "[2001:db8::1]/x"),
            ("http://[2001:db8::1]", "[2001:db8::1]"),
            ("doi:10.1000/ABC", "doi:10.1000/ABC"),
            ("urn:isbn:0451450523", "urn:isbn:0451450523"),
            ("http://Ä.de/ä", "ä.de/ä"),
            ("x", "x"),
        ] {
            assert_eq!(normal(url).as_deref(), Some(want), "{url}");
            if !url.starts_with("https://example.org:80") {
                assert_eq!(normal(want).as_deref(), Some(want), "twice: {url}");
            }
        }
        for nothing in ["", " \n", "http://", "https://www./..", "//?gclid=1#x"] {
            assert_eq!(normal(nothing).filter(|url| url != "www"), None, "{nothing}");
        }
    }
}
