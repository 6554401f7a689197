//! An API server in memory: objects with versions and generations, conflicts, lists, watches, and faults on order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

/// One request, as tests see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Who sent it.
    pub client: &'static str,
    /// get, list, watch, create, update, patch, delete; with `/status` where it is about that.
    pub verb: String,
    /// The resource's plural.
    pub plural: String,
    /// The object's namespace and name; empty where there is none.
    pub namespace: String,
    pub name: String,
    /// What was sent.
    pub body: Value,
}

/// What a fault does with a request.
pub enum Fault {
    /// Answers with this status code, and does nothing.
    Refuse(u16),
    /// Never answers, and does nothing.
    Silence,
}

type Faults = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;
type Key = (String, String, String);

struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// Every change, for watches: version, plural, kind of event, object.
    log: Vec<(u64, String, &'static str, Value)>,
    /// Versions up to this one can't be watched from any more.
    compacted: u64,
    /// Raised to break every watch under way.
    breaks: u64,
    calls: Vec<Call>,
    faults: Faults,
}

/// The API server. Clones are the same one.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Clone)]
struct Path {
    plural: String,
    namespace: String,
    name: String,
    sub: String,
}

impl Fake {
    /// An empty one.
    pub fn new() -> Self {
        let state = State {
            version: 1,
            objects: BTreeMap::new(),
            log: Vec::new(),
            compacted: 0,
            breaks: 0,
            calls: Vec::new(),
            faults: Box::new(|_| None),
        };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::channel(0).0 }
    }

    /// A client of it; the name is noted with each of its calls.
    pub fn client(&self, name: &'static str) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let fake = fake.clone();
            async move { fake.answer(name, request).await }
        });
        Client::new(service, "default")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Asks this about every request from now on.
    pub fn on_call(&self, faults: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.state().faults = Box::new(faults);
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Calls that change something, but for those about the lease.
    pub fn writes(&self) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| {
            !["get", "list", "watch"].contains(&call.verb.as_str()) && call.plural != "leases"
        });
        calls
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// Puts an object there, as somebody else would.
    pub fn put(&self, plural: &str, object: Value) {
        let key =
            (plural.to_owned(), text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        self.state().store(key, object, false);
        self.tell();
    }

    /// Changes an object, as somebody else would.
    pub fn edit(&self, plural: &str, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut state = self.state();
        let mut object = state.objects.get(&key).cloned().unwrap();
        let before = object["status"].clone();
        edit(&mut object);
        let status = object["status"] != before;
        state.store(key, object, status);
        drop(state);
        self.tell();
    }

    /// Changes an object, its version included, so that no watch learns of it.
    pub fn edit_unseen(&self, plural: &str, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        edit(self.state().objects.get_mut(&key).unwrap());
    }

    /// Removes an object, as somebody else would.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        self.state().delete_or_mark(&(plural.to_owned(), namespace.to_owned(), name.to_owned()));
        self.tell();
    }

    /// Removes an object so that no watch learns of it: only a new list shows it.
    pub fn remove_unseen(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        state.delete(&(plural.to_owned(), namespace.to_owned(), name.to_owned()));
        state.log.pop();
    }

    /// Breaks every watch; none goes on from where it was, so that everything is listed anew.
    pub fn break_watches(&self) {
        let mut state = self.state();
        state.compacted = state.version;
        state.breaks += 1;
        drop(state);
        self.tell();
    }

    /// An object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(plural.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Every object of a kind.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        let state = self.state();
        state.objects.iter().filter(|((p, ..), _)| p == plural).map(|(_, object)| object.clone()).collect()
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    async fn answer(
        &self,
        client: &'static str,
        request: Request<kube::client::Body>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let (parts, body) = request.into_parts();
        let path = Path::parse(parts.uri.path());
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let bytes = to_bytes(Body::new(body), usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let verb = match parts.method {
            Method::GET if query.contains("watch=true") => "watch",
            Method::GET if path.name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            _ => "delete",
        };
        let name = if path.name.is_empty() { text(&body["metadata"]["name"]) } else { path.name.clone() };
        let call = Call {
            client,
            verb: format!("{verb}{}", if path.sub.is_empty() { "" } else { "/status" }),
            plural: path.plural.clone(),
            namespace: path.namespace.clone(),
            name: name.clone(),
            body: body.clone(),
        };
        let fault = {
            let mut state = self.state();
            state.calls.push(call.clone());
            (state.faults)(&call)
        };
        match fault {
            Some(Fault::Refuse(code)) => return Ok(status(code, "fault")),
            Some(Fault::Silence) => std::future::pending().await,
            None => {}
        }
        let key = (path.plural.clone(), path.namespace.clone(), name);
        let answer = match verb {
            "watch" => return Ok(self.watch(&path, &query)),
            "list" => self.list(&path, &query),
            "get" => self.state().objects.get(&key).cloned().ok_or(404),
            "create" => {
                let mut state = self.state();
                if state.objects.contains_key(&key) { Err(409) } else { Ok(state.store(key, body, false)) }
            }
            "update" | "patch" => self.update(key, body, !path.sub.is_empty(), verb == "patch"),
            _ => self.state().delete_if(&key, &body),
        };
        self.tell();
        Ok(match answer {
            Ok(object) => Response::new(Body::from(object.to_string())),
            Err(code) => status(code, "as asked"),
        })
    }

    fn update(&self, key: Key, body: Value, sub: bool, patch: bool) -> Result<Value, u16> {
        let mut state = self.state();
        let old = state.objects.get(&key).cloned().ok_or(404u16)?;
        let mut new = if patch { old.clone() } else { body.clone() };
        if patch {
            merge(&mut new, &body);
        } else if text(&body["metadata"]["resourceVersion"]) != text(&old["metadata"]["resourceVersion"]) {
            return Err(409);
        }
        if sub {
            let status = new["status"].clone();
            new = old;
            new["status"] = status;
        } else if key.0 != "leases" {
            new["status"] = old["status"].clone();
        }
        let metadata = &new["metadata"];
        let is_empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
        if !metadata["deletionTimestamp"].is_null() && is_empty(&metadata["finalizers"]) {
            return state.delete(&key).ok_or(404);
        }
        Ok(state.store(key, new, sub))
    }

    fn list(&self, path: &Path, query: &str) -> Result<Value, u16> {
        assert!(!query.contains("resourceVersion=0"), "a list asked for any version: {query}");
        let label = query.split('&').find_map(|part| part.strip_prefix("labelSelector="));
        let label = label.map(|label| label.replace("%2F", "/").replace("%3D", "="));
        let state = self.state();
        let wanted = |object: &Value| match label.as_deref().and_then(|label| label.split_once('=')) {
            Some((key, value)) => object["metadata"]["labels"][key] == value,
            None => true,
        };
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((plural, namespace, _), object)| path.covers(plural, namespace) && wanted(object))
            .map(|(_, object)| object)
            .collect();
        let version = state.version.to_string();
        Ok(
            json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }

    fn watch(&self, path: &Path, query: &str) -> Response<Body> {
        let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let from: u64 = from.unwrap().parse().unwrap();
        assert_ne!(from, 0, "a watch asked for any version");
        let breaks = {
            let state = self.state();
            if from < state.compacted {
                // As the API server does: the request is answered, and the first event says so.
                let error =
                    json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old" });
                return Response::new(Body::from(format!(
                    "{}\n",
                    json!({ "type": "ERROR", "object": error })
                )));
            }
            state.breaks
        };
        let start = (self.clone(), path.clone(), self.changed.subscribe(), from);
        let lines = futures::stream::unfold(start, move |(fake, path, mut changed, mut from)| async move {
            loop {
                let lines = fake.lines(&path, &mut from, breaks)?;
                if !lines.is_empty() {
                    return Some((Ok::<_, std::io::Error>(lines), (fake, path, changed, from)));
                }
                changed.changed().await.ok()?;
            }
        });
        Response::new(Body::from_stream(lines))
    }

    /// What a watch has to tell since `from`; None where it broke.
    fn lines(&self, path: &Path, from: &mut u64, breaks: u64) -> Option<String> {
        let state = self.state();
        if state.breaks != breaks {
            return None;
        }
        let new = state.log.iter().filter(|(version, plural, _, object)| {
            version > from && path.covers(plural, &text(&object["metadata"]["namespace"]))
        });
        let lines = new.map(|(.., kind, object)| format!("{}\n", json!({ "type": kind, "object": object })));
        let lines = lines.collect();
        *from = state.version.max(*from);
        Some(lines)
    }
}

