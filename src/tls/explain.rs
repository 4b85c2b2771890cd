//! What a TLS failure means, and what to do about it.

use std::fmt::Write as _;

use rustls::{AlertDescription, CertificateError};

/// What a TLS failure means, in a line for people, without what the other side sent but names in a
/// certificate. `ca_file` is the name of the setting that adds a CA for this peer.
#[must_use]
pub fn explain(error: &rustls::Error, ca_file: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => explain_certificate(certificate, ca_file),
        rustls::Error::InvalidMessage(_) => {
            "the other side does not speak TLS: is it an http:// address, or another port?".into()
        }
        rustls::Error::PeerIncompatible(_) | rustls::Error::PeerMisbehaved(_) => {
            "the other side's TLS does not go with ours (1.2 or 1.3 is needed)".into()
        }
        rustls::Error::NoCertificatesPresented => "the other side has no certificate".into(),
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the other side does not know this host name".into()
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate,
        ) => "the other side wants a client certificate, which regent has none of".into(),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the other side speaks no TLS 1.2 or 1.3".into()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the other side ended the handshake with the alert {alert:?}")
        }
        rustls::Error::NoApplicationProtocol => "the other side does not speak HTTP/1.1".into(),
        _ => "the TLS handshake failed".into(),
    }
}

fn explain_certificate(error: &CertificateError, ca_file: &str) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired: renew it (or is this machine's clock wrong?)".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet: is this machine's clock right?".into()
        }
        CertificateError::NotValidForName => {
            "the certificate is not valid for this name: is the address right?".into()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let mut text = format!(
                "the certificate is not valid for name {:?}",
                expected.to_str()
            );
            for (at, name) in presented.iter().take(3).enumerate() {
                let name: String = name.chars().take(100).collect();
                let before = if at == 0 { ", it is for " } else { ", " };
                // A certificate is the peer's word: quoted, so that it cannot break a line.
                let _ = write!(text, "{before}{name:?}");
            }
            text
        }
        CertificateError::UnknownIssuer => {
            format!("unknown issuer: add the CA that signed the certificate with {ca_file}")
        }
        CertificateError::BadSignature => {
            format!("the certificate is not signed by the CA it names: is {ca_file} up to date?")
        }
        CertificateError::Revoked => "the certificate has been revoked".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not one for a server".into()
        }
        CertificateError::Other(_) => {
            // What webpki has no word of its own for, first of all a CA's certificate in a
            // server's place.
            "the certificate cannot be used: a server needs one of its own (no CA's), version 3, \
             with its name in subjectAltName"
                .into()
        }
        _ => "the certificate cannot be verified".into(),
    }
}
