//! The closed list of reasons: one word for the answer, `Proxy-Status`, the log and the metric.

use http::StatusCode;

macro_rules! reasons {
    ($($variant:ident $word:literal $status:ident $title:literal;)*) => {
        /// Why Regent answered itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $title] $variant,)* }

        impl Reason {
            /// Every reason, in the order of the contract.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The word that stands for it everywhere.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Reason::$variant => $word,)* }
            }

            /// The status of the answer.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Reason::$variant => StatusCode::$status,)* }
            }

            /// Whether it speaks of a caller's token, or of what a path needs: what the shadow mode lets
            /// pass.
            #[must_use]
            pub const fn is_about_the_caller(self) -> bool {
                self as u8 >= Reason::MissingToken as u8 && self as u8 <= Reason::AmbiguousPath as u8
            }

            /// The title of the problem document.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Reason::$variant => $title,)* }
            }
        }
    };
}

reasons! {
    HostNotAllowed "host_not_allowed" FORBIDDEN "Host not allowed";
    CrossSiteRequest "cross_site_request" FORBIDDEN "Cross-site request refused";
    NoAccessToken "no_access_token" SERVICE_UNAVAILABLE "No access token at the moment";
    LoginRefused "login_refused" SERVICE_UNAVAILABLE "No login works";
    NoRoute "no_route" NOT_FOUND "No route for this path";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "Method not allowed";
    MissingToken "missing_token" UNAUTHORIZED "A token is required";
    UnsupportedScheme "unsupported_scheme" UNAUTHORIZED "A Bearer token is required";
    MultipleTokens "multiple_tokens" BAD_REQUEST "More than one credential";
    MalformedToken "malformed_token" UNAUTHORIZED "Malformed token";
    TokenTooLarge "token_too_large" UNAUTHORIZED "Token too large";
    DuplicateMember "duplicate_member" UNAUTHORIZED "A member stands twice in the token";
    MalformedClaim "malformed_claim" UNAUTHORIZED "Malformed claim";
    MissingClaim "missing_claim" UNAUTHORIZED "A claim is missing";
    WrongClaim "wrong_claim" UNAUTHORIZED "A claim has another value than it must";
    Expired "expired" UNAUTHORIZED "Token expired";
    NotYetValid "not_yet_valid" UNAUTHORIZED "Token not valid yet";
    IssuedInFuture "issued_in_future" UNAUTHORIZED "Token issued in the future";
    LifetimeTooLong "lifetime_too_long" UNAUTHORIZED "Token valid for too long";
    UnknownIssuer "unknown_issuer" UNAUTHORIZED "Unknown issuer";
    UnknownKey "unknown_key" UNAUTHORIZED "Unknown key";
    AlgorithmNotAllowed "algorithm_not_allowed" UNAUTHORIZED "Algorithm not allowed";
    BadSignature "bad_signature" UNAUTHORIZED "Bad signature";
    WrongAudience "wrong_audience" UNAUTHORIZED "Token for another audience";
    WrongTokenType "wrong_token_type" UNAUTHORIZED "Not an access token";
    UnsupportedCriticalHeader "unsupported_critical_header" UNAUTHORIZED "A critical header is not understood";
    BoundToken "bound_token" UNAUTHORIZED "Token bound to a key";
    UnsafeClaim "unsafe_claim" UNAUTHORIZED "A claim cannot be a header's value";
    Revoked "revoked" UNAUTHORIZED "Token revoked";
    ClaimsNotMet "claims_not_met" FORBIDDEN "The token does not suffice here";
    IssuerKeysUnavailable "issuer_keys_unavailable" SERVICE_UNAVAILABLE "The issuer's keys cannot be had";
    AmbiguousPath "ambiguous_path" BAD_REQUEST "Ambiguous path";
    BadRequest "bad_request" BAD_REQUEST "Bad request";
    TooLarge "too_large" PAYLOAD_TOO_LARGE "Request body too large";
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE "Request headers too large";
    Timeout "timeout" REQUEST_TIMEOUT "Request too slow";
    UriTooLong "uri_too_long" URI_TOO_LONG "Request target too long";
    ExpectationFailed "expectation_failed" EXPECTATION_FAILED "Expectation not supported";
    UpstreamUnreachable "upstream_unreachable" BAD_GATEWAY "Upstream unreachable";
    UpstreamTls "upstream_tls" BAD_GATEWAY "Upstream TLS failed";
    UpstreamProtocol "upstream_protocol" BAD_GATEWAY "Upstream does not speak HTTP as it should";
    UpstreamTimeout "upstream_timeout" GATEWAY_TIMEOUT "Upstream too slow";
    LoopDetected "loop_detected" LOOP_DETECTED "The request came back to where it had been";
    ShuttingDown "shutting_down" SERVICE_UNAVAILABLE "Shutting down";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "Overloaded";
    InternalError "internal_error" INTERNAL_SERVER_ERROR "Internal error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_one_lower_case_word_and_stands_once() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert!(words.iter().all(|word| {
            word.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        }));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn a_reason_is_its_place_in_the_list() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
        }
    }
}
