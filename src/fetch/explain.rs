//! What a failed call means: its class, and a line for people that holds no URL and no secret.

use std::error::Error as StdError;
use std::io;

use super::Error;
use super::public::NotPublic;
use crate::{dns, tls};

/// The meaning of reqwest's error. `ca_setting` names the setting that would add a CA.
pub(super) fn error(error: &reqwest::Error, ca_setting: &str) -> Error {
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
        return Error::Connect(no_connection(error));
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

/// The first error of a type on the way down. An `io::Error` hides what it wraps from `source`.
fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut error: &(dyn StdError + 'static) = error;
    loop {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        error = match wrapped {
            Some(wrapped) => wrapped,
            None => error.source()?,
        };
    }
}
