//! What the asking proxy says that it was asked for: too little, too much, two things at once, nothing
//! that is a request; and who else says so.

use regent::reason::Reason;

use super::{case, with_rules};
use crate::gate::*;

#[test]
fn what_was_asked_for_is_told_once_and_whole() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let uri = ("X-Original-URI", "/public");
        let url = ("X-Original-URL", "/public");
        let method = ("X-Original-Method", "GET");
        let their_uri = ("X-Forwarded-Uri", "/public");
        let their_method = ("X-Forwarded-Method", "GET");
        let ours = [uri, method, their_uri, their_method];
        assert_eq!(case.verify(&get("/verify", &ours)).await, Ok(vec![]));
        for (path, fields) in [
            // Nothing, or half of it.
            ("/verify", vec![]),
            ("/verify?/public", vec![]),
            ("/verify", vec![uri]),
            ("/verify", vec![method]),
            ("/verify", vec![their_uri]),
            ("/verify", vec![their_method]),
            ("/verify", vec![uri, their_method]),
            ("/verify", vec![their_uri, method]),
            ("/verify", vec![uri, method, their_uri]),
            ("/verify", vec![their_uri, their_method, method]),
            // Other names.
            ("/verify", vec![("X_Original_URI", "/public"), method]),
            ("/verify", vec![("X-Rewrite-Url", "/public"), method]),
            (
                "/verify",
                vec![("X-Forwarded-Path", "/public"), their_method],
            ),
            // Twice.
            ("/verify", vec![uri, uri, method]),
            ("/verify", vec![uri, url, method]),
            ("/verify", vec![uri, method, method]),
            ("/verify", vec![their_uri, their_uri, their_method]),
            // Two things.
            (
                "/verify",
                vec![uri, method, ("X-Forwarded-Uri", "/admin"), their_method],
            ),
            (
                "/verify",
                vec![uri, method, their_uri, ("X-Forwarded-Method", "POST")],
            ),
            (
                "/verify",
                vec![
                    ("X-Original-URI", "/admin"),
                    method,
                    their_uri,
                    their_method,
                ],
            ),
            // In two places: the slash may be one too many.
            ("/verify/", vec![uri, method]),
            ("/verify/public", vec![uri, method]),
            ("/verify/public", vec![their_uri, their_method]),
            ("/verify/public", ours.to_vec()),
        ] {
            let told = case.verify(&get(path, &fields)).await;
            let told = told.map_err(|(status, reason, _)| (status, reason));
            let expected = Err((400, "bad_request".to_owned()));
            assert_eq!(told, expected, "{path} {fields:?}");
        }
        let answer = case.answers(&get("/verify", &[])).await;
        for name in ["X-Original-URI", "X-Original-Method", "X-Forwarded-Uri"] {
            assert!(answer.text().contains(name), "{}", answer.text());
        }
    });
}

#[test]
fn what_is_no_target_or_method_is_a_no() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        for (uri, method) in [
            ("", "GET"),
            ("public", "GET"),
            ("?/public", "GET"),
            ("/public /admin", "GET"),
            ("/public, /public", "GET"),
            ("svc.example/public", "GET"),
            ("ftp://svc.example/public", "GET"),
            ("http:/public", "GET"),
            ("http:///public", "GET"),
            ("https://svc.example", "GET"),
            ("https://svc.example?/public", "GET"),
            // The caller's Host, before a path that is another one.
            ("http://svc.example?/public", "GET"),
            ("http://svc.example#/public", "GET"),
            ("/public HTTP/1.1", "GET"),
            ("/public", "get"),
            ("http://svc.example\\/public", "GET"),
            ("http://u@svc.example/public", "GET"),
            ("http://svc.example:x/public", "GET"),
            ("/public", ""),
            ("/public", "GET, POST"),
            ("/public", "GET POST"),
            ("/public", "G\u{e9}T"),
            ("*", "GET"),
        ] {
            let fields = [
                ("X-Original-URI", uri),
                ("X-Original-Method", method),
                ("Authorization", &*good),
            ];
            let told = case.verify(&get("/verify", &fields)).await;
            let told = told.map_err(|(status, reason, _)| (status, reason));
            let expected = Err((403, "bad_request".to_owned()));
            assert_eq!(told, expected, "{uri:?} {method:?}");
        }
    });
}

