//! What a failed call means: its class, and a line for people that holds no URL and no secret.

use std::error::Error as StdError;
use std::io;

use super::Error;
use super::public::NotPublic;
use crate::config::Proxy;
use crate::{dns, tls};

/// The meaning of reqwest's error. `ca_setting` names the setting that would add a CA, `proxy` is what
/// the call went through.
pub(super) fn error(error: &reqwest::Error, ca_setting: &str, proxy: Option<&Proxy>) -> Error {
    if let Some(error) = find::<dns::Error>(error) {
        return Error::Dns(error.to_string());
    }
    if let Some(error) = find::<NotPublic>(error) {
        return Error::Connect(error.to_string());
    }
    if let Some(error) = find::<rustls::Error>(error) {
        return Error::Tls(tls::explain(error, ca_setting));
    }
    if error.is_connect() {
        return Error::Connect(match proxy {
            None => no_connection(error),
            Some(proxy) => no_way(error, proxy),
        });
    }
    if error.is_timeout() {
        return Error::Timeout;
    }
    Error::Protocol(no_answer(error))
}

fn no_connection(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no connection in time: is the address right, and does a firewall let it through?"
            .into();
    }
    let Some(io) = find::<io::Error>(error) else {
        return "no connection".into();
    };
    match io.kind() {
        io::ErrorKind::ConnectionRefused => {
            "the connection was refused: nothing listens there".into()
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "there is no route to the address".into()
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => {
            "the connection broke off before the first answer: is the scheme (http, https) right?"
                .into()
        }
        kind => format!("no connection: {kind}"),
    }
}

/// The same through a proxy. What the proxy answered is known by its text alone: the type of that error
/// is hyper-util's own.
fn no_way(error: &reqwest::Error, proxy: &Proxy) -> String {
    let tunnel = chain(error)
        .map(ToString::to_string)
        .find_map(|text| Some(text.strip_prefix("tunnel error: ")?.to_owned()));
    let why = match tunnel.as_deref() {
        Some("proxy authorization required") if proxy.authorization().is_some() => {
            "it does not take the user and password of its URL by Basic authentication (407)"
        }
        Some("proxy authorization required") => {
            "it asks who we are (407): write its URL as http://USER:PASSWORD@HOST:PORT"
        }
        Some("unsuccessful") if proxy.authorization().is_some() => {
            "it opened no way there: its rules must allow CONNECT to that host and port, and it must take \
             the user and password of its URL; see its own log"
        }
        Some("unsuccessful") => {
            "it opened no way there: its rules must allow CONNECT to that host and port; see its own log"
        }
        Some("unexpected end of file" | "io error establishing tunnel") => {
            "it closed the connection before it answered: is that the address of an HTTP proxy?"
        }
        _ => return format!("through the proxy {proxy}: {}", no_connection(error)),
    };
    format!("no connection through the proxy {proxy}: {why}")
}

fn no_answer(error: &reqwest::Error) -> String {
    if let Some(hyper) = find::<hyper::Error>(error) {
        if hyper.is_parse() {
            return "what came is no HTTP/1.1 answer: is the scheme (http, https) right?".into();
        }
        if hyper.is_incomplete_message() {
            return "the connection was closed before the answer was whole".into();
        }
    }
    if let Some(io) = find::<io::Error>(error) {
        return format!("the connection broke off: {}", io.kind());
    }
    "the answer broke off".into()
}

/// The first error of a type on the way down.
fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|error| error.downcast_ref::<T>())
}

/// The errors on the way down. An `io::Error` hides what it wraps from `source`.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |&error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}
