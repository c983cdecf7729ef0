//! The plan of faults: which request is to go wrong, and how.
//!
//! Rules are asked in the order they were planned. The first one that is due takes the request; the
//! rules behind it do not even count it. So two rules of one kind hit two successive requests.

use std::sync::Mutex;
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;

use super::log::{Call, Kind};

/// One way to go wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answer an S3 error without doing the work. `retry_after` is in seconds.
    Status { status: u16, code: &'static str, retry_after: Option<u32> },
    /// Answer 404 with a page of HTML, as a proxy or a wrong host does.
    Html404,
    /// Answer 307 to this URL.
    Redirect(String),
    /// Reset the connection before doing the work.
    ResetBefore,
    /// Reset the connection after this many bytes of the request's body.
    ResetInUpload(u64),
    /// Do the work, then reset the connection: the answer is lost.
    ResetAfter,
    /// Do nothing until the test calls `S3Server::release`, then go on as if nothing had been.
    Hang,
    /// Do the work, then nothing more until the test calls `S3Server::release`.
    HangAfter,
    /// Go on as usual after this long.
    Delay(Duration),
    /// Close the connection after this many bytes of the answer's body.
    CutBody(u64),
    /// Send nothing more after this many bytes of the answer's body.
    StallBody(u64),
    /// Send the answer's body byte by byte, with this pause between them.
    Drip(Duration),
    /// Flip the lowest bit of this byte of the answer's body.
    FlipByte(u64),
    /// Answer 200 with an error inside, without doing the work.
    ErrorIn200,
    /// Answer this, without doing the work.
    Answer(u16, String),
    /// Answer what is written here, without doing the work: a status, headers, an empty line, a body.
    Written(String),
    /// Do the work, then answer what is written here; `{ETag}` and `{UploadId}` are those that the work gave.
    WrittenAfter(String),
    /// Answer 200 and this text again and again, for ever.
    Endless(&'static str),
}

impl Fault {
    /// An S3 error.
    pub fn status(status: u16, code: &'static str) -> Fault {
        Fault::Status { status, code, retry_after: None }
    }

    /// 500 InternalError.
    pub fn internal_error() -> Fault {
        Fault::status(500, "InternalError")
    }

    /// 503 SlowDown.
    pub fn slow_down() -> Fault {
        Fault::status(503, "SlowDown")
    }

    /// 429 TooManyRequests with `Retry-After`.
    pub fn too_many_requests(retry_after_seconds: u32) -> Fault {
        Fault::Status { status: 429, code: "TooManyRequests", retry_after: Some(retry_after_seconds) }
    }

    /// 403 ExpiredToken.
    pub fn expired_token() -> Fault {
        Fault::status(403, "ExpiredToken")
    }

    /// 403 AccessDenied.
    pub fn access_denied() -> Fault {
        Fault::status(403, "AccessDenied")
    }

    /// 409 ConditionalRequestConflict.
    pub fn conflict() -> Fault {
        Fault::status(409, "ConditionalRequestConflict")
    }
}

/// Which requests a fault is for.
#[derive(Clone, Debug)]
pub struct Which {
    kind: Option<Kind>,
    verb: Option<&'static str>,
    key_part: Option<String>,
    first: usize,
    times: usize,
}

/// Any request.
pub fn any() -> Which {
    Which { kind: None, verb: None, key_part: None, first: 1, times: 1 }
}

/// Requests of one kind.
pub fn on(kind: Kind) -> Which {
    Which { kind: Some(kind), ..any() }
}

/// Requests with one HTTP verb.
pub fn on_verb(verb: &'static str) -> Which {
    Which { verb: Some(verb), ..any() }
}

impl Which {
    /// Only those whose key, or whose query for listings, contains `part`.
    pub fn key(mut self, part: &str) -> Which {
        self.key_part = Some(part.to_owned());
        self
    }

    /// Not before the `n`th of them from now, counted from 1.
    pub fn nth(mut self, n: usize) -> Which {
        self.first = n;
        self
    }

    /// This many in a row instead of one.
    pub fn times(mut self, times: usize) -> Which {
        self.times = times;
        self
    }

    /// All of them from then on.
    pub fn forever(self) -> Which {
        self.times(usize::MAX)
    }

    fn includes(&self, call: &Call) -> bool {
        let named = |part: &String| {
            let query = percent_encoding::percent_decode_str(&call.query).decode_utf8_lossy();
            call.key.contains(part) || (call.kind == Kind::List && query.contains(part.as_str()))
        };
        self.kind.is_none_or(|kind| kind == call.kind)
            && self.verb.is_none_or(|verb| verb == call.verb)
            && self.key_part.as_ref().is_none_or(named)
    }
}

struct Rule {
    which: Which,
    fault: Fault,
    seen: usize,
    done: usize,
}

/// The faults still to come.
#[derive(Default)]
pub struct Plan(Mutex<Vec<Rule>>);

impl Plan {
    /// Adds a rule behind the others.
    pub fn add(&self, which: Which, fault: Fault) {
        self.lock().push(Rule { which, fault, seen: 0, done: 0 });
    }

    /// The fault for this request, if one is due.
    pub fn next(&self, call: &Call) -> Option<Fault> {
        for rule in self.lock().iter_mut() {
            if rule.done == rule.which.times || !rule.which.includes(call) {
                continue;
            }
            rule.seen += 1;
            if rule.seen >= rule.which.first {
                rule.done += 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }

    /// Forgets all rules and returns how many faults were done.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut *self.lock()).iter().map(|rule| rule.done).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.0.lock().expect("plan lock")
    }
}

/// The answer to a request that is refused without work, for the faults that are one.
pub fn refusal(fault: &Fault) -> Option<http::Response<String>> {
    let answer = http::Response::builder().header("content-type", "application/xml");
    let response = match fault {
        Fault::Status { status, code, retry_after: None } => answer.status(*status).body(error_body(code)),
        Fault::Status { status, code, retry_after: Some(seconds) } => {
            answer.status(*status).header("retry-after", *seconds).body(error_body(code))
        }
        Fault::Answer(status, body) => answer.status(*status).body(body.clone()),
        Fault::Written(text) => return Some(written(text)),
        Fault::ErrorIn200 => answer.status(StatusCode::OK).body(error_body("InternalError")),
        Fault::Redirect(to) => answer
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header("location", to)
            .body(error_body("TemporaryRedirect")),
        Fault::Html404 => http::Response::builder()
            .status(StatusCode::NOT_FOUND)
            .header("content-type", "text/html")
            .body("<html><body><h1>404 Not Found</h1></body></html>".to_owned()),
        _ => return None,
    };
    Some(response.expect("a valid answer"))
}

/// Reads a written answer. What HTTP itself cannot carry is left out.
pub fn written(text: &str) -> http::Response<String> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').next()?.parse().ok());
    let status = status.filter(|status| (200..600).contains(status)).unwrap_or(200_u16);
    let mut answer = http::Response::new(body.to_owned());
    *answer.status_mut() = StatusCode::from_u16(status).expect("three digits");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = http::HeaderName::from_bytes(name.trim().as_bytes());
        let value = http::HeaderValue::from_str(value.trim());
        if let (Ok(name), Ok(value)) = (name, value)
            && !FRAMING.contains(&name)
        {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// Headers that are the server's own business.
const FRAMING: [http::HeaderName; 4] = [
    http::header::CONNECTION,
    http::header::CONTENT_LENGTH,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
];

/// Writes into `text` how the service named what it did.
pub async fn filled_in(text: &str, answer: http::Response<s3s::Body>) -> String {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let between = |start: &str, end: &str| Some(body.split_once(start)?.1.split_once(end)?.0.to_owned());
    let etag = head.headers.get(http::header::ETAG).and_then(|value| value.to_str().ok());
    let id = between("<UploadId>", "</UploadId>");
    text.replace("{ETag}", etag.unwrap_or_default()).replace("{UploadId}", &id.unwrap_or_default())
}

fn error_body(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>planned by the test</Message><RequestId>planned</RequestId></Error>"
    )
}
