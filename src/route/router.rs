//! Finds the route of a request.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Route;

/// The condition of a route. Empty parts match everything.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// Exact host name, lower case, without port.
    pub host: Option<String>,
    /// Exact path. At most one of `path` and `path_prefix` is set.
    pub path: Option<String>,
    /// Path prefix by whole segments: `/v1` and `/v1/` both match `/v1` and `/v1/models`, never `/v1beta`.
    pub path_prefix: Option<String>,
    /// Allowed methods; empty allows all.
    pub methods: Vec<Method>,
    /// Header fields that must be present with exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Matcher {
    /// Whether the path matches, regardless of the other parts.
    pub fn path_fits(&self, path: &str) -> bool {
        if let Some(exact) = &self.path {
            return exact == path;
        }
        let Some(prefix) = &self.path_prefix else { return true };
        path.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn headers_fit(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().all(|(name, value)| headers.get_all(name).iter().any(|v| v == value))
    }

    fn method_fits(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// The order among matching routes: the greatest rank wins, so exact paths before prefixes, longer prefixes before shorter.
    pub fn rank(&self) -> (bool, usize) {
        (self.path.is_some(), self.path.as_ref().or(self.path_prefix.as_ref()).map_or(0, String::len))
    }
}

/// The result of [`Router::find`].
#[derive(Debug, Clone)]
pub enum Match {
    /// The route that matches.
    Route(Arc<Route>),
    /// Host, path and headers match a route, but its method does not: 405.
    MethodNotAllowed,
    /// No route matches: 404.
    None,
}

/// All routes of a snapshot in the order of lookup: routes with the request's host before routes for any host, then exact
/// paths, then longer prefixes, then the order of the file.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Arc<Route>>,
    by_host: HashMap<String, Vec<(Matcher, Arc<Route>)>>,
    any_host: Vec<(Matcher, Arc<Route>)>,
}

impl Router {
    /// Orders the routes, which are given in the order of the file.
    pub fn new(routes: Vec<(Matcher, Arc<Route>)>) -> Self {
        let mut router = Self { routes: routes.iter().map(|(_, r)| Arc::clone(r)).collect(), ..Self::default() };
        for (mut matcher, route) in routes {
            if let Some(prefix) = &mut matcher.path_prefix {
                prefix.truncate(prefix.trim_end_matches('/').len());
            }
            let list = match &matcher.host {
                Some(host) => router.by_host.entry(host.to_ascii_lowercase()).or_default(),
                None => &mut router.any_host,
            };
            list.push((matcher, route));
        }
        for list in router.by_host.values_mut().chain([&mut router.any_host]) {
            list.sort_by_key(|(matcher, _)| std::cmp::Reverse(matcher.rank()));
        }
        router
    }

    /// All routes in the order of the file.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Finds the route. `host` returns the `Host` field or `:authority` as sent (port and case are ignored) and is called only if
    /// some route names a host; `path` is the path without the query.
    pub fn find<'h>(&self, host: impl FnOnce() -> &'h str, path: &str, method: &Method, headers: &HeaderMap) -> Match {
        let mut wrong_method = false;
        for (matcher, route) in self.at_host(host).iter().chain(&self.any_host) {
            if matcher.path_fits(path) && matcher.headers_fit(headers) {
                if matcher.method_fits(method) {
                    return Match::Route(Arc::clone(route));
                }
                wrong_method = true;
            }
        }
        if wrong_method { Match::MethodNotAllowed } else { Match::None }
    }

    fn at_host<'h>(&self, host: impl FnOnce() -> &'h str) -> &[(Matcher, Arc<Route>)] {
        if self.by_host.is_empty() {
            return &[];
        }
        let name = without_port(host());
        let found = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            self.by_host.get(&name.to_ascii_lowercase())
        } else {
            self.by_host.get(name)
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// The host name of a `Host` field: without port and final dot, IPv6 in its brackets.
fn without_port(host: &str) -> &str {
    let name = match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or(host),
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::gate::Chain;
    use crate::route::Overflow;

    fn route(index: usize, name: &str) -> Arc<Route> {
        Arc::new(Route {
            name: name.into(),
            index,
            chain: Arc::new(Chain::default()),
            upstream: None,
            auth: true,
            held_overflow: Overflow::Deny,
            guard_unparsed: true,
            receipt: false,
            server_timing: false,
            retries: 0,
            timeout: None,
        })
    }

    fn router() -> Router {
        let prefix = |p: &str| Matcher { path_prefix: Some(p.into()), ..Matcher::default() };
        let list = [
            ("all", prefix("/v1/")),
            ("files", prefix("/v1/files")),
            ("exact", Matcher { path: Some("/v1/files/x".into()), methods: vec![Method::POST], ..Matcher::default() }),
            (
                "canary",
                Matcher { headers: vec![(HeaderName::from_static("x-canary"), HeaderValue::from_static("1"))], ..prefix("/v1/files") },
            ),
            ("host", Matcher { host: Some("llm.internal".into()), ..prefix("/") }),
            ("root", Matcher { methods: vec![Method::GET], ..prefix("/only") }),
        ];
        Router::new(list.into_iter().enumerate().map(|(i, (n, m))| (m, route(i, n))).collect())
    }

    fn find(host: &str, path: &str, method: Method) -> String {
        match router().find(|| host, path, &method, &HeaderMap::new()) {
            Match::Route(r) => r.name.to_string(),
            Match::MethodNotAllowed => "405".into(),
            Match::None => "404".into(),
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        assert_eq!(find("x", "/v1/chat/completions", Method::POST), "all");
        assert_eq!(find("x", "/v1/files/y", Method::POST), "files");
        assert_eq!(find("x", "/v1/files/x", Method::POST), "exact");
        assert_eq!(find("x", "/v1/files/x", Method::GET), "files");
        assert_eq!(find("x", "/v1/filesystem", Method::GET), "all");
        assert_eq!(find("x", "/v1beta", Method::GET), "404");
        assert_eq!(find("LLM.internal:8443", "/v1/files/x", Method::POST), "host");
        assert_eq!(find("llm.internal.", "/", Method::GET), "host");
        assert_eq!(find("x", "/only/y", Method::POST), "405");
        assert_eq!(find("[::1]:80", "/only", Method::GET), "root");
    }

    #[test]
    fn header_conditions_fall_through_in_file_order() {
        let mut headers = HeaderMap::new();
        headers.insert("x-canary", HeaderValue::from_static("1"));
        let Match::Route(found) = router().find(|| "x", "/v1/files", &Method::GET, &headers) else { panic!("no route") };
        // Equal prefixes: the order of the file decides, so a conditional route has to precede the general one.
        assert_eq!(&*found.name, "files");
    }
}
