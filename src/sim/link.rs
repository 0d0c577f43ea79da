use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use tokio::sync::{mpsc, oneshot};

use super::refusal::Refusal;
use super::route::Ask;
use super::server::{Answer, Server};
use super::signal::Signal;
use super::watch::{Line, Watch};

/// How many lines of a watch may be under way before the server waits; what waits longer than the history reaches ends with 410, as in life.
const UNDER_WAY: usize = 1024;

/// Everything passes.
const OPEN: u64 = 0;
/// Nothing passes.
const SHUT: u64 = 1;
/// Requests pass, and nothing comes back.
const DEAF: u64 = 2;

/// What went wrong between client and server.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection ended before the answer came; whether the request was served is not known.
    #[error("connection closed before message completed")]
    Broken,
    /// The request's body could not be read.
    #[error("cannot read the request: {0}")]
    Body(#[source] kube::Error),
}

/// One request on its way, as the function that decides over it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Counted over all links that share one [`Fates`], from 0.
    pub sequence: u64,
    /// The server's name.
    pub server: String,
    /// The instance of the operator.
    pub instance: String,
    /// Verb as in RBAC.
    pub verb: &'static str,
    /// Path without query.
    pub path: String,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
}

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// On the way there.
    pub before: Duration,
    /// On the way back.
    pub after: Duration,
    /// How it ends.
    pub end: End,
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It arrives, and so does its answer.
    Deliver,
    /// Something in front of the server answers this, and the server never sees it (nor does its log).
    Refuse(u16, &'static str),
    /// It arrives twice, as when something on the way sends it again; the first answer counts.
    Twice,
    /// It is served; the answer is lost and the caller hangs.
    LoseAnswer,
    /// It is served; the connection breaks before the answer, and the caller knows that at once.
    Break,
    /// It never arrives; the caller hangs.
    Lost,
    /// It is answered as if it had been done, and nothing is stored.
    Pretend,
}

/// The function that decides over every request: shared by links, and replaceable at any time.
#[derive(Clone)]
pub struct Fates(Arc<Mutex<Rule>>);

struct Rule {
    sequence: u64,
    decide: Decide,
}

type Decide = Box<dyn FnMut(&Call) -> Fate + Send>;

impl Fates {
    /// Decides as `decide` says.
    pub fn new(decide: impl FnMut(&Call) -> Fate + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Rule { sequence: 0, decide: Box::new(decide) })))
    }

    /// Everything arrives at once.
    #[must_use]
    pub fn calm() -> Self {
        Self::new(|_| Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::Deliver })
    }

    /// Everything arrives, after a time from `range` each way: on a runtime that runs tasks in order, this is what makes orders differ.
    #[must_use]
    pub fn latency(mut rng: fastrand::Rng, range: RangeInclusive<Duration>) -> Self {
        Self::new(move |_| Fate { before: within(&mut rng, &range), after: within(&mut rng, &range), end: End::Deliver })
    }

    /// Decides as `decide` says from now on; the count of calls goes on. `decide` must not call back into these fates.
    pub fn replace(&self, decide: impl FnMut(&Call) -> Fate + Send + 'static) {
        locked(&self.0).decide = Box::new(decide);
    }

    fn decide(&self, call: &mut Call) -> Fate {
        let mut rule = locked(&self.0);
        call.sequence = rule.sequence;
        rule.sequence += 1;
        (rule.decide)(call)
    }
}

/// The network between one instance of the operator and one server; a `tower::Service`, so that it stands right under `kube::Client`. Every request is a
/// task of its own: dropping the client's future does not take back what was sent.
#[derive(Clone)]
pub struct Link {
    server: Server,
    instance: String,
    fates: Fates,
    lag: Arc<Mutex<(fastrand::Rng, RangeInclusive<Duration>)>>,
    /// [`OPEN`], [`SHUT`] or [`DEAF`].
    cut: Signal,
    lie: Arc<Mutex<Option<Lie>>>,
    forge: Arc<Mutex<Option<Lie>>>,
}

/// Changes a request or an answer on its way.
type Lie = Box<dyn Fn(&Call, &mut serde_json::Value) + Send>;

impl Link {
    /// A link whose watch events arrive at once; `rng` is for their lag.
    #[must_use]
    pub fn new(server: Server, instance: &str, fates: Fates, rng: fastrand::Rng) -> Self {
        let lag = Arc::new(Mutex::new((rng, Duration::ZERO..=Duration::ZERO)));
        Self { server, instance: instance.into(), fates, lag, cut: Signal::new(OPEN), lie: Arc::default(), forge: Arc::default() }
    }

    /// Every watch event takes a time from this range from now on. Their order within one watch stays.
    pub fn lag(&self, range: RangeInclusive<Duration>) {
        locked(&self.lag).1 = range;
    }

    /// What decides over its requests.
    #[must_use]
    pub fn fates(&self) -> &Fates {
        &self.fates
    }

    /// Nothing passes until [`Link::heal`], in neither direction: calls hang, answers and watch events wait. Who gives up waiting may still have sent.
    pub fn partition(&self) {
        self.cut.set(SHUT);
    }

    /// Requests pass and are served, but answers and watch events wait until [`Link::heal`].
    pub fn deafen(&self) {
        self.cut.set(DEAF);
    }

    /// Changes every answer but watches so from now on: what a wrong decision looks like from outside, to see that it would be found.
    pub fn lie(&self, lie: impl Fn(&Call, &mut serde_json::Value) + Send + 'static) {
        *locked(&self.lie) = Some(Box::new(lie));
    }

