use crate::seam::Seam;
use crate::terms::Json;
use crate::world::{Blind, Query, Reading};
use std::fmt::Write as _;
use std::time::Duration;

/// How long one query may take: a gate that is asked every few seconds must not wait longer.
const LIMIT: Duration = Duration::from_secs(3);
/// The largest answer that is read: one number needs a few hundred bytes, a forgotten aggregation gives many series.
const LARGEST: usize = 1024 * 1024;

/// Asks one instant query.
///
/// # Errors
/// [`Blind`]: no answer in time, an error, or an answer that makes no sense.
pub async fn ask(seam: &Seam, query: &Query) -> Result<Reading, Blind> {
    let url = format!("{}/api/v1/query?query={}", query.url.trim_end_matches('/'), encode(&query.text));
    match tokio::time::timeout(LIMIT, seam.network.get(url, LARGEST)).await {
        Err(_) => Err(Blind::TimedOut),
        Ok(Err(message)) => Err(Blind::Unreachable(message)),
        Ok(Ok((status, body))) => parse(status, &body),
    }
}

/// What an answer says.
fn parse(status: u16, body: &[u8]) -> Result<Reading, Blind> {
    let malformed = |message: &str| Blind::Malformed(format!("HTTP {status}: {message}"));
    let json: Json = serde_json::from_slice(body).map_err(|_| malformed("no JSON"))?;
    if json.get("status").and_then(Json::as_str) != Some("success") {
        return Err(malformed(json.get("error").and_then(Json::as_str).unwrap_or("no success")));
    }
    let result = json.pointer("/data/result").ok_or_else(|| malformed("no result"))?;
    let number = |pair: &Json| pair.get(1).and_then(Json::as_str).map(str::to_owned);
    let text = match json.pointer("/data/resultType").and_then(Json::as_str) {
        Some("scalar") => number(result),
        Some("vector") => match result.as_array().map(Vec::as_slice) {
            Some([]) => return Ok(Reading::NoData),
            Some([one]) => one.get("value").and_then(number),
            Some(several) => return Ok(Reading::Several(several.len())),
            None => None,
        },
        _ => return Err(malformed("neither a scalar nor an instant vector")),
    };
    let value: f64 = text.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("no number"))?;
    Ok(if value.is_finite() { Reading::Value(value) } else { Reading::NotFinite })
}

pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The host (with port, if written) of a base URL.
#[must_use]
pub fn host(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    uri.authority().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_finite_number_or_a_reading_of_its_own() {
        let vector = |items: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{items}]}}}}"#);
        let read = |body: &str| parse(200, body.as_bytes());
        assert_eq!(read(&vector(r#"{"metric":{},"value":[1,"0.5"]}"#)), Ok(Reading::Value(0.5)));
        assert_eq!(read(&vector("")), Ok(Reading::NoData));
        assert_eq!(read(&vector(r#"{"value":[1,"1"]},{"value":[1,"2"]}"#)), Ok(Reading::Several(2)));
        assert_eq!(read(&vector(r#"{"value":[1,"NaN"]}"#)), Ok(Reading::NotFinite));
        assert_eq!(read(&vector(r#"{"value":[1,"+Inf"]}"#)), Ok(Reading::NotFinite));
        assert_eq!(read(r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#), Ok(Reading::Value(2.0)));
        for wrong in
            ["", "<html>", r#"{"status":"error","error":"parse error"}"#, r#"{"status":"success"}"#, &vector(r#"{"value":[1]}"#)]
        {
            assert!(matches!(read(wrong), Err(Blind::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("a{b=\"c d\"}"), "a%7Bb%3D%22c%20d%22%7D");
        assert_eq!(host("http://prometheus:9090/x").as_deref(), Some("prometheus:9090"));
    }
}