#[test]
fn nothing_else_is_served_there() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let fields = [
            ("Authorization", &*good),
            ("X-Original-URI", "/public"),
            ("X-Original-Method", "GET"),
        ];
        for path in [
            "/",
            "/verifyx",
            "/Verify",
            "/x/verify",
            "/%76erify",
            "//verify",
            "/public",
        ] {
            let told = case.verify(&get(path, &fields)).await;
            let expected = Err((404, "no_route".to_owned(), None));
            assert_eq!(told, expected, "{path}");
        }
        let no_host = "GET /verify/public HTTP/1.1\r\n\r\n";
        let told = case.verify(no_host).await;
        assert_eq!(told, Err((400, "bad_request".to_owned(), None)));
    });
}

/// A proxy that loses count of its own requests would hand one caller's yes to another.
#[test]
fn what_can_be_read_in_two_ways_ends_the_connection_there_too() {
    real(async {
        let case = case(&World::sockets(), with_rules);
        let good = bearer(&case.home.token());
        let second = get("/verify/orders", &[("Authorization", &good)]);
        let bare = format!("GET /verify/orders HTTP/1.1\r\nAuthorization: {good}\r\n");
        let asks = format!("{bare}Host: svc.example\r\n");
        let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
        for (head, reason) in [
            (format!("{asks}{length}{chunked}"), Reason::BadRequest),
            (format!("{asks}{chunked}{length}"), Reason::BadRequest),
            (format!("{asks}{length}{length}"), Reason::BadRequest),
            (
                format!("{asks}Transfer-Encoding: gzip, chunked\r\n"),
                Reason::BadRequest,
            ),
            (format!("{asks}X: y\n"), Reason::BadRequest),
            (format!("{asks}X: y\r\n z\r\n"), Reason::BadRequest),
            (format!("{asks}Host: svc.example\r\n"), Reason::BadRequest),
            (format!("{bare}Host: a,b\r\n"), Reason::BadRequest),
            (format!("{bare}Host: u@a\r\n"), Reason::BadRequest),
            (format!("{bare}Host: a:99999\r\n"), Reason::BadRequest),
            (
                asks.replace("GET /verify/orders", "CONNECT svc.example"),
                Reason::BadRequest,
            ),
            (
                asks.replace("GET /verify/orders", "CONNECT svc.example:443"),
                Reason::BadRequest,
            ),
            (asks.replace("GET", "CONNECT"), Reason::MethodNotAllowed),
        ] {
            let gate = &case.gate;
            let all = (gate.refused(reason), gate.refused_in_all());
            let mut asker = gate.asker().await;
            asker.send(format!("{head}\r\n0\r\n\r\n{second}")).await;
            let answer = asker.answer().await;
            assert_ne!(answer.status, 200, "{head:?}");
            assert_eq!(answer.head.get("connection"), Some("close"), "{head:?}");
            assert!(identity(&answer.head).is_empty(), "{head:?}");
            // Not one answer more.
            asker.expect_end().await;
            let now = (gate.refused(reason), gate.refused_in_all());
            assert_eq!(now, (all.0 + 1, all.1 + 1), "{head:?}");
        }
        let twin = case.verify(&format!("{asks}\r\n")).await;
        assert_eq!(twin, Ok(alice()));
    });
}

#[test]
fn what_a_proxy_tells_there_is_not_believed_where_callers_come() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let names = [
            "X-Original-URI",
            "X-Original-URL",
            "X-Original-Method",
            "X-Forwarded-Uri",
            "X-Forwarded-Method",
            "x_original_uri",
            "X-Rewrite-URL",
        ];
        let spoof: Vec<(&str, &str)> = (names.iter())
            .map(|name| {
                (
                    *name,
                    if name.ends_with("ethod") {
                        "GET"
                    } else {
                        "/public"
                    },
                )
            })
            .collect();
        for (method, target, token, reason) in [
            ("GET", "/", None, Reason::MissingToken),
            ("POST", "/healthz", None, Reason::MissingToken),
            ("GET", "/admin", Some(&good), Reason::ClaimsNotMet),
            ("DELETE", "/things", Some(&good), Reason::ClaimsNotMet),
            ("GET", "/verify", None, Reason::MissingToken),
            ("GET", "/verify/public", None, Reason::MissingToken),
        ] {
            let token = token.map(|token| ("Authorization", &**token));
            let fields: Vec<_> = spoof.iter().copied().chain(token).collect();
            case.gate
                .refuses(request(method, target, &fields), reason)
                .await;
        }
        let fields = [&spoof[..], &[("Authorization", &*good)]].concat();
        let seen = case.gate.passes(get("/orders", &fields)).await;
        assert_eq!(
            (seen.head.target(), identity(&seen.head)),
            ("/orders", alice())
        );
        for name in names {
            assert!(!seen.head.has(&name.to_lowercase()), "{name}");
        }
    });
}