    /// Changes the body of every request so from now on, before it arrives.
    pub fn forge(&self, forge: impl Fn(&Call, &mut serde_json::Value) + Send + 'static) {
        *locked(&self.forge) = Some(Box::new(forge));
    }

    fn forged(&self, call: &Call, answer: Answer) -> Answer {
        let (Answer::Whole { code, body }, Some(lie)) = (&answer, &*locked(&self.lie)) else { return answer };
        let Ok(mut json) = serde_json::from_slice(body) else { return answer };
        lie(call, &mut json);
        Answer::Whole { code: *code, body: json.to_string().into_bytes() }
    }

    /// Everything that waits goes on.
    pub fn heal(&self) {
        self.cut.set(OPEN);
    }

    /// A client over this link. No retries, no timeouts: those are layers of whoever builds on it.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Waits until requests pass.
    async fn sendable(&self) {
        self.cut.until(|cut| cut != SHUT).await;
    }

    /// Waits until answers pass.
    async fn passable(&self) {
        self.cut.until(|cut| cut == OPEN).await;
    }

    async fn carry(self, request: Request<Body>, mut reply: oneshot::Sender<Reply>) {
        let (parts, body) = request.into_parts();
        let body = match body.collect_bytes().await {
            Ok(body) => body.to_vec(),
            Err(error) => return tell(reply, Err(LinkError::Body(error))),
        };
        let mut ask = Ask::read(&parts.method, &parts.uri, &parts.headers, body);
        let mut call = Call {
            sequence: 0,
            server: self.server.name().into(),
            instance: self.instance.clone(),
            verb: ask.verb,
            path: ask.path.clone(),
            dry_run: ask.dry_run,
        };
        if let (Some(forge), Ok(mut json)) = (&*locked(&self.forge), serde_json::from_slice(&ask.body)) {
            forge(&call, &mut json);
            ask.body = json.to_string().into_bytes();
        }
        let Fate { before, after, end } = self.fates.decide(&mut call);
        tokio::time::sleep(before).await;
        self.sendable().await;
        let answer = match end {
            End::Lost => return reply.closed().await,
            End::Refuse(code, reason) => Answer::Whole { code, body: Refusal::other(code, reason).body() },
            End::Deliver | End::LoseAnswer | End::Break => self.server.answer(&self.instance, &ask),
            End::Pretend => self.server.answer(&self.instance, &Ask { dry_run: true, ..ask }),
            End::Twice => {
                let first = self.server.answer(&self.instance, &ask);
                let _ = self.server.answer(&self.instance, &ask);
                first
            }
        };
        let answer = self.forged(&call, answer);
        tokio::time::sleep(after).await;
        self.passable().await;
        match end {
            End::LoseAnswer => reply.closed().await,
            End::Break => tell(reply, Err(LinkError::Broken)),
            End::Deliver | End::Pretend | End::Twice | End::Refuse(..) | End::Lost => tell(reply, Ok(self.response(answer))),
        }
    }

    fn response(&self, answer: Answer) -> Response<Stream> {
        let (code, kind, body) = match answer {
            Answer::Whole { code, body } => {
                let kind = if body.starts_with(b"{") { "application/json" } else { "text/plain; charset=utf-8" };
                (code, kind, Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync())
            }
            Answer::Watch(watch) => {
                let (sender, receiver) = mpsc::channel(UNDER_WAY);
                tokio::spawn(self.clone().stream(*watch, sender));
                let lines = futures::stream::unfold(receiver, |mut receiver| async {
                    let line: Vec<u8> = receiver.recv().await?;
                    Some((Ok(Frame::data(Bytes::from(line))), receiver))
                });
                (200, "application/json", StreamBody::new(lines).boxed_unsync())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }

    /// Carries the lines of a watch, each after its own lag but never past an earlier one.
    async fn stream(self, mut watch: Watch, sender: mpsc::Sender<Vec<u8>>) {
        loop {
            let lines = tokio::select! {
                biased;
                () = sender.closed() => return,
                lines = watch.next() => lines,
            };
            let Some(lines) = lines else { return self.passable().await };
            for Line { at, text } in lines {
                let lag = {
                    let mut lag = locked(&self.lag);
                    let (rng, range) = &mut *lag;
                    within(rng, range)
                };
                // From when it happened, not from when the line before it arrived: a burst does not add its lags up.
                let age = (self.server.now() - at).to_std().unwrap_or_default();
                tokio::time::sleep(lag.saturating_sub(age)).await;
                self.passable().await;
                if sender.send(text).await.is_err() {
                    return;
                }
            }
        }
    }
}

type Stream = UnsyncBoxBody<Bytes, LinkError>;
type Reply = Result<Response<Stream>, LinkError>;

impl tower::Service<Request<Body>> for Link {
    type Response = Response<Stream>;
    type Error = LinkError;
    type Future = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (reply, answer) = oneshot::channel();
        tokio::spawn(self.clone().carry(request, reply));
        Box::pin(async { answer.await.unwrap_or(Err(LinkError::Broken)) })
    }
}

/// The caller may have gone; that is its business.
fn tell(reply: oneshot::Sender<Reply>, with: Reply) {
    let _ = reply.send(with);
}

fn within(rng: &mut fastrand::Rng, range: &RangeInclusive<Duration>) -> Duration {
    let nanos = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.u64(nanos(range.start())..=nanos(range.end()).max(nanos(range.start()))))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only a panicking `decide` poisons it, and that is a failed test already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