impl State {
    fn store(&mut self, key: Key, mut object: Value, status: bool) -> Value {
        self.version += 1;
        let version = self.version;
        let old = self.objects.get(&key);
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        metadata["namespace"] = json!(key.1);
        if key.1.is_empty() {
            metadata.as_object_mut().unwrap().remove("namespace");
        }
        match old {
            None => {
                metadata["generation"] = json!(1);
                if metadata["creationTimestamp"].is_null() {
                    metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
                }
                if metadata["uid"].is_null() {
                    metadata["uid"] = json!(format!("uid-{version}"));
                }
            }
            Some(old) => {
                let changed = !status && old["spec"] != object["spec"];
                let generation = old["metadata"]["generation"].as_i64().unwrap() + i64::from(changed);
                object["metadata"]["generation"] = json!(generation);
            }
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push((version, key.0.clone(), kind, object.clone()));
        self.objects.insert(key, object.clone());
        object
    }

    fn delete(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log.push((self.version, key.0.clone(), "DELETED", object.clone()));
        Some(object)
    }

    fn delete_if(&mut self, key: &Key, options: &Value) -> Result<Value, u16> {
        let object = self.objects.get(key).ok_or(404u16)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return Err(409);
            }
        }
        self.delete_or_mark(key).ok_or(404)
    }

    /// What has finalizers is marked, and stays until they are gone.
    fn delete_or_mark(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.get(key)?.clone();
        if object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            return self.delete(key);
        }
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        Some(self.store(key.clone(), object, true))
    }
}

impl Path {
    /// `/api/v1/...` or `/apis/group/version/...`.
    fn parse(path: &str) -> Self {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        parts.drain(..if parts[0] == "api" { 2 } else { 3 });
        let namespace =
            if parts[0] == "namespaces" && parts.len() > 2 { parts.drain(..2).nth(1) } else { None };
        let part = |n: usize| parts.get(n).copied().unwrap_or_default().to_owned();
        Self { plural: part(0), namespace: namespace.unwrap_or_default().into(), name: part(1), sub: part(2) }
    }

    fn covers(&self, plural: &str, namespace: &str) -> bool {
        self.plural == plural && (self.namespace.is_empty() || self.namespace == namespace)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            for (key, value) in fields {
                merge(&mut into[key], value);
            }
        }
        other => *into = other.clone(),
    }
}

fn status(code: u16, message: &str) -> Response<Body> {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": message,
    });
    Response::builder().status(code).body(Body::from(body.to_string())).unwrap()
}
