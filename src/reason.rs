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
    LoginRefused "login_refused" SERVICE_UNAVAILABLE "The region refused the login";
    NoRoute "no_route" NOT_FOUND "No route for this path";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "Method not allowed";
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
